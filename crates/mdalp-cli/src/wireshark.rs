//! `mdalp wireshark`: prints the dissector for Wireshark.

use crate::console;
use crate::exit::Outcome;
use std::process::ExitCode;

/// Prints the dissector for Wireshark, a script in Lua
#[derive(clap::Args)]
pub(crate) struct Args {}

impl Args {
    #[expect(clippy::unused_self, reason = "every subcommand is run like this")]
    pub(crate) fn run(self) -> Outcome {
        console::print(include_str!("../../../contrib/wireshark/mdalp.lua"))?;
        Ok(ExitCode::SUCCESS)
    }
}
