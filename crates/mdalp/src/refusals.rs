//! Which peers a UDP socket was told are not there, or that no path leads to: ICMP unreachable, as Linux
//! queues it.
//!
//! A hint, for it can be forged; what follows from it is the core's business (F25). Elsewhere than on
//! Linux nothing is known.

#[cfg(target_os = "linux")]
mod imp {
    use nix::errno::Errno;
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
    use nix::sys::socket::{setsockopt, sockopt};
    use std::io::{self, IoSliceMut};
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsRawFd;
    use tokio::io::Interest;

    /// What to wait for.
    pub(crate) const INTEREST: Interest = Interest::READABLE.add(Interest::ERROR);

    /// Asks for what is read with [`next`].
    pub(crate) fn ask(socket: &UdpSocket) {
        // Best effort: without it silence tells, later.
        let v4 = socket.local_addr().is_ok_and(|addr| addr.is_ipv4());
        let _ = if v4 {
            setsockopt(socket, sockopt::Ipv4RecvErr, &true)
        } else {
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)
        };
    }

    /// The next that is queued: the peer, and what the system says of it.
    pub(crate) fn next(socket: &tokio::net::UdpSocket) -> Option<(SocketAddr, io::ErrorKind)> {
        loop {
            let queued = socket.try_io(Interest::ERROR, || take(socket.as_raw_fd()));
            if let Some(refused) = queued.ok()? {
                return Some(refused);
            }
        }
    }

    /// Takes an entry off the queue: of other errors than these there is nothing to say.
    fn take(socket: i32) -> io::Result<Option<(SocketAddr, io::ErrorKind)>> {
        let mut start = [0; 1];
        let mut data = [IoSliceMut::new(&mut start)];
        let mut control = nix::cmsg_space!(nix::libc::sock_extended_err, SockaddrStorage);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(socket, &mut data, Some(&mut control), flags)?;
        let kind = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Ipv4RecvErr(error, _)
            | ControlMessageOwned::Ipv6RecvErr(error, _) => kind(error.ee_errno),
            _ => None,
        });
        Ok(message.address.and_then(address).zip(kind))
    }

    fn kind(code: u32) -> Option<io::ErrorKind> {
        match Errno::from_raw(i32::try_from(code).ok()?) {
            Errno::ECONNREFUSED => Some(io::ErrorKind::ConnectionRefused),
            Errno::EHOSTUNREACH => Some(io::ErrorKind::HostUnreachable),
            Errno::ENETUNREACH => Some(io::ErrorKind::NetworkUnreachable),
            _ => None,
        }
    }

    /// An address as the system gives it.
    pub(crate) fn address(raw: SockaddrStorage) -> Option<SocketAddr> {
        let v4 = raw.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
        v4.or(raw.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::net::{SocketAddr, UdpSocket};
    use tokio::io::Interest;

    pub(crate) const INTEREST: Interest = Interest::READABLE;

    pub(crate) fn ask(_: &UdpSocket) {}

    pub(crate) fn next(_: &tokio::net::UdpSocket) -> Option<(SocketAddr, io::ErrorKind)> {
        None
    }
}

#[cfg(target_os = "linux")]
pub(crate) use imp::address;
pub(crate) use imp::{INTEREST, ask, next};
