//! What servers ask of a store, for any engine.
//!
//! Policy (when a transaction is complete, when it expires, whom to answer) is not here: servers
//! decide, stores keep.

use std::ops::ControlFlow;

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::wire::Statement;

use crate::types::{
    AppendResult, Crowding, Durability, Maintained, NewChunk, ReadError, Receipt, ReceiverId,
    ReceiverName, Release, State, StoreError, TransactionInfo, TransactionSummary, Unfinished,
    UnixMillis,
};

/// Takes chunks.
///
/// `&self`: a remote engine has several batches in flight from several threads. The embedded one
/// takes one at a time.
pub trait ChunkLog: Send + Sync {
    /// Keeps each chunk of `batch` and replaces the content of `results` by one result for each.
    ///
    /// `Ok` means: durable at [`durability`](Self::durability) and part of the payload. Appending is
    /// idempotent by (TID, SEQ) as long as the transaction is not released, also within one batch.
    /// On `Err` no ack may leave. A transaction that nobody began is begun by its first chunk.
    fn append(&self, now: UnixMillis, batch: &[NewChunk<'_>], results: &mut Vec<AppendResult>) {
        self.append_with(now, &[], batch, results);
    }

    /// The same, but first records the transactions `begun`, with one flush for all. These records are
    /// as durable as the chunks of `batch` once one of them is `Ok`; no more is promised of them. A
    /// transaction that is on record already stays as it is.
    fn append_with(
        &self,
        now: UnixMillis,
        begun: &[(TransactionId, TransactionInfo)],
        batch: &[NewChunk<'_>],
        results: &mut Vec<AppendResult>,
    );

    /// Whether [`prepare`](Self::prepare) has something to do.
    fn needs_prepare(&self) -> bool {
        false
    }

    /// Does slow work beforehand that [`append`](Self::append) would otherwise stop for. For a helper
    /// thread: appending goes on meanwhile.
    fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Records a second time, apart from itself, what was added, so that its loss would be noticed. For a
    /// helper thread, about once a second: appending goes on meanwhile, and where nothing was added it costs
    /// next to nothing. An engine may have nothing to do here.
    fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether damage was met that [`maintain`](Self::maintain) has not looked at.
    fn needs_maintain(&self) -> bool {
        false
    }

    /// Looks at a bounded piece of what is held (about 4 MiB; all of a segment in which anything is
    /// damaged), and strikes out what is damaged; what reading and appending met first. For a helper
    /// thread, now and then, and soon when [`needs_maintain`](Self::needs_maintain): appending goes on
    /// meanwhile. One call a second reads 14 GB an hour. An engine may have nothing to do here.
    ///
    /// After an error the next call tells what was struck out before it.
    fn maintain(&self) -> Result<Maintained, StoreError> {
        Ok(Maintained::default())
    }

    /// What acknowledged chunks survive.
    fn durability(&self) -> Durability;
}

/// Records what happens to transactions. Every `Ok` is as durable as a chunk.
pub trait Transactions: Send + Sync {
    /// Records a new transaction.
    fn begin(&self, tid: TransactionId, info: &TransactionInfo) -> Result<(), StoreError>;

    /// Gives a receiver its number, the same one each time.
    fn declare_receiver(&self, receiver: &ReceiverName) -> Result<ReceiverId, StoreError>;

    /// Records what the sender states of the whole. The same again is no error; another one, or one below
    /// what is held, is [`StoreError::Contradicted`]. A statement of no chunks begins its transaction.
    fn record_statement(
        &self,
        tid: TransactionId,
        now: UnixMillis,
        statement: &Statement,
    ) -> Result<(), StoreError>;

    /// Records that a payload is what its sender stated, and the statement if none is on record.
    ///
    /// `receipt` must cover exactly what is held and carry the next revision, else
    /// [`StoreError::Outdated`]; the same receipt again is no error.
    fn close(&self, tid: TransactionId, receipt: &Receipt) -> Result<(), StoreError>;

    /// Records that the chunks of `tid` need not be kept. Again is no error.
    fn release(&self, tid: TransactionId, why: Release) -> Result<(), StoreError>;

    /// The same, unless other than so many chunks are held: then [`StoreError::Outdated`]. What was decided by an older state must not delete what came since.
    fn release_unchanged(
        &self,
        tid: TransactionId,
        why: Release,
        chunks: u64,
    ) -> Result<(), StoreError>;

    /// Gives some of the space of released transactions back, and says whether there may be more. For
    /// a thread of its own, again and again after a round of releases: appending goes on meanwhile.
    /// [`StoreError::Io`] and [`StoreError::Damaged`] are told once for what they befall; the rest may be
    /// worth another call.
    fn reclaim(&self) -> Result<bool, StoreError>;
}

/// Answers what is held.
pub trait Query: Send + Sync {
    /// All transactions, by ascending id. Released ones stay until their space is reclaimed.
    fn list(&self) -> Result<Vec<TransactionSummary>, ReadError>;

    /// Those in [`State::Open`], by ascending id, without copying what each of them holds.
    fn unfinished(&self) -> Result<Vec<Unfinished>, ReadError> {
        let all = self.list()?;
        Ok(all.iter().filter(|one| one.state == State::Open).map(Unfinished::from).collect())
    }

    /// Those in [`State::Complete`] with a receipt from before `time`, by ascending id.
    fn complete_before(&self, time: UnixMillis) -> Result<Vec<TransactionId>, ReadError> {
        let old = |one: &TransactionSummary| {
            one.state == State::Complete && one.receipt.is_some_and(|held| held.closed < time)
        };
        Ok(self.list()?.iter().filter(|one| old(one)).map(|one| one.tid).collect())
    }

    /// How near the limits for unfinished transactions are; nothing if the engine has none.
    fn crowding(&self) -> Crowding {
        Crowding::default()
    }

    /// One transaction.
    fn transaction(&self, tid: TransactionId) -> Result<Option<TransactionSummary>, ReadError>;

    /// All receivers ever declared, in the order of their [`ReceiverId`]s from 0.
    fn receivers(&self) -> Result<Vec<ReceiverName>, ReadError>;

    /// Shows each chunk of `tid` from `from` on to `visit`, by ascending SEQ, each once, until there
    /// are no more or `visit` breaks. What is appended meanwhile may be missing.
    fn read(
        &self,
        tid: TransactionId,
        from: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError>;
}

/// All that a server needs.
pub trait Store: ChunkLog + Transactions + Query {}
impl<T: ChunkLog + Transactions + Query + ?Sized> Store for T {}
