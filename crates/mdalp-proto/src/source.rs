//! Where a datagram comes from: whether it may be answered, and which sources count together.
//!
//! For servers. Which addresses a *client* may send to is [`crate::address`]'s question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::RangeInclusive;

/// Whether `from` can be the address of one host other than ourselves (H13).
///
/// Whatever is sent to another one is lost at best, and a loop or a flood at worst.
pub fn is_answerable(from: SocketAddr, own: &[SocketAddr]) -> bool {
    let one_host = match from.ip() {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            first != 0 && first < 224
        }
        IpAddr::V6(ip) => {
            !ip.is_unspecified() && !ip.is_multicast() && ip.to_ipv4_mapped().is_none()
        }
    };
    one_host && from.port() != 0 && !own.contains(&from)
}

/// The same address without an IPv6 flow label, which may differ from datagram to datagram.
pub(crate) fn without_flow(mut from: SocketAddr) -> SocketAddr {
    if let SocketAddr::V6(v6) = &mut from {
        v6.set_flowinfo(0);
    }
    from
}

/// Whether only this machine can have sent it. Nobody outside can forge such a source, and all
/// users of one machine share it: limits that are meant for strangers do not apply.
pub(crate) fn is_local(from: SocketAddr) -> bool {
    from.ip().is_loopback()
}

/// Addresses that one party is likely to hold all of: an IPv4 /24 or an IPv6 /56 (H44).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Prefix(IpAddr);

impl Prefix {
    pub(crate) fn of(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & V4_MASK).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & V6_MASK).into(),
        })
    }

    /// From its first to its last address.
    pub(crate) fn addresses(self) -> RangeInclusive<IpAddr> {
        let last = match self.0 {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() | !V4_MASK).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() | !V6_MASK).into(),
        };
        self.0..=last
    }
}

const V4_MASK: u32 = !0 << 8;
const V6_MASK: u128 = !0 << 72;

/// The lowest and the highest socket address with addresses of `ips`, in their sorting order.
pub(crate) fn sockets_of(ips: RangeInclusive<IpAddr>) -> RangeInclusive<SocketAddr> {
    let first = match *ips.start() {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, 0).into(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, 0, 0, 0).into(),
    };
    let last = match *ips.end() {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, u16::MAX).into(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, u16::MAX, u32::MAX, u32::MAX).into(),
    };
    first..=last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h13_sources_that_are_not_one_other_host_are_not_answerable() {
        let own = ["192.0.2.1:4650".parse().unwrap()];
        for bad in [
            "192.0.2.1:4650",
            "192.0.2.7:0",
            "0.0.0.0:9",
            "0.1.2.3:9",
            "255.255.255.255:9",
            "224.0.0.1:9",
            "240.0.0.1:9",
            "[::]:9",
            "[ff02::1]:9",
            "[::ffff:192.0.2.7]:9",
        ] {
            assert!(!is_answerable(bad.parse().unwrap(), &own), "{bad}");
        }
        for good in ["192.0.2.1:4651", "127.0.0.1:9", "[::1]:9", "[fe80::1]:9", "10.0.0.1:9"] {
            assert!(is_answerable(good.parse().unwrap(), &own), "{good}");
        }
    }

    #[test]
    fn a_prefix_holds_its_neighbours_and_nobody_else() {
        let of = |ip: &str| Prefix::of(ip.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.255"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:ff:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:100::1"));
        let range = sockets_of(of("192.0.2.77").addresses());
        assert!(range.contains(&"192.0.2.0:1".parse().unwrap()));
        assert!(range.contains(&"192.0.2.255:65535".parse().unwrap()));
        assert!(!range.contains(&"192.0.3.0:0".parse().unwrap()));
    }
}
