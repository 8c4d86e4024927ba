//! What a running server says of itself, for status pages and logs.
//!
//! Snapshots: the server publishes one about every second, readers take the newest. No metric is
//! labelled with a transaction or an address (H54).

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
    /// All counters by name, the orchestrator's before the receivers'.
    pub counters: Vec<(&'static str, u64)>,
}

/// What a server did between its start and its end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The last snapshot.
    pub stats: Stats,
}
