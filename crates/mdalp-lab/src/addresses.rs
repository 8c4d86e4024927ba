//! Loopback addresses for a lab: an orchestrator and the receivers right behind it, all on one port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use mdalp_server::{ServerError, bind};

/// Which addresses a lab takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addresses {
    /// The orchestrator here, the first receiver at the next address, and so on.
    From(SocketAddr),
    /// Any that are free, on port 4650: for many labs on one machine. They never include
    /// 127.0.0.1: a client that binds port 4650 of all addresses itself sends from there.
    Free,
    /// 127.0.0.1 alone, and ports that the system chooses: for systems that have no other loopback
    /// address. Only clients that understand `port=` can use it.
    AnyPort,
}

impl Default for Addresses {
    fn default() -> Self {
        Self::From(SocketAddr::from((Ipv4Addr::LOCALHOST, mdalp_proto::wire::PORT)))
    }
}

/// Groups of 256 addresses that [`Addresses::Free`] tries: 127.46.50.x, then 127.46.51.x …
const GROUPS: u8 = 200;

impl Addresses {
    /// Binds `count` sockets.
    ///
    /// # Errors
    /// If an address is taken or not there; with [`Addresses::Free`] the last such error.
    pub fn bind(self, count: usize) -> Result<Vec<UdpSocket>, ServerError> {
        match self {
            Self::From(first) => bind_all(first, count),
            Self::AnyPort => {
                let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                (0..count).map(|_| bind(any, "lab")).collect()
            }
            Self::Free => {
                let group = |n: u8| {
                    let ip = Ipv4Addr::new(127, 46, 50_u8.saturating_add(n), 1);
                    SocketAddr::from((ip, mdalp_proto::wire::PORT))
                };
                let mut tried = bind_all(group(0), count);
                for n in 1..GROUPS {
                    if tried.is_ok() {
                        break;
                    }
                    tried = bind_all(group(n), count);
                }
                tried
            }
        }
    }
}

fn bind_all(first: SocketAddr, count: usize) -> Result<Vec<UdpSocket>, ServerError> {
    (0..count).map(|n| bind(nth(first, n), "lab")).collect()
}

/// The `n`-th address after `first`, on the same port.
fn nth(first: SocketAddr, n: usize) -> SocketAddr {
    let ip = match first.ip() {
        IpAddr::V4(ip) => IpAddr::V4(ip.to_bits().wrapping_add(n as u32).into()),
        IpAddr::V6(ip) => IpAddr::V6(ip.to_bits().wrapping_add(n as u128).into()),
    };
    SocketAddr::new(ip, first.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_follow_the_orchestrator() {
        let first = SocketAddr::from(([127, 0, 0, 255], 4650));
        assert_eq!(nth(first, 0), first);
        assert_eq!(nth(first, 2), SocketAddr::from(([127, 0, 1, 1], 4650)));
        let v6: SocketAddr = "[fd00::f]:9".parse().expect("an address");
        assert_eq!(nth(v6, 1).to_string(), "[fd00::10]:9");
    }

    #[test]
    fn free_addresses_differ_from_each_other() {
        let addr = |sockets: &[UdpSocket]| sockets[0].local_addr().expect("bound");
        let one = Addresses::Free.bind(4).expect("free addresses");
        let two = Addresses::Free.bind(4).expect("free addresses");
        assert_ne!(addr(&one), addr(&two));
        assert!(Addresses::From(addr(&one)).bind(1).is_err());
    }
}
