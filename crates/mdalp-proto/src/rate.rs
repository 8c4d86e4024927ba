//! Token buckets: how often something may happen.
//!
//! Decides nothing: owners ask when there are tokens, and take them.

use crate::time::Instant;
use std::time::Duration;

/// A token bucket's speed and size. The bucket itself is one moment: when it would be full again
/// (generic cell rate algorithm), so that a full bucket needs no memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    per_token: u64,
    size: u64,
}

impl Rate {
    /// `tokens` in each `seconds`, and `size` of them at once.
    pub(crate) const fn new(tokens: u64, seconds: u64, size: u64) -> Self {
        let per_token = seconds * 1_000_000_000 / tokens;
        Self { per_token, size: per_token * size }
    }

    /// When a bucket that is full at `full_at` holds `cost` tokens.
    pub(crate) fn ready_at(self, full_at: Instant, cost: u64) -> Instant {
        let needed = self.per_token.saturating_mul(cost);
        Instant::from_nanos(full_at.as_nanos().saturating_add(needed).saturating_sub(self.size))
    }

    /// Takes `cost` tokens, whether they are there or not.
    pub(crate) fn take(self, full_at: &mut Instant, now: Instant, cost: u64) {
        let needed = Duration::from_nanos(self.per_token.saturating_mul(cost));
        *full_at = (*full_at).max(now) + needed;
    }
}
