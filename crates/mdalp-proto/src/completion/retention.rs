//! How long transactions are kept, and when the calendar is believed.
//!
//! Decides about one transaction at a time; what is looked at and when is the machine's business.

use super::types::{Candidate, Holding, Reason, Scope, Standing};
use crate::ids::TransactionId;
use crate::time::Instant;
use std::time::Duration;

/// How long transactions are kept. `None`: for ever.
///
/// Nothing else deletes: a store that is crowded refuses what is new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// One that was assigned and never begun. Default 600 s: five times as long as its client waits.
    pub unclaimed: Duration,
    /// One with gaps, in a store that sees all of it, after its last new chunk. Default 7 days.
    pub assigned: Option<Duration>,
    /// A share whose sender's statement is not on record, after its last new chunk. Default: for ever.
    pub unannounced: Option<Duration>,
    /// A whole payload, after its receipt. Default: for ever.
    pub complete: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            unclaimed: Duration::from_secs(600),
            assigned: Some(Duration::from_secs(7 * 24 * 3600)),
            unannounced: None,
            complete: None,
        }
    }
}

impl Retention {
    /// How long an unfinished transaction may be silent; `None`: for ever.
    fn patience(&self, one: &Candidate) -> Option<Duration> {
        match (one.scope, one.ranges) {
            (Scope::Whole, 0) if !one.stated => Some(self.unclaimed),
            // Chunks from 0 on without a gap may be a whole payload: a classic sender never says.
            (Scope::Whole, _) if !one.gapless => self.assigned,
            (Scope::Share, 1..) if !one.stated => self.unannounced,
            _ => None,
        }
    }

    /// Whether an unfinished transaction may go at `wall` (milliseconds since 1970), when the calendar
    /// has run like a clock for `trusted`.
    pub fn expires(&self, one: &Candidate, wall: u64, trusted: Duration) -> bool {
        let Some(last) = one.last_append.or(one.begun) else { return false };
        let silent = Duration::from_millis(wall.saturating_sub(last));
        self.patience(one).is_some_and(|patience| silent.min(trusted) >= patience)
    }

    /// Receipts from before this time are old enough to go; `None`: none are.
    pub fn complete_before(&self, wall: u64, trusted: Duration) -> Option<u64> {
        let patience = self.complete.filter(|patience| *patience <= trusted)?;
        Some(wall.saturating_sub(patience.as_millis() as u64))
    }

    /// Why `held` may go at this moment; `None` if it must stay.
    pub fn verdict(
        &self,
        tid: TransactionId,
        held: &Holding,
        wall: u64,
        trusted: Duration,
    ) -> Option<Reason> {
        match (held.standing, held.receipt) {
            (Standing::Complete, Some(receipt)) => {
                let before = self.complete_before(wall, trusted)?;
                (receipt.closed < before).then_some(Reason::Removed)
            }
            // What was whole once is never a transaction with gaps: what is missing can be sent again.
            (Standing::Open, None) => {
                let candidate = Candidate::of(tid, held);
                self.expires(&candidate, wall, trusted).then_some(Reason::Expired)
            }
            _ => None,
        }
    }

    /// The shortest of all times.
    pub fn shortest(&self) -> Duration {
        let some = [self.assigned, self.unannounced, self.complete].into_iter().flatten();
        some.min().map_or(self.unclaimed, |least| least.min(self.unclaimed))
    }
}

/// Compares the calendar with a clock that cannot be set (F27).
#[derive(Clone, Copy, Debug)]
pub struct Calendar {
    wall: u64,
    clock: Instant,
}

impl Calendar {
    /// Beyond this the calendar was set, and did not just drift.
    pub const LEAP: Duration = Duration::from_secs(60);

    /// The calendar shows `wall`, in milliseconds since 1970, when the clock shows `clock`.
    pub fn new(wall: u64, clock: Instant) -> Self {
        Self { wall, clock }
    }

    /// How long the calendar has run like a clock until now; `None` if it was set just now.
    pub fn trusted(&mut self, wall: u64, clock: Instant) -> Option<Duration> {
        let elapsed = clock.since(self.clock);
        let expected = u128::from(self.wall) + elapsed.as_millis();
        if expected.abs_diff(wall.into()) > Self::LEAP.as_millis() {
            *self = Self::new(wall, clock);
            return None;
        }
        Some(elapsed)
    }
}
