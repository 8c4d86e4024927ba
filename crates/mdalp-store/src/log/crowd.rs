//! How much memory transactions take together, and when that is too much (H45, H46).
//!
//! Ranges take memory from the second one of a set on: a transaction without a gap counts for nothing.

use mdalp_proto::ranges::RangeSet;

use super::Limits;
use super::facts::Facts;
use crate::types::{Crowding, Share};

/// When all ranges are taken, a transaction may still have that many: more than one that is sent over
/// a bad link needs, and few enough that the largest number of transactions takes no more than twice.
const FEW: usize = 32;

/// What all transactions have together.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Crowd {
    /// Ranges of what is held.
    ranges: usize,
    /// Ranges of shares, also of those in the segment being written.
    listed: usize,
    /// Transactions that nobody began and that were never whole.
    unannounced: usize,
}

fn beyond_first(ranges: &RangeSet) -> usize {
    ranges.range_count().saturating_sub(1)
}

fn is_unannounced(facts: &Facts) -> bool {
    facts.info.is_none()
        && facts.receipt.is_none()
        && facts.release.is_none()
        && facts.statement.as_ref().is_none_or(|statement| statement.chunks == 0)
}

impl Crowd {
    /// Whether a chunk may begin a transaction.
    pub(super) fn admits(&self, limits: &Limits) -> bool {
        self.unannounced < limits.unannounced
    }

    /// How many ranges a transaction may have.
    pub(super) fn most_ranges(&self, limits: &Limits) -> usize {
        if self.ranges < limits.ranges { usize::MAX } else { FEW }
    }

    /// How many ranges a share may list: all shares have a quarter of the ranges.
    pub(super) fn most_listed(&self, limits: &Limits) -> usize {
        if self.listed < limits.ranges / 4 { Share::MAX_RANGES } else { 1 }
    }

    /// Adds a transaction.
    pub(super) fn enter(&mut self, facts: &Facts) {
        self.ranges += beyond_first(&facts.held);
        self.listed += facts.shares.range_count();
        self.unannounced += usize::from(is_unannounced(facts));
    }

    /// Takes a transaction out, as it was when it was entered.
    pub(super) fn leave(&mut self, facts: &Facts) {
        self.ranges = self.ranges.saturating_sub(beyond_first(&facts.held));
        self.listed = self.listed.saturating_sub(facts.shares.range_count());
        self.unannounced = self.unannounced.saturating_sub(usize::from(is_unannounced(facts)));
    }

    /// Something that is held had `before` ranges and now has those of `held`.
    pub(super) fn held_changed(&mut self, before: usize, held: &RangeSet) {
        self.ranges = (self.ranges + beyond_first(held)).saturating_sub(before.saturating_sub(1));
    }

    /// Some shares had `before` ranges and now have `after`.
    pub(super) fn listed_changed(&mut self, before: usize, after: usize) {
        self.listed = (self.listed + after).saturating_sub(before);
    }

    pub(super) fn of(&self, limits: &Limits) -> Crowding {
        let thousandths = |used: usize, most: usize| {
            (used as u128 * 1000 / most.max(1) as u128).min(u32::MAX.into()) as u32
        };
        Crowding {
            ranges: thousandths(self.ranges, limits.ranges),
            transactions: thousandths(self.unannounced, limits.unannounced),
        }
    }
}
