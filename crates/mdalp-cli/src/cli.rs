//! The command line as a whole: the list of subcommands, and the classic form without one.

use crate::exit::Outcome;
use crate::{
    compare, completions, demo, get, lab, ls, man, orchestrator, plan, receiver, rm, send, serve,
    show, verify, wireshark,
};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Sends a payload over UDP to several receivers at once, each its share.
///
/// The classic form needs no subcommand: `mdalp -a ADDR -p PORT -f FILE [-m 1|2] [-s N] [-v|-vv]`
/// is `mdalp send` with the same options.
#[derive(Parser)]
#[command(
    name = "mdalp",
    version,
    term_width = 80,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Send(Box<send::Args>),
    Plan(plan::Args),
    Serve(Box<serve::Args>),
    Orchestrator(orchestrator::Args),
    Receiver(receiver::Args),
    Ls(ls::Args),
    Show(show::Args),
    Get(get::Args),
    Verify(verify::Args),
    Rm(rm::Args),
    Demo(demo::Args),
    Lab(lab::Args),
    Wireshark(wireshark::Args),
    Compare(compare::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    pub(crate) fn run(self) -> Outcome {
        match self {
            Self::Send(args) => args.run(),
            Self::Plan(args) => args.run(),
            Self::Serve(args) => args.run(),
            Self::Orchestrator(args) => args.run(),
            Self::Receiver(args) => args.run(),
            Self::Ls(args) => args.run(),
            Self::Show(args) => args.run(),
            Self::Get(args) => args.run(),
            Self::Verify(args) => args.run(),
            Self::Rm(args) => args.run(),
            Self::Demo(args) => args.run(),
            Self::Lab(args) => args.run(),
            Self::Wireshark(args) => args.run(),
            Self::Compare(args) => args.run(),
            Self::Completions(args) => args.run(),
            Self::Man(args) => args.run(),
        }
    }
}

/// The definition of the command line, for completions and manual pages.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

pub(crate) fn parse(args: &[OsString]) -> Result<Command, clap::Error> {
    let matches = definition().try_get_matches_from(args)?;
    Cli::from_arg_matches(&matches).map(|cli| cli.command)
}

/// An option where a subcommand is expected is the classic form: `send` is put before it.
pub(crate) fn with_default_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let classic = args.get(1).is_some_and(|first| {
        let first = first.to_string_lossy();
        first.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&&*first)
    });
    if classic {
        args.insert(1, "send".into());
    }
    args
}

/// Says what is wrong with a command line, or prints the help that it asks for.
pub(crate) fn refuse(error: &clap::Error, args: &[OsString]) -> ExitCode {
    let _ = error.print();
    let is = |arg: &OsString, text: &str| arg.to_str() == Some(text);
    if error.use_stderr()
        && args.get(1).is_some_and(|a| is(a, "send"))
        && args.iter().any(|a| is(a, "--json"))
    {
        send::end_for_usage_error(error);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn only_an_option_in_the_first_place_is_the_classic_form() {
        let with = |args: &[&str]| {
            let args = args.iter().map(OsString::from).collect();
            with_default_command(args).get(1).cloned().unwrap_or_default()
        };
        assert_eq!(with(&["mdalp", "-a", "h"]), "send");
        assert_eq!(with(&["mdalp", "-vva", "h"]), "send");
        assert_eq!(with(&["mdalp", "--addr=h"]), "send");
        assert_eq!(with(&["mdalp", "--help"]), "--help");
        assert_eq!(with(&["mdalp", "-V"]), "-V");
        assert_eq!(with(&["mdalp", "plan"]), "plan");
        assert_eq!(with(&["mdalp"]), "");
    }

    #[test]
    fn spellings_of_the_original_are_understood() {
        for line in [
            "mdalp -a h -p 4650 -f x",
            "mdalp -f x -p4650 -ah -m2 -s3 -vv",
            "mdalp --addr h --port=4650 --file x --mode 2 --server 3 --verbose -v",
            "mdalp -v -v --add h --por 4650 --fil x --mod 1 --serv 2 --verb",
        ] {
            let args = with_default_command(line.split(' ').map(OsString::from).collect());
            assert!(matches!(parse(&args), Ok(Command::Send(_))), "{line}");
        }
        for line in
            ["mdalp -p 4650 -f x", "mdalp -a h -f x -m 4", "mdalp -a h -f x -p 70000", "mdalp sned"]
        {
            let args = with_default_command(line.split(' ').map(OsString::from).collect());
            assert_eq!(parse(&args).map(drop).map_err(|e| e.exit_code()), Err(2), "{line}");
        }
    }
}
