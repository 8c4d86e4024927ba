//! Asking the orchestrator for a transaction: the client's side of Types 0, 1 and 6.
//!
//! Sends intents with backoff until the one assignment comes that counts. An assignment that echoes the
//! intent's nonce counts at once: whoever sent it has read the intent. One without an echo counts
//! only while the orchestrator is not known to echo, and after a short time in which an echo wins. Does
//! not resolve names, judge the receivers' addresses, remember orchestrators or draw random numbers.

mod types;

pub use types::{Assignment, IntentConfig, IntentCounters, IntentError, Notice};

use crate::ids::{Nonce, OrchestratorAddr};
use crate::time::Instant;
use crate::wire::list::{ListError, parse_up_to};
use crate::wire::{Message, decode, encode_intent, encode_nonced_intent, encode_padded_intent};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// So many intents that found nobody at the orchestrator's port are enough.
const REFUSALS: u32 = 3;

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
    /// Whether an echo or a Type 6 came: then this orchestrator echoes always.
    echoes: bool,
    /// The first assignment without an echo, and when it counts.
    held: Option<(Found, Instant)>,
    /// Intents in a row that found nobody, and the number of the last of them.
    refusals: u32,
    last_refused: u64,
    /// The last place in the queue that it said.
    position: Option<u64>,
    /// Whether a conflict was said: a flood of forged lists is one.
    conflict: bool,
    notices: VecDeque<Notice>,
    counters: IntentCounters,
}

/// An assignment, or an empty one.
type Found = Result<Assignment, IntentError>;

#[derive(Debug)]
enum State {
    Asking,
    Finished(Found),
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
            echoes: config.nonce.is_some() && config.require_echo,
            held: None,
            refusals: 0,
            last_refused: 0,
            position: None,
            conflict: false,
            notices: VecDeque::new(),
            counters: IntentCounters::default(),
        };
        intent.handle_timeout(now);
        intent
    }

    /// Takes a datagram. Anything but a message from the orchestrator changes nothing.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if !self.is_asking() {
            return;
        }
        if from != self.orchestrator.0 {
            self.counters.strangers += 1;
            return;
        }
        self.refusals = 0;
        let most = self.config.max_receivers;
        let problem = match decode(datagram) {
            Ok(Message::Assignment { tid, nonce, list }) => match parse_up_to(most, list) {
                Ok(receivers) => return self.found(now, nonce, Assignment { tid, receivers }),
                Err(error @ (ListError::TooLong { .. } | ListError::TooMany(_))) => {
                    IntentError::TooManyReceivers(error)
                }
                Err(error) => IntentError::NotUnderstood(format!("receiver list: {error}")),
            },
            Ok(Message::Queued { nonce, position }) if self.config.nonce == Some(nonce) => {
                self.echo_seen();
                self.position = Some(position);
                self.notices.push_back(Notice::Queued { position });
                return;
            }
            Ok(_) => IntentError::NotUnderstood("not an assignment".to_owned()),
            Err(error) => IntentError::NotUnderstood(error.to_string()),
        };
        self.counters.unreadable += 1;
        self.problem = Some(problem);
    }

    /// Judges a list by its echo.
    fn found(&mut self, now: Instant, nonce: Option<Nonce>, assignment: Assignment) {
        let found = if assignment.receivers.is_empty() {
            Err(IntentError::NoReceivers)
        } else {
            Ok(assignment)
        };
        if self.config.nonce.is_none() {
            return self.finish(found);
        }
        if nonce == self.config.nonce {
            if let (Some((Ok(held), _)), Ok(echoed)) = (self.held.take(), &found)
                && held != *echoed
            {
                let second = echoed.clone();
                self.conflict(Notice::Conflict { first: held, second, echoed: true });
            }
            self.counters.echoed = true;
            return self.finish(found);
        }
        if nonce.is_some() || self.echoes {
            self.counters.unechoed += 1;
            self.problem = Some(IntentError::NotEchoed);
            return;
        }
        match (&self.held, found) {
            (None, found) => self.held = Some((found, now + self.config.grace)),
            // Who names receivers has more to say than who names none.
            (Some((Err(_), until)), found @ Ok(_)) => self.held = Some((found, *until)),
            (Some((Ok(held), _)), Ok(second)) if *held != second => {
                let first = held.clone();
                self.conflict(Notice::Conflict { first, second, echoed: false });
            }
            _ => {}
        }
    }

    fn conflict(&mut self, notice: Notice) {
        if !std::mem::replace(&mut self.conflict, true) {
            self.notices.push_back(notice);
        }
    }

    /// From now on an assignment without an echo is not the orchestrator's.
    fn echo_seen(&mut self) {
        self.counters.echoed = true;
        self.echoes = true;
        if self.held.take().is_some() {
            self.counters.unechoed += 1;
            self.problem = Some(IntentError::NotEchoed);
        }
    }

    /// Takes the system's word that nobody listens at `by`. After three intents in a row that found
    /// nobody there, it is given up.
    pub fn handle_unreachable(&mut self, by: SocketAddr) {
        let known = self.counters.intents == self.last_refused;
        if !self.is_asking() || by != self.orchestrator.0 || known {
            return;
        }
        self.last_refused = self.counters.intents;
        self.refusals += 1;
        if self.refusals >= REFUSALS && self.held.is_none() {
            self.finish(Err(IntentError::Refused));
        }
    }

    /// Sends what is due, takes what was held long enough, or gives up. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.is_asking() {
            return;
        }
        if self.held.as_ref().is_some_and(|&(_, until)| until <= now || self.deadline <= now) {
            if let Some((found, _)) = self.held.take() {
                self.finish(found);
            }
        } else if now >= self.deadline {
            let waits = self.position.map(|position| IntentError::StillWaiting { position });
            let error = waits.or(self.problem.take()).unwrap_or(IntentError::NoAnswer);
            self.finish(Err(error));
        } else if now >= self.next_send {
            self.to_send = true;
            self.next_send = now + self.interval + self.jitter();
            self.interval = (self.interval * 2).min(self.config.max_interval);
        }
    }

    fn finish(&mut self, result: Found) {
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
        self.counters.intents += 1;
        let second = self.counters.intents.is_multiple_of(2);
        match self.config.nonce {
            // A strict classic orchestrator knows no intent but the bare one, and gets it in turn.
            Some(nonce) if self.echoes || !second => {
                encode_nonced_intent(out, nonce, self.config.padding);
            }
            None if second => encode_padded_intent(out, self.config.padding),
            _ => encode_intent(out),
        }
        Some(self.orchestrator.0)
    }

    /// When to call [`Self::handle_timeout`] next; `None` once there is a result.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let held = self.held.as_ref().map_or(Instant::NEVER, |&(_, until)| until);
        self.is_asking().then(|| self.next_send.min(self.deadline).min(held))
    }

    /// What the user may want to know, in order. To be asked for before the result.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
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
