//! Chunks that are held but not yet counted.
//!
//! Counting a chunk touches a dozen places in memory. With many transactions none of them is in the
//! processor's caches when the next chunk of the same one comes; so chunks are counted by the
//! thousand, in the order of their transactions. Until then a transaction's `held` has them and
//! nothing else.

use mdalp_proto::tidmap::Place;

use super::Inner;
use super::index::Entry;
use super::scan::open_part;
use crate::disk::DiskFile;
use crate::types::ReceiverId;

/// So many are counted at once: half a MiB, and a millisecond.
pub(super) const MANY: usize = 16_384;

/// A chunk in the active segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    /// Of its transaction.
    pub(super) place: Place,
    pub(super) receiver: ReceiverId,
    pub(super) len: u32,
    pub(super) entry: Entry,
}

impl<F: DiskFile> Inner<F> {
    /// Counts them. To be called before anything is asked, removed, or written to another segment.
    pub(super) fn count(&mut self) {
        let Self { catalog, fresh, active, .. } = self;
        let Some(active) = active else { return };
        let Some(segment) = catalog.segments.get_mut(&active.number) else { return };
        // Stable: entries of an index come nearly sorted and should stay so.
        fresh.sort_by_cached_key(|fresh| fresh.place);
        for run in fresh.chunk_by(|a, b| a.place == b.place) {
            let Some((tid, transaction)) = catalog.transactions.in_place(run[0].place) else {
                continue;
            };
            if transaction.segments.last() != Some(&active.number) {
                transaction.segments.push(active.number);
            }
            let (part, index) = open_part(&mut segment.parts, tid);
            for &Fresh { receiver, len, entry, .. } in run {
                transaction.facts.count_chunk(entry.seq, len.into(), receiver);
                part.held.insert(entry.seq);
                part.count_chunk(entry.seq, len.into(), receiver);
                index.push(entry);
            }
            transaction.facts.came(transaction.facts.last_append.unwrap_or_default());
            part.last_append = transaction.facts.last_append;
        }
        fresh.clear();
    }
}
