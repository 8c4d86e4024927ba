//! Decides which datagrams are lost by chance or by number. Outages and full queues are not here.

use crate::config::Loss;
use crate::rng::Rng;

/// Why a datagram is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    Nth,
    Burst,
    Random,
}

/// What loss remembers from one datagram to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct LossState {
    /// Inside a burst; `None` before the first datagram.
    in_burst: Option<bool>,
    /// Datagrams lost in a row so far.
    run: u32,
}

impl LossState {
    /// Whether datagram number `number` (from 1) is lost, and why.
    pub(crate) fn draw(&mut self, loss: &Loss, number: u64, rng: &mut Rng) -> Option<Cause> {
        // Both chains move on with each datagram, so that one model does not change another.
        let in_burst = self.step_burst(loss, rng);
        let random = rng.happens(loss.random);
        let spared = loss.max_run.is_some_and(|max| self.run >= max.get());
        let cause = if loss.nth.contains(&number) {
            Some(Cause::Nth)
        } else if in_burst && !spared {
            Some(Cause::Burst)
        } else if random && !spared {
            Some(Cause::Random)
        } else {
            None
        };
        self.run = if cause.is_some() { self.run.saturating_add(1) } else { 0 };
        cause
    }

    fn step_burst(&mut self, loss: &Loss, rng: &mut Rng) -> bool {
        let Some(burst) = loss.burst else { return false };
        // The chain starts in its long-run mixture: the first datagrams lose as much as the rest.
        let bad = self.in_burst.unwrap_or_else(|| rng.happens(burst.average()));
        let turns = if bad { burst.ends() } else { burst.begins() };
        self.in_burst = Some(bad != rng.happens(turns));
        bad
    }
}
