//! Datagrams to send from one socket, put in order so that the kernel gets many at once: those of
//! one length to one destination are one call (GSO).
//!
//! Datagrams to one destination keep their order as long as their lengths are equal; acks need no
//! more. Does not send.

use std::net::{IpAddr, SocketAddr};

/// The longest piece in bytes: with its headers it must fit into an IP packet.
const PIECE: usize = 65_000;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    rows: Vec<Row>,
    piece: Vec<u8>,
}

/// Datagrams of one length to one destination that were taken one after the other, by their place in
/// `bytes`. Mostly few rows are many datagrams, so that little is sorted and copied.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// The same for what can go together, and mostly only for that.
    key: u64,
    to: SocketAddr,
    /// Of each of them.
    len: usize,
    start: usize,
    end: usize,
}

impl Outbox {
    /// Adds what `write` appends; nothing if that is nothing.
    pub(crate) fn push(&mut self, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        let len = end - start;
        match self.rows.last_mut() {
            _ if len == 0 => {}
            Some(row) if (row.to, row.len) == (to, len) => row.end = end,
            _ => self.rows.push(Row { key: key(to, len), to, len, start, end }),
        }
    }

    /// Shows all datagrams to `send`, and forgets them: destination, one or more (at most `most`)
    /// datagrams without anything in between, and the length of each.
    pub(crate) fn drain(&mut self, most: usize, mut send: impl FnMut(SocketAddr, &[u8], usize)) {
        let Self { bytes, rows, piece } = self;
        rows.sort_by_key(|row| row.key);
        for group in rows.chunk_by(|a, b| (a.to, a.len) == (b.to, b.len)) {
            let Row { to, len, start, end, .. } = group[0];
            let together = if group.len() == 1 {
                &bytes[start..end]
            } else {
                piece.clear();
                for row in group {
                    piece.extend_from_slice(&bytes[row.start..row.end]);
                }
                &*piece
            };
            for part in together.chunks(most.min(PIECE / len).max(1) * len) {
                send(to, part, len);
            }
        }
        rows.clear();
        bytes.clear();
    }
}

/// Address, port and length; of an IPv6 address, a number made of it.
fn key(to: SocketAddr, len: usize) -> u64 {
    let ip = match to.ip() {
        IpAddr::V4(ip) => u32::from(ip),
        IpAddr::V6(ip) => {
            let ip = u128::from(ip);
            (ip ^ ip >> 32 ^ ip >> 64 ^ ip >> 96) as u32
        }
    };
    u64::from(ip) << 32 | u64::from(to.port()) << 16 | (len as u64 & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_datagram_goes_once_to_its_destination_and_alike_ones_together(
            sent in proptest::collection::vec((0..4_u16, 0..3_usize), 0..200),
            most in 1..70_usize,
        ) {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (at, &(port, extra)) in sent.iter().enumerate() {
                let to = SocketAddr::from(([127, 0, 0, 1], port));
                let datagram = format!("{at:05}{}", "x".repeat(extra)).into_bytes();
                outbox.push(to, |out| out.extend_from_slice(&datagram));
                expected.push((to, datagram));
            }
            let (mut got, mut calls) = (Vec::new(), 0);
            outbox.drain(most, |to, bytes, len| {
                assert!(bytes.len() <= most * len && bytes.len() % len == 0);
                got.extend(bytes.chunks(len).map(|datagram| (to, datagram.to_vec())));
                calls += 1;
            });
            prop_assert!(calls <= 12 + sent.len() / most);
            expected.sort();
            got.sort();
            prop_assert_eq!(got, expected);
            outbox.drain(most, |_, _, _| panic!("nothing is left"));
        }
    }

    #[test]
    fn long_datagrams_are_sent_one_by_one() {
        let mut outbox = Outbox::default();
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        (0..3).for_each(|_| outbox.push(to, |out| out.resize(out.len() + 40_000, 7)));
        let mut lengths = Vec::new();
        outbox.drain(64, |_, bytes, _| lengths.push(bytes.len()));
        assert_eq!(lengths, [40_000, 40_000, 40_000]);
    }
}
