//! Why a send did not complete: who, where, why, and what to do about it.

use crate::event::Reason;
use std::io;
use std::net::SocketAddr;

/// A signal that ended a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    /// SIGINT: exit code 130.
    Interrupted,
    /// SIGTERM: exit code 143.
    Terminated,
}

/// Why a send did not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Settings that do not fit what was assigned.
    #[error("{0}")]
    Usage(String),
    /// The journal does not fit.
    #[error("cannot resume from {journal}: {why}; send again without --resume")]
    Resume {
        /// Its path.
        journal: String,
        /// What does not fit.
        why: String,
    },
    /// The orchestrator's name has no address.
    #[error(
        "orchestrator {host}: the name cannot be resolved ({source}); check it, or give an IP address"
    )]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The orchestrator did not answer.
    #[error(
        "orchestrator {addr} did not answer within {seconds} s (intents sent: {intents}){system}; \
         check address, port and firewall, or wait longer with --intent-timeout"
    )]
    NoAnswer {
        /// Whom was asked.
        addr: SocketAddr,
        /// For how long.
        seconds: f64,
        /// How often.
        intents: u64,
        /// What the system says of it, if anything.
        system: String,
    },
    /// The system says that nobody listens at the orchestrator's port.
    #[error("orchestrator {addr}: nobody listens there; check address and port, or start it")]
    NobodyThere {
        /// Whom was asked.
        addr: SocketAddr,
    },
    /// The time was over before this intent's turn came.
    #[error(
        "orchestrator {addr}: after {seconds} s this send was still waiting, at place \
         {position}; wait longer with --intent-timeout"
    )]
    StillWaiting {
        /// Whom was asked.
        addr: SocketAddr,
        /// For how long.
        seconds: f64,
        /// The last place that it named.
        position: u64,
    },
    /// No assignment was proven to be the orchestrator's.
    #[error(
        "orchestrator {addr}: within {seconds} s no assignment echoed this client's nonce, so those \
         that came may be forged{advice}"
    )]
    NotEchoed {
        /// Whom was asked.
        addr: SocketAddr,
        /// For how long.
        seconds: f64,
        /// What to do.
        advice: String,
    },
    /// Two assignments, none of which is proven to be the orchestrator's.
    #[error(
        "orchestrator {addr}: two different assignments for one intent, {first} and {second}; one \
         may be forged, and nothing was sent; send again, or without --require-verified"
    )]
    Conflict {
        /// Whom was asked.
        addr: SocketAddr,
        /// The first one.
        first: String,
        /// The second one.
        second: String,
    },
    /// The orchestrator's answer cannot be understood.
    #[error("orchestrator {addr} answered, but not with an assignment: {why}")]
    NotUnderstood {
        /// Whom was asked.
        addr: SocketAddr,
        /// What is wrong with the answer.
        why: String,
    },
    /// The orchestrator has no receivers.
    #[error("orchestrator {addr} assigned no receivers; none may be running")]
    NoReceivers {
        /// Whom was asked.
        addr: SocketAddr,
    },
    /// None of the assigned receivers may be sent to.
    #[error(
        "orchestrator {addr} listed no receiver that may be sent to; the first refused: {address} ({why})"
    )]
    AllRefused {
        /// Whom was asked.
        addr: SocketAddr,
        /// The first receiver that was refused.
        address: String,
        /// Why it was.
        why: String,
    },
    /// Nobody acknowledged anything for too long.
    #[error(
        "no receiver acknowledged anything for {seconds} s: {acked} of {total} bytes are \
         acknowledged, transaction {tid}; silent: {silent}"
    )]
    NoProgress {
        /// For how long.
        seconds: f64,
        /// Bytes acknowledged.
        acked: u64,
        /// Bytes of the payload.
        total: u64,
        /// The transaction.
        tid: u64,
        /// The receivers that still had something to acknowledge.
        silent: String,
    },
    /// The deadline came.
    #[error(
        "deadline of {seconds} s exceeded: {acked} of {total} bytes are acknowledged, transaction {tid}"
    )]
    Deadline {
        /// The deadline.
        seconds: f64,
        /// Bytes acknowledged.
        acked: u64,
        /// Bytes of the payload.
        total: u64,
        /// The transaction.
        tid: u64,
    },
    /// The servers have something else than was sent.
    #[error(
        "the servers hold something else than was sent under transaction {tid}: length or hash \
         differ; send it again as a new transaction"
    )]
    Mismatch {
        /// The transaction.
        tid: u64,
    },
    /// Every byte is acknowledged, but nobody confirmed the whole, and that was required.
    #[error(
        "all bytes are acknowledged, but no server confirmed the whole (transaction {tid}); {why}"
    )]
    Unverified {
        /// The transaction.
        tid: u64,
        /// Who did not answer, or that nobody could be asked.
        why: String,
    },
    /// Nothing comes back although chunks are small.
    #[error("large datagrams do not arrive")]
    NothingArrives,
    /// The payload cannot be read.
    #[error("{name}: {source} (at byte {offset})")]
    Payload {
        /// The payload's name.
        name: String,
        /// Where reading failed.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The system forbids UDP.
    #[error("{doing}: {source}; a firewall or sandbox on this machine forbids it")]
    Permission {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A socket failed for another local reason.
    #[error("{doing}: {source}")]
    Socket {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A signal.
    #[error("{}", match .0 { Interrupt::Interrupted => "interrupted", Interrupt::Terminated => "terminated" })]
    Interrupt(Interrupt),
}

impl SendError {
    /// The error in one word, which decides the exit code.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Usage(_) | Self::Resume { .. } => Reason::Usage,
            Self::Resolve { .. }
            | Self::NoAnswer { .. }
            | Self::NobodyThere { .. }
            | Self::StillWaiting { .. } => Reason::NoOrchestrator,
            Self::NotUnderstood { .. } => Reason::NotUnderstood,
            Self::NoReceivers { .. } => Reason::NoReceiver,
            Self::AllRefused { .. } | Self::NotEchoed { .. } | Self::Conflict { .. } => {
                Reason::Security
            }
            Self::NoProgress { acked: 0, .. } | Self::Deadline { .. } => Reason::Deadline,
            Self::NoProgress { .. } => Reason::Partial,
            Self::Mismatch { .. } | Self::Unverified { .. } => Reason::Verification,
            Self::NothingArrives => Reason::Internal,
            Self::Payload { .. } | Self::Socket { .. } => Reason::LocalIo,
            Self::Permission { .. } => Reason::Permission,
            Self::Interrupt(Interrupt::Interrupted) => Reason::Interrupted,
            Self::Interrupt(Interrupt::Terminated) => Reason::Terminated,
        }
    }

    /// Sorts a socket error by whose fault it is.
    pub(crate) fn socket(doing: impl Into<String>, source: io::Error) -> Self {
        let doing = doing.into();
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Permission { doing, source }
        } else {
            Self::Socket { doing, source }
        }
    }
}
