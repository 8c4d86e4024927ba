//! F05, exhaustively: exactly the n-th datagram of a path vanishes.

use crate::support::{ours, p0, sending, windowed};
use mdalp_sim::{End, RunReport};
use std::time::Duration;

/// Chunks of payload A by receiver.
const SHARES: [u64; 3] = [10, 20, 21];
/// A round trip of the slowest receiver with jitter.
const ROUND_TRIP: Duration = Duration::from_millis(346);
/// The first timeout, before anything is measured; later ones are three round trips at most.
const TIMEOUT: Duration = Duration::from_millis(1050);

fn run(lane: usize, up: bool, lost: &[u64], window: u16) -> RunReport {
    let scenario = p0(|at, is_up, path| {
        if (at, is_up) == (lane, up) {
            path.loss.nth = lost.to_vec();
        }
    });
    ours(&scenario, 1, &windowed(window))
}

/// Complete, with as many datagrams and as much time as so many losses may cost.
fn check(report: &RunReport, what: &str, window: u16, losses: u32, allowed: Duration) {
    let t0 = if window == 1 { Duration::from_millis(3430) } else { Duration::from_millis(700) };
    assert_eq!((report.end, report.stored), (End::Complete, 51), "{what}");
    let datagrams = report.datagrams;
    assert!(datagrams <= 51 + 2 * u64::from(losses), "{what}: {datagrams} datagrams");
    let time = sending(report);
    assert!(time <= t0 + allowed, "{what}: {time:?}");
}

#[test]
fn f05_each_single_loss_costs_a_timeout_and_a_round_trip_at_most() {
    for (lane, &chunks) in SHARES.iter().enumerate() {
        for up in [true, false] {
            for window in [1, 8] {
                for n in 1..=chunks {
                    let what = format!("lane {lane} up {up} window {window} lost {n}");
                    let report = run(lane, up, &[n], window);
                    check(&report, &what, window, 1, TIMEOUT + ROUND_TRIP);
                }
            }
        }
    }
}

#[test]
fn f05_every_pair_and_triple_of_the_first_seven_costs_no_more_than_backing_off_does() {
    let mut runs = 0;
    for mask in 0u64..128 {
        let lost: Vec<u64> = (1..=7).filter(|n| mask & 1 << (n - 1) != 0).collect();
        if !(2..=3).contains(&lost.len()) {
            continue;
        }
        for (lane, up, window) in
            [(0, true, 1), (0, false, 1), (2, true, 1), (0, true, 8), (2, true, 8), (2, false, 8)]
        {
            let what = format!("lane {lane} up {up} window {window} lost {lost:?}");
            let report = run(lane, up, &lost, window);
            // In a row they meet doubled timeouts; and the ack of a first chunk that was sent twice
            // stands in for a measurement, which makes the next timeout as long as it can be.
            let longest = Duration::from_millis(3150);
            let backed_off = TIMEOUT + longest * (lost.len() as u32 - 1);
            let losses = lost.len() as u32;
            check(&report, &what, window, losses, backed_off + ROUND_TRIP * losses);
            runs += 1;
        }
    }
    assert_eq!(runs, (21 + 35) * 6);
}
