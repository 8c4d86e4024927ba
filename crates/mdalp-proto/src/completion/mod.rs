//! When a payload is whole, what a question about it is answered, and what may be deleted when.
//!
//! The machine sees what a store holds ([`Holding`]) and names what is to be done ([`Action`]): answer,
//! hash, record, close, release. Nothing is inferred: a payload is whole when what is held was
//! compared with what its sender states. A store that sees a share never says that
//! something is missing, and what is acknowledged goes by [`Retention`] alone.
//!
//! Not here: reading, hashing, writing, clocks and threads. Times are arguments.

mod hashing;
mod retention;
mod types;

pub use retention::{Calendar, Retention};
pub use types::{
    Action, Answer, Candidate, Due, Finding, Hashed, Holding, OnRecord, Reason, Scope, Standing,
    Written,
};

use crate::ids::TransactionId;
use crate::receiver::SealAsked;
use crate::time::Instant;
use crate::wire::{Statement, Verdict};
use hashing::{Fingerprint, Hashing};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Transactions that one step looks up or releases at most: each release takes a flush.
const STEP: usize = 256;
/// Payloads whose hash is remembered.
const KNOWN: usize = 4096;
/// After so many other actions a sweep that waits gets its turn.
const PATIENT: u32 = 8;

/// What is written, for whom, and what is said when it is durable.
#[derive(Debug)]
struct Writing {
    asked: SealAsked,
    verdict: Verdict,
    found: Finding,
}

/// A look at all transactions that is under way.
#[derive(Debug, Default)]
struct Sweep {
    wall: u64,
    trusted: Duration,
    candidates: VecDeque<TransactionId>,
    releases: Vec<Due>,
}

/// The machine.
#[derive(Debug)]
pub struct Completion {
    retention: Retention,
    calendar: Calendar,
    hashing: Hashing,
    writing: BTreeMap<TransactionId, Writing>,
    urgent: VecDeque<Action>,
    sweep: Sweep,
    since_sweep: u32,
}

impl Completion {
    /// A machine that knows nothing yet. The calendar shows `wall`, in milliseconds since 1970, when the
    /// clock shows `clock`.
    pub fn new(retention: Retention, wall: u64, clock: Instant) -> Self {
        Self {
            retention,
            calendar: Calendar::new(wall, clock),
            hashing: Hashing::default(),
            writing: BTreeMap::new(),
            urgent: VecDeque::new(),
            sweep: Sweep::default(),
            since_sweep: 0,
        }
    }

    /// Takes a question, and what the store holds of its transaction; `None` if that is unknown or was
    /// released.
    pub fn handle_question(&mut self, now: Instant, asked: SealAsked, held: Option<&Holding>) {
        let stated = asked.seal.statement;
        let Some(held) = held else {
            // An empty payload has no chunk that could have begun it.
            if asked.seal.checked && (stated.chunks, stated.bytes) == (0, 0) {
                return self.record(asked, recorded(&asked));
            }
            return self.answer(asked, None);
        };
        let last = held.ranges.last();
        let contradicted = held.statement.is_some_and(|known| known != stated)
            || held.receipt.is_some_and(|receipt| receipt.whole.chunks > stated.chunks)
            || last.is_some_and(|last| last >= stated.chunks);
        if contradicted {
            return self.answer(asked, Some(Verdict::Mismatch));
        }
        let missing = held.ranges.missing_below(stated.chunks);
        let is_new = asked.seal.checked && held.statement.is_none();
        match held.scope {
            Scope::Whole if !missing.is_empty() => {
                let verdict = Verdict::Missing(missing);
                if is_new { self.record(asked, verdict) } else { self.answer(asked, Some(verdict)) }
            }
            // A share cannot know what others hold, but it knows when it has lost some of its own.
            Scope::Share if !missing.is_empty() => {
                if !asked.seal.checked || held.standing == Standing::Damaged {
                    self.answer(asked, None);
                } else if is_new {
                    self.record(asked, recorded(&asked));
                } else {
                    self.answer(asked, Some(recorded(&asked)));
                }
            }
            _ => self.compare(now, asked, held),
        }
    }

    /// All chunks are held: answers if the hash is known, and otherwise has it computed.
    fn compare(&mut self, now: Instant, asked: SealAsked, held: &Holding) {
        let (tid, stated) = (asked.seal.tid, asked.seal.statement);
        if held.bytes != stated.bytes {
            return self.answer(asked, Some(Verdict::Mismatch));
        }
        let receipt = held.receipt.filter(|_| held.standing == Standing::Complete);
        match receipt {
            Some(receipt) if receipt.whole != stated => {
                return self.answer(asked, Some(Verdict::Mismatch));
            }
            // An old receipt may be the server's guess; now its sender has confirmed it.
            Some(_) if held.statement.is_none() => return self.record(asked, Verdict::Complete),
            Some(_) => return self.answer(asked, Some(Verdict::Complete)),
            None => {}
        }
        let revision = held.receipt.map_or(0, |receipt| receipt.revision).saturating_add(1);
        match self.hashing.known(tid, Fingerprint::of(held)) {
            Some(found) if found == stated => self.close(asked, revision),
            Some(_) => self.answer(asked, Some(Verdict::Mismatch)),
            // An earlier state of the payload is being hashed: the client asks again.
            None => {
                if let Err(asked) = self.hashing.add(now, asked, held, revision) {
                    self.answer(asked, None);
                }
            }
        }
    }

    /// Takes the end of an [`Action::Hash`].
    pub fn handle_hashed(&mut self, tid: TransactionId, hashed: &Hashed) {
        let Some(job) = self.hashing.finish(tid) else { return };
        let Hashed::Whole { bytes, blake3 } = *hashed else {
            return job.questions.into_iter().for_each(|asked| self.answer(asked, None));
        };
        let found = Statement { chunks: job.end, bytes, blake3 };
        self.hashing.learn(tid, job.fingerprint, found, KNOWN);
        for asked in job.questions {
            if asked.seal.statement == found {
                self.close(asked, job.revision);
            } else {
                self.answer(asked, Some(Verdict::Mismatch));
            }
        }
    }

    /// Takes the end of an [`Action::Record`] or [`Action::Close`].
    pub fn handle_written(&mut self, tid: TransactionId, written: Written) {
        let Some(Writing { asked, verdict, found }) = self.writing.remove(&tid) else { return };
        let (verdict, found) = match written {
            Written::Done => (Some(verdict), found),
            Written::Contradicted => (Some(Verdict::Mismatch), Finding::Nothing),
            // The client asks again.
            Written::Failed => (None, Finding::Nothing),
        };
        self.urgent.push_back(Action::Answer(Answer { asked, verdict, found }));
    }

    /// Forgets the hash of a transaction whose chunks were found damaged; of all, if it is not known
    /// whose were. If it is being hashed, that is for nothing: who asked asks again.
    pub fn handle_damage(&mut self, tid: Option<TransactionId>) {
        let jobs: Vec<_> = match tid {
            Some(tid) => {
                self.hashing.forget(tid);
                self.hashing.finish(tid).into_iter().collect()
            }
            None => self.hashing.clear().collect(),
        };
        for asked in jobs.into_iter().flat_map(|job| job.questions) {
            self.answer(asked, None);
        }
    }

    /// Begins a look at all transactions, unless one is under way. Returns `None` if so, and otherwise
    /// what to look for; then [`handle_listed`](Self::handle_listed).
    pub fn start_sweep(&mut self, wall: u64, clock: Instant) -> Option<Lookout> {
        if !self.sweep.candidates.is_empty() || !self.sweep.releases.is_empty() {
            return None;
        }
        let trusted = self.calendar.trusted(wall, clock);
        (self.sweep.wall, self.sweep.trusted) = (wall, trusted.unwrap_or_default());
        let before = self.retention.complete_before(wall, self.sweep.trusted);
        Some(Lookout { complete_before: before, leapt: trusted.is_none() })
    }

    /// Takes all unfinished transactions, and those whose receipt is older than was asked for.
    pub fn handle_listed(
        &mut self,
        unfinished: impl IntoIterator<Item = Candidate>,
        complete: impl IntoIterator<Item = TransactionId>,
    ) {
        let Sweep { wall, trusted, .. } = self.sweep;
        let retention = self.retention;
        let old = unfinished.into_iter().filter(|one| retention.expires(one, wall, trusted));
        self.sweep.candidates.extend(old.map(|one| one.tid));
        self.sweep.candidates.extend(complete);
    }

    /// Takes what the store holds now of what was to be [looked](Action::Look) up: a chunk may have come
    /// since it was listed.
    pub fn handle_looked(&mut self, held: impl IntoIterator<Item = (TransactionId, Holding)>) {
        let Sweep { wall, trusted, .. } = self.sweep;
        let verdict = |(tid, held): (TransactionId, Holding)| {
            let why = self.retention.verdict(tid, &held, wall, trusted)?;
            Some(Due { tid, why, chunks: held.ranges.len() })
        };
        let releases: Vec<_> = held.into_iter().filter_map(verdict).collect();
        self.sweep.releases.extend(releases);
    }

    /// Takes which transactions were [released](Action::Release).
    pub fn handle_released(&mut self, released: &[TransactionId]) {
        for &tid in released {
            self.handle_damage(Some(tid));
        }
    }

    /// What to do next. Answers first, then what is small.
    pub fn poll_action(&mut self) -> Option<Action> {
        if !self.sweep.releases.is_empty() {
            return Some(Action::Release(std::mem::take(&mut self.sweep.releases)));
        }
        let waits = !self.sweep.candidates.is_empty();
        if waits && self.since_sweep >= PATIENT {
            return self.look();
        }
        self.since_sweep = self.since_sweep.saturating_add(u32::from(waits));
        if let Some(action) = self.urgent.pop_front() {
            return Some(action);
        }
        if let Some((tid, end)) = self.hashing.next() {
            return Some(Action::Hash { tid, end });
        }
        self.look()
    }

    fn look(&mut self) -> Option<Action> {
        self.since_sweep = 0;
        let count = self.sweep.candidates.len().min(STEP);
        (count > 0).then(|| Action::Look(self.sweep.candidates.drain(..count).collect()))
    }

    fn answer(&mut self, asked: SealAsked, verdict: Option<Verdict>) {
        let found = Finding::Nothing;
        self.urgent.push_back(Action::Answer(Answer { asked, verdict, found }));
    }

    /// On record first, then said.
    fn record(&mut self, asked: SealAsked, verdict: Verdict) {
        let (tid, statement) = (asked.seal.tid, asked.seal.statement);
        let writing = Writing { asked, verdict, found: Finding::Recorded };
        self.write(tid, writing, Action::Record { tid, statement });
    }

    fn close(&mut self, asked: SealAsked, revision: u32) {
        let (tid, statement) = (asked.seal.tid, asked.seal.statement);
        let found = Finding::Closed { revision };
        let writing = Writing { asked, verdict: Verdict::Complete, found };
        self.write(tid, writing, Action::Close { tid, statement, revision });
    }

    fn write(&mut self, tid: TransactionId, writing: Writing, action: Action) {
        if self.writing.contains_key(&tid) {
            // Two questions at once: the other is answered first, and this one comes again.
            return self.answer(writing.asked, None);
        }
        self.writing.insert(tid, writing);
        self.urgent.push_back(action);
    }
}

/// What a sweep needs to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lookout {
    /// Receipts from before this time, in milliseconds since 1970, are wanted; `None`: no receipts are.
    pub complete_before: Option<u64>,
    /// The calendar was set: nothing expires until it is trusted again.
    pub leapt: bool,
}

/// Whether a transaction that has had no new chunk for a while may be over as far as this store can
/// see: what came has no gap. Nothing is recorded for that.
pub fn seems_over(held: &Holding) -> bool {
    match held.scope {
        Scope::Whole => held.ranges.contiguous_from_zero().is_some_and(|chunks| chunks > 0),
        Scope::Share => held.ranges.range_count() == 1,
    }
}

fn recorded(asked: &SealAsked) -> Verdict {
    Verdict::Recorded(asked.seal.crc())
}

#[cfg(test)]
mod tests;
