//! Settings of the orchestrator's rules, with their defaults and what changing them costs.

use crate::wire::list::Entry;
use std::net::SocketAddr;
use std::time::Duration;

/// What an orchestrator may do and how much of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The receivers, in the order in which assignments name them.
    pub receivers: Vec<Entry>,
    /// The orchestrator's own addresses: datagrams that claim to come from them are dropped (H13).
    pub own: Vec<SocketAddr>,
    /// How many transactions may be open at a time; the other intents wait. Default: no limit.
    pub concurrency: Option<usize>,
    /// How many receivers one transaction gets, the least loaded first. Default: all that fit.
    pub hand_out: Option<usize>,
    /// How long the same assignment is given again to a client that asks again (F20). To an intent with a
    /// nonce for as long as it is there, unless this is zero.
    ///
    /// Default 120 s, which is right where `transaction_claimed` is called as soon as a receiver
    /// has seen data. An orchestrator that never hears of that needs a short time, see
    /// [`Config::STANDALONE_REPEAT`].
    pub repeat_window: Duration,
    /// How long a transaction counts as open after it was last heard of. Default 120 s.
    pub hold: Duration,
    /// How long an intent waits after it was last repeated: the client has given up by then.
    /// Default 120 s, the classic client's own limit.
    pub patience: Duration,
    /// How many intents wait at most. Default 4,096 (H44).
    pub queue: usize,
    /// How many of them from one IP address. Default 8; loopback may have `queue_per_prefix`.
    pub queue_per_source: usize,
    /// How many of them from one /24 or /56. Default 64.
    pub queue_per_prefix: usize,
    /// How many transactions are remembered at most. Default 16,384. Beyond it the oldest that
    /// nobody claimed is forgotten, which costs its client nothing but the repeat.
    pub live: usize,
    /// Whether receivers are asked each second if they are there and what they speak. Default
    /// no: receivers in the same process are there as long as the orchestrator is.
    pub probe: bool,
    /// Whether an operator has typed the receivers' capabilities: then a receiver is handed out
    /// before it has ever answered, and never with more than what was typed. Default no.
    pub typed: bool,
}

impl Config {
    /// The repeat window for an orchestrator that never learns whether a transaction has begun.
    ///
    /// A classic client that always binds the same port sends one file after another; with a long
    /// window its second file would be given the first one's transaction. 10 s is longer than
    /// any client waits before it repeats a lost intent.
    pub const STANDALONE_REPEAT: Duration = Duration::from_secs(10);

    /// The defaults, for these receivers.
    pub fn new(receivers: Vec<Entry>) -> Self {
        Self {
            receivers,
            own: Vec::new(),
            concurrency: None,
            hand_out: None,
            repeat_window: Duration::from_secs(120),
            hold: Duration::from_secs(120),
            patience: Duration::from_secs(120),
            queue: 4096,
            queue_per_source: 8,
            queue_per_prefix: 64,
            live: 16_384,
            probe: false,
            typed: false,
        }
    }

    /// The defaults for an orchestrator without receivers in the same process.
    pub fn standalone(receivers: Vec<Entry>) -> Self {
        Self { repeat_window: Self::STANDALONE_REPEAT, ..Self::new(receivers) }
    }
}
