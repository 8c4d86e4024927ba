//! A bound UDP socket in the runtime, with what its owner wants to know of it.

use crate::error::ServerError;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::task::{Context, Poll};

/// Errors without a datagram in between after which a socket counts as broken.
const MAX_ERRORS: u32 = 100;

/// What a look at a socket found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// So many bytes from there.
    Datagram(usize, SocketAddr),
    /// An error that a peer can cause, such as an unreachable port reported by ICMP. It says nothing
    /// about this socket (F25).
    Noise,
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Port {
    socket: tokio::net::UdpSocket,
    addr: SocketAddr,
    role: &'static str,
    errors: u32,
    /// Datagrams that the system did not take.
    pub(crate) unsent: u64,
}

impl Port {
    pub(crate) fn new(socket: UdpSocket, role: &'static str) -> Result<Self, ServerError> {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let failed = |addr, doing| {
            move |source| ServerError::Socket { addr, role: role.to_owned(), doing, source }
        };
        let addr = socket.local_addr().map_err(failed(unspecified, "asking for its address"))?;
        socket.set_nonblocking(true).map_err(failed(addr, "setting non-blocking mode"))?;
        let socket = tokio::net::UdpSocket::from_std(socket)
            .map_err(failed(addr, "registering with the runtime"))?;
        Ok(Self { socket, addr, role, errors: 0, unsent: 0 })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether something may be waiting; else the task is woken when it is.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_recv_ready(cx).map(drop)
    }

    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Result<Input, ServerError> {
        match self.socket.try_recv_from(buffer) {
            Ok((len, from)) => {
                self.errors = 0;
                Ok(Input::Datagram(len, from))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Input::Nothing),
            Err(_) if self.errors < MAX_ERRORS => {
                self.errors += 1;
                Ok(Input::Noise)
            }
            Err(source) => Err(ServerError::Socket {
                addr: self.addr,
                role: self.role.to_owned(),
                doing: "receiving",
                source,
            }),
        }
    }

    /// Sends or gives up: the peer repeats what it misses, and waiting for one would keep all others
    /// waiting.
    pub(crate) fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        if self.socket.try_send_to(datagram, to).is_err() {
            self.unsent += 1;
        }
    }
}
