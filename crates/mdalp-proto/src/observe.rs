//! A way for shells to show every datagram as it leaves or arrives, for captures.
//!
//! Only types that client and servers share: nothing here reads, writes or decides.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Which way a datagram goes, as its observer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// It is being sent.
    Sent,
    /// It has been received.
    Received,
}

/// A datagram at a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// Which way it goes.
    pub direction: Direction,
    /// The socket's own address; unspecified if the socket has not been given one.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// The datagram's content.
    pub bytes: &'a [u8],
}

/// Is shown every datagram, in the order in which a shell sends and receives. Runs in the shell's
/// own loop: it must be quick. Two observers are equal if they are clones of one.
#[derive(Clone)]
pub struct Observer(Arc<Callback>);

type Callback = dyn Fn(&Datagram<'_>) + Send + Sync;

impl Observer {
    /// An observer that calls `see`.
    pub fn new(see: impl Fn(&Datagram<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(see))
    }

    /// Shows it a datagram.
    pub fn see(&self, datagram: &Datagram<'_>) {
        (self.0)(datagram);
    }
}

impl PartialEq for Observer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
