//! `mdalp man`: manual pages, made from the command line's definition.

use crate::exit::{Exit, Outcome};
use crate::{cli, console};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Writes the manual pages, one for each command
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to; without it, the main page goes to standard output
    dir: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        if let Some(dir) = self.dir {
            fs::create_dir_all(&dir)
                .and_then(|()| clap_mangen::generate_to(cli::definition(), &dir))
                .map_err(|error| {
                    Exit::LocalIo.because(format_args!("{}: {error}", dir.display()))
                })?;
        } else {
            let mut page = Vec::new();
            clap_mangen::Man::new(cli::definition())
                .render(&mut page)
                .map_err(|error| Exit::Internal.because(error))?;
            console::print(&String::from_utf8_lossy(&page))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
