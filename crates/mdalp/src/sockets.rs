//! The client's sockets: one for each version of IP that is needed, on a fresh ephemeral port.
//!
//! One socket for all receivers, as in the original, so that they see one source; a fresh port for
//! each transaction, so that acks are hard to forge. What the network reports as errors on a UDP
//! socket is no error here: that a peer refuses is a hint, the rest is noise, and the next
//! retransmission tells.

use crate::error::SendError;
use crate::refusals;
use mdalp_proto::observe::{Datagram, Direction, Observer};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

/// Asked for, in bytes: acks of a thousand receivers at once fit.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What came to a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    /// A datagram of this length.
    Datagram(usize, SocketAddr),
    /// Something that was sent to this peer found nobody.
    Refused(SocketAddr),
}

#[derive(Debug)]
pub(crate) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    observer: Option<Observer>,
}

impl Sockets {
    /// Sockets that can reach `peer`, and who is shown what goes through them.
    pub(crate) fn for_peer(
        peer: SocketAddr,
        observer: Option<Observer>,
    ) -> Result<Self, SendError> {
        let mut sockets = Self { v4: None, v6: None, observer };
        sockets.ensure(peer)?;
        Ok(sockets)
    }

    /// Opens the socket for `peer`'s version of IP if it is not open yet.
    pub(crate) fn ensure(&mut self, peer: SocketAddr) -> Result<(), SendError> {
        let any = SocketAddr::new(any_ip(peer), 0);
        let slot = if peer.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        if slot.is_none() {
            *slot = Some(open(any).map_err(|e| SendError::socket("opening a UDP socket", e))?);
        }
        Ok(())
    }

    /// Whether `addr` is one of these sockets themselves.
    pub(crate) fn is_own(&self, addr: SocketAddr) -> bool {
        let own =
            |socket: &UdpSocket| socket.local_addr().is_ok_and(|own| own.port() == addr.port());
        addr.ip().is_loopback() && [&self.v4, &self.v6].into_iter().flatten().any(own)
    }

    /// Sends one datagram. What the network may recover from is no error: the chunk counts as
    /// sent and lost.
    pub(crate) async fn send(&self, datagram: &[u8], to: SocketAddr) -> Result<(), SendError> {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else { return Ok(()) };
        self.observe(Direction::Sent, to, datagram);
        // Once more if it was told of another datagram's fate instead of sending this one.
        for _ in 0..2 {
            match socket.send_to(datagram, to).await {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(SendError::socket(format!("sending to {to}"), error));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                _ => break,
            }
        }
        Ok(())
    }

    /// Waits for something to come to any socket.
    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> Arrival {
        loop {
            tokio::select! {
                () = ready(self.v4.as_ref()) => {}
                () = ready(self.v6.as_ref()) => {}
            }
            if let Some(arrival) = self.try_recv(buffer) {
                return arrival;
            }
        }
    }

    /// What has already come, if anything.
    pub(crate) fn try_recv(&self, buffer: &mut [u8]) -> Option<Arrival> {
        let mut sockets = [&self.v4, &self.v6].into_iter().flatten();
        sockets.find_map(|socket| {
            if let Ok((len, from)) = socket.try_recv_from(buffer) {
                self.observe(Direction::Received, from, &buffer[..len]);
                return Some(Arrival::Datagram(len, from));
            }
            refusals::next(socket).map(Arrival::Refused)
        })
    }

    fn observe(&self, direction: Direction, peer: SocketAddr, bytes: &[u8]) {
        let socket = if peer.is_ipv4() { &self.v4 } else { &self.v6 };
        if let (Some(observer), Some(socket)) = (&self.observer, socket) {
            let local = local_addr(socket, peer);
            observer.see(&Datagram { direction, local, peer, bytes });
        }
    }
}

/// Where datagrams to `peer` come from. The socket itself is bound to no address: routing decides,
/// and another socket that is connected is told how.
fn local_addr(socket: &UdpSocket, peer: SocketAddr) -> SocketAddr {
    let unspecified = SocketAddr::new(any_ip(peer), 0);
    let mut local = socket.local_addr().unwrap_or(unspecified);
    let routed = std::net::UdpSocket::bind(unspecified)
        .and_then(|probe| probe.connect(peer).and_then(|()| probe.local_addr()));
    if let Ok(routed) = routed {
        local.set_ip(routed.ip());
    }
    local
}

/// The unspecified address of `peer`'s version of IP.
fn any_ip(peer: SocketAddr) -> IpAddr {
    if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

async fn ready(socket: Option<&UdpSocket>) {
    match socket {
        Some(socket) if socket.ready(refusals::INTEREST).await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

fn open(any: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    // Best effort: a smaller buffer costs retransmissions, nothing else.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
    refusals::ask(&socket);
    UdpSocket::from_std(socket)
}
