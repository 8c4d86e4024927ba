//! A set of sequence numbers kept as ranges: what has arrived, what is queued, what is acked.
//!
//! Does not bound itself: owners that take numbers from the network check
//! [`RangeSet::range_count`] against their limit first (H45).

use smallvec::SmallVec;
use std::fmt;
use std::ops::RangeInclusive;

/// Nearly all sets are one range, and there are several sets for each of many transactions: the first
/// range needs no memory of its own, nor a look at it.
type Ranges = SmallVec<[(u64, u64); 1]>;

/// A set of `u64`, as sorted, disjoint, non-adjacent inclusive ranges.
///
/// Memory is 16 bytes a range, however many numbers it covers. Look-ups are `O(log ranges)`;
/// insertion and removal move at most `ranges` elements.
///
/// ```
/// use mdalp_proto::ranges::RangeSet;
/// let mut arrived = RangeSet::new();
/// assert!(arrived.insert(0) && arrived.insert(2) && !arrived.insert(2));
/// assert_eq!(arrived.to_string(), "0,2");
/// arrived.insert(1);
/// assert_eq!(arrived.to_string(), "0-2");
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RangeSet {
    ranges: Ranges,
}

impl RangeSet {
    /// An empty set.
    pub const fn new() -> Self {
        Self { ranges: Ranges::new_const() }
    }

    /// Index of the first range that ends at or after `value`.
    fn position(&self, value: u64) -> usize {
        self.ranges.partition_point(|&(_, last)| last < value)
    }

    /// Whether `value` is in the set.
    pub fn contains(&self, value: u64) -> bool {
        self.ranges.get(self.position(value)).is_some_and(|&(first, _)| first <= value)
    }

    /// Adds one number; `false` if it was there.
    pub fn insert(&mut self, value: u64) -> bool {
        // The next one in a row, as nearly always.
        if let Some((_, last)) = self.ranges.last_mut()
            && last.checked_add(1) == Some(value)
        {
            *last = value;
            return true;
        }
        if self.contains(value) {
            return false;
        }
        self.insert_range(value..=value);
        true
    }

    /// Adds every number of `range`.
    pub fn insert_range(&mut self, range: RangeInclusive<u64>) {
        let (mut first, mut last) = range.into_inner();
        if first > last {
            return;
        }
        // Everything from the range that touches `first` on the left to the one that touches
        // `last` on the right is swallowed.
        let from = self.position(first.saturating_sub(1));
        let mut to = from;
        while let Some(&(f, l)) = self.ranges.get(to) {
            if f > last.saturating_add(1) {
                break;
            }
            first = first.min(f);
            last = last.max(l);
            to += 1;
        }
        if to > from {
            self.ranges[from] = (first, last);
            self.ranges.drain(from + 1..to);
        } else {
            self.ranges.insert(from, (first, last));
        }
    }

    /// Takes one number out; `false` if it was not there.
    pub fn remove(&mut self, value: u64) -> bool {
        let at = self.position(value);
        let Some(&(first, last)) = self.ranges.get(at) else { return false };
        if first > value {
            return false;
        }
        match (first == value, last == value) {
            (true, true) => {
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at].0 = value + 1,
            (false, true) => self.ranges[at].1 = value - 1,
            (false, false) => {
                self.ranges[at].1 = value - 1;
                self.ranges.insert(at + 1, (value + 1, last));
            }
        }
        true
    }

    /// Takes every number of `other` out.
    pub fn subtract(&mut self, other: &Self) {
        if other.is_empty() || self.is_empty() {
            return;
        }
        let mut left = Ranges::with_capacity(self.ranges.len());
        for &(mut first, last) in &self.ranges {
            let from = other.position(first);
            let mut whole_taken = false;
            for &(o_first, o_last) in other.ranges.get(from..).unwrap_or_default() {
                if o_first > last {
                    break;
                }
                if o_first > first {
                    left.push((first, o_first - 1));
                }
                if o_last >= last {
                    whole_taken = true;
                    break;
                }
                first = o_last + 1;
            }
            if !whole_taken {
                left.push((first, last));
            }
        }
        self.ranges = left;
    }

    /// Takes the smallest number out.
    pub fn pop_first(&mut self) -> Option<u64> {
        let first = self.first()?;
        self.remove(first);
        Some(first)
    }

    /// Takes the `count` largest numbers out (all, if there are fewer) and returns them.
    #[must_use]
    pub fn split_off_last(&mut self, count: u64) -> Self {
        let mut taken = Ranges::new();
        let mut left = count;
        while left > 0 {
            let Some((first, last)) = self.ranges.pop() else { break };
            let held = last - first;
            if held < left {
                taken.push((first, last));
                left -= held + 1;
            } else {
                let cut = last - (left - 1);
                self.ranges.push((first, cut - 1));
                taken.push((cut, last));
                left = 0;
            }
        }
        taken.reverse();
        Self { ranges: taken }
    }

    /// Adds all of `other`.
    pub fn union_with(&mut self, other: &Self) {
        for range in other.iter() {
            self.insert_range(range);
        }
    }

    /// The smallest number.
    pub fn first(&self) -> Option<u64> {
        self.ranges.first().map(|&(first, _)| first)
    }

    /// The largest number.
    pub fn last(&self) -> Option<u64> {
        self.ranges.last().map(|&(_, last)| last)
    }

    /// How many numbers are in the set (saturating at `u64::MAX`).
    pub fn len(&self) -> u64 {
        self.ranges.iter().fold(0, |n: u64, &(f, l)| n.saturating_add((l - f).saturating_add(1)))
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many separate ranges hold the set: what its memory grows with.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// Whether inserting `value` would open a new range instead of growing one.
    pub fn would_open_range(&self, value: u64) -> bool {
        let touching = self.ranges.get(self.position(value.saturating_sub(1)));
        touching.is_none_or(|&(first, _)| first > value.saturating_add(1))
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = RangeInclusive<u64>> + '_ {
        self.ranges.iter().map(|&(first, last)| first..=last)
    }

    /// What is not in the set between 0 and `end`, exclusive, ascending.
    #[must_use]
    pub fn missing_below(&self, end: u64) -> Self {
        let mut gaps = Ranges::new();
        let mut next = 0;
        for &(first, last) in &self.ranges {
            if next >= end {
                break;
            }
            if first > next {
                gaps.push((next, first.min(end) - 1));
            }
            next = last.saturating_add(1);
        }
        if next < end {
            gaps.push((next, end - 1));
        }
        Self { ranges: gaps }
    }

    /// `Some(n)` if the set is exactly 0 to n − 1 (a payload of n chunks without a gap).
    pub fn contiguous_from_zero(&self) -> Option<u64> {
        match self.ranges[..] {
            [] => Some(0),
            [(0, last)] => last.checked_add(1),
            _ => None,
        }
    }
}

impl FromIterator<RangeInclusive<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u64>>>(ranges: I) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert_range(range);
        }
        set
    }
}

/// As in a seal's answer: `3-9,14`.
impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, &(first, last)) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        InsertRange(u64, u64),
        Remove(u64),
        PopFirst,
        SplitOff(u64),
        Subtract(Vec<(u64, u64)>),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..40u64).prop_map(Op::Insert),
            (0..40u64, 0..40u64).prop_map(|(a, b)| Op::InsertRange(a, b)),
            (0..40u64).prop_map(Op::Remove),
            Just(Op::PopFirst),
            (0..10u64).prop_map(Op::SplitOff),
            proptest::collection::vec((0..40u64, 0..5u64), 0..6).prop_map(Op::Subtract),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_plain_set(ops in proptest::collection::vec(op(), 0..60)) {
            let mut ranges = RangeSet::new();
            let mut model = BTreeSet::new();
            for op in ops {
                match op {
                    Op::Insert(v) => {
                        let opens = !model.contains(&v)
                            && !model.contains(&(v + 1))
                            && (v == 0 || !model.contains(&(v - 1)));
                        prop_assert_eq!(ranges.would_open_range(v), opens);
                        prop_assert_eq!(ranges.insert(v), model.insert(v));
                    }
                    Op::InsertRange(a, b) => {
                        ranges.insert_range(a..=b);
                        model.extend(a..=b);
                    }
                    Op::Remove(v) => prop_assert_eq!(ranges.remove(v), model.remove(&v)),
                    Op::PopFirst => prop_assert_eq!(ranges.pop_first(), model.pop_first()),
                    Op::Subtract(parts) => {
                        let parts: RangeSet = parts.iter().map(|&(a, n)| a..=a + n).collect();
                        ranges.subtract(&parts);
                        model.retain(|&v| !parts.contains(v));
                    }
                    Op::SplitOff(n) => {
                        let taken = ranges.split_off_last(n);
                        for range in taken.iter().rev() {
                            for v in range.rev() {
                                prop_assert_eq!(model.pop_last(), Some(v));
                            }
                        }
                        prop_assert!(taken.len() == n || ranges.is_empty());
                    }
                }
                prop_assert!(ranges.iter().flatten().eq(model.iter().copied()));
                prop_assert_eq!(ranges.len(), model.len() as u64);
                let sorted: Vec<_> = ranges.iter().collect();
                prop_assert!(sorted.windows(2).all(|w| w[0].end() + 1 < *w[1].start()));
                let gaps: BTreeSet<_> = (0..40).filter(|v| !model.contains(v)).collect();
                prop_assert!(ranges.missing_below(40).iter().flatten().eq(gaps));
                prop_assert!((0..42).all(|v| ranges.contains(v) == model.contains(&v)));
            }
        }
    }

    #[test]
    fn the_largest_number_is_no_special_case() {
        let mut set = RangeSet::new();
        assert!(set.insert(u64::MAX));
        assert!(!set.would_open_range(u64::MAX - 1));
        assert!(set.insert(u64::MAX - 1));
        assert_eq!(set.range_count(), 1);
        assert!(set.remove(u64::MAX));
        set.insert_range(0..=u64::MAX);
        assert_eq!((set.range_count(), set.len()), (1, u64::MAX));
        assert_eq!(set.contiguous_from_zero(), None);
    }
}
