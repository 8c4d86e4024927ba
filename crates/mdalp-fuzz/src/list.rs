//! Any bytes as a receiver list: limits hold, what is accepted has one meaning, and no address is
//! sent to that no receiver can have (H20–H28).

use mdalp_proto::address::check;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::wire::list::{Entry, MAX_BYTES, MAX_ENTRIES, MOST_ENTRIES, parse, parse_up_to};
use mdalp_proto::wire::{Capabilities, Message, decode, encode_assignment};
use std::net::{IpAddr, Ipv4Addr};

/// Reads `bytes` as the `DATA` of a Type 1.
///
/// # Panics
/// If a list is accepted that must not be, or read as something else than it says.
pub fn list(bytes: &[u8]) {
    let allowed = parse_up_to(MOST_ENTRIES, bytes);
    let Ok(entries) = parse(bytes) else { return };
    assert_eq!(allowed.as_ref(), Ok(&entries), "who allows more reads the same");
    assert!(bytes.len() <= MAX_BYTES && entries.len() <= MAX_ENTRIES);
    for entry in &entries {
        assert!(entry.name.len() <= 255);
        capabilities(entry.caps);
        for orchestrator in ["127.0.0.1", "10.0.0.1", "198.51.100.7", "2001:db8::1", "::1"] {
            address(entry.ip, orchestrator.parse().expect("an address"));
        }
    }
    written_again(&entries);
    as_json(bytes, &entries);
}

fn capabilities(caps: Capabilities) {
    assert!(caps.port.is_none_or(|port| port >= 1024));
    assert!(caps.window.is_none_or(|window| (1..=256).contains(&window)));
    assert!(caps.chunk.is_none_or(|chunk| (100..=1200).contains(&chunk)));
    assert_eq!(Capabilities::parse(&caps.to_string()), caps);
}

/// The classes of H24, as the standard library sees them.
fn address(ip: IpAddr, orchestrator: IpAddr) {
    for allow_private in [false, true] {
        if check(ip, orchestrator, allow_private).is_err() {
            continue;
        }
        assert!(!ip.is_unspecified() && !ip.is_multicast());
        assert!(!ip.is_loopback() || orchestrator.is_loopback());
        match ip {
            IpAddr::V4(v4) => {
                assert!(!v4.is_broadcast() && !v4.is_link_local());
                let near = orchestrator.is_loopback()
                    || matches!(orchestrator, IpAddr::V4(v4) if v4.is_private());
                assert!(!v4.is_private() || near || allow_private);
            }
            IpAddr::V6(v6) => {
                assert!(!v6.is_unicast_link_local());
                assert!(v6 == std::net::Ipv6Addr::LOCALHOST || v6.to_ipv4().is_none());
            }
        }
    }
    assert_eq!(check(IpAddr::V4(Ipv4Addr::LOCALHOST), orchestrator, true).is_ok(), {
        orchestrator.is_loopback()
    });
}

/// As our orchestrator would write it: the same receivers, names without what trips classic clients.
fn written_again(entries: &[Entry]) {
    let mut datagram = Vec::new();
    encode_assignment(&mut datagram, TransactionId(7), None, entries);
    let Ok(Message::Assignment { list, .. }) = decode(&datagram) else {
        unreachable!("what is written is read")
    };
    if list.len() > MAX_BYTES {
        return;
    }
    let again = parse(list).expect("what is written is read");
    assert_eq!(again.len(), entries.len());
    for (new, old) in again.iter().zip(entries) {
        assert_eq!((new.ip, new.caps), (old.ip, old.caps));
        let plain = old.name.chars().filter(|c| matches!(c, ' '..='~') && !";'}\\".contains(*c));
        assert_eq!(new.name, plain.take(64).collect::<String>());
    }
}

/// Where a list is JSON too, a JSON parser reads the same.
fn as_json(bytes: &[u8], entries: &[Entry]) {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let items = json.as_array().expect("a list");
    assert_eq!(items.len(), entries.len());
    for (item, entry) in items.iter().zip(entries) {
        assert_eq!(item["ip_address"].as_str(), Some(&*entry.ip.to_string()));
        assert_eq!(item["name"].as_str().unwrap_or_default(), entry.name);
    }
}
