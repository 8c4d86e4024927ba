//! The original client against `scenarios/seed.toml`, in virtual time.
//!
//! A model of the original's two modes as its document describes them: stop-and-wait, a timeout of
//! 3 s, and, when balancing, timeouts looked for only after a datagram or 3 s without any.

use std::time::Duration;

use mdalp_netem::{FarEnd, Path, Scenario};

const TIMEOUT: Duration = Duration::from_secs(3);
const CHUNKS: u64 = 50;

/// A receiver and the chunks the client has for it.
struct Lane {
    up: Path,
    down: Path,
    far_end: FarEnd,
    next: u64,
    end: u64,
    sent_at: Duration,
    /// When its acknowledgement arrives.
    ack_at: Option<Duration>,
    timeouts: u32,
}

impl Lane {
    fn all(first_and_end: impl IntoIterator<Item = (usize, u64, u64)>, seed: u64) -> Vec<Self> {
        let scenario = Scenario::builtin("seed").expect("shipped");
        let lane = |(index, next, end): (usize, u64, u64)| {
            let (up, down, far_end) = scenario.receivers[index].parts(seed, index);
            let sent_at = Duration::ZERO;
            Self { up, down, far_end, next, end, sent_at, ack_at: None, timeouts: 0 }
        };
        first_and_end.into_iter().map(lane).collect()
    }

    fn send(&mut self, now: Duration) {
        self.sent_at = now;
        self.ack_at = None;
        if self.next < self.end {
            let arrives = self.up.admit(now, 127).first.expect("a path without loss").at;
            self.ack_at = self
                .far_end
                .admit(arrives, 3740, self.next)
                .map(|leaves| self.down.admit(leaves, 23).first.expect("a path without loss").at);
        }
    }

    fn time_out(&mut self, now: Duration) {
        self.timeouts += 1;
        self.send(now);
    }
}

/// Balanced sending: seconds, without the echoes, and timeouts of each receiver.
fn balanced(seed: u64) -> (f64, Vec<u32>) {
    let mut lanes = Lane::all([(0, 0, 10), (1, 10, 30), (2, 30, 51)], seed);
    let mut now = Duration::ZERO;
    for lane in &mut lanes {
        lane.send(now);
    }
    while lanes.iter().any(|lane| lane.next < lane.end) {
        for lane in &mut lanes {
            if lane.next < lane.end && now.saturating_sub(lane.sent_at) >= TIMEOUT {
                lane.time_out(now);
            }
        }
        let first = lanes.iter_mut().filter(|lane| lane.ack_at.is_some()).min_by_key(|l| l.ack_at);
        match first {
            Some(lane) if lane.ack_at <= Some(now + TIMEOUT) => {
                now = lane.ack_at.unwrap_or(now);
                lane.next += 1;
                lane.send(now);
            }
            _ => now += TIMEOUT,
        }
    }
    (now.as_secs_f64(), lanes.iter().map(|lane| lane.timeouts).collect())
}

/// Sending to one receiver only: seconds, timeouts, and the SEQ it has come to after so many timeouts.
fn alone(index: usize, seed: u64, patience: u32) -> (f64, u32, u64) {
    let mut lanes = Lane::all([(index, 0, CHUNKS)], seed);
    let lane = &mut lanes[0];
    let mut now = Duration::ZERO;
    lane.send(now);
    while lane.next < lane.end && lane.timeouts < patience {
        if let Some(at) = lane.ack_at.filter(|at| *at <= now + TIMEOUT) {
            now = at;
            lane.next += 1;
            lane.send(now);
        } else {
            now += TIMEOUT;
            lane.time_out(now);
        }
    }
    (now.as_secs_f64(), lane.timeouts, lane.next)
}

#[test]
fn balanced_sending_takes_as_long_as_reported_with_as_many_timeouts() {
    // Three echoes a second apart come first.
    let echoes = 2.0 + 0.335_148;
    for seed in 0..200 {
        let (seconds, timeouts) = balanced(seed);
        assert_eq!(timeouts, [2, 1, 1]);
        let total = echoes + seconds;
        assert!((total - 26.247).abs() < 0.02 * 26.247, "{total} s with seed {seed}");
    }
}

#[test]
fn sending_to_one_receiver_takes_as_long_as_reported_with_as_many_timeouts() {
    for seed in 0..200 {
        for (index, reported, reported_timeouts) in [(1, 48.365, 2), (2, 53.900, 4)] {
            let (seconds, timeouts, next) = alone(index, seed, 100);
            assert_eq!((timeouts, next), (reported_timeouts, CHUNKS));
            assert!((seconds - reported).abs() < 0.01 * reported, "{seconds} s, seed {seed}");
        }
    }
}

#[test]
fn the_farthest_receiver_alone_never_gets_past_seq_42() {
    let (_, timeouts, next) = alone(0, 1, 1000);
    assert_eq!((timeouts, next), (1000, 42));
}
