//! Which bytes of the payload a sequence number means.
//!
//! Fixed when a transfer is planned: chunks may move from one receiver to another, their numbers
//! and bytes never change. Does not know who sends what.

use crate::ids::SequenceNumber;
use crate::ranges::RangeSet;
use crate::split::Share;
use std::ops::{Range, RangeInclusive};

/// The chunks of a payload: 24 bytes a receiver, whatever the payload's length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    chunk: u64,
    /// First chunk and first byte of each share that is not empty, and the end of all.
    starts: Vec<(u64, u64)>,
    end: (u64, u64),
}

impl Layout {
    /// The chunks of these shares, each of at most `chunk` bytes.
    pub fn new(shares: &[Share], chunk: u16) -> Self {
        let mut starts = Vec::with_capacity(shares.len());
        let mut end = (0, 0);
        for share in shares.iter().filter(|s| s.bytes > 0) {
            starts.push(end);
            end = (end.0 + share.chunks, end.1 + share.bytes);
        }
        Self { chunk: u64::from(chunk.max(1)), starts, end }
    }

    /// How many chunks there are: their numbers are 0 to this, exclusive.
    pub fn chunks(&self) -> u64 {
        self.end.0
    }

    /// The payload's length.
    pub fn bytes(&self) -> u64 {
        self.end.1
    }

    /// The bytes of chunk `seq`; empty if there is no such chunk.
    pub fn range(&self, seq: SequenceNumber) -> Range<u64> {
        let after = self.starts.partition_point(|&(first_seq, _)| first_seq <= seq.0);
        let share_end = self.starts.get(after).unwrap_or(&self.end).1;
        match after.checked_sub(1).and_then(|at| self.starts.get(at)) {
            Some(&(first_seq, first_byte)) if seq.0 < self.end.0 => {
                let start = first_byte + (seq.0 - first_seq) * self.chunk;
                start..share_end.min(start + self.chunk)
            }
            _ => 0..0,
        }
    }

    /// How many bytes chunk `seq` has.
    pub fn len(&self, seq: SequenceNumber) -> u64 {
        let range = self.range(seq);
        range.end - range.start
    }

    /// How many bytes the chunks of `set` have together.
    pub fn bytes_of(&self, set: &RangeSet) -> u64 {
        let end = |range: &RangeInclusive<u64>| self.range(SequenceNumber(*range.end())).end;
        let start = |range: &RangeInclusive<u64>| self.range(SequenceNumber(*range.start())).start;
        set.iter().map(|range| end(&range).saturating_sub(start(&range))).sum()
    }

    /// How many bytes a full chunk has.
    pub fn chunk(&self) -> u64 {
        self.chunk
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.end.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::{byte_shares, number_chunks};
    use proptest::prelude::*;

    #[test]
    fn the_seeds_short_chunks_are_where_its_log_has_them() {
        let layout = Layout::new(&number_chunks(&[963, 1981, 2056], 100), 100);
        let lengths = [9, 29, 50].map(|seq| layout.len(SequenceNumber(seq)));
        assert_eq!(lengths, [63, 81, 56]);
        assert_eq!(layout.range(SequenceNumber(10)), 963..1063);
        assert_eq!(layout.range(SequenceNumber(51)), 0..0);
    }

    proptest! {
        #[test]
        fn chunks_cover_the_payload_in_order(
            payload in 0..20_000u64,
            latencies in proptest::collection::vec(0.1..100.0f64, 1..8),
            chunk in 1..1300u16,
        ) {
            let layout = Layout::new(&number_chunks(&byte_shares(payload, &latencies), chunk), chunk);
            prop_assert_eq!(layout.bytes(), payload);
            let mut next = 0;
            for seq in 0..layout.chunks() {
                let range = layout.range(SequenceNumber(seq));
                prop_assert_eq!(range.start, next);
                prop_assert!(range.end > range.start && range.end - range.start <= chunk.into());
                next = range.end;
            }
            prop_assert_eq!(next, payload);
        }
    }
}
