//! How fast strangers are answered: token buckets.
//!
//! A bare intent has 7 bytes and its answer hundreds, and sources can be forged: without limits an
//! orchestrator would be a reflector (S16, G10). Intents are not lost by this: they wait.

use crate::rate::Rate;
use crate::source::Prefix;
use crate::time::Instant;
use std::collections::BTreeMap;

/// 5 answers a second to one /24 or /56, 10 at once (H44).
const PER_PREFIX: Rate = Rate::new(5, 1, 10);
/// 1 Mbit/s to all strangers together, in bytes; a tenth of a second's worth at once (H44).
const TOTAL: Rate = Rate::new(125_000, 1, 12_500);

/// The buckets of one orchestrator.
#[derive(Debug, Default)]
pub(super) struct ReplyLimits {
    total: Instant,
    prefixes: BTreeMap<Prefix, Instant>,
}

impl ReplyLimits {
    /// When a stranger of `prefix` may be sent `bytes`.
    pub(super) fn ready_at(&self, prefix: Prefix, bytes: usize) -> Instant {
        let own = self.prefixes.get(&prefix).copied().unwrap_or_default();
        PER_PREFIX.ready_at(own, 1).max(TOTAL.ready_at(self.total, bytes as u64))
    }

    /// Pays for an answer.
    pub(super) fn take(&mut self, now: Instant, prefix: Prefix, bytes: usize) {
        TOTAL.take(&mut self.total, now, bytes as u64);
        // Full buckets are as good as none. The total bounds how many are not full: it lets 1,000
        // of the shortest possible answers out before the first bucket is full again.
        if self.prefixes.len() >= 1024 {
            self.prefixes.retain(|_, full_at| *full_at > now);
        }
        PER_PREFIX.take(self.prefixes.entry(prefix).or_default(), now, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_answers_at_once_then_five_a_second() {
        let (mut limits, prefix) = (ReplyLimits::default(), Prefix::of([192, 0, 2, 1].into()));
        let now = Instant::from_millis(5_000);
        for _ in 0..10 {
            assert!(limits.ready_at(prefix, 100) <= now);
            limits.take(now, prefix, 100);
        }
        assert_eq!(limits.ready_at(prefix, 100), Instant::from_millis(5_200));
        assert!(limits.ready_at(Prefix::of([192, 0, 3, 1].into()), 100) <= now);
    }

    #[test]
    fn all_strangers_together_get_a_megabit_a_second() {
        let mut limits = ReplyLimits::default();
        let (mut now, mut bytes) = (Instant::ZERO, 0);
        for n in 0_u32.. {
            let prefix = Prefix::of(std::net::Ipv4Addr::from(n << 8).into());
            now = now.max(limits.ready_at(prefix, 500));
            if now > Instant::from_millis(10_000) {
                break;
            }
            limits.take(now, prefix, 500);
            bytes += 500;
            assert!(limits.prefixes.len() <= 1024);
        }
        assert!((1_250_000..1_263_000).contains(&bytes), "{bytes}");
    }
}
