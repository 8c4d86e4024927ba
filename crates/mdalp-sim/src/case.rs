//! A case: a world with faults, as a value that a line or a file can hold.
//!
//! The corpus is made of these. What a case must come to is [`crate::run`]'s business.

use crate::fault::{DiskFailure, Fault, Hostile};
use crate::setup::{
    Action, Attack, ClientSetup, Disk, Mode, Program, ServerSetup, Setup, Twin, Who,
};
use mdalp_netem::scenario::{OrchestratorEnd, ReceiverEnd};
use mdalp_netem::{FarEndConfig, Loss, PathConfig, Probability};
use mdalp_proto::completion::Retention;
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::TransferConfig;
use mdalp_proto::wire::{CLASSIC_CHUNK, Capabilities};
use mdalp_proto::{orchestrator, receiver};
use mdalp_store::Limits;
use mdalp_store::disk::mem::{Failure, Op};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When servers look through their stores.
const LOOKS_MS: [u64; 4] = [2_000, 10_000, 60_000, 300_000];

/// How clients spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// By latency.
    #[default]
    Latency,
    /// All to the first receiver.
    Single,
    /// By the measured rate of acks.
    Adaptive,
}

/// A world with faults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a file")]
pub struct Case {
    /// All chance in the run.
    pub seed: u64,
    /// What this case once broke, or shows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Bytes to send.
    pub payload: u64,
    /// Bytes in a chunk; where no large one arrives, small ones are tried.
    #[serde(skip_serializing_if = "is_classic")]
    pub chunk: u16,
    /// How they are spread.
    pub spread: Spread,
    /// The receivers' window; 1 is classic.
    pub window: u16,
    /// Whether receivers check and return CRCs.
    pub crc: bool,
    /// Whether receivers say whether the payload is whole; only with one log for all of them.
    pub seal: bool,
    /// Receivers that are to have each chunk.
    pub copies: u8,
    /// Clients.
    pub clients: u8,
    /// The receivers' round trips in milliseconds.
    pub round_trips_ms: Vec<u64>,
    /// One server process with one store, or one for each.
    pub together: bool,
    /// The segment log on a simulated disk, or an ideal store.
    pub log: bool,
    /// Other transactions come and go in the log, so that its segments are rewritten.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub churn: bool,
    /// Small quotas, so that floods reach them.
    pub tight: bool,
    /// How long the log keeps what nobody finished, and what is complete, in seconds; as servers do by
    /// default, if it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_s: Option<u64>,
    /// The log takes few transactions that nobody announced, and few ranges.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub crowd: bool,
    /// Bits that flip on each log's disk when all transfers are over.
    #[serde(skip_serializing_if = "is_zero")]
    pub rot: u8,
    /// When all is over, logs are opened again, every retention passes, and the payloads are read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub afterwards: bool,
    /// Whether a port without a process is reported.
    pub icmp: bool,
    /// The world goes on for this long after the last client.
    pub linger_ms: u64,
    /// When all faults end; never, if it is missing.
    pub heal_ms: Option<u64>,
    /// What is wrong.
    #[serde(rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            seed: 1,
            about: String::new(),
            payload: 5000,
            chunk: CLASSIC_CHUNK,
            spread: Spread::Latency,
            window: 1,
            crc: false,
            seal: false,
            copies: 1,
            clients: 1,
            round_trips_ms: vec![335, 163, 157],
            together: true,
            log: false,
            churn: false,
            tight: false,
            keep_s: None,
            crowd: false,
            rot: 0,
            afterwards: false,
            icmp: false,
            linger_ms: 0,
            heal_ms: None,
            faults: Vec::new(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u8) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_classic(chunk: &u16) -> bool {
    *chunk == CLASSIC_CHUNK
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// What is wrong and where, as text.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// As TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// The longest round trip without faults.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_millis(self.round_trips_ms.iter().copied().max().unwrap_or(0))
    }

    pub(crate) fn shortest_round_trip(&self) -> Duration {
        Duration::from_millis(self.round_trips_ms.iter().copied().min().unwrap_or(0))
    }

    fn path(&self, at: usize, up: bool, faulty: bool) -> PathConfig {
        let delay = Duration::from_millis(self.round_trips_ms[at]) / 2;
        let mut path = PathConfig { delay, ..PathConfig::default() };
        if faulty {
            self.faults.iter().for_each(|fault| fault.apply(&mut path, at as u8, up));
        }
        path
    }

    fn orchestrator_end(&self) -> OrchestratorEnd {
        let mut path = PathConfig { delay: Duration::from_millis(20), ..PathConfig::default() };
        for fault in &self.faults {
            if let Fault::OrchestratorLoss { rate } = *fault {
                path.loss = Loss { random: Probability::new(rate), ..Loss::default() };
            }
        }
        OrchestratorEnd { up: path.clone(), down: path, queue_delay: Duration::ZERO }
    }

    /// Quotas small enough that a flood of a few hundred datagrams reaches them.
    fn quotas(&self) -> (receiver::Config, orchestrator::Config) {
        let (receiver, orchestrator) =
            (receiver::Config::default(), orchestrator::Config::new(Vec::new()));
        if !self.tight {
            // More than any client needs, and a flood is soon beyond it.
            return (receiver::Config { ranges: 256, ..receiver }, orchestrator);
        }
        let receiver = receiver::Config {
            ranges: 64,
            ranges_total: 256,
            transactions: 32,
            per_source: 4,
            per_prefix: 8,
            ..receiver
        };
        let orchestrator = orchestrator::Config {
            queue: 32,
            queue_per_source: 4,
            queue_per_prefix: 8,
            live: 64,
            ..orchestrator
        };
        (receiver, orchestrator)
    }

    /// What a log takes, and for how long it keeps it.
    fn keeping(&self) -> (Limits, Retention) {
        let crowded = Limits { ranges: 48, unannounced: 4, ..Limits::NONE };
        let patience = self.keep_s.map(Duration::from_secs);
        let retention = Retention {
            assigned: patience.or(Retention::default().assigned),
            unannounced: patience,
            complete: patience,
            ..Retention::default()
        };
        (if self.crowd { crowded } else { Limits::NONE }, retention)
    }

    /// The world of this case, with a rule switched off if `twin` says so.
    pub fn setup(&self, twin: Option<Twin>) -> Setup {
        let receivers = self.round_trips_ms.len();
        let end = |n: usize| ReceiverEnd {
            name: format!("r{n}"),
            ping: Some(Duration::from_millis(self.round_trips_ms[n])),
            up: self.path(n, true, true).into(),
            down: self.path(n, false, true).into(),
            far_end: FarEndConfig::default().into(),
        };
        let mode = match self.spread {
            Spread::Latency => Mode::Latency,
            Spread::Single => Mode::Single(0),
            Spread::Adaptive => Mode::Adaptive,
        };
        let mut late_timers = Duration::ZERO;
        let mut commit = (Duration::ZERO, Duration::ZERO);
        for fault in &self.faults {
            match *fault {
                Fault::LateTimers { ms } => late_timers = Duration::from_millis(ms),
                Fault::SlowDisk { from_ms, to_ms } => {
                    commit = (Duration::from_millis(from_ms), Duration::from_millis(to_ms));
                }
                _ => {}
            }
        }
        let client = |n: u8| ClientSetup {
            program: Program::Mdalp(mode),
            start: at(37 * u64::from(n)),
            payload: self.payload,
            chunk: self.chunk,
            falls_back: true,
            late_timers,
            transfer: TransferConfig { copies: self.copies.into(), ..TransferConfig::default() },
            ..ClientSetup::default()
        };
        let (mut receiver, orchestrator) = self.quotas();
        let seal = self.seal && self.together && self.log;
        // Each store sees a share, and records what is stated of the whole.
        let record = self.seal && !self.together && self.log;
        receiver.seals = seal || record;
        let window = (self.window > 1).then_some(self.window);
        let chunk = (self.chunk > CLASSIC_CHUNK).then_some(self.chunk);
        let (limits, retention) = self.keeping();
        let servers = ServerSetup {
            together: self.together,
            disk: if self.log { Disk::Log(16 << 10) } else { Disk::Ideal },
            churn: self.churn && self.log,
            limits,
            retention,
            commit,
            caps: Capabilities {
                crc: self.crc,
                window,
                seal,
                record,
                chunk,
                ..Capabilities::default()
            },
            receiver,
            orchestrator,
            icmp: self.icmp,
            ..ServerSetup::default()
        };
        Setup {
            seed: self.seed,
            clients: (0..self.clients).map(client).collect(),
            orchestrator: self.orchestrator_end(),
            healthy: (0..receivers)
                .map(|n| (self.path(n, true, false), self.path(n, false, false)))
                .collect(),
            receivers: (0..receivers).map(end).collect(),
            servers,
            actions: self.actions(),
            horizon: at(24 * 3_600_000),
            linger: Duration::from_millis(self.linger_ms),
            rot: if self.log { self.rot } else { 0 },
            afterwards: self.afterwards && self.log,
            twin,
            keep_lines: 0,
            samples: false,
        }
    }

    fn actions(&self) -> Vec<(Instant, Action)> {
        let mut actions = Vec::new();
        for fault in &self.faults {
            self.add_actions(fault, &mut actions);
        }
        if let Some(heal) = self.heal_ms {
            let heal = at(heal);
            actions.retain(|(when, _)| *when < heal);
            actions.push((heal, Action::Heal));
        }
        if self.log && (self.keep_s.is_some() || self.afterwards) {
            // Between what else happens, servers look at what they hold.
            actions.extend(LOOKS_MS.map(|ms| (at(ms), Action::Look)));
        }
        actions
    }

    /// The processes are fewer when all is in one.
    fn server(&self, n: u8) -> usize {
        let count = if self.together { 1 } else { self.round_trips_ms.len() + 1 };
        usize::from(n) % count
    }

    fn add_actions(&self, fault: &Fault, actions: &mut Vec<(Instant, Action)>) {
        match *fault {
            Fault::Rebind { at_ms, every_ms, times } => {
                for n in 0..u64::from(times) {
                    actions.push((at(at_ms + n * every_ms.max(1)), Action::Rebind(0)));
                }
            }
            Fault::Kill { server, power, at_ms, down_ms } => {
                let server = self.server(server);
                actions.push((at(at_ms), Action::Kill { server, power }));
                if let Some(down) = down_ms {
                    actions.push((at(at_ms + down), Action::Start(server)));
                }
            }
            Fault::PauseClient { clock, at_ms, for_ms } => {
                let who = Who::Client(0);
                actions.push((at(at_ms), Action::Pause { who, clock }));
                actions.push((at(at_ms + for_ms), Action::Resume(who)));
            }
            Fault::CrashClient { at_ms, down_ms, lost } => {
                actions.push((at(at_ms), Action::CrashClient { client: 0, lost }));
                actions.push((at(at_ms + down_ms), Action::StartClient(0)));
            }
            Fault::PauseServer { server, at_ms, for_ms } => {
                let who = Who::Server(self.server(server));
                actions.push((at(at_ms), Action::Pause { who, clock: false }));
                actions.push((at(at_ms + for_ms), Action::Resume(who)));
            }
            Fault::FullDisk { server, bytes, at_ms, for_ms } => {
                let server = self.server(server);
                actions.push((at(at_ms), Action::Capacity(server, Some(bytes))));
                actions.push((at(at_ms + for_ms), Action::Capacity(server, None)));
            }
            Fault::BadDisk { server, what, at_ms, nth } => {
                let server = self.server(server);
                let (op, failure) = match what {
                    DiskFailure::Write => (Op::Write, Failure::Io),
                    DiskFailure::Sync => (Op::SyncData, Failure::Io),
                    DiskFailure::Directory => (Op::SyncDir, Failure::Io),
                    DiskFailure::Short => (Op::Write, Failure::Short(100)),
                    DiskFailure::NoSpace => (Op::Any, Failure::NoSpace),
                    DiskFailure::PowerCut => (Op::Any, Failure::PowerCut),
                };
                actions.push((at(at_ms), Action::DiskFails { server, op, nth, failure }));
            }
            Fault::Attack { what, every_ms } => {
                let attack = match what {
                    Hostile::Junk => Attack::Junk,
                    Hostile::Acks => Attack::Acks,
                    Hostile::Lists => Attack::Lists,
                    Hostile::Intents => Attack::Intents,
                    Hostile::Tids => Attack::Tids,
                    Hostile::Seqs => Attack::Seqs,
                };
                let every = Duration::from_secs_f64(every_ms.clamp(0.1, 1e6) / 1000.0);
                actions.push((Instant::ZERO, Action::Attack(attack, every)));
            }
            _ => {}
        }
    }
}
