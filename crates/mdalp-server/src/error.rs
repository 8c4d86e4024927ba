//! What can go wrong with a server, whose fault it is and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A setting that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Classic clients cut the list at fixed offsets and would trip over the name.
    #[error("receiver name {0:?}: use 1 to 64 printable ASCII characters without ; ' }} and \\")]
    Name(String),
    /// Clients need an address that they can send to.
    #[error("receiver {0:?}: give it an address of its own, not the wildcard")]
    Wildcard(String),
    /// Clients do not believe a receiver on a system port.
    #[error("receiver port {0}: use 4650 or 1024 to 65535")]
    Port(u16),
    /// Not `NAME=IP` or `NAME=IP:PORT`.
    #[error("receiver {0:?}: write NAME=IP or NAME=IP:PORT")]
    Syntax(String),
    /// As many sockets as receivers are needed.
    #[error("{sockets} sockets for {receivers} receivers")]
    Sockets {
        /// Sockets given.
        sockets: usize,
        /// Receivers configured.
        receivers: usize,
    },
    /// Shards need Linux.
    #[error("{0} shards: use 1 to 64, and 1 on systems other than Linux")]
    Shards(usize),
    /// Nobody could send anything.
    #[error("no receiver is configured")]
    NoReceivers,
}

/// Why a server did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The operator's settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process has the address.
    #[error(
        "cannot listen on {addr} as {role}: another process listens there already; \
         stop it or choose another address"
    )]
    AddressInUse {
        /// The address.
        addr: SocketAddr,
        /// Who wanted it.
        role: String,
    },
    /// This machine does not have the address.
    #[error("cannot listen on {addr} as {role}: this machine does not have that address; {hint}")]
    AddressNotAvailable {
        /// The address.
        addr: SocketAddr,
        /// Who wanted it.
        role: String,
        /// What to do.
        hint: String,
    },
    /// The system forbids it.
    #[error("cannot listen on {addr} as {role}: not permitted; {hint}")]
    NotPermitted {
        /// The address.
        addr: SocketAddr,
        /// Who wanted it.
        role: String,
        /// What to do.
        hint: String,
    },
    /// The socket failed for another reason.
    #[error("{role} on {addr}: {doing} failed: {source}")]
    Socket {
        /// The address.
        addr: SocketAddr,
        /// Whose socket.
        role: String,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error("cannot open the data directory {}: {reason}", dir.display())]
    OpenStore {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store cannot be used. What was acknowledged is kept; the next start replays it.
    #[error(
        "the store failed while {doing}: {reason}; nothing more is acknowledged, restart to recover"
    )]
    Store {
        /// What was tried.
        doing: &'static str,
        /// What the store said.
        reason: String,
    },
    /// The system has no randomness to draw transaction ids from.
    #[error("the system's random source failed: {0}")]
    Random(String),
    /// A thread of the server died: a defect.
    #[error("internal error: the {0} thread ended unexpectedly")]
    Thread(&'static str),
}
