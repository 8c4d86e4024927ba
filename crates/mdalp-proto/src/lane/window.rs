//! How many bytes may be in flight to one receiver, and how they are spread out after a loss.
//!
//! TCP's initial window, halved by losses and grown back: bounds for small payloads, no congestion
//! control. Does not know chunks or why one counts as lost.

use crate::time::Instant;
use std::time::Duration;

/// Never more than this: TCP's initial window (RFC 6928).
const MOST: u64 = 14_600;
/// Never less: two full datagrams (RFC 9002 §7.2).
const LEAST: u64 = 2400;

#[derive(Clone, Copy, Debug)]
pub(super) struct ByteWindow {
    bytes: u64,
    /// The round trip after a loss: nothing is halved again, nothing grows.
    recovery_until: Instant,
    round_trip: Duration,
    /// There was a loss, and nothing was sent since.
    shrunk: bool,
    /// What is sent until then is spread out: the round trip that begins with the first datagram after
    /// a loss.
    paced_until: Instant,
    /// When the next datagram may leave during that time.
    next_at: Instant,
}

impl ByteWindow {
    pub(super) const fn new() -> Self {
        Self {
            bytes: MOST,
            recovery_until: Instant::ZERO,
            round_trip: Duration::ZERO,
            shrunk: false,
            paced_until: Instant::ZERO,
            next_at: Instant::ZERO,
        }
    }

    /// Whether `more` bytes may join those in flight: one datagram always may.
    pub(super) fn has_room(&self, in_flight: u64, more: u64) -> bool {
        in_flight == 0 || in_flight + more <= self.bytes
    }

    /// Until when the next datagram is held back so that the round trip after a loss begins with no
    /// burst.
    pub(super) fn held_until(&self, now: Instant) -> Option<Instant> {
        let until = self.next_at.min(self.paced_until);
        (now < until).then_some(until)
    }

    pub(super) fn note_sent(&mut self, now: Instant, bytes: u64) {
        if std::mem::take(&mut self.shrunk) {
            self.paced_until = now + self.round_trip;
        }
        if now < self.paced_until {
            let bytes = u32::try_from(bytes.min(self.bytes)).unwrap_or(u32::MAX);
            let window = u32::try_from(self.bytes).unwrap_or(u32::MAX);
            self.next_at = self.next_at.max(now) + self.round_trip.saturating_mul(bytes) / window;
        }
    }

    /// One chunk more per round trip: each acked byte adds its part of one.
    pub(super) fn grow(&mut self, now: Instant, acked: u64) {
        if acked > 0 && now >= self.recovery_until {
            self.bytes = (self.bytes + (acked * acked / self.bytes).max(1)).min(MOST);
        }
    }

    /// A loss: half as many bytes, once per round trip.
    pub(super) fn reduce(&mut self, now: Instant, round_trip: Duration) {
        if now >= self.recovery_until {
            self.bytes = (self.bytes / 2).max(LEAST);
            self.recovery_until = now + round_trip;
            self.round_trip = round_trip;
            self.shrunk = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn losses_halve_it_once_per_round_trip_and_acks_let_it_grow_by_a_chunk_in_one() {
        let mut window = ByteWindow::new();
        assert!(window.has_room(13_400, 1200) && !window.has_room(13_401, 1200));
        window.reduce(at(1000), ROUND_TRIP);
        window.reduce(at(1099), ROUND_TRIP);
        assert!(window.has_room(6100, 1200) && !window.has_room(6101, 1200));
        window.grow(at(1099), 1200);
        assert!(!window.has_room(6101, 1200), "not in the round trip of the loss");
        (0..6).for_each(|_| window.grow(at(1100), 1200));
        assert!(window.has_room(7200, 1200) && !window.has_room(7300, 1200));
        for n in 0..9 {
            window.reduce(at(2000 + 100 * n), ROUND_TRIP);
        }
        assert!(window.has_room(1200, 1200) && !window.has_room(1201, 1200));
        assert!(window.has_room(0, 60_000), "one datagram always");
    }

    #[test]
    fn after_a_loss_a_window_of_datagrams_takes_the_round_trip() {
        let mut window = ByteWindow::new();
        window.note_sent(at(999), 1200);
        assert_eq!(window.held_until(at(999)), None, "without loss nothing is held back");
        window.reduce(at(1000), ROUND_TRIP);
        // However long it takes until acks make room.
        let (mut now, mut sent) = (at(1080), 0);
        while now < at(1180) {
            if let Some(until) = window.held_until(now) {
                now = until;
            } else {
                window.note_sent(now, 730);
                sent += 1;
            }
        }
        assert_eq!(sent, 10);
        assert_eq!(window.held_until(now), None);
    }

    #[test]
    fn f11_a_round_trip_of_weeks_overflows_nothing() {
        let mut window = ByteWindow::new();
        window.reduce(at(1000), Duration::from_secs(8 * 7 * 24 * 3600));
        window.note_sent(at(1000), u64::MAX);
        assert!(window.held_until(at(1001)).is_some());
    }
}
