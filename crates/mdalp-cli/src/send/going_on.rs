//! What to do after a send that was cut off: the command line that goes on with it.
//!
//! Prints, and decides nothing: whether there is something to go on with is in the report.

use crate::console;
use mdalp::event::{Reason, Report};
use std::ffi::OsString;

/// Says how to go on, or why that is not possible. `args` is the command line as it was typed;
/// `kept` is whether a journal was to be kept.
pub(super) fn note(report: &Report, args: impl Iterator<Item = OsString>, kept: bool) {
    let cut_off = report.error.is_some() && report.bytes > 0;
    if let Some(journal) = &report.journal {
        let command = command(args);
        console::note(format_args!(
            "to go on where it was: {command}\n  (the journal is {journal})"
        ));
    } else if cut_off && !kept && report.reason != Reason::Verification {
        console::note(format_args!(
            "nothing was kept to go on with: a journal needs a file, and no --no-journal"
        ));
    }
}

/// The command line, for a POSIX shell, with `--resume` if it is not there.
fn command(args: impl Iterator<Item = OsString>) -> String {
    let mut words: Vec<String> = args.map(|arg| quoted(&arg.to_string_lossy())).collect();
    // Clap takes any unambiguous beginning of it.
    if !words.iter().any(|word| word.len() >= 5 && "--resume".starts_with(word.as_str())) {
        words.push("--resume".to_owned());
    }
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t9_the_command_is_the_one_that_was_typed_with_resume_once_and_quoted() {
        let of = |words: &[&str]| command(words.iter().map(OsString::from));
        assert_eq!(of(&["mdalp", "-a", "::1", "-f", "x"]), "mdalp -a ::1 -f x --resume");
        assert_eq!(of(&["mdalp", "--res", "-f", "x"]), "mdalp --res -f x");
        assert_eq!(of(&["mdalp", "-f", "it's here"]), r"mdalp -f 'it'\''s here' --resume");
    }
}
