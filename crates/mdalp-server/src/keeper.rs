//! The thread that answers what a payload is asked about, and deletes what is kept no longer.
//!
//! Slow work, such as reading a payload to hash it, happens here and nowhere else, in short steps
//! between which new commands are taken; now and then the store is scrubbed; space is given back by a helper, because that takes longer
//! still. What is answered and deleted is decided by [`mdalp_proto::completion`]; when to look, by the
//! network loop.

use crate::assignments::Assignments;
use crate::clock::{Clock, wall};
use crate::error::ServerError;
use crate::helper::Helper;
use crate::worker::{Turn, Worker};
use mdalp_proto::completion::{Completion, Retention, Scope, seems_over};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::receiver::SealAsked;
use mdalp_proto::time::Instant;
use mdalp_store::complete::{Done, Steps, holding};
use mdalp_store::{Damage, ReceiverId, ReceiverName, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// Between two steps of scrubbing.
const SCRUB_INTERVAL: Duration = Duration::from_secs(1);
/// Between the end of a round and the next one.
const ROUND: Duration = Duration::from_secs(24 * 3600);
/// After what time scrubbing goes on if it failed.
const SCRUB_AGAIN: Duration = Duration::from_secs(60);

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
    Done(Done),
    /// What scrubbing found.
    Damage(Vec<Damage>),
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
    let mut steps = Steps::new(Completion::new(keep, wall().0, clock.now()));
    let helper = sweeps.then(|| helper(Arc::clone(&store))).transpose()?;
    // What an earlier process did not come to.
    helper.iter().for_each(Helper::wake);
    let mut scrub = sweeps.then(Scrub::default);
    let mut done = Vec::new();
    Worker::spawn_stepping("mdalp-keeper", SCRUB_INTERVAL, move |turn, replies| {
        let more = match turn {
            Turn::Command(command) => {
                if let Command::Seal(asked) = &command
                    && asked.seal.statement.chunks == 0
                {
                    assigned.begin(&*store, asked.seal.tid);
                }
                take(&*store, &mut steps, clock.now(), command, &mut done, replies);
                true
            }
            Turn::More => steps.step(&*store, wall(), &mut done),
            Turn::Idle => false,
        };
        let damage = scrub.as_mut().map(|scrub| scrub.turn(&*store, clock.now()));
        if let Some(damage) = damage.filter(|damage| !damage.is_empty()) {
            let whose = damage.iter().map(|one| one.chunk.map(|(tid, _)| tid));
            whose.for_each(|tid| steps.handle_damage(tid));
            replies.push(Reply::Damage(damage));
        }
        if done.iter().any(|done| matches!(done, Done::Released(..))) {
            helper.iter().for_each(Helper::wake);
        }
        replies.extend(done.drain(..).map(Reply::Done));
        more
    })
}

/// When the store is scrubbed: a step a second, a round a day, and within a second what reading has
/// met. In between, what is new in it is recorded a second time once a second.
#[derive(Debug, Default)]
struct Scrub {
    next_step: Instant,
    next_round: Instant,
}

impl Scrub {
    /// Does a step if one is due, and returns what it found.
    fn turn(&mut self, store: &dyn Store, now: Instant) -> Vec<Damage> {
        if now < self.next_step {
            return Vec::new();
        }
        self.next_step = now + SCRUB_INTERVAL;
        // A step of maintenance does this too.
        if now < self.next_round && !store.needs_maintain() {
            if let Err(error) = store.checkpoint() {
                self.next_step = now + SCRUB_AGAIN;
                tracing::warn!(%error, "what the store holds was not recorded a second time");
            }
            return Vec::new();
        }
        match store.maintain() {
            Ok(found) => {
                if !found.more {
                    self.next_round = now + ROUND;
                }
                found.damage
            }
            Err(error) => {
                self.next_round = now + SCRUB_AGAIN;
                tracing::warn!(%error, "the store could not be scrubbed");
                Vec::new()
            }
        }
    }
}

/// Takes a command. What it leads to is done in steps.
fn take(
    store: &dyn Store,
    steps: &mut Steps,
    now: Instant,
    command: Command,
    done: &mut Vec<Done>,
    replies: &mut Vec<Reply>,
) {
    match command {
        Command::Open(names) => replies.push(Reply::Opened(open(store, &names))),
        Command::Inspect(tid) => replies.push(Reply::Inspected(tid, inspect(store, tid))),
        Command::Seal(asked) => steps.ask(store, now, asked, done),
        Command::Sweep => steps.sweep(store, now, wall(), done),
    }
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
