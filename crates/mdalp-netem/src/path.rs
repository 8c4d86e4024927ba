//! One direction of a path: decides the fate of each datagram. Holds no datagrams (see `Link`).

use std::array;
use std::collections::VecDeque;
use std::iter::Flatten;
use std::time::Duration;

use crate::bottleneck::Bottleneck;
use crate::config::{PathConfig, Reordering};
use crate::counters::Counters;
use crate::loss::{Cause, LossState};
use crate::mangle::Mangle;
use crate::rng::Rng;
use crate::schedule::Schedule;

/// The shortest time there is.
const TICK: Duration = Duration::from_nanos(1);

/// One direction of a path.
///
/// Times are durations since the path was made and must not run backwards from call to call.
#[derive(Clone, Debug)]
pub struct Path {
    schedule: Schedule<PathConfig>,
    rng: Rng,
    bottleneck: Bottleneck,
    loss: LossState,
    /// When the last datagram in order arrives: those sent later do not arrive earlier.
    last_due: Duration,
    /// The latest arrivals, in order; kept only while some may be overtaken.
    recent: VecDeque<Duration>,
    counters: Counters,
}

/// One arrival of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// When it arrives.
    pub at: Duration,
    /// What has happened to its bytes.
    pub mangle: Option<Mangle>,
}

/// The arrivals of one datagram: none if it is lost, two if it is duplicated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deliveries {
    /// The datagram, or its only copy.
    pub first: Option<Delivery>,
    /// Its duplicate.
    pub copy: Option<Delivery>,
}

impl IntoIterator for Deliveries {
    type Item = Delivery;
    type IntoIter = Flatten<array::IntoIter<Option<Delivery>, 2>>;

    fn into_iter(self) -> Self::IntoIter {
        [self.first, self.copy].into_iter().flatten()
    }
}

impl Path {
    /// A path that does what `config` says, with all chance drawn from `seed`.
    pub fn new(config: impl Into<Schedule<PathConfig>>, seed: u64) -> Self {
        Self {
            schedule: config.into(),
            rng: Rng::new(seed),
            bottleneck: Bottleneck::default(),
            loss: LossState::default(),
            last_due: Duration::ZERO,
            recent: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Decides the fate of a datagram of `len` payload bytes that is sent at `now`.
    pub fn admit(&mut self, now: Duration, len: usize) -> Deliveries {
        self.schedule.advance(now);
        let config = self.schedule.current();
        let counters = &mut self.counters;
        counters.sent += 1;
        if config.is_down(now) {
            counters.lost_outage += 1;
            return Deliveries::default();
        }
        if config.is_too_long(len) {
            counters.lost_mtu += 1;
            return Deliveries::default();
        }
        let bottleneck = &mut self.bottleneck;
        let left = config.rate.as_ref().map_or(Some(now), |rate| bottleneck.admit(rate, now, len));
        let Some(left) = left else {
            counters.lost_queue += 1;
            return Deliveries::default();
        };
        if let Some(cause) = self.loss.draw(&config.loss, counters.sent, &mut self.rng) {
            *match cause {
                Cause::Nth => &mut counters.lost_nth,
                Cause::Burst => &mut counters.lost_burst,
                Cause::Random => &mut counters.lost_random,
            } += 1;
            return Deliveries::default();
        }
        let due = self.due(left);
        let first = Some(self.deliver(due, len));
        let duplication = self.schedule.current().duplication;
        let copy = self.rng.happens(duplication.probability).then(|| {
            self.counters.duplicated += 1;
            self.deliver(due.saturating_add(duplication.after), len)
        });
        Deliveries { first, copy }
    }

    fn deliver(&mut self, at: Duration, len: usize) -> Delivery {
        let mangle = Mangle::draw(&self.schedule.current().corruption, len, &mut self.rng);
        self.counters.delivered += 1;
        match mangle {
            Some(Mangle::Xor { .. }) => self.counters.corrupted += 1,
            Some(Mangle::Truncate { .. }) => self.counters.truncated += 1,
            None => {}
        }
        Delivery { at, mangle }
    }

    /// When a datagram that has left the bottleneck at `left` arrives.
    fn due(&mut self, left: Duration) -> Duration {
        let config = self.schedule.current();
        let mut due = left
            .saturating_add(config.delay)
            .saturating_add(self.rng.duration_up_to(config.jitter.max));
        if !config.jitter.reorders {
            // Those that may be overtaken one by one must not be due all at once.
            let apart = if config.reordering.is_some() { TICK } else { Duration::ZERO };
            due = due.max(self.last_due.saturating_add(apart));
        }
        if self.rng.happens(config.late.probability) {
            // Not remembered as the last one due: the others are to pass it.
            self.counters.late += 1;
            return due.saturating_add(config.late.by);
        }
        if let Some(reordering) = config.reordering {
            due = overtake(&mut self.recent, reordering, left, due, &mut self.rng);
        }
        if due < self.last_due {
            self.counters.reordered += 1;
        }
        self.last_due = self.last_due.max(due);
        due
    }

    /// What the path has done so far.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the path does now.
    pub const fn config(&self) -> &PathConfig {
        self.schedule.current()
    }

    /// Replaces what the path does and drops the rest of its schedule; datagrams on their way, queue
    /// and chance stay as they are.
    pub fn set_config(&mut self, config: impl Into<Schedule<PathConfig>>) {
        self.schedule = config.into();
    }
}

/// Moves `due` before some of the latest datagrams if chance says so, and remembers it.
fn overtake(
    recent: &mut VecDeque<Duration>,
    reordering: Reordering,
    left: Duration,
    due: Duration,
    rng: &mut Rng,
) -> Duration {
    let window = reordering.window.get() as usize;
    let mut at = due;
    // What has arrived is not overtaken any more.
    while recent.front().is_some_and(|arrived| *arrived <= left) {
        recent.pop_front();
    }
    if rng.happens(reordering.probability) {
        let places = 1 + rng.up_to(window as u64 - 1) as usize;
        let ahead = recent.len().saturating_sub(places);
        if let Some(overtaken) = recent.get(ahead) {
            // Just before that one, but not before the next earlier one, which may be due then too.
            let below = ahead.checked_sub(1).and_then(|index| recent.get(index)).copied();
            let just_before = overtaken.saturating_sub(TICK).max(below.unwrap_or_default());
            at = just_before.max(left).min(due);
        }
    }
    recent.insert(recent.partition_point(|other| *other <= at), at);
    while recent.len() > window + 1 {
        recent.pop_front();
    }
    at
}

#[cfg(test)]
mod tests;
