//! One transfer through a scenario, in virtual time.

use crate::report::RunReport;
use crate::setup::{Mode, Program, Setup};
use crate::world::World;
use mdalp_netem::Scenario;
use mdalp_proto::intent::IntentConfig;
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::TransferConfig;
use mdalp_proto::wire::{CLASSIC_CHUNK, Capabilities};
use std::time::Duration;

/// What may differ between runs of the same scenario.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// Bytes to send; default: what the scenario says.
    pub payload: Option<u64>,
    /// The window that receivers advertise. Default 1: classic receivers.
    pub window: u16,
    /// Whether receivers advertise `crc`. Default no.
    pub crc: bool,
    /// Bytes in a chunk. Default 100.
    pub chunk: u16,
    /// Latencies in milliseconds by receiver, instead of what echoes show. Default: echoes.
    pub latencies: Option<Vec<f64>>,
    /// How the client asks.
    pub intent: IntentConfig,
    /// How patient the client is.
    pub transfer: TransferConfig,
    /// How long the transfer may take from the assignment on. Default: no limit.
    pub deadline: Option<Duration>,
    /// When the run is cut off, because the original may go on for ever. Default 1 h.
    pub horizon: Duration,
    /// Whether to record every transmission and ack. Default no.
    pub samples: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            payload: None,
            window: 1,
            crc: false,
            chunk: CLASSIC_CHUNK,
            latencies: None,
            intent: IntentConfig::default(),
            transfer: TransferConfig::default(),
            deadline: None,
            horizon: Duration::from_secs(3600),
            samples: false,
        }
    }
}

/// Runs one transfer of ours through `scenario`, with all chance drawn from `seed`, and the default
/// [`Options`].
///
/// ```
/// use mdalp_netem::Scenario;
/// use mdalp_sim::{End, Mode, simulate};
/// let p0 = Scenario::builtin("p0").unwrap();
/// let report = simulate(&p0, Mode::Latency, 7);
/// assert_eq!((report.end, report.datagrams), (End::Complete, 51));
/// ```
pub fn simulate(scenario: &Scenario, mode: Mode, seed: u64) -> RunReport {
    simulate_with(scenario, Program::Mdalp(mode), seed, &Options::default())
}

/// Runs one transfer of `program` through `scenario`, with all chance drawn from `seed`.
pub fn simulate_with(
    scenario: &Scenario,
    program: Program,
    seed: u64,
    options: &Options,
) -> RunReport {
    let mut setup = Setup::of(scenario, seed);
    setup.horizon = Instant::ZERO + options.horizon;
    setup.samples = options.samples;
    let window = (options.window > 1).then_some(options.window);
    setup.servers.caps = Capabilities { crc: options.crc, window, ..Capabilities::default() };
    let client = &mut setup.clients[0];
    client.program = program;
    client.payload = options.payload.unwrap_or(client.payload);
    client.chunk = options.chunk;
    client.latencies.clone_from(&options.latencies);
    client.intent = options.intent;
    client.transfer = options.transfer;
    client.deadline = options.deadline;
    let mut world = World::new(setup);
    world.run();
    world.report(0)
}
