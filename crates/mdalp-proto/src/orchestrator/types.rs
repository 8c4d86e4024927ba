//! What the orchestrator gives out: datagrams, events, counters.

use crate::counters::counters;
use crate::ids::TransactionId;
use crate::wire::Capabilities;
use std::net::SocketAddr;

/// A datagram to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// To the client that sent the intent.
    pub to: SocketAddr,
    /// The transaction that it assigns; `None` if it says that the intent waits.
    pub tid: Option<TransactionId>,
    /// The Type 1, or the Type 6.
    pub datagram: Vec<u8>,
}

/// What happened, for logs and for the shell's own records.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// An intent waits.
    Queued {
        /// The client.
        from: SocketAddr,
        /// Its place, from 1.
        position: usize,
    },
    /// A transaction was opened. The datagram that says so is given out after this.
    Assigned {
        /// The transaction.
        tid: TransactionId,
        /// The client.
        to: SocketAddr,
        /// The receivers, as indices of [`Config::receivers`](super::Config::receivers).
        receivers: Box<[u16]>,
    },
    /// An assignment that nobody had claimed was forgotten to make room. Its client may begin all the
    /// same, and gets another one if it asks again.
    Evicted {
        /// The transaction.
        tid: TransactionId,
        /// The client.
        to: SocketAddr,
    },
    /// An intent waited for longer than [`Config::patience`](super::Config::patience).
    IntentExpired {
        /// The client.
        from: SocketAddr,
    },
    /// A transaction was not heard of for its time, and no longer counts as open.
    Expired {
        /// The transaction.
        tid: TransactionId,
        /// Whether a receiver ever saw data of it.
        claimed: bool,
    },
    /// A receiver has answered a probe, for the first time or again.
    ReceiverAnswers {
        /// Its index in [`Config::receivers`](super::Config::receivers).
        index: u16,
        /// What it is handed out with.
        caps: Capabilities,
        /// Whether it was gone.
        back: bool,
    },
    /// A receiver that has answered probes answers no more, and is not handed out.
    ReceiverGone {
        /// Its index in [`Config::receivers`](super::Config::receivers).
        index: u16,
    },
    /// A receiver never answered a probe, and another one did.
    ReceiverSilent {
        /// Its index in [`Config::receivers`](super::Config::receivers).
        index: u16,
        /// Whether it is handed out all the same: [`Config::typed`](super::Config::typed).
        handed_out: bool,
    },
    /// No receiver answers probes: all are handed out as they were typed.
    NoReceiverAnswers,
}

counters! {
    /// What an orchestrator has done and dropped, and why.
    pub struct Counters {
        /// Intents read, repeated ones too.
        intents,
        /// Transactions opened.
        assigned,
        /// Intents from a client that waits already.
        repeated_waiting,
        /// Intents without a nonce beside one with a nonce from the same address: not taken for
        /// another client's.
        drop_beside_nonced,
        /// Assignments said again.
        repeated_answers,
        /// Repeats not answered because of the limits on answers to strangers.
        drop_repeat_limited,
        /// Intents dropped because the queue was full.
        drop_queue_full,
        /// Intents dropped because too many of the same address wait.
        drop_source_quota,
        /// Intents dropped because too many of the same prefix wait.
        drop_prefix_quota,
        /// Intents that waited too long.
        expired_intents,
        /// Transactions that lapsed unclaimed.
        expired_unclaimed,
        /// Transactions that lapsed after data was seen.
        expired_claimed,
        /// Unclaimed transactions forgotten to make room.
        evicted,
        /// Datagrams from addresses that cannot be answered.
        drop_bad_source,
        /// Datagrams that do not begin with `Type:`.
        drop_not_mdalp,
        /// Datagrams that cannot be read.
        drop_malformed,
        /// Messages that are not for an orchestrator.
        drop_unexpected,
    }
}
