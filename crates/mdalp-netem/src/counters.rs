//! What a path and a far end did, counted by cause. Plain numbers; nothing here decides anything.

use std::fmt;

/// What one direction of a path did, counted when it decided it (not when datagrams arrive).
///
/// Always `sent + duplicated == delivered + lost()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams sent into the path.
    pub sent: u64,
    /// Datagrams that come out of it, copies included.
    pub delivered: u64,
    /// Lost one by one, by chance.
    pub lost_random: u64,
    /// Lost in bursts, by chance.
    pub lost_burst: u64,
    /// Lost because their number was named.
    pub lost_nth: u64,
    /// Lost because the path was down or cut.
    pub lost_outage: u64,
    /// Lost because the queue was full.
    pub lost_queue: u64,
    /// Lost because they were longer than the path's MTU.
    pub lost_mtu: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Arrive before one that was sent earlier, through jitter or overtaking.
    pub reordered: u64,
    /// Held back.
    pub late: u64,
    /// Delivered with a byte or a bit changed.
    pub corrupted: u64,
    /// Delivered with the end cut off.
    pub truncated: u64,
}

impl Counters {
    /// Datagrams lost, whatever the cause.
    pub const fn lost(&self) -> u64 {
        self.lost_random
            + self.lost_burst
            + self.lost_nth
            + self.lost_outage
            + self.lost_queue
            + self.lost_mtu
    }
}

/// Sent, delivered and lost, then each other count that is not zero.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent {}, delivered {}, lost {}", self.sent, self.delivered, self.lost())?;
        write_nonzero(
            f,
            &[
                ("lost_random", self.lost_random),
                ("lost_burst", self.lost_burst),
                ("lost_nth", self.lost_nth),
                ("lost_outage", self.lost_outage),
                ("lost_queue", self.lost_queue),
                ("lost_mtu", self.lost_mtu),
                ("duplicated", self.duplicated),
                ("reordered", self.reordered),
                ("late", self.late),
                ("corrupted", self.corrupted),
                ("truncated", self.truncated),
            ],
        )
    }
}

/// What a far end did with the acknowledgements it owed.
///
/// Always `owed == sent + withheld + lost + stopped`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct AckCounters {
    /// Acknowledgements owed.
    pub owed: u64,
    /// Acknowledgements that leave.
    pub sent: u64,
    /// Withheld because the scenario names their SEQ.
    pub withheld: u64,
    /// Withheld by chance.
    pub lost: u64,
    /// Withheld because the far end has stopped at an earlier or this SEQ.
    pub stopped: u64,
}

impl fmt::Display for AckCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "acks owed {}, sent {}", self.owed, self.sent)?;
        write_nonzero(
            f,
            &[("withheld", self.withheld), ("lost", self.lost), ("stopped", self.stopped)],
        )
    }
}

fn write_nonzero(f: &mut fmt::Formatter<'_>, counts: &[(&str, u64)]) -> fmt::Result {
    counts.iter().filter(|(_, n)| *n > 0).try_for_each(|(name, n)| write!(f, ", {name} {n}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_show_what_happened_and_nothing_else() {
        let counters =
            Counters { sent: 9, delivered: 8, lost_queue: 2, duplicated: 1, ..Counters::default() };
        assert_eq!(counters.to_string(), "sent 9, delivered 8, lost 2, lost_queue 2, duplicated 1");
        let acks = AckCounters { owed: 2, sent: 1, withheld: 1, ..AckCounters::default() };
        assert_eq!(acks.to_string(), "acks owed 2, sent 1, withheld 1");
    }
}
