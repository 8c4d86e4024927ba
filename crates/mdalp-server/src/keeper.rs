//! The thread that closes what is whole and releases what never will be.
//!
//! Slow work, such as reading a payload to hash it, happens here and nowhere else; space is given back
//! by a helper, because that takes longer still. Does not say when to look: the network loop does.

use crate::clock::wall;
use crate::config::KeepConfig;
use crate::error::ServerError;
use crate::helper::Helper;
use crate::worker::Worker;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::receiver::SealAsked;
use mdalp_proto::wire::{Seal, Verdict};
use mdalp_store::{
    AssembleError, Assembled, Crowding, ReadError, Receipt, ReceiverId, ReceiverName, Release,
    State, Store, StoreError, TransactionSummary, UnixMillis, assemble,
};
use std::sync::Arc;
use std::time::Duration;

/// A transaction that was assigned but never begun is released after this time: five times as long
/// as its client waits for anything.
const UNCLAIMED: Duration = Duration::from_secs(600);

/// However crowded the store is, nothing is released before. A client gives up when it has had no ack
/// for two minutes; and a calendar that is set by less than [`Calendar::LEAP`] is still trusted.
const LEAST_PATIENCE: Duration = Duration::from_secs(120).saturating_add(Calendar::LEAP);

/// Complete transactions that one look removes at most: each takes a flush, and clients wait for the
/// keeper.
const REMOVED: usize = 256;

/// What honest transactions have: a crowd of gaps hurries only those that have more.
const FEW_RANGES: usize = 32;

#[derive(Debug)]
pub(crate) enum Command {
    /// At the start: who the receivers are.
    Open(Vec<ReceiverName>),
    /// Close this one if it is whole.
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
    Sealed(SealAsked, Sealed),
    Swept(Swept),
}

/// What a look at all transactions led to.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub(crate) closed: Vec<(TransactionId, Receipt)>,
    /// Released without ever having been whole …
    pub(crate) expired: Vec<TransactionId>,
    /// … and after they had been whole for long.
    pub(crate) removed: Vec<TransactionId>,
    /// There are more to remove.
    pub(crate) more: bool,
}

/// What the store knows at the start.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The store's names of the receivers, in their order.
    pub(crate) ids: Vec<ReceiverId>,
    /// Transactions with chunks but without a receipt that covers them.
    pub(crate) open: Vec<TransactionId>,
}

/// What a look at one transaction found.
#[derive(Debug)]
pub(crate) enum Outcome {
    Closed(Receipt),
    /// Has been closed or released before, or nothing is known of it.
    Nothing,
    /// These chunks below the highest one are missing.
    Gaps(RangeSet),
    Failed(String),
}

/// What a comparison found.
#[derive(Debug)]
pub(crate) enum Sealed {
    /// The answer, and the receipt if this closed it.
    Answer(Verdict, Option<Receipt>),
    /// Nothing is known of the transaction.
    Unknown,
    Failed(String),
}

pub(crate) type Keeper = Worker<Command, Reply>;

/// `sweeps`: whether it will be told to; of several keepers of one store one is enough.
pub(crate) fn spawn(
    store: Arc<dyn Store>,
    keep: KeepConfig,
    quiet: Duration,
    sweeps: bool,
) -> Result<Keeper, ServerError> {
    let started = std::time::Instant::now();
    let mut calendar = Calendar { since: wall(), clock: Duration::ZERO };
    let helper = sweeps.then(|| helper(Arc::clone(&store))).transpose()?;
    // What an earlier process did not come to.
    helper.iter().for_each(Helper::wake);
    Worker::spawn("mdalp-keeper", move |command| match command {
        Command::Open(names) => Reply::Opened(open(&*store, &names)),
        Command::Inspect(tid) => Reply::Inspected(tid, inspect(&*store, tid)),
        Command::Seal(asked) => Reply::Sealed(asked, seal(&*store, &asked.seal)),
        Command::Sweep => {
            let now = wall();
            let swept = sweep(&*store, keep, quiet, now, calendar.trusted(now, started.elapsed()));
            if !swept.expired.is_empty() || !swept.removed.is_empty() {
                helper.iter().for_each(Helper::wake);
            }
            Reply::Swept(swept)
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
    let open = all.iter().filter(|one| one.ranges > 0).map(|one| one.tid);
    Ok(Opened { ids, open: open.collect() })
}

/// Compares what is held with what the client sent, and closes it if it is the same.
fn seal(store: &dyn Store, seal: &Seal) -> Sealed {
    let stated = &seal.statement;
    let summary = match store.transaction(seal.tid) {
        Ok(Some(summary)) if matches!(summary.state, State::Open | State::Complete) => summary,
        Ok(_) => return Sealed::Unknown,
        Err(error) => return Sealed::Failed(error.to_string()),
    };
    let missing = summary.ranges.missing_below(stated.chunks);
    if !missing.is_empty() {
        return Sealed::Answer(Verdict::Missing(missing), None);
    }
    if summary.ranges.last().is_some_and(|last| last >= stated.chunks) {
        return Sealed::Answer(Verdict::Mismatch, None);
    }
    let verdict = |chunks: u64, bytes: u64, blake3: [u8; 32]| {
        let agrees = (chunks, bytes, blake3) == (stated.chunks, stated.bytes, stated.blake3);
        if agrees { Verdict::Complete } else { Verdict::Mismatch }
    };
    if let (State::Complete, Some(held)) = (summary.state, summary.receipt) {
        return Sealed::Answer(verdict(held.chunks, held.bytes, held.blake3), None);
    }
    let held = match assemble(store, seal.tid, &mut std::io::sink()) {
        Ok(held) => held,
        Err(AssembleError::Missing(gaps)) => {
            return Sealed::Answer(Verdict::Missing(gaps), None);
        }
        Err(error) => return Sealed::Failed(error.to_string()),
    };
    let verdict = verdict(held.chunks, held.bytes, held.blake3);
    if verdict != Verdict::Complete {
        return Sealed::Answer(verdict, None);
    }
    match record(store, &summary, &held) {
        Ok(receipt) => Sealed::Answer(verdict, Some(receipt)),
        // The keeper of another shard, which looks at all transactions, was faster.
        Err(StoreError::Outdated) if is_closed(store, seal) => Sealed::Answer(verdict, None),
        // What the client is told must be on record first; it will ask again.
        Err(error) => Sealed::Failed(error.to_string()),
    }
}

/// Whether the receipt on record is of what the client asks about.
fn is_closed(store: &dyn Store, seal: &Seal) -> bool {
    let summary = store.transaction(seal.tid).ok().flatten();
    summary.filter(|summary| summary.state == State::Complete).and_then(|s| s.receipt).is_some_and(
        |held| {
            (held.chunks, held.bytes, held.blake3)
                == (seal.statement.chunks, seal.statement.bytes, seal.statement.blake3)
        },
    )
}

/// Records that a transaction is whole.
fn record(
    store: &dyn Store,
    summary: &TransactionSummary,
    held: &Assembled,
) -> Result<Receipt, StoreError> {
    let receipt = Receipt {
        revision: summary.receipt.map_or(0, |receipt| receipt.revision) + 1,
        bytes: held.bytes,
        chunks: held.chunks,
        blake3: held.blake3,
        closed: wall(),
    };
    store.close(summary.tid, &receipt).map(|()| receipt)
}

fn inspect(store: &dyn Store, tid: TransactionId) -> Outcome {
    match store.transaction(tid) {
        Ok(Some(summary)) => close(store, &summary),
        Ok(None) => Outcome::Nothing,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Closes a transaction if its chunks have no gap.
fn close(store: &dyn Store, summary: &TransactionSummary) -> Outcome {
    let tid = summary.tid;
    if summary.state != State::Open || summary.chunks == 0 {
        return Outcome::Nothing;
    }
    if summary.ranges.contiguous_from_zero().is_none() {
        let end = summary.ranges.last().unwrap_or(0);
        return Outcome::Gaps(summary.ranges.missing_below(end));
    }
    let assembled = match assemble(store, tid, &mut std::io::sink()) {
        Ok(assembled) => assembled,
        Err(AssembleError::Missing(gaps)) => return Outcome::Gaps(gaps),
        Err(AssembleError::Read(ReadError::UnknownTransaction)) => return Outcome::Nothing,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    match record(store, summary, &assembled) {
        Ok(receipt) => Outcome::Closed(receipt),
        // A chunk came meanwhile: there will be another silence, and another look.
        Err(StoreError::Outdated | StoreError::UnknownTransaction | StoreError::Released) => {
            Outcome::Nothing
        }
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Closes what is whole and was not noticed when it fell silent, and releases what is too old: what
/// never became whole, and what has been for as long as is wanted.
///
/// Nothing counts as silent for longer than `trusted`: how long the calendar is known to have run
/// like a clock. When it was set to another year, nothing must be thrown away for that (F27).
fn sweep(
    store: &dyn Store,
    keep: KeepConfig,
    quiet: Duration,
    now: UnixMillis,
    trusted: Duration,
) -> Swept {
    let mut swept = Swept::default();
    let crowding = store.crowding();
    for one in store.unfinished().unwrap_or_default() {
        let Some(last) = one.last_append.or(one.begun) else { continue };
        let silent = Duration::from_millis(now.0.saturating_sub(last.0));
        let patience = match (one.ranges, one.begun) {
            (0, _) => UNCLAIMED,
            (_, Some(_)) => keep.registered,
            (_, None) => hurried(keep.unfinished, one.ranges, crowding),
        };
        if silent >= quiet
            && one.gapless
            && let Outcome::Closed(receipt) = inspect(store, one.tid)
        {
            swept.closed.push((one.tid, receipt));
        } else if silent.min(trusted) >= patience
            && store.release(one.tid, Release::Expired).is_ok()
        {
            swept.expired.push(one.tid);
        }
    }
    let old = keep.complete.filter(|patience| *patience <= trusted);
    let old = old.map(|patience| UnixMillis(now.0.saturating_sub(patience.as_millis() as u64)));
    let old = old.map(|time| store.complete_before(time).unwrap_or_default()).unwrap_or_default();
    swept.more = old.len() > REMOVED;
    let removed = |tid: &TransactionId| store.release(*tid, Release::Removed).is_ok();
    swept.removed = old.into_iter().take(REMOVED).filter(removed).collect();
    swept
}

/// How long a transaction with so many ranges may be silent: less than `patience` when the store has
/// used more than half of what it keeps of unfinished transactions.
fn hurried(patience: Duration, ranges: usize, crowding: Crowding) -> Duration {
    // One with few ranges takes a place, but nothing of what many gaps take.
    let used = if ranges > FEW_RANGES {
        crowding.ranges.max(crowding.transactions)
    } else {
        crowding.transactions
    };
    let spared = patience.saturating_sub(LEAST_PATIENCE);
    patience.saturating_sub(spared * used.clamp(500, 1000).saturating_sub(500) / 500)
}

/// Compares the calendar with a clock that cannot be set.
#[derive(Debug)]
struct Calendar {
    since: UnixMillis,
    clock: Duration,
}

impl Calendar {
    /// Beyond this the calendar was set, and did not just drift.
    const LEAP: Duration = Duration::from_secs(60);

    /// How long the calendar has run like a clock until `now`, when the clock shows `clock`.
    fn trusted(&mut self, now: UnixMillis, clock: Duration) -> Duration {
        let elapsed = clock.saturating_sub(self.clock);
        let expected = u128::from(self.since.0) + elapsed.as_millis();
        if expected.abs_diff(now.0.into()) > Self::LEAP.as_millis() {
            tracing::warn!("the system's calendar was set; nothing expires until it is trusted");
            (self.since, self.clock) = (now, clock);
            return Duration::ZERO;
        }
        elapsed
    }
}

#[cfg(test)]
mod tests;
