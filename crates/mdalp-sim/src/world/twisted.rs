//! A store that takes its shares for all there is: a rule that is switched off, to see who notices.

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::{
    AppendResult, ChunkLog, Durability, NewChunk, Query, ReadError, Receipt, ReceiverId,
    ReceiverName, Release, Statement, Store, StoreError, TransactionInfo, TransactionSummary,
    Transactions, UnixMillis,
};
use std::ops::ControlFlow;

/// Shows every transaction as one that an orchestrator of this process began.
pub(super) struct AllThereIs<'a>(pub(super) &'a dyn Store);

fn announced(mut summary: TransactionSummary) -> TransactionSummary {
    summary.info.get_or_insert_default();
    summary
}

impl ChunkLog for AllThereIs<'_> {
    fn append_with(
        &self,
        now: UnixMillis,
        begun: &[(TransactionId, TransactionInfo)],
        batch: &[NewChunk<'_>],
        results: &mut Vec<AppendResult>,
    ) {
        self.0.append_with(now, begun, batch, results);
    }

    fn durability(&self) -> Durability {
        self.0.durability()
    }
}

impl Transactions for AllThereIs<'_> {
    fn begin(&self, tid: TransactionId, info: &TransactionInfo) -> Result<(), StoreError> {
        self.0.begin(tid, info)
    }

    fn declare_receiver(&self, receiver: &ReceiverName) -> Result<ReceiverId, StoreError> {
        self.0.declare_receiver(receiver)
    }

    fn record_statement(
        &self,
        tid: TransactionId,
        now: UnixMillis,
        statement: &Statement,
    ) -> Result<(), StoreError> {
        self.0.record_statement(tid, now, statement)
    }

    fn close(&self, tid: TransactionId, receipt: &Receipt) -> Result<(), StoreError> {
        self.0.close(tid, receipt)
    }

    fn release(&self, tid: TransactionId, why: Release) -> Result<(), StoreError> {
        self.0.release(tid, why)
    }

    fn release_unchanged(
        &self,
        tid: TransactionId,
        why: Release,
        chunks: u64,
    ) -> Result<(), StoreError> {
        self.0.release_unchanged(tid, why, chunks)
    }

    fn reclaim(&self) -> Result<bool, StoreError> {
        self.0.reclaim()
    }
}

impl Query for AllThereIs<'_> {
    fn list(&self) -> Result<Vec<TransactionSummary>, ReadError> {
        Ok(self.0.list()?.into_iter().map(announced).collect())
    }

    fn transaction(&self, tid: TransactionId) -> Result<Option<TransactionSummary>, ReadError> {
        Ok(self.0.transaction(tid)?.map(announced))
    }

    fn receivers(&self) -> Result<Vec<ReceiverName>, ReadError> {
        self.0.receivers()
    }

    fn read(
        &self,
        tid: TransactionId,
        from: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.0.read(tid, from, visit)
    }
}
