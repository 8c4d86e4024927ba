//! The standard paths of the fault matrix. Values only; `scenarios/p*.toml` say the same in files.
//! P4, nothing in between, is [`PathConfig::default`].

use std::num::NonZeroU64;
use std::time::Duration;

use crate::config::{Jitter, PathConfig, Rate};

/// Round trips of P0's three receivers, as the original client measured them.
pub const P0_ROUND_TRIPS: [Duration; 3] = [
    Duration::from_micros(335_148),
    Duration::from_micros(162_844),
    Duration::from_micros(156_857),
];

impl PathConfig {
    /// P0, the original's network: one direction of a round trip of `round_trip`, with 0–5 ms of
    /// jitter in each direction (0–10 ms in all), 10 Mbit/s, 25 datagrams of queue.
    pub fn p0(round_trip: Duration) -> Self {
        let jitter = Jitter { max: Duration::from_millis(5), reorders: false };
        Self { jitter, ..ten_megabit(round_trip / 2) }
    }

    /// P1, QUIC's interop network: 15 ms one way, 10 Mbit/s, 25 datagrams of queue.
    pub fn p1() -> Self {
        ten_megabit(Duration::from_millis(15))
    }

    /// P2, a satellite: 750 ms one way, 10 Mbit/s, 25 datagrams of queue.
    pub fn p2() -> Self {
        ten_megabit(Duration::from_millis(750))
    }

    /// P3, DSL, towards the receiver: 200,000 bytes/s with 8 KiB of buffer, 50 ms one way.
    pub fn p3_up() -> Self {
        dsl(200_000, 8 << 10)
    }

    /// P3, DSL, towards the client: 1,000,000 bytes/s with 32 KiB of buffer, 50 ms one way.
    pub fn p3_down() -> Self {
        dsl(1_000_000, 32 << 10)
    }
}

fn ten_megabit(delay: Duration) -> PathConfig {
    let rate = rate(10_000_000).map(|rate| Rate { queue_packets: Some(25), ..rate });
    PathConfig { delay, rate, ..PathConfig::default() }
}

fn dsl(bytes_per_second: u64, buffer: u64) -> PathConfig {
    let rate = rate(8 * bytes_per_second).map(|rate| Rate { queue_bytes: Some(buffer), ..rate });
    PathConfig { delay: Duration::from_millis(50), rate, ..PathConfig::default() }
}

fn rate(bits_per_second: u64) -> Option<Rate> {
    NonZeroU64::new(bits_per_second).map(Rate::new)
}
