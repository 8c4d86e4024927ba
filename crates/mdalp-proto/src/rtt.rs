//! When to give a chunk up for lost: round-trip estimate and retransmission timeout.
//!
//! RFC 6298 with two changes, both from measurements of lossy paths (`docs/protocol.md`, R-17): the
//! timeout never grows past 3 s (RFC 8085 §3.1.3: the safe rate without feedback), and a path whose
//! acks all come after the timeout still yields a sample. Does not set timers.

use std::time::Duration;

/// The bounds of the retransmission timeout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RtoConfig {
    /// Before the first measurement. Default 1 s (RFC 6298 §2.1).
    pub initial: Duration,
    /// Never below. Default 10 ms.
    pub min: Duration,
    /// Never above, backed off or not, but for up to 5 % that backed-off timeouts are spread by.
    /// Default 3 s.
    pub max: Duration,
}

impl Default for RtoConfig {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            min: Duration::from_millis(10),
            max: Duration::from_secs(3),
        }
    }
}

/// Duplicate acks since the last sample that prove that retransmissions were needless.
const NEEDLESS: u32 = 2;

/// Smoothed round-trip time of one receiver.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    config: RtoConfig,
    /// Smoothed RTT and its mean deviation, once there is a sample.
    estimate: Option<(Duration, Duration)>,
    /// Whether the estimate rests on a clean sample.
    measured: bool,
    duplicates: u32,
    backoff: u32,
}

impl RttEstimator {
    /// No measurement yet.
    pub fn new(config: RtoConfig) -> Self {
        Self { config, estimate: None, measured: false, duplicates: 0, backoff: 0 }
    }

    /// The ack of a chunk that was sent once: a clean sample (Karn's rule). Ends any backoff.
    pub fn sample(&mut self, rtt: Duration) {
        if !self.measured {
            self.estimate = None;
            self.measured = true;
        }
        self.fold(rtt);
    }

    /// The ack of a chunk that was sent more than once, first `since_first` ago. It cannot be said
    /// which transmission it answers, so it is no sample (Karn's rule), with two exceptions, for
    /// else every chunk might be sent twice for ever: there is no sample at all yet (it stands in
    /// for one until one comes), or duplicate acks prove that the path has become slower than the
    /// timeout. Loss alone never raises the estimate.
    pub fn ambiguous_sample(&mut self, since_first: Duration) {
        if self.estimate.is_none() || self.duplicates >= NEEDLESS {
            self.fold(since_first.min(self.config.max / 2));
        }
        self.backoff = 0;
    }

    /// A duplicate ack: every transmission of some chunk arrived.
    pub fn note_duplicate(&mut self) {
        self.duplicates = self.duplicates.saturating_add(1);
    }

    /// RFC 6298 §2.2 and §2.3.
    fn fold(&mut self, rtt: Duration) {
        self.estimate = Some(match self.estimate {
            None => (rtt, rtt / 2),
            Some((srtt, var)) => ((srtt * 7 + rtt) / 8, (var * 3 + srtt.abs_diff(rtt)) / 4),
        });
        self.duplicates = 0;
        self.backoff = 0;
    }

    /// A timeout: the next one is twice as long, up to the maximum.
    pub fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The timeout of a chunk sent now.
    pub fn rto(&self) -> Duration {
        let base = match self.estimate {
            None => self.config.initial,
            Some((srtt, var)) => (srtt + (var * 4).max(srtt / 8)).max(self.config.min),
        };
        let backed_off = base.saturating_mul(1 << self.backoff.min(16));
        if self.backoff == 0 || backed_off < self.config.max {
            return backed_off.min(self.config.max);
        }
        // Timeouts of exactly the maximum would fall into step with a path that is down for half of
        // every second: each retransmission would meet the same half (F13).
        self.config.max + self.config.max / 160 * (self.backoff % 8 * 5 % 8)
    }

    /// After which time a chunk that was overtaken counts as lost: RFC 9002's 9/8 of a round trip, or
    /// more where round trips differ more, so that jitter is not taken for loss (F08).
    pub fn loss_delay(&self) -> Option<Duration> {
        let (srtt, var) = self.estimate?;
        Some((srtt + (var * 2).max(srtt / 8)).max(Duration::from_millis(1)))
    }

    /// Timeouts since the last sign of progress.
    pub fn backoff(&self) -> u32 {
        self.backoff
    }

    /// The smoothed RTT, once there is a sample.
    pub fn srtt(&self) -> Option<Duration> {
        self.estimate.map(|(srtt, _)| srtt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn follows_rfc_6298() {
        let mut rtt = RttEstimator::new(RtoConfig::default());
        assert_eq!(rtt.rto(), 1000 * MS);
        rtt.sample(100 * MS);
        assert_eq!((rtt.srtt(), rtt.rto()), (Some(100 * MS), 300 * MS));
        rtt.sample(180 * MS);
        // var = 3/4 · 50 + 1/4 · 80 = 57.5; srtt = 7/8 · 100 + 1/8 · 180 = 110.
        assert_eq!((rtt.srtt(), rtt.rto()), (Some(110 * MS), 340 * MS));
    }

    #[test]
    fn backs_off_by_doubling_up_to_three_seconds() {
        let mut rtt = RttEstimator::new(RtoConfig::default());
        let mut timeouts = Vec::new();
        for _ in 0..40 {
            timeouts.push(rtt.rto().as_millis());
            rtt.back_off();
        }
        assert_eq!(timeouts[..3], [1000, 2000, 3037]);
        assert!(timeouts[3..].iter().all(|timeout| (3000..3150).contains(timeout)));
        rtt.sample(100 * MS);
        assert_eq!(rtt.rto(), 300 * MS);
    }

    #[test]
    fn f13_long_timeouts_do_not_fall_into_step_with_a_flapping_path() {
        for period in [200, 500, 1000, 1500, 3000] {
            let mut rtt = RttEstimator::new(RtoConfig::default());
            let mut at = 0;
            let mut up = 0;
            for _ in 0..40 {
                at += rtt.rto().as_millis();
                rtt.back_off();
                up += u32::from(at % period < period / 2);
            }
            assert!((8..=32).contains(&up), "{up} of 40 tries while up, period {period} ms");
        }
    }

    #[test]
    fn steady_rtts_do_not_bring_the_timeout_down_to_the_rtt_itself() {
        let mut rtt = RttEstimator::new(RtoConfig::default());
        for _ in 0..200 {
            rtt.sample(160 * MS);
        }
        assert!(rtt.rto() >= 180 * MS);
        let mut near = RttEstimator::new(RtoConfig::default());
        near.sample(MS / 20);
        assert_eq!(near.rto(), 10 * MS);
    }

    #[test]
    fn an_ambiguous_ack_is_no_sample_without_proof_that_resending_was_needless() {
        let mut rtt = RttEstimator::new(RtoConfig::default());
        rtt.sample(100 * MS);
        for _ in 0..10 {
            rtt.ambiguous_sample(2000 * MS);
        }
        assert_eq!(rtt.srtt(), Some(100 * MS));
        rtt.note_duplicate();
        rtt.note_duplicate();
        rtt.ambiguous_sample(2000 * MS);
        // Taken, but as no more than half the maximum timeout.
        assert_eq!(rtt.srtt(), Some((700 * MS + 1500 * MS) / 8));
    }

    #[test]
    fn an_ack_of_a_chunk_that_was_sent_twice_ends_the_backoff() {
        let mut rtt = RttEstimator::new(RtoConfig::default());
        rtt.sample(100 * MS);
        rtt.back_off();
        rtt.ambiguous_sample(900 * MS);
        assert_eq!((rtt.rto(), rtt.backoff()), (300 * MS, 0));
    }

    #[test]
    fn before_any_clean_sample_an_ambiguous_one_stands_in() {
        let mut rtt = RttEstimator::new(RtoConfig::default());
        rtt.ambiguous_sample(1500 * MS);
        assert_eq!((rtt.srtt(), rtt.rto()), (Some(1500 * MS), 3000 * MS));
        rtt.sample(160 * MS);
        assert_eq!((rtt.srtt(), rtt.rto()), (Some(160 * MS), 480 * MS));
    }

    #[test]
    fn f11_an_rtt_of_weeks_overflows_nothing() {
        let mut rtt = RttEstimator::new(RtoConfig::default());
        rtt.sample(Duration::from_secs(8 * 7 * 24 * 3600));
        rtt.sample(Duration::from_secs(1));
        for _ in 0..100 {
            rtt.back_off();
        }
        assert!(rtt.rto() <= 3150 * MS);
    }
}
