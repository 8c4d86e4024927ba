//! What is in a world before its clock starts. Values only.

use mdalp_netem::scenario::{OrchestratorEnd, ReceiverEnd};
use mdalp_netem::{PathConfig, Scenario};
use mdalp_proto::completion::Retention;
use mdalp_proto::intent::IntentConfig;
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::TransferConfig;
use mdalp_proto::wire::{CLASSIC_CHUNK, Capabilities};
use mdalp_proto::{orchestrator, receiver};
use mdalp_store::Limits;
use mdalp_store::disk::mem::{Failure, Op};
use std::time::Duration;

/// How a client spreads its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// By latency: the classic mode 1.
    #[default]
    Latency,
    /// All to one receiver, by its place in the list from 0: the classic mode 2.
    Single(usize),
    /// By the measured rate of acks: mode 3.
    Adaptive,
}

/// Which program sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// Ours.
    Mdalp(Mode),
    /// A model of the published Python client, balancing by latency or sending to one receiver.
    Original(Option<usize>),
}

impl Default for Program {
    fn default() -> Self {
        Self::Mdalp(Mode::default())
    }
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// Which program it is.
    pub program: Program,
    /// When it starts.
    pub start: Instant,
    /// Bytes to send.
    pub payload: u64,
    /// Bytes in a chunk.
    pub chunk: u16,
    /// Whether it tries small chunks where no large one arrives.
    pub falls_back: bool,
    /// No larger window than this is used.
    pub window: u16,
    /// How it asks.
    pub intent: IntentConfig,
    /// How patient it is; its deadline counts from the assignment.
    pub transfer: TransferConfig,
    /// How long the whole transfer may take from the assignment on.
    pub deadline: Option<Duration>,
    /// Latencies in milliseconds by receiver, instead of what echoes show.
    pub latencies: Option<Vec<f64>>,
    /// Its timers fire late by up to this (F33).
    pub late_timers: Duration,
}

impl Default for ClientSetup {
    fn default() -> Self {
        Self {
            program: Program::default(),
            start: Instant::ZERO,
            payload: 5000,
            chunk: CLASSIC_CHUNK,
            falls_back: false,
            window: mdalp_proto::wire::caps::MAX_WINDOW,
            intent: IntentConfig::default(),
            transfer: TransferConfig::default(),
            deadline: None,
            latencies: None,
            late_timers: Duration::ZERO,
        }
    }
}

/// What a store is kept on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Disk {
    /// A map in memory that survives everything: a store without faults of its own.
    #[default]
    Ideal,
    /// The segment log on a simulated disk, with segments of so many bytes.
    Log(u64),
}

/// The servers.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct ServerSetup {
    /// Whether all run in one process with one store, or each in its own.
    pub together: bool,
    /// What the stores are kept on.
    pub disk: Disk,
    /// Whether other transactions come and go in a log.
    pub churn: bool,
    /// What a log takes.
    pub limits: Limits,
    /// How long it keeps it.
    pub retention: Retention,
    /// How long a commit takes, from and to.
    pub commit: (Duration, Duration),
    /// Whether every commit of a log is followed by a look at what a power cut would leave.
    pub paranoid: bool,
    /// What receivers advertise.
    pub caps: Capabilities,
    /// The receivers' rules.
    pub receiver: receiver::Config,
    /// The orchestrator's rules; its receivers are filled in.
    pub orchestrator: orchestrator::Config,
    /// Whether a port without a process is reported to the client (ICMP).
    pub icmp: bool,
    /// How long a process that ended by itself stays down.
    pub restart_after: Duration,
}

impl Default for ServerSetup {
    fn default() -> Self {
        Self {
            together: true,
            disk: Disk::Ideal,
            churn: false,
            limits: Limits::NONE,
            retention: Retention::default(),
            commit: (Duration::ZERO, Duration::ZERO),
            paranoid: false,
            caps: Capabilities::default(),
            receiver: receiver::Config::default(),
            orchestrator: orchestrator::Config::new(Vec::new()),
            icmp: false,
            restart_after: Duration::from_secs(1),
        }
    }
}

/// Whom an action befalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// A client.
    Client(usize),
    /// A server process: 0 has the orchestrator; with servers apart, n has receiver n − 1.
    Server(usize),
}

/// What happens at a given moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// The client's address changes: the NAT in front of it forgot it.
    Rebind(usize),
    /// A client dies, and its journal loses its last acks.
    CrashClient {
        /// Which.
        client: usize,
        /// How many acks.
        lost: u64,
    },
    /// It is started again, and goes on with its send.
    StartClient(usize),
    /// A server process dies; with `power`, its machine does.
    Kill {
        /// Which.
        server: usize,
        /// Whether unflushed writes are at the mercy of chance.
        power: bool,
    },
    /// It is started again.
    Start(usize),
    /// SIGSTOP; with `clock`, the whole machine sleeps and its monotonic clock stands still.
    Pause {
        /// Whom.
        who: Who,
        /// Whether its clock stands still.
        clock: bool,
    },
    /// SIGCONT.
    Resume(Who),
    /// The `nth` next operation of the server's disk fails.
    DiskFails {
        /// Which.
        server: usize,
        /// What kind of operation.
        op: Op,
        /// Counted from 0.
        nth: u64,
        /// How.
        failure: Failure,
    },
    /// The server's disk has room for so many bytes from now on.
    Capacity(usize, Option<u64>),
    /// Commits take from now on from this to that.
    Commit(Duration, Duration),
    /// Every server looks through its store, as servers do now and then.
    Look,
    /// Somebody begins to send what nobody asked for, one datagram every so often.
    Attack(Attack, Duration),
    /// All faults end: paths without loss, all processes up, disks well, nobody hostile.
    Heal,
}

/// What hostile parties send.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Attack {
    /// Broken and misplaced messages, to everybody.
    Junk,
    /// Acks to the client: from strangers, of other transactions, of chunks never sent.
    Acks,
    /// Assignments to the client from addresses that are not the orchestrator's.
    Lists,
    /// Intents from many sources.
    Intents,
    /// Chunks of many transactions.
    Tids,
    /// Chunks of one transaction with every second number.
    Seqs,
}

/// A rule of the implementation that is switched off, to see whether anybody notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Twin {
    /// Nothing is ever sent twice.
    NoRetransmission,
    /// The store takes a chunk again that it has.
    NoDeduplication,
    /// A duplicate ack makes the client send again.
    AnswersDuplicateAcks,
    /// Acks leave before the append is durable.
    AckBeforeCommit,
    /// The retransmission timeout never grows.
    NoBackoff,
    /// Servers have no quotas.
    NoLimits,
    /// The store writes and does not flush.
    NoFlush,
    /// A silent receiver's chunks stay with it.
    NoReassignment,
    /// The orchestrator forgets at once whom it has answered.
    NoRepeats,
    /// A store that sees a share takes it for all there is.
    ShareTakenForWhole,
    /// A crowded store makes room.
    CrowdingDeletes,
    /// Nothing is kept for longer than a tenth of its time.
    ReleasesEarly,
    /// Assigned transactions begin without a record of it.
    NoBegin,
}

impl Twin {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 13] = [
        ("no-retransmission", Self::NoRetransmission),
        ("no-deduplication", Self::NoDeduplication),
        ("answers-duplicate-acks", Self::AnswersDuplicateAcks),
        ("ack-before-commit", Self::AckBeforeCommit),
        ("no-backoff", Self::NoBackoff),
        ("no-limits", Self::NoLimits),
        ("no-flush", Self::NoFlush),
        ("no-reassignment", Self::NoReassignment),
        ("no-repeats", Self::NoRepeats),
        ("share-taken-for-whole", Self::ShareTakenForWhole),
        ("crowding-deletes", Self::CrowdingDeletes),
        ("releases-early", Self::ReleasesEarly),
        ("no-begin", Self::NoBegin),
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, twin)| twin)
    }
}

/// A world before its clock starts.
#[derive(Clone, Debug)]
pub struct Setup {
    /// All chance follows from it.
    pub seed: u64,
    /// The clients; at most 200.
    pub clients: Vec<ClientSetup>,
    /// The orchestrator's end of the paths.
    pub orchestrator: OrchestratorEnd,
    /// The receivers' ends; at most 200.
    pub receivers: Vec<ReceiverEnd>,
    /// The servers.
    pub servers: ServerSetup,
    /// What happens when, in the order of time.
    pub actions: Vec<(Instant, Action)>,
    /// How the paths are after [`Action::Heal`], by receiver, up and down.
    pub healthy: Vec<(PathConfig, PathConfig)>,
    /// The run is cut off here.
    pub horizon: Instant,
    /// How long the world goes on after the last client has ended.
    pub linger: Duration,
    /// Bits that flip on each log's disk when the clients have ended.
    pub rot: u8,
    /// Whether logs are opened again then, every retention passes, and the payloads are read.
    pub afterwards: bool,
    /// What is switched off.
    pub twin: Option<Twin>,
    /// Lines of the event log to keep.
    pub keep_lines: usize,
    /// Whether to record every transmission and ack.
    pub samples: bool,
}

impl Setup {
    /// One client of the default settings in the network of `scenario`.
    pub fn of(scenario: &Scenario, seed: u64) -> Self {
        let client = ClientSetup { payload: scenario.payload_bytes, ..ClientSetup::default() };
        let healthy = |end: &ReceiverEnd| (end.up.current().clone(), end.down.current().clone());
        Self {
            seed,
            clients: vec![client],
            orchestrator: scenario.orchestrator.clone(),
            healthy: scenario.receivers.iter().map(healthy).collect(),
            receivers: scenario.receivers.clone(),
            servers: ServerSetup::default(),
            actions: Vec::new(),
            horizon: Instant::from_millis(24 * 3_600_000),
            linger: Duration::ZERO,
            rot: 0,
            afterwards: false,
            twin: None,
            keep_lines: 0,
            samples: false,
        }
    }
}
