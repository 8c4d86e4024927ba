//! A store as the rules of completion see it: what they have it write is noted. And a rule that is
//! switched off, to see who notices: a store that takes its shares for all there is.

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::{
    AppendResult, ChunkLog, Durability, NewChunk, Query, ReadError, Receipt, ReceiverId,
    ReceiverName, Release, SegmentLog, State, Statement, StoreError, TransactionInfo,
    TransactionSummary, Transactions, Unfinished, UnixMillis,
};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    Closed,
    Released(Release),
}

/// A record that was written, or may have been.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) tid: TransactionId,
    pub(super) said: Said,
    /// Otherwise the disk failed meanwhile: the next process may find it or not.
    pub(super) is_confirmed: bool,
}

pub(super) struct Watched<'a> {
    log: &'a SegmentLog<MemDisk>,
    /// Shows every transaction as one that an orchestrator of this process began.
    all_there_is: bool,
    attempts: Mutex<Vec<Attempt>>,
}

impl<'a> Watched<'a> {
    pub(super) fn new(log: &'a SegmentLog<MemDisk>, all_there_is: bool) -> Self {
        Self { log, all_there_is, attempts: Mutex::default() }
    }

    /// What was written, in its order.
    pub(super) fn into_attempts(self) -> Vec<Attempt> {
        self.attempts.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(
        &self,
        tid: TransactionId,
        said: Said,
        write: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let was_well = self.log.poison().is_none();
        let result = write();
        let is_confirmed = result.is_ok();
        if is_confirmed || (was_well && self.log.poison().is_some()) {
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            attempts.push(Attempt { tid, said, is_confirmed });
        }
        result
    }

    fn announced(&self, mut summary: TransactionSummary) -> TransactionSummary {
        if self.all_there_is {
            summary.info.get_or_insert_default();
        }
        summary
    }
}

impl ChunkLog for Watched<'_> {
    fn append_with(
        &self,
        now: UnixMillis,
        begun: &[(TransactionId, TransactionInfo)],
        batch: &[NewChunk<'_>],
        results: &mut Vec<AppendResult>,
    ) {
        self.log.append_with(now, begun, batch, results);
    }

    fn durability(&self) -> Durability {
        self.log.durability()
    }
}

impl Transactions for Watched<'_> {
    fn begin(&self, tid: TransactionId, info: &TransactionInfo) -> Result<(), StoreError> {
        self.log.begin(tid, info)
    }

    fn declare_receiver(&self, receiver: &ReceiverName) -> Result<ReceiverId, StoreError> {
        self.log.declare_receiver(receiver)
    }

    fn record_statement(
        &self,
        tid: TransactionId,
        now: UnixMillis,
        statement: &Statement,
    ) -> Result<(), StoreError> {
        self.log.record_statement(tid, now, statement)
    }

    fn close(&self, tid: TransactionId, receipt: &Receipt) -> Result<(), StoreError> {
        self.note(tid, Said::Closed, || self.log.close(tid, receipt))
    }

    fn release(&self, tid: TransactionId, why: Release) -> Result<(), StoreError> {
        self.note(tid, Said::Released(why), || self.log.release(tid, why))
    }

    fn release_unchanged(
        &self,
        tid: TransactionId,
        why: Release,
        chunks: u64,
    ) -> Result<(), StoreError> {
        self.note(tid, Said::Released(why), || self.log.release_unchanged(tid, why, chunks))
    }

    fn reclaim(&self) -> Result<bool, StoreError> {
        self.log.reclaim()
    }
}

impl Query for Watched<'_> {
    fn list(&self) -> Result<Vec<TransactionSummary>, ReadError> {
        Ok(self.log.list()?.into_iter().map(|one| self.announced(one)).collect())
    }

    fn unfinished(&self) -> Result<Vec<Unfinished>, ReadError> {
        if !self.all_there_is {
            return self.log.unfinished();
        }
        let all = self.list()?;
        Ok(all.iter().filter(|one| one.state == State::Open).map(Unfinished::from).collect())
    }

    fn complete_before(&self, time: UnixMillis) -> Result<Vec<TransactionId>, ReadError> {
        self.log.complete_before(time)
    }

    fn transaction(&self, tid: TransactionId) -> Result<Option<TransactionSummary>, ReadError> {
        Ok(self.log.transaction(tid)?.map(|one| self.announced(one)))
    }

    fn receivers(&self) -> Result<Vec<ReceiverName>, ReadError> {
        self.log.receivers()
    }

    fn read(
        &self,
        tid: TransactionId,
        from: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.log.read(tid, from, visit)
    }
}
