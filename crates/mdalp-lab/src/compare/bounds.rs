//! What theory allows: stop-and-wait sends one chunk per round trip and receiver.
//!
//! The round trip is that of a chunk: both delays, half of each jitter, and the mean delay of the
//! ack, as the scenario begins. Losses, queues and changes on a schedule are left out, so these are
//! bounds from below.

use std::time::Duration;

use mdalp_netem::Scenario;
use mdalp_netem::scenario::ReceiverEnd;
use mdalp_proto::split::{byte_shares, number_chunks};
use mdalp_proto::wire::CLASSIC_CHUNK;
use serde::Serialize;

/// Bounds for a classic transfer, in seconds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Bounds {
    /// The time from sending a chunk to its ack, by receiver.
    pub round_trip_s: Vec<f64>,
    /// All chunks to one receiver, one after the other, by receiver; `None` if it stops
    /// acknowledging before the end.
    pub single_s: Vec<Option<f64>>,
    /// Shares fixed beforehand in proportion to 1/ping: the receiver that ends last.
    pub static_shares_s: f64,
    /// Each chunk to whoever is free: the shortest time in which all receivers together manage.
    pub dynamic_split_s: f64,
}

impl Bounds {
    /// The bounds in `scenario`.
    pub fn of(scenario: &Scenario) -> Self {
        let trips: Vec<Duration> = scenario.receivers.iter().map(round_trip).collect();
        let round_trip_s: Vec<f64> = trips.iter().map(Duration::as_secs_f64).collect();
        let chunks = scenario.payload_bytes.div_ceil(u64::from(CLASSIC_CHUNK));
        let alone = |(receiver, trip): (&ReceiverEnd, &f64)| {
            let stop = receiver.far_end.current().stop_at_seq;
            stop.is_none_or(|stop| chunks <= stop).then_some(chunks as f64 * trip)
        };
        let single_s = scenario.receivers.iter().zip(&round_trip_s).map(alone).collect();
        let slowest = scenario.receivers.iter().filter_map(|receiver| receiver.ping).max();
        let pings: Vec<f64> = scenario
            .receivers
            .iter()
            .map(|receiver| receiver.ping.or(slowest).map_or(1.0, super::millis))
            .collect();
        let shares = number_chunks(&byte_shares(scenario.payload_bytes, &pings), CLASSIC_CHUNK);
        let last = shares.iter().zip(&round_trip_s).map(|(share, trip)| share.chunks as f64 * trip);
        Self {
            static_shares_s: last.fold(0.0, f64::max),
            dynamic_split_s: dynamic(&trips, chunks).as_secs_f64(),
            round_trip_s,
            single_s,
        }
    }
}

fn round_trip(receiver: &ReceiverEnd) -> Duration {
    let (up, down) = (receiver.up.current(), receiver.down.current());
    let delays = up.delay.saturating_add(down.delay);
    let jitter = (up.jitter.max / 2).saturating_add(down.jitter.max / 2);
    delays.saturating_add(jitter).saturating_add(receiver.far_end.current().ack_delay)
}

/// The shortest time in which round trips of these lengths, one after the other at each receiver,
/// make `chunks` in all.
fn dynamic(trips: &[Duration], chunks: u64) -> Duration {
    if chunks == 0 || trips.iter().any(Duration::is_zero) || trips.is_empty() {
        return Duration::ZERO;
    }
    let nanos = |trip: &Duration| trip.as_nanos().max(1);
    let done = |time: u128| -> u128 { trips.iter().map(|trip| time / nanos(trip)).sum() };
    let (mut low, mut high) = (0, trips.iter().map(nanos).min().unwrap_or(1) * u128::from(chunks));
    while low < high {
        let middle = low.midpoint(high);
        if done(middle) >= u128::from(chunks) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Duration::from_nanos(u64::try_from(low).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_the_original_network_are_those_of_its_fit() {
        let bounds = Bounds::of(&Scenario::builtin("seed").expect("shipped"));
        let near = |a: f64, b: f64| (a - b).abs() < 0.01;
        // Balanced, C's 21 chunks at 0.838 s end after A's 10 at 1.740 s; B alone 50 at 0.847 s; A
        // stops at SEQ 42.
        assert!(near(bounds.static_shares_s, 17.595), "{bounds:?}");
        assert_eq!(bounds.single_s[0], None);
        assert!(near(bounds.single_s[1].expect("B answers"), 42.34), "{bounds:?}");
        // 1/1.740 + 1/0.847 + 1/0.838 chunks a second, 50 chunks, the last round trips in full.
        assert!((16.9..18.0).contains(&bounds.dynamic_split_s), "{bounds:?}");
    }

    #[test]
    fn a_dynamic_split_fills_every_receiver_until_the_end() {
        let secs = |s: &[u64]| s.iter().map(|s| Duration::from_secs(*s)).collect::<Vec<_>>();
        assert_eq!(dynamic(&secs(&[3]), 5).as_secs(), 15);
        assert_eq!(dynamic(&secs(&[1, 2]), 3).as_secs(), 2);
        assert_eq!(dynamic(&secs(&[1, 2]), 4).as_secs(), 3);
        assert_eq!(dynamic(&secs(&[5, 5]), 0).as_secs(), 0);
        assert_eq!(dynamic(&secs(&[0, 5]), 3).as_secs(), 0);
    }
}
