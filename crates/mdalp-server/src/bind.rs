//! Sockets as servers need them.
//!
//! Each socket binds its own address, never the wildcard by itself: a classic client on the same
//! machine binds port 4650 too.

use crate::config::ReceiverSpec;
use crate::error::ServerError;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// The receive buffer that is asked for, in bytes. The usual default held 256 classic chunks, which
/// a burst fills in 3 ms (F34).
pub const RECEIVE_BUFFER: usize = 4 << 20;

/// Binds `addr` for `role` (a word for errors and logs, such as `orchestrator`).
///
/// # Errors
/// [`ServerError`] says who wanted which address, why it failed and what to do.
pub fn bind(addr: SocketAddr, role: &str) -> Result<UdpSocket, ServerError> {
    let failed = |doing: &'static str| {
        move |source: io::Error| explain(addr, role.to_owned(), doing, source)
    };
    let socket = open(addr).map_err(failed("opening a socket"))?;
    socket.bind(&addr.into()).map_err(failed("binding"))?;
    settle(&socket, addr, role).map_err(failed("setting its options"))?;
    Ok(socket.into())
}

/// A socket for `addr`, to be bound to it.
pub(crate) fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        // Otherwise IPv4 clients would show up as mapped addresses, which the machines drop (H13).
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// What a socket needs once it is bound.
pub(crate) fn settle(socket: &Socket, addr: SocketAddr, role: &str) -> io::Result<()> {
    // Only now: a second server must fail to bind, but a classic client that sets the option on its
    // own socket may then have the wildcard address of the same port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    enlarge_buffer(socket, addr, role);
    Ok(())
}

/// Binds all of `receivers`, and returns them with the ports that the system chose where 0 was given.
///
/// # Errors
/// As [`bind`].
pub fn bind_receivers(
    receivers: &[ReceiverSpec],
) -> Result<(Vec<UdpSocket>, Vec<ReceiverSpec>), ServerError> {
    let mut bound = Vec::new();
    for spec in receivers {
        let role = format!("receiver {:?}", spec.name());
        let socket = bind(spec.addr(), &role)?;
        let addr = socket
            .local_addr()
            .map_err(|source| explain(spec.addr(), role, "asking for the port", source))?;
        bound.push((socket, spec.at(addr)));
    }
    Ok(bound.into_iter().unzip())
}

/// A small buffer loses chunks but breaks nothing: a warning, no error.
fn enlarge_buffer(socket: &Socket, addr: SocketAddr, role: &str) {
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    #[cfg(target_os = "linux")]
    if buffer_of(socket) < RECEIVE_BUFFER {
        // Goes beyond net.core.rmem_max where the process may (CAP_NET_ADMIN).
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER);
    }
    let got = buffer_of(socket);
    if got < RECEIVE_BUFFER {
        tracing::warn!(
            %addr, role, bytes = got, wanted = RECEIVE_BUFFER,
            "small receive buffer, bursts will be lost; raise net.core.rmem_max"
        );
    }
}

/// The buffer's size. Linux reports twice what it grants, for its own book-keeping.
fn buffer_of(socket: &Socket) -> usize {
    let reported = SockRef::from(socket).recv_buffer_size().unwrap_or(0);
    if cfg!(target_os = "linux") { reported / 2 } else { reported }
}

fn explain(addr: SocketAddr, role: String, doing: &'static str, source: io::Error) -> ServerError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ServerError::AddressInUse { addr, role },
        io::ErrorKind::AddrNotAvailable => {
            let hint = if addr.ip().is_loopback() && cfg!(target_os = "macos") {
                format!("add it with: sudo ifconfig lo0 alias {} up", addr.ip())
            } else if addr.ip().is_loopback() {
                format!("add it with: ip addr add {}/8 dev lo", addr.ip())
            } else {
                "choose one of its own, or 0.0.0.0".to_owned()
            };
            ServerError::AddressNotAvailable { addr, role, hint }
        }
        io::ErrorKind::PermissionDenied => {
            let hint = if addr.port() < 1024 {
                "ports below 1024 need privileges"
            } else {
                "a sandbox or a security policy refuses it"
            };
            ServerError::NotPermitted { addr, role, hint: hint.to_owned() }
        }
        _ => ServerError::Socket { addr, role, doing, source },
    }
}
