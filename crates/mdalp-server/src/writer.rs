//! The thread that appends chunks, so that the network never waits for the disk (F29). It also records
//! an assigned transaction, together with its first chunk.
//!
//! Batching is natural: while one batch is being flushed, the next one fills.

use crate::assignments::Assignments;
use crate::clock::wall;
use crate::error::ServerError;
use crate::helper::Helper;
use crate::worker::Worker;
use mdalp_proto::receiver::Append;
use mdalp_store::{AppendResult, NewChunk, ReceiverId, Store};
use std::sync::Arc;

/// Chunks for one flush. Goes to the writer and comes back with the results; its buffers are used
/// again.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// What the machine asked for; `data` is the place in `bytes`.
    pub(crate) appends: Vec<Append>,
    pub(crate) bytes: Vec<u8>,
    /// One for each of `appends`, from the writer.
    pub(crate) results: Vec<AppendResult>,
}

impl Batch {
    pub(crate) fn push(&mut self, mut append: Append, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&datagram[append.data]);
        append.data = start..self.bytes.len();
        self.appends.push(append);
    }

    /// Memory that it takes.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + self.appends.len() * size_of::<Append>()
    }

    fn chunks<'a>(&'a self, ids: &'a [ReceiverId]) -> impl Iterator<Item = NewChunk<'a>> {
        self.appends.iter().map(|append| NewChunk {
            tid: append.tid,
            seq: append.seq,
            receiver: ids.get(usize::from(append.local.0)).copied().unwrap_or_default(),
            from: append.from,
            crc: append.crc.0,
            data: &self.bytes[append.data.clone()],
        })
    }

    pub(crate) fn clear(&mut self) {
        self.appends.clear();
        self.bytes.clear();
        self.results.clear();
    }
}

/// Batches go in and come back with their results.
pub(crate) type Writer = Worker<Batch, Batch>;

/// One thread for `users`, whose batches share a write and a flush when they wait at the same time.
/// `ids` are the store's names of the receivers, by their number here; what is assigned is recorded with
/// its first chunk.
pub(crate) fn spawn(
    store: Arc<dyn Store>,
    ids: Vec<ReceiverId>,
    assigned: Arc<Assignments>,
    users: usize,
) -> Result<Vec<Writer>, ServerError> {
    let helper = helper(Arc::clone(&store))?;
    let mut waiting = 0_u64;
    let mut results = Vec::new();
    Worker::spawn_for(users, "mdalp-writer", move |batches: &mut Vec<(usize, Batch)>, done| {
        let count = batches.iter().map(|(_, batch)| batch.appends.len()).sum();
        let mut chunks = Vec::with_capacity(count);
        for (_, batch) in &*batches {
            chunks.extend(batch.chunks(&ids));
        }
        let begun = assigned.begun_by(chunks.chunk_by(|a, b| a.tid == b.tid).map(|run| run[0].tid));
        store.append_with(wall(), &begun, &chunks, &mut results);
        if !begun.is_empty() {
            let kept = chunks.iter().zip(&results).filter(|(_, result)| result.is_ok());
            assigned.recorded(kept.map(|(chunk, _)| chunk.tid));
        }
        let mut results = results.drain(..);
        done.extend(batches.drain(..).map(|(user, mut batch)| {
            batch.results.extend(results.by_ref().take(batch.appends.len()));
            (user, batch)
        }));
        waiting = if store.needs_prepare() { waiting + 1 } else { 0 };
        // It may fail for lack of room: not to be tried again with each batch.
        if waiting % 1024 == 1 {
            helper.wake();
        }
    })
}

/// Makes the next segment ready, 64 MiB of zeros with `fsync`, while chunks are appended to this one.
fn helper(store: Arc<dyn Store>) -> Result<Helper, ServerError> {
    Helper::spawn("mdalp-segments", move || {
        if let Err(error) = store.prepare() {
            tracing::debug!(%error, "no segment was made ready");
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mdalp_proto::ids::TransactionId;
    use mdalp_proto::receiver::{Config, Local, Receiver};
    use mdalp_proto::time::Instant;
    use mdalp_store::disk::mem::MemDisk;
    use mdalp_store::{AppendError, Appended, Limits, Options, Query, SegmentLog, UnixMillis};

    const TID: TransactionId = TransactionId(7);

    /// Of one chunk, as the receivers' machine wants it written.
    fn batch() -> Batch {
        let datagram = b"Type:2;TID:7;SEQ:0;DATA:x";
        let mut machine = Receiver::new(Config::default());
        machine.handle_datagram(Instant::ZERO, Local(0), ([192, 0, 2, 1], 9).into(), datagram);
        let mut batch = Batch::default();
        batch.push(machine.poll_append().unwrap(), datagram);
        batch
    }

    #[tokio::test]
    async fn f28_an_assignment_outlives_that_its_first_chunk_finds_no_room() {
        let disk = MemDisk::new();
        let limits = Limits { min_free_for_append: 1 << 20, ..Limits::NONE };
        let options = Options { segment_bytes: 64 << 10, limits, ..Options::new(7) };
        let store = Arc::new(SegmentLog::open(disk.clone(), options).unwrap());
        let assigned = Arc::new(Assignments::of(Vec::new()));
        assigned.add(TID, ([192, 0, 2, 1], 9).into(), UnixMillis(1), Box::new([]));
        let mut writer =
            spawn(store.clone(), vec![ReceiverId(0)], assigned.clone(), 1).unwrap().remove(0);

        disk.set_capacity(Some(128 << 10));
        writer.send(batch()).unwrap();
        assert_eq!(writer.reply().await.unwrap().results, [Err(AppendError::Full)]);
        disk.set_capacity(None);
        writer.send(batch()).unwrap();
        assert_eq!(writer.reply().await.unwrap().results, [Ok(Appended::New)]);

        let held = store.transaction(TID).unwrap().unwrap();
        assert_eq!(held.info.map(|info| info.begun), Some(UnixMillis(1)));
        assert!(assigned.begun_by(std::iter::once(TID)).is_empty(), "it is on record");
    }
}
