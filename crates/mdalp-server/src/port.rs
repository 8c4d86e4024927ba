//! A bound UDP socket in the runtime: batches in, batches out.
//!
//! Does not wait for a socket that takes no more: who is sent to repeats what it misses.

use crate::error::ServerError;
use crate::inbox::Inbox;
use crate::outbox::Outbox;
use mdalp_proto::observe::{Datagram, Direction, Observer};
use quinn_udp::{Transmit, UdpSocketState};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::task::{Context, Poll};
use tokio::io::Interest;

/// Errors without a datagram in between after which a socket counts as broken.
const MAX_ERRORS: u32 = 100;

/// What a look at a socket found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// The inbox has datagrams.
    Datagrams,
    /// An error that a peer can cause, such as an unreachable port reported by ICMP. It says nothing
    /// about this socket (F25).
    Noise,
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Port {
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
    addr: SocketAddr,
    role: &'static str,
    errors: u32,
    outbox: Outbox,
    observer: Option<Observer>,
    /// Datagrams that the system did not take.
    pub(crate) unsent: u64,
}

impl Port {
    pub(crate) fn new(
        socket: UdpSocket,
        role: &'static str,
        observer: Option<Observer>,
    ) -> Result<Self, ServerError> {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let failed = |addr, doing| {
            move |source| ServerError::Socket { addr, role: role.to_owned(), doing, source }
        };
        let addr = socket.local_addr().map_err(failed(unspecified, "asking for its address"))?;
        let state = UdpSocketState::new((&socket).into())
            .map_err(failed(addr, "setting it up for batches"))?;
        #[cfg(target_os = "linux")]
        {
            crate::kernel::tell_less(&socket);
            crate::kernel::allow_fragments(&socket);
        }
        let socket = tokio::net::UdpSocket::from_std(socket)
            .map_err(failed(addr, "registering with the runtime"))?;
        let outbox = Outbox::default();
        Ok(Self { socket, state, addr, role, errors: 0, outbox, observer, unsent: 0 })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Datagrams that the system dropped because they did not fit into the receive buffer; 0 where
    /// it does not tell.
    pub(crate) fn dropped(&self) -> u64 {
        #[cfg(target_os = "linux")]
        return crate::kernel::drops(&self.socket);
        #[cfg(not(target_os = "linux"))]
        0
    }

    /// Whether something may be waiting; else the task is woken when it is.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_recv_ready(cx).map(drop)
    }

    /// Fills the inbox with a batch of what waits.
    pub(crate) fn receive(&mut self, inbox: &mut Inbox) -> Result<Input, ServerError> {
        let fill =
            || inbox.fill(|places, meta| self.state.recv((&self.socket).into(), places, meta));
        match self.socket.try_io(Interest::READABLE, fill) {
            Ok(()) => {
                self.errors = 0;
                if let Some(observer) = &self.observer {
                    for (peer, datagram) in inbox.datagrams() {
                        show(observer, Direction::Received, self.addr, peer, datagram);
                    }
                }
                Ok(Input::Datagrams)
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

    /// Takes a datagram, written by `write`, for the next [`flush`](Self::flush).
    pub(crate) fn send(&mut self, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        self.outbox.push(to, write);
    }

    /// Sends all that was taken or gives it up: the peer repeats what it misses, and waiting for one
    /// would keep all others waiting.
    pub(crate) fn flush(&mut self) {
        let Self { outbox, state, socket, observer, addr, unsent, .. } = self;
        let most = state.max_gso_segments();
        outbox.drain(most, |destination, contents, size| {
            if let Some(observer) = observer {
                for datagram in contents.chunks(size) {
                    show(observer, Direction::Sent, *addr, destination, datagram);
                }
            }
            let send = |contents, segment_size| {
                let transmit =
                    Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
                // Not by `try_io`: before the runtime has looked at a new socket, that takes nothing.
                state.try_send((&*socket).into(), &transmit)
            };
            if contents.len() == size {
                *unsent += u64::from(send(contents, None).is_err());
                return;
            }
            let Err(error) = send(contents, Some(size)) else { return };
            // A network that cannot cut segments shows itself by an error, once.
            let full = error.kind() == io::ErrorKind::WouldBlock;
            for datagram in contents.chunks(size) {
                *unsent += u64::from(full || send(datagram, None).is_err());
            }
        });
    }
}

fn show(
    observer: &Observer,
    direction: Direction,
    local: SocketAddr,
    peer: SocketAddr,
    bytes: &[u8],
) {
    observer.see(&Datagram { direction, local, peer, bytes });
}
