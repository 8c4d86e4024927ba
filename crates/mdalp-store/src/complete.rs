//! Carries out what the completion rules want of a store.
//!
//! The rules are [`mdalp_proto::completion`]'s. Servers call this from a thread of its own, because
//! hashing a payload takes long; the simulator calls it in virtual time. Decides nothing.

use mdalp_proto::completion::{
    Action, Answer, Candidate, Completion, Hashed, Holding, OnRecord, Reason, Scope, Standing,
    Written,
};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::receiver::SealAsked;
use mdalp_proto::time::Instant;
use mdalp_proto::wire::Statement;

use crate::traits::{AssembleError, Store, assemble};
use crate::types::{Receipt, Release, State, StoreError, TransactionSummary, UnixMillis};

/// What was done.
#[derive(Debug)]
pub enum Done {
    /// A question got its answer.
    Answered(Answer),
    /// A transaction was released.
    Released(TransactionId, Reason),
    /// The store could not do what was wanted.
    Failed(TransactionId, String),
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

/// Takes a question, and does all that follows from it.
pub fn answer(
    store: &dyn Store,
    rules: &mut Completion,
    now: Instant,
    wall: UnixMillis,
    asked: SealAsked,
) -> Vec<Done> {
    let tid = asked.seal.tid;
    match store.transaction(tid) {
        Ok(found) => rules.handle_question(now, asked, found.and_then(holding).as_ref()),
        Err(error) => return vec![Done::Failed(tid, error.to_string())],
    }
    carry_out(store, rules, wall)
}

/// Looks at all transactions, and releases what is kept no longer. Says nothing and does nothing while
/// the calendar is not trusted.
pub fn sweep(
    store: &dyn Store,
    rules: &mut Completion,
    now: Instant,
    wall: UnixMillis,
) -> Vec<Done> {
    let Some(lookout) = rules.start_sweep(wall.0, now) else { return Vec::new() };
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
    rules.handle_listed(candidates, complete.unwrap_or_default());
    carry_out(store, rules, wall)
}

fn carry_out(store: &dyn Store, rules: &mut Completion, wall: UnixMillis) -> Vec<Done> {
    let mut done = Vec::new();
    while let Some(action) = rules.poll_action() {
        match action {
            Action::Answer(answer) => done.push(Done::Answered(answer)),
            Action::Hash { tid, end } => {
                let hashed = hash(store, tid, end).unwrap_or_else(|why| {
                    done.push(Done::Failed(tid, why));
                    Hashed::Failed
                });
                rules.handle_hashed(tid, &hashed);
            }
            Action::Record { tid, statement } => {
                let result = store.record_statement(tid, wall, &statement);
                rules.handle_written(tid, written(tid, result, &mut done));
            }
            Action::Close { tid, statement, revision } => {
                let Statement { chunks, bytes, blake3 } = statement;
                let receipt = Receipt { revision, bytes, chunks, blake3, closed: wall };
                let result = store.close(tid, &receipt);
                rules.handle_written(tid, written(tid, result, &mut done));
            }
            Action::Look(tids) => {
                let look = |tid| Some((tid, store.transaction(tid).ok()??));
                let found = tids.into_iter().filter_map(look);
                rules.handle_looked(found.filter_map(|(tid, found)| Some((tid, holding(found)?))));
            }
            Action::Release(which) => {
                let mut released = Vec::new();
                for (tid, why) in which {
                    let release = match why {
                        Reason::Expired => Release::Expired,
                        Reason::Removed => Release::Removed,
                    };
                    if store.release(tid, release).is_ok() {
                        released.push(tid);
                        done.push(Done::Released(tid, why));
                    }
                }
                rules.handle_released(&released);
            }
        }
    }
    done
}

/// The hash of the chunks below `end`.
fn hash(store: &dyn Store, tid: TransactionId, end: u64) -> Result<Hashed, String> {
    match assemble(store, tid, &mut std::io::sink()) {
        Ok(held) if held.chunks == end => {
            Ok(Hashed::Whole { bytes: held.bytes, blake3: held.blake3 })
        }
        // A chunk came or went meanwhile: the client asks again.
        Ok(_) | Err(AssembleError::Missing(_)) => Ok(Hashed::Failed),
        Err(error) => Err(error.to_string()),
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
