//! Comparison of ways to send: ours, one server alone, somebody else's client.
//!
//! Every way meets the same networks with the same seeds. In real time every client, ours too, is a
//! process of its own inside a lab and is measured from outside, by the relay; in virtual time the
//! simulator runs it. What comes out is raw samples; tables and pictures are views of them. Judges
//! nothing.

mod bounds;
mod chart;
mod html;
mod real;
mod simulated;
mod stats;
mod table;

use std::time::Duration;

use mdalp_netem::Scenario;
use serde::Serialize;

use crate::flow::PointKind;

pub use bounds::Bounds;
pub use chart::ChartError;
pub use html::html;
pub use real::{RealTime, measure};
pub use simulated::simulate;
pub use stats::{Ratio, Summary};
pub use table::{csv, markdown};

/// A way to send a payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// Over all receivers, in proportion to 1/latency.
    Balanced,
    /// All to one receiver, by its place in the list from 1.
    Single(usize),
    /// Over all receivers, by the measured rate of their acks.
    Adaptive,
    /// The simulator's model of the original client: balanced, or to one receiver. Has no meaning in
    /// real time, where the original itself can be run.
    Original(Option<usize>),
    /// Somebody's program.
    Client {
        /// What it is called in the report.
        name: String,
        /// A command for `sh`, with `{addr}`, `{port}` and `{file}` to be filled in.
        command: String,
    },
}

impl Way {
    /// What it is called in the report and on the command line.
    pub fn name(&self) -> String {
        match self {
            Self::Balanced => "balanced".to_owned(),
            Self::Single(place) => format!("single-{place}"),
            Self::Adaptive => "adaptive".to_owned(),
            Self::Original(None) => "original".to_owned(),
            Self::Original(Some(place)) => format!("original-single-{place}"),
            Self::Client { name, .. } => name.clone(),
        }
    }

    /// The one receiver that it sends to, from 1.
    pub const fn server(&self) -> Option<usize> {
        match self {
            Self::Single(place) | Self::Original(Some(place)) => Some(*place),
            _ => None,
        }
    }
}

/// What to compare.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The networks.
    pub scenarios: Vec<Scenario>,
    /// The ways, in the order of the report.
    pub ways: Vec<Way>,
    /// Runs of each way in each network; run N has seed `seed + N − 1`.
    pub runs: u64,
    /// The first seed; `None` is each scenario's own.
    pub seed: Option<u64>,
    /// A run that takes longer has failed.
    pub deadline: Duration,
}

impl Plan {
    /// All runs: the way's index, the scenario's index and the seed. Every way that a scenario has a
    /// receiver for.
    fn cases(&self) -> impl Iterator<Item = Case> + '_ {
        self.scenarios.iter().enumerate().flat_map(move |(scenario, network)| {
            let fits = |way: &&Way| way.server().is_none_or(|at| at <= network.receivers.len());
            let seed = self.seed.unwrap_or(network.seed);
            (0..self.runs).flat_map(move |run| {
                let seed = seed.wrapping_add(run);
                let ways = self.ways.iter().filter(fits);
                ways.map(move |way| Case { scenario, way: way.clone(), seed, run })
            })
        })
    }
}

/// One run that is to be made.
#[derive(Clone, PartialEq, Debug)]
struct Case {
    scenario: usize,
    way: Way,
    seed: u64,
    /// From 0.
    run: u64,
}

/// One run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Sample {
    /// The scenario's name.
    pub scenario: String,
    /// The way's name.
    pub way: String,
    /// The receiver that alone was sent to, from 1.
    pub server: Option<usize>,
    /// The seed of all chance.
    pub seed: u64,
    /// Why it failed; `None` if every byte arrived.
    pub failed: Option<String>,
    /// From the assignment to the last ack. Of a failed run it says nothing.
    pub elapsed_s: f64,
    /// Chunks sent again; what a classic client calls timeouts.
    pub retransmissions: u64,
    /// Data datagrams sent.
    pub datagrams: u64,
    /// Chunks acknowledged.
    pub chunks: u64,
}

/// What happened when in one run, for a time–sequence diagram.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Trace {
    /// The scenario's name.
    pub scenario: String,
    /// The way's name.
    pub way: String,
    /// The seed of all chance.
    pub seed: u64,
    /// Names of the receivers.
    pub receivers: Vec<String>,
    /// In the order of time.
    pub points: Vec<TracePoint>,
}

/// A point of a [`Trace`].
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct TracePoint {
    /// Since the assignment.
    pub at_s: f64,
    /// Index of the receiver.
    pub receiver: usize,
    /// The chunk.
    pub seq: u64,
    /// `sent`, `resent` or `acked`.
    pub kind: &'static str,
}

impl TracePoint {
    fn new(at: Duration, receiver: usize, seq: u64, kind: PointKind) -> Self {
        let kind = match kind {
            PointKind::Sent => "sent",
            PointKind::Resent => "resent",
            PointKind::Acked => "acked",
        };
        Self { at_s: at.as_secs_f64(), receiver, seq, kind }
    }
}

/// A network as the report shows it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Network {
    /// The scenario's name.
    pub name: String,
    /// What it shows.
    pub description: String,
    /// Bytes sent in each run.
    pub payload_bytes: u64,
    /// The first seed.
    pub first_seed: u64,
    /// The receivers' names.
    pub receivers: Vec<String>,
    /// What ping shows, in milliseconds; `None` if it shows no answer.
    pub ping_ms: Vec<Option<f64>>,
    /// What theory allows.
    pub bounds: Bounds,
}

/// Everything that a report says.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// Version of this program.
    pub version: String,
    /// The command that made the report.
    pub command: String,
    /// Whether time was virtual.
    pub simulated: bool,
    /// Runs of each way in each network.
    pub runs: u64,
    /// A run that took longer has failed, in seconds.
    pub deadline_s: f64,
    /// The way that others are compared with.
    pub reference: String,
    /// The networks.
    pub networks: Vec<Network>,
    /// The ways' names, in order, and the receiver that each is bound to.
    pub ways: Vec<(String, Option<usize>)>,
    /// Every run.
    pub samples: Vec<Sample>,
    /// The first run of each way in each network.
    pub traces: Vec<Trace>,
}

impl Comparison {
    /// A report of `plan` without its runs.
    pub fn new(plan: &Plan, simulated: bool, reference: String, command: String) -> Self {
        let network = |scenario: &Scenario| Network {
            name: scenario.name.clone(),
            description: scenario.description.clone(),
            payload_bytes: scenario.payload_bytes,
            first_seed: plan.seed.unwrap_or(scenario.seed),
            receivers: scenario.receivers.iter().map(|receiver| receiver.name.clone()).collect(),
            ping_ms: scenario.receivers.iter().map(|receiver| receiver.ping.map(millis)).collect(),
            bounds: Bounds::of(scenario),
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command,
            simulated,
            runs: plan.runs,
            deadline_s: plan.deadline.as_secs_f64(),
            reference,
            networks: plan.scenarios.iter().map(network).collect(),
            ways: plan.ways.iter().map(|way| (way.name(), way.server())).collect(),
            samples: Vec::new(),
            traces: Vec::new(),
        }
    }

    /// The samples of a way in a network, by seed.
    pub fn samples_of(&self, network: &str, way: &str) -> Vec<&Sample> {
        let of = |sample: &&Sample| sample.scenario == network && sample.way == way;
        let mut samples: Vec<_> = self.samples.iter().filter(of).collect();
        samples.sort_by_key(|sample| sample.seed);
        samples
    }

    /// How a way compares with the reference in a network; `None` without a common complete run.
    pub fn ratio(&self, network: &str, way: &str) -> Option<Ratio> {
        let reference = self.samples_of(network, &self.reference);
        Ratio::between(&self.samples_of(network, way), &reference)
    }

    /// Puts samples and traces in the order of the plan, whatever order they came in.
    fn sort(&mut self) {
        let place = |scenario: &str, way: &str| {
            let network = self.networks.iter().position(|network| network.name == scenario);
            (network, self.ways.iter().position(|(name, _)| name == way))
        };
        let mut samples = std::mem::take(&mut self.samples);
        samples.sort_by_key(|sample| (place(&sample.scenario, &sample.way), sample.seed));
        let mut traces = std::mem::take(&mut self.traces);
        traces.sort_by_key(|trace| (place(&trace.scenario, &trace.way), trace.seed));
        (self.samples, self.traces) = (samples, traces);
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests;
