//! Writing to standard output and standard error.
//!
//! Unlike `println!` this never panics: a reader that went away (`mdalp ls | head -1`) is no error.

use crate::exit::{Exit, Failure};
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// One line to standard error. If nobody can read it, there is nobody to tell.
pub(crate) fn note(line: Arguments<'_>) {
    // In one write, so that lines of several processes do not mix.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Data to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Exit::LocalIo.because(format_args!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// One value as a line of JSON to standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(|error| Exit::Internal.because(error))?;
    print(&format!("{line}\n"))
}
