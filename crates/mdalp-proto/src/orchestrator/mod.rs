//! The orchestrator's rules: who gets a transaction when, and which receivers.
//!
//! Intents wait in order of arrival until a transaction may be opened and the limits on answers to
//! strangers allow the assignment; it is then repeated, byte for byte, for as long as the client
//! shows no sign of having got it. Nothing else is ever answered.
//!
//! Not here: what receivers do with chunks ([`crate::receiver`]), sockets, and keeping anything
//! across restarts. A shell that also runs receivers says which transactions are claimed, active and
//! ended; without it they lapse.

mod asker;
mod config;
mod health;
mod limits;
mod live;
mod pool;
mod queue;
mod types;

pub use config::Config;
pub use health::Probe;
pub use types::{Counters, Event, Transmit};

use crate::ids::{Nonce, TransactionId};
use crate::source::{Prefix, is_answerable, is_local, without_flow};
use crate::time::Instant;
use crate::wire::{DecodeError, Message, decode, encode_queued};
use asker::Asker;
use health::Health;
use limits::ReplyLimits;
use live::Live;
use pool::Pool;
use queue::{Full, Queue, Quota, Waiting};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// A transaction that no receiver has heard of lapses after this time at the latest (§3.4).
const UNCLAIMED: Duration = Duration::from_secs(120);
/// The queue is not searched more often than this: a bound on the work that a flood can cause.
const SEARCH_INTERVAL: Duration = Duration::from_millis(10);
/// An intent without a nonce is not taken for another client's so long after one with a nonce from the
/// same address: clients that do not know their orchestrator yet send both.
const BESIDE_NONCED: Duration = Duration::from_secs(10);
/// An answer up to this many times as long as the question needs no limit (RFC 9000 §8.1).
const AMPLIFICATION: usize = 3;

/// Where random numbers come from.
pub type Random = Box<dyn FnMut() -> u64 + Send>;

/// The machine. Its verbs are those of the whole crate, see [the front page](crate).
pub struct Orchestrator {
    config: Config,
    random: Random,
    pool: Pool,
    health: Health,
    longest_answer: usize,
    queue: Queue,
    live: Live,
    limits: ReplyLimits,
    counters: Counters,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    /// When the first waiting intent may be served, as far as is known.
    next_search: Instant,
    /// When the queue was searched last, plus [`SEARCH_INTERVAL`].
    not_before: Instant,
    /// Not later than the first waiting intent expires.
    next_expiry: Instant,
    /// How often the queue was searched.
    #[cfg(test)]
    searches: u64,
}

impl Orchestrator {
    /// An orchestrator that draws transaction ids from `random`.
    pub fn new(config: Config, random: Random) -> Self {
        let pool = Pool::new(&config.receivers, config.hand_out);
        Self {
            health: Health::new(&config.receivers, config.probe, config.typed),
            longest_answer: pool.longest_answer(),
            pool,
            config,
            random,
            queue: Queue::default(),
            live: Live::default(),
            limits: ReplyLimits::default(),
            counters: Counters::default(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            next_search: Instant::NEVER,
            not_before: Instant::ZERO,
            next_expiry: Instant::NEVER,
            #[cfg(test)]
            searches: 0,
        }
    }

    /// Takes one datagram.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let from = without_flow(from);
        let dropped = if is_answerable(from, &self.config.own) {
            match decode(bytes) {
                Ok(Message::Intent { nonce }) => {
                    return self.intent(now, Asker { addr: from, nonce }, bytes.len());
                }
                Ok(Message::ProbeReply { nonce, caps })
                    if self.probe_answered(now, from, nonce, caps) =>
                {
                    return;
                }
                Ok(_) => &mut self.counters.drop_unexpected,
                Err(DecodeError::NotMdalp) => &mut self.counters.drop_not_mdalp,
                Err(_) => &mut self.counters.drop_malformed,
            }
        } else {
            &mut self.counters.drop_bad_source
        };
        *dropped += 1;
    }

    /// Does what is due at `now`; nothing if nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.probe_receivers(now);
        while let Some(tid) = self.live.next_lapsed(now) {
            let claimed = self.live.get(tid).is_some_and(|transaction| transaction.claimed);
            let counter = if claimed {
                &mut self.counters.expired_claimed
            } else {
                &mut self.counters.expired_unclaimed
            };
            *counter += 1;
            self.events.push_back(Event::Expired { tid, claimed });
            self.end(now, tid);
        }
        if self.next_search <= now || self.next_expiry <= now {
            self.search(now);
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let queue = self.next_search.min(self.next_expiry);
        let queue = (queue < Instant::NEVER).then_some(queue);
        [queue, self.live.next_check(), self.health.next_round()].into_iter().flatten().min()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A receiver has seen data of `tid`: the client has its assignment, so its next intent is for
    /// another transaction.
    pub fn transaction_claimed(&mut self, now: Instant, tid: TransactionId) {
        self.live.claim(tid);
        self.transaction_active(now, tid);
    }

    /// Something was heard of `tid`: it stays open for another [`Config::hold`].
    pub fn transaction_active(&mut self, now: Instant, tid: TransactionId) {
        self.live.touch(tid, now + self.config.hold);
    }

    /// `tid` is closed or abandoned: somebody else may have its place.
    pub fn transaction_ended(&mut self, now: Instant, tid: TransactionId) {
        self.end(now, tid);
        self.handle_timeout(now);
    }

    /// Intents that wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Transactions that count as open.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// What has been counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn intent(&mut self, now: Instant, from: Asker, len: usize) {
        self.counters.intents += 1;
        self.handle_timeout(now);
        if from.nonce.is_none() && self.is_beside_nonced(now, from.addr) {
            self.counters.drop_beside_nonced += 1;
            return;
        }
        if self.repeat_answer(now, from, len) {
            return;
        }
        if let Some(position) = self.queue.repeat(now, &from, len) {
            self.counters.repeated_waiting += 1;
            // A padded repeat may be answered although the bare first one had to wait.
            let ready_at = self.ready_at(from, len);
            self.search_at(ready_at);
            if ready_at > now || self.not_before > now {
                self.say_queued(from, position);
            }
            self.handle_timeout(now);
            return;
        }
        let quota = Quota {
            total: self.config.queue,
            per_source: self.config.queue_per_source,
            per_prefix: self.config.queue_per_prefix,
        };
        let position = match self.queue.push(now, from, len, quota) {
            Ok(position) => position,
            // Strangers who wait for the limits on answers must not keep out whom these do not concern.
            Err(_) if self.is_unlimited(from, len) && self.ready_at(from, len) <= now => {
                return self.assign(now, from, len);
            }
            Err(full) => {
                *match full {
                    Full::Queue => &mut self.counters.drop_queue_full,
                    Full::Source => &mut self.counters.drop_source_quota,
                    Full::Prefix => &mut self.counters.drop_prefix_quota,
                } += 1;
                return;
            }
        };
        self.events.push_back(Event::Queued { from: from.addr, position });
        self.next_expiry = self.next_expiry.min(now + self.config.patience);
        // Those before it are known not to be ready.
        let ready_at = self.ready_at(from, len);
        if ready_at <= now {
            self.queue.pop_newest();
            self.assign(now, from, len);
        } else {
            self.search_at(ready_at);
            self.say_queued(from, position);
        }
    }

    /// Whether `addr` has just asked with a nonce, and is served as that.
    fn is_beside_nonced(&self, now: Instant, addr: SocketAddr) -> bool {
        let last = self.queue.nonced_heard(addr).max(self.live.nonced_assigned(addr));
        last.is_some_and(|at| now < at + BESIDE_NONCED)
    }

    /// Tells an intent with a nonce that it waits: hardly longer than the question.
    fn say_queued(&mut self, to: Asker, position: usize) {
        let Some(nonce) = to.nonce else { return };
        let mut datagram = Vec::with_capacity(48);
        encode_queued(&mut datagram, nonce, position as u64);
        self.transmits.push_back(Transmit { to: to.addr, tid: None, datagram });
    }

    /// Has the queue searched at `ready_at`, but not more often than is allowed (B4).
    fn search_at(&mut self, ready_at: Instant) {
        self.next_search = self.next_search.min(ready_at.max(self.not_before));
    }

    /// Says an assignment again that its client seems not to have got (F20); `false` if there is none.
    fn repeat_answer(&mut self, now: Instant, from: Asker, len: usize) -> bool {
        let Some((tid, transaction)) = self.live.unclaimed_of(&from) else { return false };
        // A nonce is never used for another transaction, so there it may be said again for ever.
        let window = self.config.repeat_window;
        let for_ever = from.nonce.is_some() && window > Duration::ZERO;
        if !for_ever && now >= transaction.assigned + window {
            return false;
        }
        if self.answer_ready_at(from, len) > now {
            self.counters.drop_repeat_limited += 1;
        } else {
            let datagram = Pool::datagram(tid, from.nonce, &transaction.choice);
            self.counters.repeated_answers += 1;
            self.transmit(now, from, len, tid, datagram);
        }
        true
    }

    fn longest_answer(&self, nonce: Option<Nonce>) -> usize {
        nonce.map_or(self.longest_answer, |_| Pool::with_echo(self.longest_answer))
    }

    /// When a client may be sent an assignment as far as the limits on answers go.
    fn answer_ready_at(&self, to: Asker, question: usize) -> Instant {
        if self.is_unlimited(to, question) {
            return Instant::ZERO;
        }
        self.limits.ready_at(Prefix::of(to.addr.ip()), self.longest_answer(to.nonce))
    }

    fn is_unlimited(&self, to: Asker, question: usize) -> bool {
        is_local(to.addr) || question.saturating_mul(AMPLIFICATION) >= self.longest_answer(to.nonce)
    }

    /// When a client may be given a transaction; never, until something else happens.
    fn ready_at(&self, to: Asker, question: usize) -> Instant {
        if self.slot_is_free() && self.health.is_settled() && self.pool.any_up() {
            self.answer_ready_at(to, question)
        } else {
            Instant::NEVER
        }
    }

    fn slot_is_free(&self) -> bool {
        self.config.concurrency.is_none_or(|most| self.live.len() < most)
            && (self.live.len() < self.config.live || self.live.oldest_unclaimed().is_some())
    }

    /// Opens a transaction. Whoever calls has checked that it may be.
    fn assign(&mut self, now: Instant, to: Asker, question: usize) {
        if self.live.len() >= self.config.live
            && let Some(tid) = self.live.oldest_unclaimed()
            && let Some(oldest) = self.live.remove(now, tid)
        {
            // Its place is taken at once: nobody who waits can have it.
            self.pool.release(&oldest.choice);
            self.counters.evicted += 1;
            self.events.push_back(Event::Evicted { tid, to: oldest.client.addr });
        }
        let tid = self.draw();
        let choice = self.pool.choose(to.nonce.is_some());
        let datagram = Pool::datagram(tid, to.nonce, &choice);
        let receivers = choice.receivers.clone();
        self.live.insert(now, tid, to, choice, now + self.config.hold.min(UNCLAIMED));
        self.counters.assigned += 1;
        self.events.push_back(Event::Assigned { tid, to: to.addr, receivers });
        self.transmit(now, to, question, tid, datagram);
    }

    fn transmit(
        &mut self,
        now: Instant,
        to: Asker,
        question: usize,
        tid: TransactionId,
        datagram: Vec<u8>,
    ) {
        if !self.is_unlimited(to, question) {
            self.limits.take(now, Prefix::of(to.addr.ip()), datagram.len());
        }
        self.transmits.push_back(Transmit { to: to.addr, tid: Some(tid), datagram });
    }

    /// A random 63-bit id that is not in use (H41, H47).
    fn draw(&mut self) -> TransactionId {
        const BITS_63: u64 = u64::MAX >> 1;
        let mut id = 0;
        // More than one draw is next to impossible; a broken source must not hang the server.
        for _ in 0..16 {
            id = (self.random)() & BITS_63;
            if id != 0 && !self.live.is_used(TransactionId(id)) {
                return TransactionId(id);
            }
        }
        loop {
            id = id.wrapping_add(1) & BITS_63;
            if id != 0 && !self.live.is_used(TransactionId(id)) {
                return TransactionId(id);
            }
        }
    }

    fn end(&mut self, now: Instant, tid: TransactionId) {
        if let Some(transaction) = self.live.remove(now, tid) {
            self.freed(&transaction);
        }
    }

    fn freed(&mut self, transaction: &live::Transaction) {
        self.pool.release(&transaction.choice);
        if !self.queue.is_empty() {
            self.search_at(Instant::ZERO);
        }
    }

    /// Serves all waiting intents that may be served, in order of arrival, and drops expired ones.
    fn search(&mut self, now: Instant) {
        #[cfg(test)]
        {
            self.searches += 1;
        }
        let mut queue = std::mem::take(&mut self.queue);
        let (mut next_search, mut next_expiry) = (Instant::NEVER, Instant::NEVER);
        queue.retain(|from, Waiting { heard, longest, .. }| {
            if heard + self.config.patience <= now {
                self.counters.expired_intents += 1;
                self.events.push_back(Event::IntentExpired { from: from.addr });
                return false;
            }
            let question = usize::from(longest);
            let ready_at = self.ready_at(from, question);
            if ready_at <= now {
                self.assign(now, from, question);
                return false;
            }
            next_search = next_search.min(ready_at);
            next_expiry = next_expiry.min(heard + self.config.patience);
            true
        });
        self.queue = queue;
        self.not_before = now + SEARCH_INTERVAL;
        self.next_search = next_search.max(self.not_before);
        self.next_expiry = next_expiry;
    }
}

#[cfg(test)]
mod tests;
