//! Several datagrams in one call, where the system can: cut apart as they leave (GSO), joined as they
//! arrive (GRO).
//!
//! Does not decide which go together, nor what to do where it is refused. Elsewhere than on Linux
//! each datagram is a call.

#[cfg(target_os = "linux")]
mod imp {
    use crate::refusals::address;
    use nix::errno::Errno;
    use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage};
    use nix::sys::socket::{recvmsg, sendmsg, setsockopt, sockopt};
    use std::io::{self, IoSlice, IoSliceMut};
    use std::net::SocketAddr;
    use std::os::fd::AsRawFd;
    use tokio::io::Interest;
    use tokio::net::UdpSocket;

    /// The most datagrams that may leave in one call.
    pub(crate) const MOST: usize = 64;

    /// Asks for datagrams to be joined.
    pub(crate) fn ask(socket: &UdpSocket) {
        // Best effort: without it, they come one by one.
        let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
    }

    /// Sends `bytes` as datagrams of `len` bytes each.
    pub(crate) async fn send(
        socket: &UdpSocket,
        bytes: &[u8],
        len: u16,
        to: SocketAddr,
    ) -> io::Result<()> {
        let to = SockaddrStorage::from(to);
        let cut = [ControlMessage::UdpGsoSegments(&len)];
        let send = || {
            let (data, flags) = ([IoSlice::new(bytes)], MsgFlags::MSG_DONTWAIT);
            Ok(sendmsg(socket.as_raw_fd(), &data, &cut, flags, Some(&to))?)
        };
        socket.async_io(Interest::WRITABLE, send).await.map(drop)
    }

    /// What has come: its length in bytes, that of each datagram in it but perhaps the last, and from
    /// whom.
    pub(crate) fn try_recv(
        socket: &UdpSocket,
        buffer: &mut [u8],
    ) -> io::Result<(usize, usize, SocketAddr)> {
        socket.try_io(Interest::READABLE, || {
            let mut data = [IoSliceMut::new(buffer)];
            let mut control = nix::cmsg_space!(i32);
            let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            let message = recvmsg::<SockaddrStorage>(fd, &mut data, Some(&mut control), flags)?;
            let joined = message.cmsgs()?.find_map(|part| match part {
                ControlMessageOwned::UdpGroSegments(len) => usize::try_from(len).ok(),
                _ => None,
            });
            let from = message.address.and_then(address).ok_or(Errno::EAFNOSUPPORT)?;
            Ok((message.bytes, joined.unwrap_or(message.bytes), from))
        })
    }

    /// Whether this error may say that datagrams cannot leave together: the device or the path does
    /// not allow it.
    pub(crate) fn is_refused(error: &io::Error) -> bool {
        let refusals = [Errno::EIO, Errno::EINVAL, Errno::EOPNOTSUPP, Errno::EMSGSIZE];
        error.raw_os_error().is_some_and(|code| refusals.contains(&Errno::from_raw(code)))
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::net::SocketAddr;
    use tokio::net::UdpSocket;

    pub(crate) const MOST: usize = 1;

    pub(crate) fn ask(_: &UdpSocket) {}

    pub(crate) async fn send(
        socket: &UdpSocket,
        bytes: &[u8],
        _: u16,
        to: SocketAddr,
    ) -> io::Result<()> {
        socket.send_to(bytes, to).await.map(drop)
    }

    pub(crate) fn try_recv(
        socket: &UdpSocket,
        buffer: &mut [u8],
    ) -> io::Result<(usize, usize, SocketAddr)> {
        socket.try_recv_from(buffer).map(|(len, from)| (len, len, from))
    }

    pub(crate) fn is_refused(_: &io::Error) -> bool {
        true
    }
}

pub(crate) use imp::{MOST, ask, is_refused, send, try_recv};
