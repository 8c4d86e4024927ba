//! The receivers' rules: which chunks are taken, stored and acknowledged.
//!
//! One machine serves all receivers of a process that share a store, each with an address of its
//! own. It never holds a chunk: an accepted one is named by [`Receiver::poll_append`], the shell
//! stores it and reports the result, and only then there is an ack. What the machine remembers
//! guards limits; the truth is in the store, so any of it may be forgotten.
//!
//! Not here: whether a payload is whole. [`Event::Quiet`] says when it is worth looking.

mod config;
mod owner;
mod probe;
mod table;
mod types;

pub use config::Config;
pub use probe::ProbeReply;
pub use types::{Ack, Append, Counters, Event, Local, SealAsked, SealReply, Stored};

use crate::ids::{SequenceNumber, TransactionId};
use crate::source::{is_answerable, without_flow};
use crate::tidmap::Place;
use crate::time::Instant;
use crate::wire::{ChunkCrc, DecodeError, Message, Refusal, Seal, Verdict, decode};
use owner::{Denied, is_guessable};
use probe::Probes;
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;
use table::{Due, Refused, Table};

/// [`Event::Active`] is not said more often than this of one transaction.
const ACTIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Seals that the store may be asked about at the same time, and as many may wait for chunks of theirs.
const MAX_SEALING: usize = 256;

/// The machine. Its verbs are those of the whole crate, see [the front page](crate), and
/// [`poll_append`](Self::poll_append) with [`handle_appended`](Self::handle_appended).
#[derive(Debug)]
pub struct Receiver {
    config: Config,
    table: Table,
    counters: Counters,
    append: Option<Append>,
    acks: VecDeque<Ack>,
    /// Questions that the store has not answered yet, at most one of a transaction.
    sealing: BTreeSet<TransactionId>,
    /// Of these, those that the store was not asked yet.
    questions: VecDeque<SealAsked>,
    answers: VecDeque<SealReply>,
    refusals: VecDeque<SealReply>,
    probes: Probes,
    events: VecDeque<Event>,
    evicted: Vec<TransactionId>,
}

/// Why a datagram was dropped: the counter to raise.
type Drop = fn(&mut Counters) -> &mut u64;

impl Receiver {
    /// A machine that has seen nothing.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            table: Table::default(),
            counters: Counters::default(),
            append: None,
            acks: VecDeque::new(),
            sealing: BTreeSet::new(),
            questions: VecDeque::new(),
            answers: VecDeque::new(),
            refusals: VecDeque::new(),
            probes: Probes::default(),
            events: VecDeque::new(),
            evicted: Vec::new(),
        }
    }

    /// Takes one datagram that came to receiver `local`.
    ///
    /// Ask [`poll_append`](Self::poll_append) before the next one: it forgets the last answer.
    pub fn handle_datagram(&mut self, now: Instant, local: Local, from: SocketAddr, bytes: &[u8]) {
        self.append = None;
        if let Err(counter) = self.chunk(now, local, without_flow(from), bytes) {
            *counter(&mut self.counters) += 1;
        }
        self.report_evicted();
    }

    /// The chunk to store from the datagram that was just handled.
    pub fn poll_append(&mut self) -> Option<Append> {
        self.append.take()
    }

    /// Takes the store's answer for one chunk.
    pub fn handle_appended(&mut self, now: Instant, append: &Append, stored: Stored) {
        let Append { tid, seq, .. } = *append;
        let new = match stored {
            Stored::New => Some(true),
            Stored::Duplicate { .. } => Some(false),
            Stored::Failed | Stored::Crowded | Stored::Full => None,
        };
        if self.table.answered(now, append, new, &self.config) {
            self.events.push_back(Event::Active { tid });
        }
        let held = match stored {
            Stored::New => {
                self.counters.stored += 1;
                append.crc
            }
            Stored::Duplicate { crc } => {
                self.counters.duplicates += 1;
                self.counters.conflicts += u64::from(crc != append.crc);
                crc
            }
            Stored::Failed => {
                self.counters.drop_not_stored += 1;
                return;
            }
            Stored::Crowded => {
                self.counters.drop_crowded += 1;
                return self.refuse_append(append, Refusal::Crowded);
            }
            Stored::Full => {
                self.counters.drop_not_stored += 1;
                return self.refuse_append(append, Refusal::Full);
            }
        };
        let crc = append.wants_crc.then_some(held);
        self.ack(Ack { local: append.local, to: append.from, tid, seq, crc });
    }

    /// The next question for the store: not while it has chunks of that transaction to answer for,
    /// which may be those that the question came behind.
    pub fn poll_seal(&mut self) -> Option<SealAsked> {
        let table = &self.table;
        if self.sealing.len() - self.questions.len() >= MAX_SEALING {
            return None;
        }
        let at = self.questions.iter().position(|asked| !table.is_storing(asked.seal.tid))?;
        self.questions.remove(at)
    }

    /// Takes the store's answer to a question; `None` if it knows nothing of the transaction, and
    /// then there is none.
    pub fn handle_sealed(&mut self, asked: &SealAsked, verdict: Option<Verdict>) {
        self.sealing.remove(&asked.seal.tid);
        match verdict {
            Some(verdict) => {
                // A payload without chunks cost its sender nothing: it counts on until it is idle.
                let is_final = matches!(verdict, Verdict::Complete | Verdict::Recorded(_));
                if is_final && asked.seal.statement.chunks > 0 {
                    self.handle_finished(asked.seal.tid);
                }
                self.answers.push_back(SealReply::new(asked, verdict));
            }
            None => self.counters.drop_seal += 1,
        }
    }

    /// Takes that a transaction is finished as far as anybody can see: it counts against nobody's quota
    /// any more.
    pub fn handle_finished(&mut self, tid: TransactionId) {
        self.table.finish(tid);
    }

    /// The next answer to a seal to send.
    pub fn poll_seal_reply(&mut self) -> Option<SealReply> {
        self.answers.pop_front()
    }

    /// The next refusal of a chunk to send: at most one for each chunk.
    pub fn poll_refusal(&mut self) -> Option<SealReply> {
        self.refusals.pop_front()
    }

    /// The next answer to a probe to send.
    pub fn poll_probe_reply(&mut self) -> Option<ProbeReply> {
        self.probes.replies.pop_front()
    }

    /// Does what is due at `now`; nothing if nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(due) = self.table.next_due(now, &self.config) {
            self.events.push_back(match due {
                Due::Quiet(tid) => Event::Quiet { tid },
                Due::Idle(tid) => Event::Idle { tid },
            });
        }
    }

    /// The next ack to send.
    pub fn poll_transmit(&mut self) -> Option<Ack> {
        self.acks.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.table.next_check()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A transaction that the store holds open from before: it is watched for silence. It counts
    /// against nobody's quota.
    pub fn adopt(&mut self, now: Instant, tid: TransactionId) {
        if self.table.find(tid).is_none() {
            // Nobody's quota, so it is not refused.
            let _ = self.table.admit(now, tid, None, &self.config, &mut self.evicted);
            self.report_evicted();
        }
    }

    /// Transactions in memory.
    pub fn transactions(&self) -> usize {
        self.table.len()
    }

    /// Ranges in memory, of all transactions together.
    pub fn ranges(&self) -> usize {
        self.table.ranges()
    }

    /// What has been counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn chunk(
        &mut self,
        now: Instant,
        local: Local,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), Drop> {
        if !is_answerable(from, &self.config.own) {
            return Err(|c| &mut c.drop_bad_source);
        }
        let (tid, seq, claimed, data) = match decode(bytes) {
            Ok(Message::Data { tid, seq, crc, data }) => (tid, seq, crc, data),
            Ok(Message::Seal(seal)) => return self.seal(now, local, from, &seal, bytes.len()),
            Ok(Message::Probe { nonce }) => {
                let Some(&caps) = self.config.probed.get(usize::from(local.0)) else {
                    return Err(|c| &mut c.drop_unexpected);
                };
                let answered = self.probes.answer(now, (local, from), nonce, caps, bytes.len());
                self.counters.probes += u64::from(answered);
                return if answered { Ok(()) } else { Err(|c| &mut c.drop_probe) };
            }
            Ok(_) => return Err(|c| &mut c.drop_unexpected),
            Err(DecodeError::NotMdalp) => return Err(|c| &mut c.drop_not_mdalp),
            Err(_) => return Err(|c| &mut c.drop_malformed),
        };
        let crc = self.check(tid, seq, claimed, data)?;
        self.counters.chunks += 1;
        let idle = self.config.idle;
        let limit = self.table.limit(&self.config);
        let place = match self.table.find(tid) {
            Some(place) => place,
            None => match self.admit(now, tid, from) {
                Ok(place) => place,
                Err(refused) => {
                    let (why, counter): (_, Drop) = match refused {
                        Refused::Source => (Refusal::SourceQuota, |c| &mut c.drop_source_quota),
                        Refused::Prefix => (Refusal::PrefixQuota, |c| &mut c.drop_prefix_quota),
                    };
                    self.refuse(local, from, tid, why, claimed.map(|_| bytes.len()));
                    return Err(counter);
                }
            },
        };
        let Some(transaction) = self.table.at(place, tid) else { return Ok(()) };
        transaction.owners.admit(now, tid, local, from, idle).map_err(|denied| {
            let counter: Drop = match denied {
                Denied::NotOwner => |c| &mut c.drop_not_owner,
                Denied::Restless => |c| &mut c.drop_restless,
            };
            counter
        })?;
        transaction.heard = now;
        let Some(opens_range) = transaction.take(local, seq.0, limit) else {
            return Err(|c| &mut c.drop_ranges);
        };
        let data = bytes.len() - data.len()..bytes.len();
        let wants_crc = claimed.is_some();
        self.append =
            Some(Append { local, from, tid, seq, crc, data, wants_crc, opens_range, place });
        Ok(())
    }

    /// A question costs the store a look at the whole payload, so that one at a time is asked of a
    /// transaction, and few in all; who gets no answer asks again.
    fn seal(
        &mut self,
        now: Instant,
        local: Local,
        from: SocketAddr,
        seal: &Seal,
        limit: usize,
    ) -> Result<(), Drop> {
        let tid = seal.tid;
        if !self.config.seals || self.sealing.contains(&tid) {
            return Err(|c| &mut c.drop_seal);
        }
        let place = self.table.find(tid);
        // What is stated of a transaction binds it for ever: a stranger who guesses its id must not.
        if is_guessable(tid) {
            let known = place.and_then(|place| self.table.at(place, tid));
            if !known.is_some_and(|transaction| transaction.owners.is_owner(local, from)) {
                return Err(|c| &mut c.drop_not_owner);
            }
        }
        // It begins its transaction, as a first chunk does.
        if seal.statement.chunks == 0 && place.is_none() {
            self.admit(now, tid, from).map_err(|_| -> Drop { |c| &mut c.drop_seal })?;
        }
        if self.questions.len() >= MAX_SEALING
            && let Some(oldest) = self.questions.pop_front()
        {
            self.sealing.remove(&oldest.seal.tid);
            self.counters.drop_seal += 1;
        }
        self.sealing.insert(tid);
        self.counters.seals += 1;
        self.questions.push_back(SealAsked { local, from, seal: *seal, limit });
        Ok(())
    }

    /// What can be said of a chunk without knowing its transaction. Returns its CRC.
    fn check(
        &self,
        tid: TransactionId,
        seq: SequenceNumber,
        claimed: Option<ChunkCrc>,
        data: &[u8],
    ) -> Result<ChunkCrc, Drop> {
        if data.len() > self.config.max_chunk {
            return Err(|c| &mut c.drop_too_long);
        }
        if data.is_empty() && seq.0 != 0 {
            return Err(|c| &mut c.drop_empty);
        }
        if seq.0 >= self.config.max_seq {
            return Err(|c| &mut c.drop_seq_limit);
        }
        let crc = ChunkCrc::of(tid, seq, data);
        if claimed.is_some_and(|claimed| claimed != crc) {
            return Err(|c| &mut c.drop_crc);
        }
        Ok(crc)
    }

    /// Takes a transaction that is not in memory, if it may be taken.
    fn admit(
        &mut self,
        now: Instant,
        tid: TransactionId,
        from: SocketAddr,
    ) -> Result<Place, Refused> {
        let admitted = self.table.admit(now, tid, Some(from), &self.config, &mut self.evicted);
        if admitted.is_ok() {
            self.events.push_back(Event::Claimed { tid });
        }
        admitted
    }

    fn refuse_append(&mut self, append: &Append, why: Refusal) {
        let limit = append.wants_crc.then_some(append.data.end);
        self.refuse(append.local, append.from, append.tid, why, limit);
    }

    /// Reports that a chunk is refused, and tells its sender if it understands that: `limit` is the
    /// chunk's length then.
    fn refuse(
        &mut self,
        local: Local,
        from: SocketAddr,
        tid: TransactionId,
        why: Refusal,
        limit: Option<usize>,
    ) {
        self.events.push_back(Event::Refused { tid, from, why });
        self.refusals.extend(limit.map(|limit| SealReply::refusal(local, from, tid, why, limit)));
    }

    fn ack(&mut self, ack: Ack) {
        self.counters.acks += 1;
        self.acks.push_back(ack);
    }

    fn report_evicted(&mut self) {
        if self.evicted.is_empty() {
            return;
        }
        self.counters.evicted += self.evicted.len() as u64;
        self.events.extend(self.evicted.drain(..).map(|tid| Event::Evicted { tid }));
    }
}

#[cfg(test)]
mod tests;
