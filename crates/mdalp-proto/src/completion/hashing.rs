//! Payloads that are to be hashed, in what order, and what came of it before.
//!
//! Does not hash: the shell reads the chunks.

use super::types::Holding;
use crate::ids::TransactionId;
use crate::receiver::SealAsked;
use crate::time::Instant;
use crate::wire::Statement;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// What a payload is taken to need for hashing, in bytes per millisecond. A question goes behind those
/// that were asked later by less than that: small ones first, and none waits for ever.
const BYTES_PER_MILLI: u64 = 256 << 10;

/// What a held payload looks like without reading it. If this is the same, so is its hash: chunks are
/// added and never changed, and one that was struck out and sent again is a new append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fingerprint {
    chunks: u64,
    bytes: u64,
    last_append: Option<u64>,
}

impl Fingerprint {
    pub(super) fn of(held: &Holding) -> Self {
        let Holding { bytes, last_append, .. } = *held;
        Self { chunks: held.ranges.len(), bytes, last_append }
    }
}

/// A payload that is to be hashed.
#[derive(Debug)]
pub(super) struct Job {
    place: Instant,
    pub(super) end: u64,
    pub(super) fingerprint: Fingerprint,
    /// That of the receipt that may follow.
    pub(super) revision: u32,
    pub(super) questions: Vec<SealAsked>,
}

#[derive(Debug, Default)]
pub(super) struct Hashing {
    jobs: BTreeMap<TransactionId, Job>,
    order: BTreeSet<(Instant, TransactionId)>,
    known: BTreeMap<TransactionId, (Fingerprint, Statement)>,
    /// The oldest first.
    known_order: VecDeque<TransactionId>,
}

impl Hashing {
    /// What the payload of `tid` was found to be, if it is still the same.
    pub(super) fn known(&self, tid: TransactionId, now: Fingerprint) -> Option<Statement> {
        self.known.get(&tid).filter(|(then, _)| *then == now).map(|(_, found)| *found)
    }

    /// Remembers what the payload of `tid` is, of `most` payloads at most.
    pub(super) fn learn(
        &mut self,
        tid: TransactionId,
        fingerprint: Fingerprint,
        found: Statement,
        most: usize,
    ) {
        if self.known.insert(tid, (fingerprint, found)).is_none() {
            self.known_order.push_back(tid);
        }
        while self.known.len() > most {
            let Some(oldest) = self.known_order.pop_front() else { break };
            self.known.remove(&oldest);
        }
    }

    /// Forgets what the payload of `tid` was.
    pub(super) fn forget(&mut self, tid: TransactionId) {
        if self.known.remove(&tid).is_some() {
            self.known_order.retain(|known| *known != tid);
        }
    }

    /// Forgets all payloads, and gives back the jobs that were under way.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Job> {
        std::mem::take(self).jobs.into_values()
    }

    /// Adds a question about a payload that has to be hashed first; gives it back if an earlier state of
    /// that payload is being hashed.
    pub(super) fn add(
        &mut self,
        now: Instant,
        asked: SealAsked,
        held: &Holding,
        revision: u32,
    ) -> Result<(), SealAsked> {
        let tid = asked.seal.tid;
        if let Some(job) = self.jobs.get_mut(&tid) {
            if job.fingerprint != Fingerprint::of(held) {
                return Err(asked);
            }
            job.questions.push(asked);
            return Ok(());
        }
        let place = now + Duration::from_millis(held.bytes / BYTES_PER_MILLI);
        let (end, fingerprint) = (asked.seal.statement.chunks, Fingerprint::of(held));
        self.order.insert((place, tid));
        self.jobs.insert(tid, Job { place, end, fingerprint, revision, questions: vec![asked] });
        Ok(())
    }

    /// Which payload is next, and its chunks.
    pub(super) fn next(&self) -> Option<(TransactionId, u64)> {
        let &(_, tid) = self.order.first()?;
        self.jobs.get(&tid).map(|job| (tid, job.end))
    }

    /// The job of `tid`, which is done.
    pub(super) fn finish(&mut self, tid: TransactionId) -> Option<Job> {
        let job = self.jobs.remove(&tid)?;
        self.order.remove(&(job.place, tid));
        Some(job)
    }
}
