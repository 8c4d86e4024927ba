//! A path together with the datagrams that are on their way. Delivers; decides nothing itself.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::config::PathConfig;
use crate::mangle::Mangle;
use crate::path::Path;
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
        let deliveries = self.path.admit(now, len);
        if let Some(copy) = deliveries.copy {
            self.push(copy.at, payload.clone(), copy.mangle);
        }
        if let Some(first) = deliveries.first {
            self.push(first.at, payload, first.mangle);
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

    fn push(&mut self, at: Duration, payload: T, mangle: Option<Mangle>) {
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
