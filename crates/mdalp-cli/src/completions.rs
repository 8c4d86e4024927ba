//! `mdalp completions`: shell completions, made from the command line's definition.

use crate::exit::Outcome;
use crate::{cli, console};
use clap_complete::Shell;
use std::process::ExitCode;

/// Prints completions for a shell
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli::definition(), "mdalp", &mut script);
        console::print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
