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
