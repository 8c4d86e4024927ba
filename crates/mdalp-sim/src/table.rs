//! Time and datagrams against loss: the golden table, and the goals of the reliability matrix, §2.2.
//!
//! Payload A (5,000 bytes) over P0, orchestrator left out: elapsed time counts from the assignment.

use crate::report::RunReport;
use crate::setup::Program;
use crate::simulate::{Options, simulate_with};
use crate::world::End;
use mdalp_netem::{Loss, P0_ROUND_TRIPS, PathConfig, Probability, Scenario};
use std::fmt;
use std::time::Duration;

/// Loss rates of the table, each way.
pub const LOSSES: [f64; 8] = [0.0, 0.01, 0.02, 0.05, 0.10, 0.20, 0.30, 0.50];

/// Windows and losses of all lines.
pub fn cells() -> impl Iterator<Item = (u16, f64)> {
    [1, 8].into_iter().flat_map(|window| LOSSES.map(|loss| (window, loss)))
}

/// One line of the table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// Chunks in flight to one receiver.
    pub window: u16,
    /// Loss each way.
    pub loss: f64,
    /// Transfers that completed, of all.
    pub complete: (usize, usize),
    /// Median time from the first chunk to the last ack.
    pub p50: Duration,
    /// The time that 99 of 100 transfers stay below.
    pub p99: Duration,
    /// Data datagrams of all transfers together, over the ideal (chunks / (1 − p)²).
    pub ratio: f64,
    /// Retransmission timeouts, mean of all transfers.
    pub timeouts: f64,
}

/// P0 with loss: payload A, no orchestrator delay.
pub fn p0_with_loss(loss: f64) -> Option<Scenario> {
    let mut scenario = Scenario::builtin("p0")?;
    for (end, round_trip) in scenario.receivers.iter_mut().zip(P0_ROUND_TRIPS) {
        let random = Probability::new(loss);
        let path =
            PathConfig { loss: Loss { random, ..Loss::default() }, ..PathConfig::p0(round_trip) };
        (end.up, end.down) = (path.clone().into(), path.into());
        end.ping = Some(round_trip);
    }
    Some(scenario)
}

/// Runs `seeds` transfers and sums them up.
pub fn measure(window: u16, loss: f64, seeds: u64) -> Option<Row> {
    let scenario = p0_with_loss(loss)?;
    let options = Options { window, crc: window > 1, ..Options::default() };
    let run = |seed| simulate_with(&scenario, Program::default(), seed, &options);
    let runs: Vec<RunReport> = (0..seeds).map(run).collect();
    let complete = runs.iter().filter(|run| run.end == End::Complete).count();
    let mut times: Vec<Duration> =
        runs.iter().map(|run| run.elapsed.saturating_sub(run.measuring)).collect();
    times.sort_unstable();
    let datagrams: u64 = runs.iter().map(|run| run.datagrams).sum();
    let chunks: u64 = runs.iter().map(|run| run.total_chunks).sum();
    let timeouts: u64 = runs.iter().map(|run| run.timeouts).sum();
    let ideal = chunks as f64 / ((1.0 - loss) * (1.0 - loss));
    let rank = |percent: usize| times.get((times.len() * percent / 100).min(times.len() - 1));
    Some(Row {
        window,
        loss,
        complete: (complete, runs.len()),
        p50: *rank(50)?,
        p99: *rank(99)?,
        ratio: datagrams as f64 / ideal,
        timeouts: timeouts as f64 / runs.len() as f64,
    })
}

/// Heading of the table.
pub const HEADING: &str = "window  loss  complete      p50      p99  datagrams/ideal  timeouts";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window, loss, complete: (done, of), p50, p99, ratio, timeouts } = self;
        let (p50, p99) = (p50.as_secs_f64(), p99.as_secs_f64());
        let percent = loss * 100.0;
        write!(
            f,
            "{window:>6} {percent:>4.0}% {done:>5}/{of:<4} {p50:>6.2} s {p99:>6.2} s {ratio:>16.3} {timeouts:>9.2}"
        )
    }
}
