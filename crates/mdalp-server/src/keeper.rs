//! The thread that answers what a payload is asked about, and deletes what is kept no longer.
//!
//! Slow work, such as reading a payload to hash it, happens here and nowhere else; space is given back
//! by a helper, because that takes longer still. What is answered and deleted is decided by
//! [`mdalp_proto::completion`]; when to look, by the network loop.

use crate::assignments::Assignments;
use crate::clock::{Clock, wall};
use crate::error::ServerError;
use crate::helper::Helper;
use crate::worker::Worker;
use mdalp_proto::completion::{Completion, Retention, Scope, seems_over};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::receiver::SealAsked;
use mdalp_store::complete::{self, Done, holding};
use mdalp_store::{ReceiverId, ReceiverName, Store, StoreError};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) enum Command {
    /// At the start: who the receivers are.
    Open(Vec<ReceiverName>),
    /// Say whether this one seems to be over: no chunk has come for a while.
    Inspect(TransactionId),
    /// Say whether this one is what its client says it is.
    Seal(SealAsked),
    /// Look at all.
    Sweep,
}

#[derive(Debug)]
pub(crate) enum Reply {
    Opened(Result<Opened, StoreError>),
    Inspected(TransactionId, Outcome),
    Sealed(SealAsked, Vec<Done>),
    Swept(Vec<Done>),
}

/// What the store knows at the start.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The store's names of the receivers, in their order.
    pub(crate) ids: Vec<ReceiverId>,
    /// Transactions with chunks but without a receipt that covers them.
    pub(crate) open: Vec<TransactionId>,
}

/// What a look at a silent transaction found.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// What came has no gap: nobody waits for it any more.
    Over,
    /// Nothing worth a word.
    Nothing,
    /// These chunks below the highest one are missing, and no other store can have them.
    Gaps(RangeSet),
    Failed(String),
}

pub(crate) type Keeper = Worker<Command, Reply>;

/// `sweeps`: whether it will be told to; of several keepers of one store one is enough.
pub(crate) fn spawn(
    store: Arc<dyn Store>,
    assigned: Arc<Assignments>,
    keep: Retention,
    sweeps: bool,
) -> Result<Keeper, ServerError> {
    let clock = Clock::start();
    let mut rules = Completion::new(keep, wall().0, clock.now());
    let helper = sweeps.then(|| helper(Arc::clone(&store))).transpose()?;
    // What an earlier process did not come to.
    helper.iter().for_each(Helper::wake);
    Worker::spawn("mdalp-keeper", move |command| match command {
        Command::Open(names) => Reply::Opened(open(&*store, &names)),
        Command::Inspect(tid) => Reply::Inspected(tid, inspect(&*store, tid)),
        Command::Seal(asked) => {
            if asked.seal.statement.chunks == 0 {
                assigned.begin(&*store, asked.seal.tid);
            }
            let done = complete::answer(&*store, &mut rules, clock.now(), wall(), asked);
            Reply::Sealed(asked, done)
        }
        Command::Sweep => {
            let done = complete::sweep(&*store, &mut rules, clock.now(), wall());
            if !done.is_empty() {
                helper.iter().for_each(Helper::wake);
            }
            Reply::Swept(done)
        }
    })
}

/// Gives the space of released transactions back: it can take long, and clients wait for the keeper.
fn helper(store: Arc<dyn Store>) -> Result<Helper, ServerError> {
    Helper::spawn("mdalp-space", move || match store.reclaim() {
        Ok(more) => more,
        Err(error) => {
            tracing::warn!(%error, "space of released transactions was not given back");
            matches!(error, StoreError::Io(_) | StoreError::Damaged { .. })
        }
    })
}

fn open(store: &dyn Store, names: &[ReceiverName]) -> Result<Opened, StoreError> {
    let ids = names.iter().map(|name| store.declare_receiver(name)).collect::<Result<_, _>>()?;
    let all = store.unfinished().map_err(|_| StoreError::Unavailable)?;
    // A share whose sender has stated the whole is finished, as far as it can be.
    let open =
        all.iter().filter(|one| one.ranges > 0 && one.statement.is_none()).map(|one| one.tid);
    Ok(Opened { ids, open: open.collect() })
}

fn inspect(store: &dyn Store, tid: TransactionId) -> Outcome {
    let held = match store.transaction(tid) {
        Ok(found) => found.and_then(holding),
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    match held {
        Some(held) if held.statement.is_some() => Outcome::Nothing,
        Some(held) if seems_over(&held) => Outcome::Over,
        Some(held) if held.scope == Scope::Whole => {
            Outcome::Gaps(held.ranges.missing_below(held.ranges.last().unwrap_or(0)))
        }
        _ => Outcome::Nothing,
    }
}

#[cfg(test)]
mod tests;
