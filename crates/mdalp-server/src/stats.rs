//! What a running server says of itself, for status pages and logs.
//!
//! Snapshots: the server publishes one about every second, readers take the newest. No metric is
//! labelled with a transaction or an address (H54).

use mdalp_proto::{orchestrator, receiver};
use tokio::sync::watch;

/// Where a server publishes its [`Stats`].
pub type StatsSender = watch::Sender<Stats>;

/// A place to publish to and one to read from.
pub fn channel() -> (StatsSender, watch::Receiver<Stats>) {
    watch::channel(Stats::default())
}

/// A server at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Whether it takes datagrams by now.
    pub ready: bool,
    /// Intents that wait for an assignment.
    pub queued: usize,
    /// Transactions that the orchestrator counts as open.
    pub live: usize,
    /// Transactions that the receivers hold in memory.
    pub receiving: usize,
    /// Transactions closed with a receipt since the start.
    pub closed: u64,
    /// Transactions released because they never became whole.
    pub expired: u64,
    /// Bytes of chunks that the store has not confirmed yet.
    pub pending_bytes: usize,
    /// Datagrams that the system did not take for sending.
    pub unsent: u64,
    /// Datagrams that the system dropped because a receive buffer was full, 0 where it does not tell;
    /// and those that one shard had for another that had no room for them.
    pub dropped: u64,
    /// What the orchestrator has counted, if there is one.
    pub orchestrator: Option<orchestrator::Counters>,
    /// What the receivers have counted, if there are any.
    pub receivers: Option<receiver::Counters>,
}

impl Stats {
    /// Adds what another shard of the same receivers says of itself.
    pub(crate) fn add(&mut self, shard: &Self) {
        self.ready &= shard.ready;
        self.receiving += shard.receiving;
        self.closed += shard.closed;
        self.expired += shard.expired;
        self.pending_bytes += shard.pending_bytes;
        self.unsent += shard.unsent;
        self.dropped += shard.dropped;
        if let (Some(all), Some(one)) = (&mut self.receivers, shard.receivers) {
            *all += one;
        }
    }

    /// All counters of the machines: whose, its name, its value.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let orchestrator = self.orchestrator.iter().flat_map(orchestrator::Counters::iter);
        let receivers = self.receivers.iter().flat_map(receiver::Counters::iter);
        orchestrator
            .map(|(name, value)| ("orchestrator", name, value))
            .chain(receivers.map(|(name, value)| ("receivers", name, value)))
    }
}

/// What a server did between its start and its end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The last snapshot.
    pub stats: Stats,
}
