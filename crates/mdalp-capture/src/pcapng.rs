//! The blocks of a pcapng file: section header, interface descriptions, packets.
//!
//! Little-endian, link type "raw IP". Only what a capture of datagrams needs, and only writing.

use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use etherparse::PacketBuilder;

use crate::{CaptureError, Packet};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// `LINKTYPE_RAW`: packets begin with an IPv4 or IPv6 header.
const LINK_TYPE: u16 = 101;
/// Codes of options.
const COMMENT: u16 = 1;
const IF_NAME: u16 = 2;
const USER_APPLICATION: u16 = 4;
const IF_TSRESOL: u16 = 9;
/// Stamps count units of 10⁻⁹ s.
const NANOSECONDS: u8 = 9;
/// The TTL of what a host sends itself.
const HOPS: u8 = 64;
/// Longer comments are cut: the length of an option is 16 bits.
const MAX_TEXT: usize = 1024;

/// Begins a section.
pub(crate) fn section(out: &mut Vec<u8>, application: &str) {
    block(out, SECTION_HEADER, |body| {
        body.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        body.extend(1_u16.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        // The section's length, not known beforehand.
        body.extend(u64::MAX.to_le_bytes());
        option(body, USER_APPLICATION, text(application));
        end_of_options(body);
    });
}

/// Describes an interface. The first one has number 0.
pub(crate) fn interface(out: &mut Vec<u8>, name: &str) {
    block(out, INTERFACE_DESCRIPTION, |body| {
        body.extend(LINK_TYPE.to_le_bytes());
        body.extend(0_u16.to_le_bytes());
        // No limit on the length of what is captured.
        body.extend(0_u32.to_le_bytes());
        option(body, IF_NAME, text(name));
        option(body, IF_TSRESOL, &[NANOSECONDS]);
        end_of_options(body);
    });
}

/// Writes a datagram; a `comment` without characters is none.
pub(crate) fn packet(
    out: &mut Vec<u8>,
    packet: &Packet<'_>,
    comment: &str,
) -> Result<(), CaptureError> {
    let wire = with_headers(packet)?;
    let since = packet.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // 64 bits of nanoseconds last until the year 2554.
    let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let length = wire.len() as u32;
    block(out, ENHANCED_PACKET, |body| {
        body.extend((packet.interface as u32).to_le_bytes());
        body.extend(((nanos >> 32) as u32).to_le_bytes());
        body.extend((nanos as u32).to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(&wire);
        pad(body);
        if !comment.is_empty() {
            option(body, COMMENT, text(comment));
            end_of_options(body);
        }
    });
    Ok(())
}

/// The datagram as it is on the wire, checksums included.
fn with_headers(packet: &Packet<'_>) -> Result<Vec<u8>, CaptureError> {
    let impossible = || CaptureError::Impossible {
        from: packet.from,
        to: packet.to,
        length: packet.bytes.len(),
    };
    let builder = match (packet.from, packet.to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), HOPS)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            PacketBuilder::ipv6(from.ip().octets(), to.ip().octets(), HOPS)
        }
        _ => return Err(impossible()),
    }
    .udp(packet.from.port(), packet.to.port());
    let mut wire = Vec::with_capacity(builder.size(packet.bytes.len()));
    builder.write(&mut wire, packet.bytes).map_err(|_| impossible())?;
    Ok(wire)
}

/// A block around what `fill` writes: type, length, body, length again.
fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    fill(&mut body);
    let length = (body.len() as u32).saturating_add(12).to_le_bytes();
    out.extend(kind.to_le_bytes());
    out.extend(length);
    out.extend(body);
    out.extend(length);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

/// Fills up to a multiple of four bytes; every block and all before it in a body is one already.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// At most 1,024 bytes of `text`, cut between characters.
fn text(text: &str) -> &[u8] {
    let cut = (0..=MAX_TEXT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..cut.unwrap_or(0)).unwrap_or_default().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Interface;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use std::time::{Duration, SystemTime};

    fn a_packet<'a>(from: &str, to: &str, bytes: &'a [u8]) -> Packet<'a> {
        let at = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
        let (from, to) = (from.parse().expect("from"), to.parse().expect("to"));
        Packet { at, from, to, bytes, interface: Interface::Lost }
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    }

    #[test]
    fn every_block_says_its_length_at_both_ends_and_is_padded() {
        let mut out = Vec::new();
        section(&mut out, "me");
        interface(&mut out, "odd");
        for length in 0..9 {
            let bytes = vec![7; length];
            let datagram = a_packet("192.0.2.1:1", "192.0.2.2:2", &bytes);
            packet(&mut out, &datagram, &"c".repeat(length)).expect("a datagram");
        }
        let (mut at, mut kinds) = (0, Vec::new());
        while at < out.len() {
            let length = word(&out, at + 4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(&out, at + length - 4) as usize, length);
            kinds.push(word(&out, at));
            at += length;
        }
        assert_eq!(kinds[..2], [SECTION_HEADER, INTERFACE_DESCRIPTION]);
        assert_eq!(kinds[2..], [ENHANCED_PACKET; 9]);
    }

    #[test]
    fn a_packet_block_has_the_time_in_nanoseconds_and_the_interface() {
        let mut out = Vec::new();
        packet(&mut out, &a_packet("192.0.2.1:1", "192.0.2.2:2", b"x"), "").expect("a datagram");
        assert_eq!(word(&out, 8), 1);
        let nanos = u64::from(word(&out, 12)) << 32 | u64::from(word(&out, 16));
        assert_eq!(nanos, 1_700_000_000_123_456_789);
        assert_eq!((word(&out, 20), word(&out, 24)), (29, 29));
    }

    #[test]
    fn headers_are_those_that_the_datagram_has_on_the_wire() {
        for (from, to) in
            [("192.0.2.1:1025", "192.0.2.2:4650"), ("[fd00::1]:1025", "[fd00::2]:4650")]
        {
            let datagram = a_packet(from, to, b"Type:0;");
            let wire = with_headers(&datagram).expect("a datagram");
            let parsed = SlicedPacket::from_ip(&wire).expect("an IP packet");
            let Some(TransportSlice::Udp(udp)) = parsed.transport else { panic!("no UDP") };
            assert_eq!((udp.source_port(), udp.destination_port()), (1025, 4650));
            assert_eq!(udp.payload(), b"Type:0;");
            let header = udp.to_header();
            let checksum = match parsed.net.expect("IP") {
                NetSlice::Ipv4(ip) => {
                    let ip = ip.header().to_header();
                    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                    header.calc_checksum_ipv4(&ip, b"Type:0;")
                }
                NetSlice::Ipv6(ip) => {
                    header.calc_checksum_ipv6(&ip.header().to_header(), b"Type:0;")
                }
                NetSlice::Arp(_) => panic!("not IP"),
            };
            assert_eq!(header.checksum, checksum.expect("fits"));
        }
    }

    #[test]
    fn what_cannot_be_a_datagram_is_refused() {
        let mixed = a_packet("192.0.2.1:1", "[fd00::2]:2", b"");
        assert!(matches!(with_headers(&mixed), Err(CaptureError::Impossible { .. })));
        let long = vec![0; 65_536];
        let long = a_packet("192.0.2.1:1", "192.0.2.2:2", &long);
        assert!(matches!(with_headers(&long), Err(CaptureError::Impossible { .. })));
    }

    #[test]
    fn times_before_1970_and_long_comments_are_brought_into_range() {
        let at = UNIX_EPOCH.checked_sub(Duration::from_secs(1)).unwrap_or(SystemTime::UNIX_EPOCH);
        let early = Packet { at, ..a_packet("192.0.2.1:1", "192.0.2.2:2", b"") };
        let mut out = Vec::new();
        packet(&mut out, &early, &"ä".repeat(600)).expect("a datagram");
        assert_eq!((word(&out, 12), word(&out, 16)), (0, 0));
        assert_eq!(text(&"ä".repeat(600)).len(), 1024);
        assert_eq!(text(&format!("x{}", "ä".repeat(600))).len(), 1023);
    }
}
