//! What Linux knows of a socket and other systems do not tell.

use nix::sys::socket::sockopt::{GetStruct, SetStruct};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
use std::os::fd::AsFd;

/// `SO_MEMINFO`, see the manual page `sock_diag(7)`: nine numbers, the last of them the drops.
const SO_MEMINFO: libc::c_int = 55;
const DROPS: usize = 8;

sockopt_impl!(
    /// What a socket has allocated and dropped.
    MemInfo, GetOnly, libc::SOL_SOCKET, SO_MEMINFO, [u32; 9], GetStruct<[u32; 9]>
);

sockopt_impl!(
    /// Whether IPv4 datagrams may be cut into fragments.
    MtuDiscover, SetOnly, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::c_int, SetStruct<libc::c_int>
);

sockopt_impl!(
    /// The same for IPv6.
    Ipv6MtuDiscover, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::c_int,
    SetStruct<libc::c_int>
);

/// Datagrams that did not fit into the socket's receive buffer, since it was opened.
pub(crate) fn drops(socket: &impl AsFd) -> u64 {
    getsockopt(socket, MemInfo).map_or(0, |info| info[DROPS].into())
}

/// Lets long datagrams be cut on the way: a list of receivers has to arrive as one, and nobody here
/// looks for a length that would fit (F26). QUIC forbids it, and so does `quinn_udp`.
pub(crate) fn allow_fragments(socket: &impl AsFd) {
    // One of the two is not the socket's.
    let _ = setsockopt(socket, MtuDiscover, &libc::IP_PMTUDISC_DONT);
    let _ = setsockopt(socket, Ipv6MtuDiscover, &libc::IPV6_PMTUDISC_DONT);
}

/// Turns off what is told with each datagram and nobody here asks for: it costs time.
pub(crate) fn tell_less(socket: &impl AsFd) {
    // What cannot be turned off is only slower.
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &false);
    let _ = setsockopt(socket, sockopt::Ipv4PacketInfo, &false);
    let _ = setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &false);
    let _ = setsockopt(socket, sockopt::IpRecvTos, &false);
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    #[test]
    fn what_does_not_fit_is_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_nonblocking(true).unwrap();
        socket2::SockRef::from(&receiver).set_recv_buffer_size(4096).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 500], receiver.local_addr().unwrap()).unwrap();
        }
        let mut read = 0;
        while receiver.recv(&mut [0; 500]).is_ok() {
            read += 1;
        }
        assert!((1..100).contains(&read));
        assert_eq!(super::drops(&receiver), 100 - read);
    }
}
