//! Settings, results and notices of asking for a transaction.

use crate::ids::{Nonce, TransactionId};
use crate::wire::list::{Entry, ListError, MAX_ENTRIES};
use std::time::Duration;

/// How long to ask, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IntentConfig {
    /// When to give up. Default 120 s: queues are long, and the original waits this long.
    pub timeout: Duration,
    /// The first interval between two intents; the next are twice as long. Default 1 s.
    pub first_interval: Duration,
    /// No interval is longer. Default 30 s.
    pub max_interval: Duration,
    /// Bytes to which intents with a nonce are padded, so that an orchestrator sees that the answer is
    /// not much larger than the question; 0 never pads. Default 400. Every second intent is `Type:0;`
    /// alone, because a strict classic orchestrator may know no other, until this one is known to
    /// echo. Without a nonce every second one is padded.
    pub padding: usize,
    /// What tells this intent from every other one: 64 random bits, fresh for each. Default
    /// none, which is the classic intent: then the first assignment from the orchestrator's address
    /// counts, whoever sent it.
    pub nonce: Option<Nonce>,
    /// Whether only an assignment that echoes the nonce counts, from the beginning. For orchestrators
    /// that are known to echo. Default no; means nothing without a nonce.
    pub require_echo: bool,
    /// How long an assignment without an echo is held, in which one with an echo wins. Default 300 ms.
    pub grace: Duration,
    /// Chance, as a number: each interval is stretched by 0 to 25 % drawn from it, so that clients
    /// that start together do not ask together. Default 0, which is a draw like any other.
    pub jitter_seed: u64,
    /// The most receivers that a list may name. Default [`MAX_ENTRIES`], and at most
    /// [`MOST_ENTRIES`](crate::wire::list::MOST_ENTRIES).
    pub max_receivers: usize,
}

impl Default for IntentConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            first_interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(30),
            padding: 400,
            nonce: None,
            require_echo: false,
            grace: Duration::from_millis(300),
            jitter_seed: 0,
            max_receivers: MAX_ENTRIES,
        }
    }
}

/// The orchestrator's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// The transaction.
    pub tid: TransactionId,
    /// The receivers in the orchestrator's order; never empty. Their addresses are not judged yet.
    pub receivers: Vec<Entry>,
}

/// Why there is no assignment.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntentError {
    /// Nothing came from the orchestrator's address.
    #[error("no answer from the orchestrator")]
    NoAnswer,
    /// Something came from it, but no assignment.
    #[error("the orchestrator's answer could not be understood: {0}")]
    NotUnderstood(String),
    /// What came from it may be an assignment, but of more than [`IntentConfig::max_receivers`].
    #[error("the orchestrator's answer could not be understood: {0}")]
    TooManyReceivers(ListError),
    /// Assignments came, but none that echoes the nonce, as this orchestrator does.
    #[error("no assignment that echoes the nonce")]
    NotEchoed,
    /// Three intents in a row found nobody at the orchestrator's port, as the system says.
    #[error("nobody listens at the orchestrator's port")]
    Refused,
    /// The intent was waiting in the orchestrator's queue when the time was over.
    #[error("still waiting, at place {position}")]
    StillWaiting {
        /// Its place, as it was said last.
        position: u64,
    },
    /// An assignment without receivers.
    #[error("the orchestrator has no receivers")]
    NoReceivers,
}

/// What was received and did not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IntentCounters {
    /// Intents sent.
    pub intents: u64,
    /// Datagrams from other addresses than the orchestrator's (H29).
    pub strangers: u64,
    /// Datagrams from the orchestrator that are no readable assignment.
    pub unreadable: u64,
    /// Assignments from the orchestrator's address that lack the echo they would have if it had sent
    /// them.
    pub unechoed: u64,
    /// Whether the orchestrator echoes: it has read an intent of this client.
    pub echoed: bool,
}

/// What the user may want to know before there is a result.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// The intent waits.
    Queued {
        /// Its place, from 1.
        position: u64,
    },
    /// There are two different assignments for one intent: one of them may be forged.
    Conflict {
        /// The one that came first.
        first: Assignment,
        /// The other one.
        second: Assignment,
        /// Whether the second one echoes the nonce: then it is taken, else the first one.
        echoed: bool,
    },
}
