//! Exit codes and the errors that end a command. The table is in `docs/cli.md`.
//!
//! How a send ended has its own type, [`mdalp::event::Reason`], with codes of the same table.

use std::fmt::Display;
use std::process::ExitCode;

/// How a command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Exit {
    /// A defect of this program.
    Internal = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Chunks are missing.
    Partial = 6,
    /// What is held is damaged.
    Verification = 7,
    /// A local file or socket.
    LocalIo = 9,
    /// The system refuses what is needed; there is a hint.
    Environment = 10,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that ends a command: what the user reads, and the code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// One line: who, where, why, what to do.
    pub(crate) message: String,
}

/// What a command ends with. `Ok` may carry a code as well, where the command has already said why.
pub(crate) type Outcome = Result<ExitCode, Failure>;

impl Exit {
    pub(crate) fn because(self, message: impl Display) -> Failure {
        Failure { exit: self, message: message.to_string() }
    }
}
