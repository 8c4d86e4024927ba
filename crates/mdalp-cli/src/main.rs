//! The `mdalp` command.
//!
//! Parses the command line, runs one subcommand and turns its result into an exit code. Each
//! subcommand is a module that owns its options and its `run`; a new one is a `mod` line here, a
//! variant and an arm in [`cli`].

mod capture;
mod cli;
mod compare;
mod completions;
mod console;
mod demo;
mod exit;
mod get;
mod held;
mod lab;
mod ls;
mod man;
mod orchestrator;
mod plan;
mod receipt;
mod receiver;
mod rm;
mod send;
mod serve;
mod server;
mod settings;
mod show;
mod signals;
mod state;
mod text;
mod verify;
mod view;
mod wireshark;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::with_default_command(std::env::args_os().collect());
    let result = match cli::parse(&args) {
        Ok(command) => command.run(),
        Err(error) => return cli::refuse(&error, &args),
    };
    result.unwrap_or_else(|failure| {
        console::note(format_args!("mdalp: {}", failure.message));
        failure.exit.into()
    })
}
