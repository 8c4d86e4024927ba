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

/// §2.2: window and loss, then the goals for p50 and p99 in seconds.
const GOALS: [(u16, f64, f64, f64); 9] = [
    (1, 0.0, 4.0, 4.5),
    (1, 0.02, 5.0, 12.0),
    (1, 0.10, 10.0, 35.0),
    (1, 0.30, 40.0, 100.0),
    (1, 0.50, 300.0, f64::INFINITY),
    (8, 0.02, 1.0, 2.0),
    (8, 0.10, 1.7, 4.0),
    (8, 0.30, 5.0, 25.0),
    (8, 0.50, 60.0, 180.0),
];

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

impl Row {
    /// Whether everything is complete, datagrams are at most 1.10 × ideal (24), and the times are
    /// within the goals, with `room` times the goal for p99.
    pub fn meets_goals(&self, room: f64) -> bool {
        let goal = GOALS
            .iter()
            .find(|(window, loss, ..)| *window == self.window && (loss - self.loss).abs() < 1e-9);
        let in_time = goal.is_none_or(|(_, _, p50, p99)| {
            self.p50.as_secs_f64() <= *p50 && self.p99.as_secs_f64() <= p99 * room
        });
        in_time && self.complete.0 == self.complete.1 && self.ratio <= 1.10
    }
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
