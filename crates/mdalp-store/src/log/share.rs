//! Who was the first to write which chunks of a transaction.
//!
//! Most transactions have one receiver only, and then its ranges are those of what is held: ranges are
//! kept from the second receiver on.

use mdalp_proto::ranges::RangeSet;

use crate::types::{ReceiverId, Share};

/// See the module. By receiver, ascending.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Shares(Vec<Share>);

fn first_of(held: &RangeSet) -> RangeSet {
    held.iter().take(Share::MAX_RANGES).collect()
}

impl Shares {
    /// Shares that were read from a footer.
    pub(super) fn new(shares: Vec<Share>) -> Self {
        Self(shares)
    }

    /// All shares of a transaction of which `held` is held.
    pub(super) fn listed(&self, held: &RangeSet) -> Vec<Share> {
        match &self.0[..] {
            [one] => vec![Share { ranges: first_of(held), ..*one }],
            several => several.to_vec(),
        }
    }

    fn of(&mut self, receiver: ReceiverId) -> &mut Share {
        let at = match self.0.binary_search_by_key(&receiver, |share| share.receiver) {
            Ok(at) => at,
            Err(at) => {
                // Most transactions have one or two, and there are many transactions.
                self.0.reserve_exact(1);
                self.0.insert(at, Share { receiver, ..Share::default() });
                at
            }
        };
        &mut self.0[at]
    }

    /// Whether ranges are to be kept, now that chunks of `receivers` come; if that is new, `held` is
    /// what was held before them.
    pub(super) fn keep_ranges(
        &mut self,
        receivers: impl IntoIterator<Item = ReceiverId>,
        held: impl FnOnce() -> RangeSet,
    ) -> bool {
        if self.0.len() > 1 {
            return true;
        }
        let mut known = self.0.first().map(|share| share.receiver);
        let several =
            receivers.into_iter().any(|receiver| receiver != *known.get_or_insert(receiver));
        if several && let Some(one) = self.0.first_mut() {
            one.ranges = first_of(&held());
        }
        several
    }

    /// Counts one chunk.
    pub(super) fn count(&mut self, receiver: ReceiverId, len: u64) {
        let share = self.of(receiver);
        share.chunks += 1;
        share.bytes += len;
    }

    /// Lists a chunk that was counted, if its receiver has less than `most` ranges.
    pub(super) fn list(&mut self, receiver: ReceiverId, seq: u64, most: usize) {
        let ranges = &mut self.of(receiver).ranges;
        if ranges.range_count() < most || !ranges.would_open_range(seq) {
            ranges.insert(seq);
        }
    }

    /// Adds what a later segment says, with at most `most` ranges of each receiver. What is held is
    /// `held` so far, and `later_held` there.
    pub(super) fn merge(
        &mut self,
        held: &RangeSet,
        later: &Self,
        later_held: &RangeSet,
        most: usize,
    ) {
        let receivers = later.0.iter().map(|share| share.receiver);
        let keep = self.keep_ranges(receivers, || held.clone());
        for share in later.listed(later_held) {
            let mine = self.of(share.receiver);
            mine.chunks += share.chunks;
            mine.bytes += share.bytes;
            for range in share.ranges.iter().filter(|_| keep) {
                if mine.ranges.range_count() < most {
                    mine.ranges.insert_range(range);
                }
            }
        }
    }

    /// Forgets the ranges.
    pub(super) fn forget_ranges(&mut self) {
        self.0.iter_mut().for_each(|share| share.ranges = RangeSet::new());
    }

    /// How many chunks there are.
    pub(super) fn chunks(&self) -> u64 {
        self.0.iter().map(|share| share.chunks).sum()
    }

    /// How many ranges are kept.
    pub(super) fn range_count(&self) -> usize {
        self.0.iter().map(|share| share.ranges.range_count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ReceiverId = ReceiverId(0);
    const B: ReceiverId = ReceiverId(1);

    #[test]
    fn the_ranges_of_one_receiver_take_no_memory_and_those_of_two_are_told_apart() {
        let (mut shares, mut held) = (Shares::default(), RangeSet::new());
        for (seq, receiver) in [(0, A), (2, A), (4, B), (5, A)] {
            let keep = shares.keep_ranges([receiver], || held.clone());
            assert_eq!(keep, seq > 2);
            held.insert(seq);
            shares.count(receiver, 10);
            if keep {
                shares.list(receiver, seq, 9);
            }
            let listed: RangeSet =
                shares.listed(&held).iter().flat_map(|s| s.ranges.iter()).collect();
            assert_eq!(listed, held);
        }
        let texts: Vec<_> = shares.listed(&held).iter().map(|s| s.ranges.to_string()).collect();
        assert_eq!((&texts[0][..], &texts[1][..]), ("0,2,5", "4"));
        assert_eq!((shares.chunks(), shares.range_count()), (4, 4));
    }

    #[test]
    fn merged_shares_list_what_each_receiver_wrote_in_either_segment() {
        let one = |receiver, seqs: &[u64]| {
            let mut shares = Shares::default();
            for _ in seqs {
                shares.count(receiver, 1);
            }
            (shares, seqs.iter().map(|&seq| seq..=seq).collect::<RangeSet>())
        };
        for (second, texts) in [(A, &["0,2,4"][..]), (B, &["0,2", "4"][..])] {
            let ((mut shares, mut held), (later, later_held)) =
                (one(A, &[0, 2]), one(second, &[4]));
            shares.merge(&held, &later, &later_held, 9);
            held.union_with(&later_held);
            let listed = shares.listed(&held);
            assert_eq!(listed.iter().map(|s| s.ranges.to_string()).collect::<Vec<_>>(), texts);
        }
    }

    #[test]
    fn no_more_ranges_are_listed_than_allowed() {
        let mut shares = Shares::default();
        assert!(shares.keep_ranges([A, B], RangeSet::new));
        for seq in 0..10 {
            shares.count(A, 1);
            shares.list(A, seq * 2, 3);
        }
        assert_eq!((shares.chunks(), shares.range_count()), (10, 3));
    }
}
