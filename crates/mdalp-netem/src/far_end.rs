//! The receiver at the far end of a path: when its acknowledgements leave it, and which never do.
//!
//! It parses nothing: whoever drives it tells it the TID and SEQ of each acknowledgement that is
//! owed. It holds no acknowledgements either; it says when they leave.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::counters::AckCounters;
use crate::rng::{Probability, Rng};
use crate::schedule::Schedule;

/// How a receiver acknowledges. The default does so at once, always.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FarEndConfig {
    /// From a chunk's arrival to its acknowledgement.
    pub ack_delay: Duration,
    /// The delay differs by up to this in either direction, evenly; it is never below zero.
    pub ack_jitter: Duration,
    /// Works on one chunk at a time: delays add up when chunks come faster.
    pub serial: bool,
    /// Share of acknowledgements withheld by chance.
    pub ack_loss: Probability,
    /// The first acknowledgement of each of these SEQ is withheld, in every transaction.
    pub drop_acks: BTreeSet<u64>,
    /// This SEQ and all after it are never acknowledged.
    pub stop_at_seq: Option<u64>,
}

/// A receiver at the far end.
#[derive(Clone, Debug)]
pub struct FarEnd {
    schedule: Schedule<FarEndConfig>,
    rng: Rng,
    /// When a serial receiver has finished what it has.
    free_at: Duration,
    /// TID and SEQ whose first acknowledgement has been withheld.
    withheld: BTreeSet<(u64, u64)>,
    counters: AckCounters,
}

/// How many withheld acknowledgements are remembered; of a lab that runs for weeks the lowest TID
/// is then forgotten first.
const MAX_WITHHELD: usize = 65_536;

impl FarEnd {
    /// A receiver that acknowledges as `config` says, with all chance drawn from `seed`.
    pub fn new(config: impl Into<Schedule<FarEndConfig>>, seed: u64) -> Self {
        Self {
            schedule: config.into(),
            rng: Rng::new(seed),
            free_at: Duration::ZERO,
            withheld: BTreeSet::new(),
            counters: AckCounters::default(),
        }
    }

    /// When the acknowledgement of a chunk that arrived at `now` leaves; `None` if it never does.
    pub fn admit(&mut self, now: Duration, tid: u64, seq: u64) -> Option<Duration> {
        self.schedule.advance(now);
        let config = self.schedule.current();
        self.counters.owed += 1;
        if config.stop_at_seq.is_some_and(|stop| seq >= stop) {
            self.counters.stopped += 1;
            return None;
        }
        if config.drop_acks.contains(&seq) && self.withheld.insert((tid, seq)) {
            if self.withheld.len() > MAX_WITHHELD {
                self.withheld.pop_first();
            }
            self.counters.withheld += 1;
            return None;
        }
        if self.rng.happens(config.ack_loss) {
            self.counters.lost += 1;
            return None;
        }
        let spread = self.rng.duration_up_to(config.ack_jitter.saturating_mul(2));
        let takes = config.ack_delay.saturating_add(spread).saturating_sub(config.ack_jitter);
        let start = if config.serial { self.free_at.max(now) } else { now };
        self.free_at = start.saturating_add(takes);
        self.counters.sent += 1;
        Some(self.free_at)
    }

    /// What it has done so far.
    pub const fn counters(&self) -> &AckCounters {
        &self.counters
    }

    /// How it acknowledges now.
    pub const fn config(&self) -> &FarEndConfig {
        self.schedule.current()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_ack_of_a_named_seq_is_withheld_once_per_transaction() {
        let config = FarEndConfig { drop_acks: BTreeSet::from([8]), ..FarEndConfig::default() };
        let mut far_end = FarEnd::new(config, 1);
        assert_eq!(far_end.admit(MS, 3740, 7), Some(MS));
        assert_eq!(far_end.admit(MS, 3740, 8), None);
        assert_eq!(far_end.admit(MS, 3740, 8), Some(MS));
        assert_eq!(far_end.admit(MS, 3741, 8), None);
        assert_eq!(far_end.counters().withheld, 2);
    }

    #[test]
    fn what_is_remembered_of_withheld_acks_is_bounded() {
        let config = FarEndConfig { drop_acks: BTreeSet::from([8]), ..FarEndConfig::default() };
        let mut far_end = FarEnd::new(config, 1);
        assert!((0..=MAX_WITHHELD as u64).all(|tid| far_end.admit(MS, tid, 8).is_none()));
        assert!(far_end.admit(MS, 1, 8).is_some(), "remembered");
        assert!(far_end.admit(MS, 0, 8).is_none(), "forgotten");
    }

    #[test]
    fn nothing_is_acknowledged_from_the_seq_at_which_it_stops() {
        let config = FarEndConfig { stop_at_seq: Some(42), ..FarEndConfig::default() };
        let mut far_end = FarEnd::new(config, 1);
        assert!(far_end.admit(MS, 1, 41).is_some());
        assert!((42..60).all(|seq| far_end.admit(MS, 1, seq).is_none()));
        assert!(far_end.admit(MS, 1, 41).is_some());
    }

    #[test]
    fn a_serial_receiver_adds_delays_up_and_a_parallel_one_does_not() {
        let mut config = FarEndConfig { ack_delay: 10 * MS, ..FarEndConfig::default() };
        let leave = |config: &FarEndConfig| -> Vec<_> {
            let mut far_end = FarEnd::new(config.clone(), 1);
            (0..3).filter_map(|seq| far_end.admit(MS, 1, seq)).collect()
        };
        assert_eq!(leave(&config), [11 * MS, 11 * MS, 11 * MS]);
        config.serial = true;
        assert_eq!(leave(&config), [11 * MS, 21 * MS, 31 * MS]);
    }

    #[test]
    fn a_schedule_slows_it_down_at_its_moment() {
        let config = |ms| FarEndConfig { ack_delay: ms * MS, ..FarEndConfig::default() };
        let mut far_end = FarEnd::new(Schedule::from(config(10)).then(5 * MS, config(100)), 1);
        assert_eq!(far_end.admit(4 * MS, 1, 0), Some(14 * MS));
        assert_eq!(far_end.admit(5 * MS, 1, 1), Some(105 * MS));
    }

    #[test]
    fn jitter_is_centred_on_the_delay_and_never_before_arrival() {
        let config =
            FarEndConfig { ack_delay: 10 * MS, ack_jitter: 4 * MS, ..FarEndConfig::default() };
        let mut far_end = FarEnd::new(config, 1);
        let mut total = Duration::ZERO;
        for seq in 0..10_000 {
            let at = far_end.admit(MS, 1, seq).expect("nothing is withheld");
            assert!((7 * MS..=15 * MS).contains(&at));
            total += at.saturating_sub(MS);
        }
        // Four standard errors of a uniform distribution 8 ms wide are 0.093 ms.
        assert!(total.abs_diff(10 * MS * 10_000) < Duration::from_micros(93) * 10_000);

        let config = FarEndConfig { ack_jitter: 4 * MS, ..FarEndConfig::default() };
        let mut far_end = FarEnd::new(config, 1);
        assert!((0..1000).all(|seq| far_end.admit(MS, 1, seq) >= Some(MS)));
    }

    #[test]
    fn every_ack_owed_is_accounted_for() {
        let config = FarEndConfig {
            ack_loss: Probability::new(0.3),
            drop_acks: (0..20).collect(),
            stop_at_seq: Some(80),
            ..FarEndConfig::default()
        };
        let mut far_end = FarEnd::new(config, 1);
        let sent = (0..1000).filter(|n| far_end.admit(MS, 1, n % 100).is_some()).count();
        let c = far_end.counters();
        assert_eq!((c.owed, c.sent), (1000, sent as u64));
        assert_eq!((c.withheld, c.stopped), (20, 200));
        assert_eq!(c.owed, c.sent + c.withheld + c.lost + c.stopped);
    }
}
