//! The client's sockets: one for each version of IP that is needed, on a fresh ephemeral port.
//!
//! One socket for all receivers, as in the original, so that they see one source; a fresh port for
//! each transaction, so that acks are hard to forge. What the network reports as errors on a UDP
//! socket is no error here: that a peer refuses is a hint, the rest is noise, and the next
//! retransmission tells.

use crate::error::SendError;
use crate::{offload, refusals};
use mdalp_proto::observe::{Datagram, Direction, Observer};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::net::UdpSocket;

/// Asked for, in bytes: acks of a thousand receivers at once fit.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Large enough for any datagram, and for any that are joined, so that a truncated one is never taken
/// for a whole one.
const MAX_DATAGRAM: usize = 65_536;

/// What came to a socket.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    /// A datagram, by its place in the inbox.
    Datagram(Range<usize>, SocketAddr),
    /// Something that was sent to this peer found nobody.
    Refused(SocketAddr),
    /// Something that was sent to this peer found no path, so the system says.
    Unreachable(SocketAddr, io::ErrorKind),
}

/// What was read at once: a datagram, or several of one length from one peer.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// Not yet taken out.
    rest: Range<usize>,
    /// The length of each datagram in it but perhaps the last.
    each: usize,
    from: SocketAddr,
    /// Which socket is read first, by turns: a busy one must not starve the other.
    v6_first: bool,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let from = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { bytes: vec![0; MAX_DATAGRAM], rest: 0..0, each: 0, from, v6_first: false }
    }

    /// A datagram that is in it until the next one is asked for.
    pub(crate) fn bytes(&self, datagram: Range<usize>) -> &[u8] {
        &self.bytes[datagram]
    }

    /// Takes the next datagram out.
    fn next(&mut self) -> Option<Arrival> {
        (!self.rest.is_empty()).then(|| self.first())
    }

    /// The same if there may be one without bytes.
    fn first(&mut self) -> Arrival {
        let end = self.rest.end.min(self.rest.start + self.each);
        let datagram = self.rest.start..end;
        self.rest.start = end;
        Arrival::Datagram(datagram, self.from)
    }

    /// Replaces its content by what waits in `socket`.
    fn fill(&mut self, socket: &UdpSocket, joined: bool) -> io::Result<Arrival> {
        let (len, each, from) = if joined {
            offload::try_recv(socket, &mut self.bytes)?
        } else {
            let (len, from) = socket.try_recv_from(&mut self.bytes)?;
            (len, len, from)
        };
        (self.rest, self.each, self.from) = (0..len, each.max(1), from);
        Ok(self.first())
    }
}

#[derive(Debug)]
pub(crate) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    observer: Option<Observer>,
    /// Where datagrams to each peer come from: only looked up for observers.
    routes: Mutex<BTreeMap<IpAddr, IpAddr>>,
    /// What the system said when the last datagram could not leave.
    unsent: Mutex<Option<(SocketAddr, io::ErrorKind)>>,
    /// Whether datagrams may leave together: until that was refused once.
    together: AtomicBool,
    /// Whether datagrams may arrive together.
    joined: AtomicBool,
}

impl Sockets {
    /// Sockets that can reach `peer`, and who is shown what goes through them.
    pub(crate) fn for_peer(
        peer: SocketAddr,
        observer: Option<Observer>,
    ) -> Result<Self, SendError> {
        let together = AtomicBool::new(offload::MOST > 1);
        let joined = AtomicBool::new(false);
        let (routes, unsent) = (Mutex::default(), Mutex::default());
        let mut sockets = Self { v4: None, v6: None, observer, routes, unsent, together, joined };
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

    /// Lets datagrams arrive together. Only where peers send several: reading one costs a little more.
    pub(crate) fn join(&self) {
        [&self.v4, &self.v6].into_iter().flatten().for_each(offload::ask);
        self.joined.store(true, Ordering::Relaxed);
    }

    /// Whether `addr` is one of these sockets themselves.
    pub(crate) fn is_own(&self, addr: SocketAddr) -> bool {
        let own =
            |socket: &UdpSocket| socket.local_addr().is_ok_and(|own| own.port() == addr.port());
        addr.ip().is_loopback() && [&self.v4, &self.v6].into_iter().flatten().any(own)
    }

    /// Sends datagrams of `len` bytes each, at most [`offload::MOST`]: in one call if that is possible,
    /// else one by one. What the network may recover from is no error: the chunk counts as sent and
    /// lost.
    pub(crate) async fn send(
        &self,
        bytes: &[u8],
        len: usize,
        to: SocketAddr,
    ) -> Result<(), SendError> {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else { return Ok(()) };
        let datagrams = || bytes.chunks(len.max(1));
        datagrams().for_each(|datagram| self.observe(Direction::Sent, to, datagram));
        if bytes.len() > len
            && self.together.load(Ordering::Relaxed)
            && let Ok(each) = u16::try_from(len)
        {
            match offload::send(socket, bytes, each, to).await {
                Ok(()) => return Ok(()),
                Err(error) if is_forbidden(&error) => return Err(forbidden(to, error)),
                // Or it was told of another datagram's fate, and sent nothing.
                Err(error) if offload::is_refused(&error) => {
                    self.together.store(false, Ordering::Relaxed);
                }
                Err(_) => {}
            }
        }
        for datagram in datagrams() {
            if let Some(kind) = send_one(socket, datagram, to).await? {
                *self.unsent.lock().unwrap_or_else(PoisonError::into_inner) = Some((to, kind));
            }
        }
        Ok(())
    }

    /// Waits for something to come to any socket.
    pub(crate) async fn recv(&self, inbox: &mut Inbox) -> Arrival {
        loop {
            if let Some(arrival) = self.try_recv(inbox) {
                return arrival;
            }
            tokio::select! {
                () = ready(self.v4.as_ref()) => {}
                () = ready(self.v6.as_ref()) => {}
            }
        }
    }

    /// What has already come, if anything.
    pub(crate) fn try_recv(&self, inbox: &mut Inbox) -> Option<Arrival> {
        let arrival = inbox.next().or_else(|| self.read(inbox));
        if let Some(Arrival::Datagram(at, from)) = &arrival {
            self.observe(Direction::Received, *from, inbox.bytes(at.clone()));
        }
        arrival
    }

    /// Reads from the sockets by turns.
    fn read(&self, inbox: &mut Inbox) -> Option<Arrival> {
        let joined = self.joined.load(Ordering::Relaxed);
        let mut sockets = [&self.v4, &self.v6];
        if inbox.v6_first {
            sockets.reverse();
        }
        inbox.v6_first = !inbox.v6_first;
        let arrival = sockets.into_iter().flatten().find_map(|socket| {
            let datagram = inbox.fill(socket, joined).ok();
            datagram.or_else(|| refusals::next(socket).map(unreachable))
        });
        let unsent = || self.unsent.lock().unwrap_or_else(PoisonError::into_inner).take();
        arrival.or_else(|| unsent().map(unreachable))
    }

    fn observe(&self, direction: Direction, peer: SocketAddr, bytes: &[u8]) {
        let socket = if peer.is_ipv4() { &self.v4 } else { &self.v6 };
        if let (Some(observer), Some(socket)) = (&self.observer, socket) {
            let local = self.local_addr(socket, peer);
            observer.see(&Datagram { direction, local, peer, bytes });
        }
    }

    /// Where datagrams to `peer` come from. The socket itself is bound to no address: routing decides,
    /// and another socket that is connected is told how, once for each peer.
    fn local_addr(&self, socket: &UdpSocket, peer: SocketAddr) -> SocketAddr {
        let unspecified = SocketAddr::new(any_ip(peer), 0);
        let mut local = socket.local_addr().unwrap_or(unspecified);
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let ip = routes.entry(peer.ip()).or_insert_with(|| {
            let source = std::net::UdpSocket::bind(unspecified)
                .and_then(|probe| probe.connect(peer).and_then(|()| probe.local_addr()));
            source.map_or(local.ip(), |source| source.ip())
        });
        local.set_ip(*ip);
        local
    }
}

fn unreachable((peer, kind): (SocketAddr, io::ErrorKind)) -> Arrival {
    if kind == io::ErrorKind::ConnectionRefused {
        Arrival::Refused(peer)
    } else {
        Arrival::Unreachable(peer, kind)
    }
}

/// The unspecified address of `peer`'s version of IP.
fn any_ip(peer: SocketAddr) -> IpAddr {
    if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Sends a datagram. `Some` says that no path leads there; other errors count as losses.
async fn send_one(
    socket: &UdpSocket,
    datagram: &[u8],
    to: SocketAddr,
) -> Result<Option<io::ErrorKind>, SendError> {
    // Once more if it was told of another datagram's fate instead of sending this one.
    for _ in 0..2 {
        match socket.send_to(datagram, to).await {
            Err(error) if is_forbidden(&error) => return Err(forbidden(to, error)),
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => {}
                kind @ (io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => {
                    return Ok(Some(kind));
                }
                _ => break,
            },
            Ok(_) => break,
        }
    }
    Ok(None)
}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

fn forbidden(to: SocketAddr, error: io::Error) -> SendError {
    SendError::socket(format!("sending to {to}"), error)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    const LEN: usize = 40;

    fn pair(ip: &str) -> (Sockets, std::net::UdpSocket) {
        let peer = std::net::UdpSocket::bind((ip, 0)).unwrap();
        (Sockets::for_peer(peer.local_addr().unwrap(), None).unwrap(), peer)
    }

    /// So many datagrams back to back, each with its number.
    fn numbered(count: u8) -> Vec<u8> {
        (0..count).flat_map(|n| [n; LEN]).collect()
    }

    fn assert_received(peer: &std::net::UdpSocket, count: u8) {
        for n in 0..count {
            let mut got = [0; 2 * LEN];
            assert_eq!((peer.recv(&mut got).unwrap(), got[0]), (LEN, n));
        }
    }

    #[tokio::test]
    async fn datagrams_that_leave_together_arrive_one_by_one() {
        for ip in ["127.0.0.1", "::1"] {
            let (sockets, peer) = pair(ip);
            let count = u8::try_from(offload::MOST).unwrap();
            let to = peer.local_addr().unwrap();
            sockets.send(&numbered(count), LEN, to).await.unwrap();
            assert_received(&peer, count);
            assert_eq!(sockets.together.load(Ordering::Relaxed), offload::MOST > 1);
        }
    }

    #[tokio::test]
    async fn datagrams_that_arrive_together_are_taken_one_by_one() {
        for ip in ["127.0.0.1", "::1"] {
            let (sockets, peer) = pair(ip);
            sockets.join();
            let others = Sockets::for_peer(peer.local_addr().unwrap(), None).unwrap();
            let to = SocketAddr::new(ip.parse().unwrap(), sockets.port());
            others.send(&numbered(9), LEN, to).await.unwrap();
            others.send(b"longer than the others, and no number is in it", 46, to).await.unwrap();
            peer.send_to(b"", to).unwrap();
            let mut inbox = Inbox::new();
            for n in 0..11 {
                let Arrival::Datagram(at, from) = sockets.recv(&mut inbox).await else { panic!() };
                match (n, inbox.bytes(at)) {
                    (0..9, bytes) => {
                        assert_eq!((bytes, from.port()), (&[n; LEN][..], others.port()));
                    }
                    (9, bytes) => assert_eq!(bytes.len(), 46),
                    (_, bytes) => assert_eq!((bytes, from), (&b""[..], peer.local_addr().unwrap())),
                }
            }
            assert!(sockets.try_recv(&mut inbox).is_none());
        }
    }

    /// A socket without checksums is one of those that Linux does not cut datagrams for.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn where_it_is_refused_datagrams_leave_one_by_one_from_then_on() {
        use nix::sys::socket::setsockopt;
        use nix::{libc, setsockopt_impl, sockopt_impl};
        sockopt_impl!(NoCheck, SetOnly, libc::SOL_SOCKET, libc::SO_NO_CHECK, bool);
        let (sockets, peer) = pair("127.0.0.1");
        setsockopt(sockets.v4.as_ref().unwrap(), NoCheck, &true).unwrap();
        for _ in 0..2 {
            sockets.send(&numbered(5), LEN, peer.local_addr().unwrap()).await.unwrap();
            assert_received(&peer, 5);
            assert!(!sockets.together.load(Ordering::Relaxed));
        }
    }

    /// A broadcast that nobody has allowed.
    #[cfg(unix)]
    #[tokio::test]
    async fn what_the_system_forbids_is_an_error_alone_and_together() {
        let to = SocketAddr::from(([255, 255, 255, 255], 9));
        let sockets = Sockets::for_peer(to, None).unwrap();
        for count in [1, 5] {
            let error = sockets.send(&numbered(count), LEN, to).await.unwrap_err();
            assert!(error.to_string().contains("sending to 255.255.255.255:9"), "{error}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn f25_who_refuses_datagrams_that_left_together_is_known_and_the_next_are_sent() {
        for ip in ["127.0.0.1", "::1"] {
            let (sockets, peer) = pair(ip);
            let closed = {
                let gone = std::net::UdpSocket::bind((ip, 0)).unwrap();
                gone.local_addr().unwrap()
            };
            sockets.send(&numbered(5), LEN, closed).await.unwrap();
            let to = peer.local_addr().unwrap();
            sockets.send(&numbered(5), LEN, to).await.unwrap();
            assert_received(&peer, 5);
            let arrival = sockets.recv(&mut Inbox::new()).await;
            assert!(matches!(arrival, Arrival::Refused(by) if by == closed), "{arrival:?}");
            assert!(sockets.together.load(Ordering::Relaxed), "a refusal says nothing about that");
        }
    }

    #[tokio::test]
    async fn whoever_watches_sees_each_datagram() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&seen);
        let see = move |datagram: &Datagram<'_>| {
            shown.lock().unwrap().push((datagram.direction, datagram.bytes.to_vec()));
        };
        let (mut sockets, _peer) = pair("127.0.0.1");
        sockets.observer = Some(Observer::new(see));
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), sockets.port());
        sockets.join();
        sockets.send(&numbered(3), LEN, to).await.unwrap();
        let mut inbox = Inbox::new();
        for _ in 0..3 {
            sockets.recv(&mut inbox).await;
        }
        let each = |direction| (0..3).map(move |n| (direction, vec![n; LEN]));
        let expected: Vec<_> = each(Direction::Sent).chain(each(Direction::Received)).collect();
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn b14_where_datagrams_come_from_is_looked_up_once_for_each_peer() {
        let (mut sockets, peer) = pair("127.0.0.1");
        sockets.observer = Some(Observer::new(|_: &Datagram<'_>| {}));
        let known = |sockets: &Sockets| sockets.routes.lock().unwrap().clone();
        let to = peer.local_addr().unwrap();
        sockets.send(&numbered(9), LEN, to).await.unwrap();
        assert_eq!(known(&sockets), BTreeMap::from([(to.ip(), to.ip())]));
        // What is known is used: another answer would not be the system's.
        let other = IpAddr::from([127, 0, 0, 9]);
        sockets.routes.lock().unwrap().insert(to.ip(), other);
        let local = sockets.local_addr(sockets.v4.as_ref().unwrap(), to);
        assert_eq!((local.ip(), local.port()), (other, sockets.port()));
    }

    #[tokio::test]
    async fn b15_a_busy_socket_of_one_ip_version_does_not_starve_the_other() {
        let (mut sockets, v4) = pair("127.0.0.1");
        let v6 = std::net::UdpSocket::bind(("::1", 0)).unwrap();
        sockets.ensure(v6.local_addr().unwrap()).unwrap();
        let port =
            |socket: &Option<UdpSocket>| socket.as_ref().unwrap().local_addr().unwrap().port();
        for _ in 0..50 {
            v4.send_to(b"4", ("127.0.0.1", port(&sockets.v4))).unwrap();
        }
        v6.send_to(b"6", ("::1", port(&sockets.v6))).unwrap();
        let (mut inbox, mut seen) = (Inbox::new(), Vec::new());
        sockets.v6.as_ref().unwrap().readable().await.unwrap();
        for _ in 0..3 {
            let Arrival::Datagram(at, _) = sockets.recv(&mut inbox).await else { panic!() };
            seen.push(inbox.bytes(at)[0]);
        }
        assert!(seen.contains(&b'6') && seen.contains(&b'4'), "{seen:?}");
    }

    impl Sockets {
        /// That of the only socket.
        fn port(&self) -> u16 {
            self.v4.as_ref().or(self.v6.as_ref()).unwrap().local_addr().unwrap().port()
        }
    }
}
