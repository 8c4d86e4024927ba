//! What Linux knows of a socket and other systems do not tell.

use crate::bind::{open, settle};
use crate::shard::{DIGITS, ID};
use nix::sys::socket::sockopt::{GetStruct, SetStruct};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
use socket2::SockRef;
use std::io;
use std::net::UdpSocket;
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

/// As many sockets as `shards` at the address of `first`, which is one of them. The kernel brings a chunk
/// to the socket of its transaction's shard.
///
/// `first` must have been bound without sharing, so that a second server could not take the address.
pub(crate) fn share(first: UdpSocket, shards: usize) -> io::Result<Vec<UdpSocket>> {
    let addr = first.local_addr()?;
    SockRef::from(&first).set_reuse_port(true)?;
    let mut all = vec![first];
    while all.len() < shards {
        let next = open(addr)?;
        // A classic client may have the wildcard address of this port by now; `first` alone keeps
        // other servers out.
        next.set_reuse_address(true)?;
        next.set_reuse_port(true)?;
        next.bind(&addr.into())?;
        settle(&next, addr, "receiver")?;
        all.push(next.into());
    }
    let mut program = by_transaction(shards as u32);
    let fprog = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    if let Err(error) = setsockopt(&all[0], sockopt::AttachReusePortCbpf, &fprog) {
        // Then the kernel chooses by the client's address, and shards pass on what is not theirs.
        tracing::warn!(%addr, %error, "the kernel does not sort chunks by transaction: slower");
    }
    Ok(all)
}

/// A program for the kernel's filter machine: which of `shards` sockets gets a datagram, namely the
/// number after `TID:` modulo 2³² modulo `shards`. Where there is none, any. The machine has no loops,
/// so that each digit has lines of its own; reading behind a datagram's end ends it with 0.
fn by_transaction(shards: u32) -> Vec<libc::sock_filter> {
    use libc::{
        BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_B, BPF_IMM, BPF_JEQ, BPF_JGT, BPF_JMP, BPF_K, BPF_LD,
        BPF_MEM, BPF_MISC, BPF_MOD, BPF_MUL, BPF_RET, BPF_ST, BPF_SUB, BPF_TAX, BPF_W, BPF_X,
    };
    /// For each digit.
    const LINES: usize = 8;
    let line = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let op = |code: u32, k: u32| line(code as u16, k);
    let skip_if = |test: u32, k, lines| libc::sock_filter {
        jt: lines,
        ..line((BPF_JMP | test | BPF_K) as u16, k)
    };
    let mut program = vec![
        op(BPF_LD | BPF_W | BPF_ABS, ID as u32 - 4),
        skip_if(BPF_JEQ, u32::from_be_bytes(*b"TID:"), 1),
        op(BPF_RET | BPF_K, u32::MAX),
        op(BPF_LD | BPF_IMM, 0),
        op(BPF_ST, 0),
    ];
    for digit in 0..DIGITS {
        let left = (DIGITS - digit) * LINES;
        program.extend([
            op(BPF_LD | BPF_B | BPF_ABS, (ID + digit) as u32),
            op(BPF_ALU | BPF_SUB | BPF_K, b'0'.into()),
            // No digit: to the end.
            skip_if(BPF_JGT, 9, (left - 3) as u8),
            op(BPF_MISC | BPF_TAX, 0),
            op(BPF_LD | BPF_MEM, 0),
            op(BPF_ALU | BPF_MUL | BPF_K, 10),
            op(BPF_ALU | BPF_ADD | BPF_X, 0),
            op(BPF_ST, 0),
        ]);
    }
    program.extend([
        op(BPF_LD | BPF_MEM, 0),
        op(BPF_ALU | BPF_MOD | BPF_K, shards),
        op(BPF_RET | BPF_A, 0),
    ]);
    program
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    #[test]
    fn a_classic_client_may_come_before_the_address_is_shared() {
        let first = crate::bind(([127, 0, 0, 1], 0).into(), "receiver").unwrap();
        let port = first.local_addr().unwrap().port();
        let client =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        client.set_reuse_address(true).unwrap();
        client.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], port)).into()).unwrap();
        assert_eq!(super::share(first, 3).unwrap().len(), 3);
    }

    #[test]
    fn the_kernel_brings_each_chunk_to_the_shard_of_its_transaction() {
        let first = crate::bind(([127, 0, 0, 1], 0).into(), "receiver").unwrap();
        let addr = first.local_addr().unwrap();
        let sockets = super::share(first, 3).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let ids = [0, 7, 8, 1_u64 << 32, 9_876_543_210_987_654_321, u64::MAX];
        for tid in ids.into_iter().chain(100..140) {
            let datagram = format!("Type:2;TID:{tid};SEQ:0;DATA:");
            client.send_to(datagram.as_bytes(), addr).unwrap();
            let mut got = sockets.iter().map(|socket| socket.recv(&mut [0; 99]).is_ok());
            let owner = tid as u32 as usize % 3;
            assert_eq!(got.by_ref().position(|got| got), Some(owner), "{tid}");
            assert!(!got.any(|got| got), "{tid} came twice");
        }
        // Whatever else comes, one of them has it.
        for junk in ["", "x", "Type:2;TID:", "Type:2;TID:77", "Type:2;SEQ:12345678901234567890123"]
        {
            client.send_to(junk.as_bytes(), addr).unwrap();
            let got = sockets.iter().filter(|socket| socket.recv(&mut [0; 99]).is_ok());
            assert_eq!(got.count(), 1, "{junk}");
        }
        let second = crate::bind(addr, "receiver");
        assert!(matches!(second, Err(crate::ServerError::AddressInUse { .. })), "{second:?}");
    }

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
