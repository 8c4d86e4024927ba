//! What several tests share.

use mdalp_netem::scenario::ReceiverEnd;
use mdalp_netem::{PathConfig, Scenario};
use mdalp_sim::{Options, Program, RunReport, simulate_with, table};
use std::time::Duration;

/// The original's network and payload, with each path changed by `change`: which receiver, whether
/// it is the way up, and the path.
pub(crate) fn p0(change: impl Fn(usize, bool, &mut PathConfig)) -> Scenario {
    let mut scenario = table::p0_with_loss(0.0).expect("a shipped scenario");
    for (at, end) in scenario.receivers.iter_mut().enumerate() {
        let ReceiverEnd { up, down, .. } = end;
        for (way, is_up) in [(up, true), (down, false)] {
            let mut path = way.current().clone();
            change(at, is_up, &mut path);
            *way = path.into();
        }
    }
    scenario
}

pub(crate) fn windowed(window: u16) -> Options {
    Options { window, crc: window > 1, ..Options::default() }
}

/// Runs ours; no invariant may be violated.
pub(crate) fn ours(scenario: &Scenario, seed: u64, options: &Options) -> RunReport {
    let report = simulate_with(scenario, Program::default(), seed, options);
    assert_eq!(report.violation, None, "seed {seed}");
    report
}

/// From the first chunk to the last ack.
pub(crate) fn sending(report: &RunReport) -> Duration {
    report.elapsed.saturating_sub(report.measuring)
}
