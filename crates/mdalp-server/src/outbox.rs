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
    queue: Vec<Queued>,
    piece: Vec<u8>,
}

/// A datagram, by its place in `bytes`.
#[derive(Clone, Copy, Debug)]
struct Queued {
    /// The same for what can go together, and mostly only for that.
    key: u64,
    to: SocketAddr,
    start: usize,
    len: usize,
}

impl Outbox {
    /// Adds what `write` appends; nothing if that is nothing.
    pub(crate) fn push(&mut self, to: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let len = self.bytes.len() - start;
        if len == 0 {
            return;
        }
        self.queue.push(Queued { key: key(to, len), to, start, len });
    }

    /// Shows all datagrams to `send`, and forgets them: destination, one or more (at most `most`)
    /// datagrams without anything in between, and the length of each.
    pub(crate) fn drain(&mut self, most: usize, mut send: impl FnMut(SocketAddr, &[u8], usize)) {
        self.queue.sort_by_key(|queued| queued.key);
        let alike = |a: &Queued, b: &Queued| (a.to, a.len) == (b.to, b.len);
        for group in self.queue.chunk_by(alike) {
            let &Queued { to, len, .. } = &group[0];
            for part in group.chunks(most.min(PIECE / len).max(1)) {
                self.piece.clear();
                for queued in part {
                    self.piece.extend_from_slice(&self.bytes[queued.start..][..queued.len]);
                }
                send(to, &self.piece, len);
            }
        }
        self.queue.clear();
        self.bytes.clear();
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
