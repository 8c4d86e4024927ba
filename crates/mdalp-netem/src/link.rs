//! A path together with the datagrams that are on their way. Delivers; decides nothing itself.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::config::PathConfig;
use crate::mangle::Mangle;
use crate::path::{Deliveries, Delivery, Path};
use crate::schedule::Schedule;

/// A path and what is on its way. `T` is whatever the caller sends: bytes, or bytes and addresses.
#[derive(Clone, Debug)]
pub struct Link<T> {
    path: Path,
    queue: BinaryHeap<Queued<T>>,
    /// Number of the next datagram: those due at the same moment arrive as they were sent.
    next: u64,
}

/// A datagram that has arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival<T> {
    /// When it arrived.
    pub at: Duration,
    /// What was sent, not yet damaged.
    pub payload: T,
    /// The damage to do to it.
    pub mangle: Option<Mangle>,
}

impl<T: AsMut<Vec<u8>>> Arrival<T> {
    /// What arrived, damage done.
    pub fn into_bytes(mut self) -> T {
        if let Some(mangle) = self.mangle {
            mangle.apply(self.payload.as_mut());
        }
        self.payload
    }
}

impl<T> Link<T> {
    /// A link over a new [`Path`].
    pub fn new(config: impl Into<Schedule<PathConfig>>, seed: u64) -> Self {
        Self::over(Path::new(config, seed))
    }

    /// A link over `path`.
    pub const fn over(path: Path) -> Self {
        Self { path, queue: BinaryHeap::new(), next: 0 }
    }

    /// Sends `payload`, which is `len` bytes long on the wire without headers. `now` must not run
    /// backwards from call to call.
    pub fn enqueue(&mut self, now: Duration, len: usize, payload: T)
    where
        T: Clone,
    {
        let Deliveries { first, copy } = self.path.admit(now, len);
        let Some(first) = first else { return };
        let copy = copy.map(|copy| (copy, payload.clone()));
        self.push(first, payload);
        if let Some((copy, payload)) = copy {
            self.push(copy, payload);
        }
    }

    /// The next datagram that has arrived by `now`.
    pub fn poll(&mut self, now: Duration) -> Option<Arrival<T>> {
        if self.next_due()? > now {
            return None;
        }
        self.queue.pop().map(|queued| queued.arrival)
    }

    /// When the next datagram arrives; `None` if nothing is on its way.
    pub fn next_due(&self) -> Option<Duration> {
        self.queue.peek().map(|queued| queued.arrival.at)
    }

    /// How many datagrams are on their way.
    pub fn in_flight(&self) -> usize {
        self.queue.len()
    }

    /// The path below, for its counters and configuration.
    pub const fn path(&self) -> &Path {
        &self.path
    }

    /// The path below, to change it.
    pub const fn path_mut(&mut self) -> &mut Path {
        &mut self.path
    }

    fn push(&mut self, Delivery { at, mangle }: Delivery, payload: T) {
        self.queue.push(Queued { number: self.next, arrival: Arrival { at, payload, mangle } });
        self.next += 1;
    }
}

#[derive(Clone, Debug)]
struct Queued<T> {
    number: u64,
    arrival: Arrival<T>,
}

/// Reversed, because the heap gives out the greatest first.
impl<T> Ord for Queued<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.arrival.at, other.number).cmp(&(self.arrival.at, self.number))
    }
}

impl<T> PartialOrd for Queued<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Queued<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Queued<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Corruption, Duplication, Jitter};
    use crate::rng::Probability;

    const MS: Duration = Duration::from_millis(1);

    fn drain<T>(link: &mut Link<T>) -> Vec<Arrival<T>> {
        std::iter::from_fn(|| link.poll(Duration::MAX)).collect()
    }

    #[test]
    fn datagrams_due_at_the_same_moment_arrive_as_they_were_sent() {
        let mut link = Link::new(PathConfig { delay: MS, ..PathConfig::default() }, 1);
        for n in 0..50 {
            link.enqueue(Duration::ZERO, 1, n);
        }
        let order: Vec<_> = drain(&mut link).into_iter().map(|arrival| arrival.payload).collect();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_copy_carries_the_same_payload_and_arrives_behind_the_original() {
        let duplication = Duplication { probability: Probability::ONE, after: Duration::ZERO };
        let corruption = Corruption { truncate: Probability::new(0.5), ..Corruption::default() };
        let config = PathConfig { duplication, corruption, ..PathConfig::default() };
        let mut path = Path::new(config.clone(), 1);
        let mut link = Link::new(config, 1);
        let mut expected = Vec::new();
        for n in 0..50 {
            link.enqueue(MS, 8, n);
            expected.extend(path.admit(MS, 8).into_iter().map(|delivery| (n, delivery.mangle)));
        }
        let arrived = drain(&mut link).into_iter().map(|arrival| (arrival.payload, arrival.mangle));
        assert_eq!(arrived.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn bytes_arrive_with_the_damage_that_is_counted() {
        let half = Probability::new(0.5);
        let corruption = Corruption { byte: half, truncate: half, ..Corruption::default() };
        let jitter = Jitter { max: 9 * MS, reorders: true };
        let mut link = Link::new(PathConfig { jitter, corruption, ..PathConfig::default() }, 1);
        for _ in 0..200 {
            link.enqueue(Duration::ZERO, 5, b"hello".to_vec());
        }
        let arrived = drain(&mut link).into_iter().map(Arrival::into_bytes);
        let damaged: Vec<_> = arrived.filter(|bytes| bytes != b"hello").collect();
        let short = damaged.iter().filter(|bytes| bytes.len() < 5).count() as u64;
        let counters = link.path().counters();
        assert_eq!(damaged.len() as u64, counters.corrupted + counters.truncated);
        assert_eq!(short, counters.truncated);
        assert!(counters.corrupted > 50 && counters.truncated > 20);
    }
}
