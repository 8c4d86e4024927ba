//! Which addresses a client may be sent to by a list that came from the network.
//!
//! A forged or foolish list must not turn the client against hosts that no receiver can be
//! (H24, RFC 9000 §21.5.6). Does not resolve names: lists hold addresses only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why nothing is sent to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// `0.0.0.0`, `::`, broadcast, multicast, reserved: no host has it.
    #[error("no single host has this address")]
    NotUnicast,
    /// Link-local, where cloud metadata services live.
    #[error("link-local address")]
    LinkLocal,
    /// IPv4 dressed up as IPv6.
    #[error("IPv4-mapped IPv6 address")]
    Mapped,
    /// Loopback, from an orchestrator that is not on this machine.
    #[error("loopback address, but the orchestrator is not on this machine")]
    Loopback,
    /// A private network, from an orchestrator on a public address.
    #[error("private address from a public orchestrator")]
    Private,
    /// The client itself.
    #[error("the client's own address")]
    Own,
}

/// Whether a client that asked `orchestrator` may send to `receiver`.
///
/// `allow_private` lifts [`Refusal::Private`] alone.
///
/// # Errors
/// The [`Refusal`] that holds.
///
/// ```
/// use mdalp_proto::address::{Refusal, check};
/// let public = "198.51.100.7".parse().unwrap();
/// assert_eq!(check("169.254.169.254".parse().unwrap(), public, false), Err(Refusal::LinkLocal));
/// assert_eq!(check("203.0.113.9".parse().unwrap(), public, false), Ok(()));
/// ```
pub fn check(receiver: IpAddr, orchestrator: IpAddr, allow_private: bool) -> Result<(), Refusal> {
    match receiver {
        IpAddr::V4(ip) => check_v4(ip)?,
        IpAddr::V6(ip) => check_v6(ip)?,
    }
    if receiver.is_loopback() && !orchestrator.is_loopback() {
        return Err(Refusal::Loopback);
    }
    let orchestrator_is_near = orchestrator.is_loopback() || is_private(orchestrator);
    if is_private(receiver) && !orchestrator_is_near && !allow_private {
        return Err(Refusal::Private);
    }
    Ok(())
}

fn check_v4(ip: Ipv4Addr) -> Result<(), Refusal> {
    let [first, ..] = ip.octets();
    if first == 0 || first >= 224 {
        // 0/8 is "this network", 224/4 multicast, 240/4 reserved with broadcast at its end.
        return Err(Refusal::NotUnicast);
    }
    if ip.is_link_local() { Err(Refusal::LinkLocal) } else { Ok(()) }
}

fn check_v6(ip: Ipv6Addr) -> Result<(), Refusal> {
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(Refusal::NotUnicast);
    }
    let compatible = ip.segments()[..6] == [0; 6] && !ip.is_loopback();
    if ip.to_ipv4_mapped().is_some() || compatible {
        return Err(Refusal::Mapped);
    }
    if ip.is_unicast_link_local() { Err(Refusal::LinkLocal) } else { Ok(()) }
}

/// RFC 1918, carrier-grade NAT (RFC 6598) and unique local IPv6 (RFC 4193).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(receiver: &str, orchestrator: &str) -> Result<(), Refusal> {
        check(receiver.parse().unwrap(), orchestrator.parse().unwrap(), false)
    }

    #[test]
    fn addresses_that_no_receiver_can_have_are_refused() {
        for ip in
            ["255.255.255.255", "0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "::", "ff02::1"]
        {
            for orchestrator in ["127.0.0.1", "198.51.100.7", "10.0.0.1"] {
                assert_eq!(verdict(ip, orchestrator), Err(Refusal::NotUnicast), "{ip}");
            }
        }
        assert_eq!(verdict("169.254.169.254", "127.0.0.1"), Err(Refusal::LinkLocal));
        assert_eq!(verdict("fe80::1", "::1"), Err(Refusal::LinkLocal));
        assert_eq!(verdict("::ffff:127.0.0.1", "127.0.0.1"), Err(Refusal::Mapped));
        assert_eq!(verdict("::7f00:1", "127.0.0.1"), Err(Refusal::Mapped));
    }

    #[test]
    fn loopback_and_private_receivers_need_a_near_orchestrator() {
        assert_eq!(verdict("127.0.0.2", "198.51.100.7"), Err(Refusal::Loopback));
        assert_eq!(verdict("::1", "10.0.0.1"), Err(Refusal::Loopback));
        assert_eq!(verdict("127.0.0.2", "127.0.0.1"), Ok(()));
        for private in ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd00::1"] {
            assert_eq!(verdict(private, "198.51.100.7"), Err(Refusal::Private), "{private}");
            assert_eq!(verdict(private, "10.0.0.1"), Ok(()));
            assert_eq!(verdict(private, "127.0.0.1"), Ok(()));
            let (ip, public) = (private.parse().unwrap(), "198.51.100.7".parse().unwrap());
            assert_eq!(check(ip, public, true), Ok(()));
        }
        assert_eq!(verdict("18.134.193.153", "18.139.29.142"), Ok(()));
        for (ip, private) in [
            ("100.63.255.255", false),
            ("100.64.0.0", true),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
        ] {
            assert_eq!(verdict(ip, "198.51.100.7").is_err(), private, "{ip}");
        }
    }
}
