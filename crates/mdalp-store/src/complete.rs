//! Carries out what the completion rules want of a store.
//!
//! The rules are [`mdalp_proto::completion`]'s. Servers drive [`Steps`] from a thread of its own, because
//! hashing a payload takes long; the simulator drives it in virtual time. Decides nothing.

use mdalp_proto::completion::{
    Action, Answer, Candidate, Completion, Due, Finding, Hashed, Holding, OnRecord, Reason, Scope,
    Standing, Written,
};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::receiver::SealAsked;
use mdalp_proto::time::Instant;
use mdalp_proto::wire::Statement;
use std::collections::BTreeMap;

use crate::assemble::{Assembled, Assembly, Step};
use crate::traits::Store;
use crate::types::{Receipt, Release, State, StoreError, TransactionSummary, UnixMillis};

/// About 50 ms.
const HASH_STEP: u64 = 64 << 20;

/// What was done.
#[derive(Debug)]
pub enum Done {
    /// A question got its answer.
    Answered(Answer),
    /// A transaction was released.
    Released(TransactionId, Reason),
    /// The store could not do what was wanted.
    Failed(TransactionId, String),
    /// The calendar was set: nothing expires until it is trusted again.
    CalendarSet,
}

/// What a store holds of a transaction, as the rules see it; `None` if it was released.
pub fn holding(summary: TransactionSummary) -> Option<Holding> {
    let standing = match summary.state {
        State::Open => Standing::Open,
        State::Complete => Standing::Complete,
        State::Damaged => Standing::Damaged,
        State::Expired | State::Removed => return None,
    };
    let on_record = |receipt: Receipt| {
        let Receipt { revision, bytes, chunks, blake3, closed } = receipt;
        OnRecord { revision, whole: Statement { chunks, bytes, blake3 }, closed: closed.0 }
    };
    Some(Holding {
        scope: scope(summary.info.is_some()),
        standing,
        statement: summary.statement,
        receipt: summary.receipt.map(on_record),
        ranges: summary.ranges,
        bytes: summary.bytes,
        begun: summary.info.map(|info| info.begun.0),
        last_append: summary.last_append.map(|at| at.0),
    })
}

/// Only an orchestrator in the same process records that a transaction begins, and all receivers that
/// it hands out write into its store.
fn scope(announced: bool) -> Scope {
    if announced { Scope::Whole } else { Scope::Share }
}

/// The completion rules with what is being hashed for them, one short step at a time.
///
/// A step is one write, or so much of a payload as is hashed in a fraction of a second, so that a
/// question about a small payload does not wait for a large one.
///
/// ```
/// use mdalp_proto::{completion::{Completion, Retention}, time::Instant};
/// use mdalp_store::complete::Steps;
/// use mdalp_store::disk::mem::MemDisk;
/// use mdalp_store::{Options, SegmentLog, UnixMillis};
///
/// let store = SegmentLog::open(MemDisk::new(), Options::new(7))?;
/// let wall = UnixMillis(1_700_000_000_000);
/// let mut steps = Steps::new(Completion::new(Retention::default(), wall.0, Instant::ZERO));
/// let mut done = Vec::new();
/// steps.sweep(&store, Instant::ZERO, wall, &mut done);
/// while steps.step(&store, wall, &mut done) {}
/// assert!(done.is_empty(), "there is nothing to delete");
/// # Ok::<(), mdalp_store::OpenError>(())
/// ```
#[derive(Debug)]
pub struct Steps {
    rules: Completion,
    hashing: BTreeMap<TransactionId, Assembly>,
    /// So many bytes are hashed in one step.
    hash_step: u64,
}

impl Steps {
    /// Nothing to do yet.
    pub fn new(rules: Completion) -> Self {
        Self { rules, hashing: BTreeMap::new(), hash_step: HASH_STEP }
    }

    /// Takes a question. Its answer comes out of a later [`step`](Self::step).
    pub fn ask(&mut self, store: &dyn Store, now: Instant, asked: SealAsked, done: &mut Vec<Done>) {
        let tid = asked.seal.tid;
        match store.transaction(tid) {
            Ok(found) => {
                self.rules.handle_question(now, asked, found.and_then(holding).as_ref());
            }
            Err(error) => {
                done.push(Done::Failed(tid, error.to_string()));
                let found = Finding::Nothing;
                done.push(Done::Answered(Answer { asked, verdict: None, found }));
            }
        }
    }

    /// Takes that chunks of `tid` were found damaged, or of nobody knows whom: what it was found to be
    /// holds no longer.
    pub fn handle_damage(&mut self, tid: Option<TransactionId>) {
        match tid {
            Some(tid) => drop(self.hashing.remove(&tid)),
            None => self.hashing.clear(),
        }
        self.rules.handle_damage(tid);
    }

    /// Lists what may be kept no longer; later steps release it. Does nothing while an earlier sweep is
    /// under way, and lists nothing while the calendar is not trusted.
    pub fn sweep(
        &mut self,
        store: &dyn Store,
        now: Instant,
        wall: UnixMillis,
        done: &mut Vec<Done>,
    ) {
        let Some(lookout) = self.rules.start_sweep(wall.0, now) else { return };
        if lookout.leapt {
            done.push(Done::CalendarSet);
        }
        let unfinished = store.unfinished().unwrap_or_default();
        let candidates = unfinished.into_iter().map(|one| Candidate {
            tid: one.tid,
            scope: scope(one.begun.is_some()),
            begun: one.begun.map(|at| at.0),
            last_append: one.last_append.map(|at| at.0),
            ranges: one.ranges,
            gapless: one.gapless,
            stated: one.statement.is_some(),
        });
        let before = lookout.complete_before.map(UnixMillis);
        let complete = before.map(|time| store.complete_before(time).unwrap_or_default());
        self.rules.handle_listed(candidates, complete.unwrap_or_default());
    }

    /// Does the next thing; returns whether there was one.
    pub fn step(&mut self, store: &dyn Store, wall: UnixMillis, done: &mut Vec<Done>) -> bool {
        let Some(action) = self.rules.poll_action() else { return false };
        match action {
            Action::Answer(answer) => done.push(Done::Answered(answer)),
            Action::Hash { tid, end } => self.hash(store, tid, end, done),
            Action::Record { tid, statement } => {
                let result = store.record_statement(tid, wall, &statement);
                self.rules.handle_written(tid, written(tid, result, done));
            }
            Action::Close { tid, statement, revision } => {
                let Statement { chunks, bytes, blake3 } = statement;
                let receipt = Receipt { revision, bytes, chunks, blake3, closed: wall };
                let result = store.close(tid, &receipt);
                self.rules.handle_written(tid, written(tid, result, done));
            }
            Action::Look(tids) => {
                let look = |tid| Some((tid, store.transaction(tid).ok()??));
                let found = tids.into_iter().filter_map(look);
                let held = found.filter_map(|(tid, found)| Some((tid, holding(found)?)));
                self.rules.handle_looked(held);
            }
            Action::Release(which) => {
                let mut released = Vec::new();
                for Due { tid, why, chunks } in which {
                    let release = match why {
                        Reason::Expired => Release::Expired,
                        Reason::Removed => Release::Removed,
                    };
                    if store.release_unchanged(tid, release, chunks).is_ok() {
                        released.push(tid);
                        done.push(Done::Released(tid, why));
                    }
                }
                for tid in &released {
                    self.hashing.remove(tid);
                }
                self.rules.handle_released(&released);
            }
        }
        true
    }

    /// Hashes on for a step. A payload that is not whole any more, or cannot be read, is given up: its
    /// client asks again.
    fn hash(&mut self, store: &dyn Store, tid: TransactionId, end: u64, done: &mut Vec<Done>) {
        let hashing = self.hashing.entry(tid).or_default();
        let hashed = match hashing.advance(store, tid, end, self.hash_step, &mut std::io::sink()) {
            Ok(Step::More) => return,
            Ok(Step::Done(Assembled { bytes, blake3, .. })) => Hashed::Whole { bytes, blake3 },
            Ok(Step::Gap) => Hashed::Failed,
            Err(error) => {
                done.push(Done::Failed(tid, error.to_string()));
                Hashed::Failed
            }
        };
        self.hashing.remove(&tid);
        self.rules.handle_hashed(tid, &hashed);
    }
}

fn written(tid: TransactionId, result: Result<(), StoreError>, done: &mut Vec<Done>) -> Written {
    match result {
        Ok(()) => Written::Done,
        Err(StoreError::Contradicted) => Written::Contradicted,
        Err(StoreError::Outdated | StoreError::UnknownTransaction | StoreError::Released) => {
            Written::Failed
        }
        Err(error) => {
            done.push(Done::Failed(tid, error.to_string()));
            Written::Failed
        }
    }
}

#[cfg(test)]
mod tests;
