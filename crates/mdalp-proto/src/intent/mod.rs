//! Asking the orchestrator for a transaction: the client's side of Types 0 and 1.
//!
//! Sends intents with backoff until the one assignment comes that counts: the first readable one
//! from the orchestrator's own address. Does not resolve names, judge the receivers' addresses or
//! draw random numbers.

use crate::ids::{OrchestratorAddr, TransactionId};
use crate::time::Instant;
use crate::wire::list::{Entry, ListError, MAX_ENTRIES, parse_up_to};
use crate::wire::{Message, decode, encode_intent};
use std::net::SocketAddr;
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
    /// Bytes to which every second intent is padded, so that an orchestrator sees that the answer
    /// is not much larger than the question; 0 never pads. Default 400. Every second only, because
    /// a strict classic orchestrator may know no intent but `Type:0;`.
    pub padding: usize,
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
}

/// The machine: asks until there is a result.
#[derive(Debug)]
pub struct Intent {
    config: IntentConfig,
    orchestrator: OrchestratorAddr,
    deadline: Instant,
    next_send: Instant,
    interval: Duration,
    to_send: bool,
    problem: Option<IntentError>,
    state: State,
    counters: IntentCounters,
}

#[derive(Debug)]
enum State {
    Asking,
    Finished(Result<Assignment, IntentError>),
    /// The result was handed out; whatever still arrives is late.
    Over,
}

impl Intent {
    /// Starts asking at `now`.
    pub fn new(now: Instant, config: IntentConfig, orchestrator: OrchestratorAddr) -> Self {
        let mut intent = Self {
            config,
            orchestrator,
            deadline: now + config.timeout,
            next_send: now,
            interval: config.first_interval,
            to_send: false,
            problem: None,
            state: State::Asking,
            counters: IntentCounters::default(),
        };
        intent.handle_timeout(now);
        intent
    }

    /// Takes a datagram. Anything but a readable assignment from the orchestrator changes nothing.
    pub fn handle_datagram(&mut self, _now: Instant, from: SocketAddr, datagram: &[u8]) {
        if !self.is_asking() {
            return;
        }
        if from != self.orchestrator.0 {
            self.counters.strangers += 1;
            return;
        }
        let most = self.config.max_receivers;
        let problem = match decode(datagram) {
            Ok(Message::Assignment { tid, list, .. }) => match parse_up_to(most, list) {
                Ok(receivers) if receivers.is_empty() => {
                    self.finish(Err(IntentError::NoReceivers));
                    return;
                }
                Ok(receivers) => {
                    self.finish(Ok(Assignment { tid, receivers }));
                    return;
                }
                Err(error @ (ListError::TooLong { .. } | ListError::TooMany(_))) => {
                    IntentError::TooManyReceivers(error)
                }
                Err(error) => IntentError::NotUnderstood(format!("receiver list: {error}")),
            },
            Ok(_) => IntentError::NotUnderstood("not an assignment".to_owned()),
            Err(error) => IntentError::NotUnderstood(error.to_string()),
        };
        self.counters.unreadable += 1;
        self.problem = Some(problem);
    }

    /// Sends what is due, or gives up. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_asking() {
            return;
        }
        if now >= self.deadline {
            let error = self.problem.take().unwrap_or(IntentError::NoAnswer);
            self.finish(Err(error));
        } else if now >= self.next_send {
            self.to_send = true;
            self.next_send = now + self.interval + self.jitter();
            self.interval = (self.interval * 2).min(self.config.max_interval);
        }
    }

    fn finish(&mut self, result: Result<Assignment, IntentError>) {
        self.to_send = false;
        self.state = State::Finished(result);
    }

    fn is_asking(&self) -> bool {
        matches!(self.state, State::Asking)
    }

    /// 0 to 25 % of the interval. One step of a linear congruential generator is chance enough.
    fn jitter(&mut self) -> Duration {
        let seed = &mut self.config.jitter_seed;
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.interval.mul_f64((*seed >> 40) as f64 / f64::from(1 << 24) / 4.0)
    }

    /// The next intent to send, written to `out`, and where to.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> Option<SocketAddr> {
        if !std::mem::take(&mut self.to_send) {
            return None;
        }
        encode_intent(out);
        self.counters.intents += 1;
        let padded = self.counters.intents.is_multiple_of(2);
        if let (true, Some(pad)) = (padded, self.config.padding.checked_sub(out.len() + 5)) {
            out.extend_from_slice(b"PAD:");
            out.resize(out.len() + pad, b'0');
            out.push(b';');
        }
        Some(self.orchestrator.0)
    }

    /// When to call [`Self::handle_timeout`] next; `None` once there is a result.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.is_asking().then(|| self.next_send.min(self.deadline))
    }

    /// The result, once.
    pub fn poll_event(&mut self) -> Option<Result<Assignment, IntentError>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Finished(result) => Some(result),
            state => {
                self.state = state;
                None
            }
        }
    }

    /// What was sent, and what was received and did not count.
    pub fn counters(&self) -> IntentCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests;
