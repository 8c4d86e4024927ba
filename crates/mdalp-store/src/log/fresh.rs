//! Chunks that are held but not yet counted.
//!
//! Counting a chunk touches a dozen places in memory. With many transactions none of them is in the
//! processor's caches when the next chunk of the same one comes; so chunks are counted by the
//! thousand, those of one transaction in a row. Until then a transaction's `held` has them and
//! nothing else.

use std::mem;

use mdalp_proto::tidmap::Place;

use super::Inner;
use super::catalog::{Catalog, Transaction};
use super::index::Entry;
use super::scan::open_part;
use crate::disk::DiskFile;
use crate::types::{NewChunk, ReceiverId};

/// So many are counted at once: half a MiB, and a millisecond.
const MANY: usize = 16_384;

/// Chunks of the active segment.
#[derive(Default, Debug)]
pub(super) struct Fresh {
    chunks: Vec<Chunk>,
    /// The transactions that have some.
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    entry: Entry,
    len: u32,
    receiver: ReceiverId,
    /// The chunk of the same transaction before it.
    before: Option<u32>,
}

impl Fresh {
    /// Adds a chunk of the transaction at `place`.
    pub(super) fn push(
        &mut self,
        place: Place,
        transaction: &mut Transaction,
        chunk: &NewChunk<'_>,
        offset: u64,
    ) {
        let before = transaction.newest.replace(self.chunks.len() as u32);
        if before.is_none() {
            self.places.push(place);
        }
        // Segments are at most 1 GiB and a record more.
        let entry = Entry { seq: chunk.seq.0, offset: offset as u32, crc: chunk.crc };
        let (len, receiver) = (chunk.data.len() as u32, chunk.receiver);
        self.chunks.push(Chunk { entry, len, receiver, before });
    }

    pub(super) fn are_many(&self) -> bool {
        self.chunks.len() >= MANY
    }
}

impl<F: DiskFile> Inner<F> {
    /// Counts them. To be called before anything is asked, removed, or written to another segment.
    pub(super) fn count(&mut self) {
        self.count_before(&[]);
    }

    /// The same while those chunks of `piece` that are in `order` are held but not written.
    pub(super) fn count_before(&mut self, piece: &[NewChunk<'_>]) {
        let Self { catalog, fresh: Fresh { chunks, places }, active, limits, order, .. } = self;
        let order = if piece.is_empty() { &[][..] } else { &order[..] };
        let Catalog { transactions, segments: all_segments, crowd, .. } = catalog;
        let Some(active) = active else { return };
        let Some(segment) = all_segments.get_mut(&active.number) else { return };
        let mut run = Vec::new();
        for place in places.drain(..) {
            let Some((tid, Transaction { facts, segments, newest })) = transactions.in_place(place)
            else {
                continue;
            };
            let mut next = mem::take(newest);
            while let Some(chunk) = next.and_then(|at| chunks.get(at as usize)) {
                run.push(chunk);
                next = chunk.before;
            }
            if segments.last() != Some(&active.number) {
                segments.push(active.number);
            }
            let (part, index) = open_part(&mut segment.parts, tid);
            let most = crowd.most_listed(limits);
            let before = facts.shares.range_count() + part.shares.range_count();
            let receivers = || run.iter().map(|chunk: &&Chunk| chunk.receiver);
            let keep = facts.shares.keep_ranges(receivers(), || {
                let mut held = facts.held.clone();
                for chunk in &run {
                    held.remove(chunk.entry.seq);
                }
                for &(_, at) in order.iter().filter(|&&(other, _)| other == place) {
                    held.remove(piece[at as usize].seq.0);
                }
                held
            });
            let keep_part = keep && part.shares.keep_ranges(receivers(), || index.held());
            for &Chunk { entry, len, receiver, .. } in run.drain(..).rev() {
                facts.count_chunk(len.into(), receiver);
                part.count_chunk(len.into(), receiver);
                (facts.reopened, part.reopened) = (true, true);
                if keep {
                    facts.shares.list(receiver, entry.seq, most);
                }
                if keep_part {
                    part.shares.list(receiver, entry.seq, most);
                }
                index.push(entry);
            }
            crowd.listed_changed(before, facts.shares.range_count() + part.shares.range_count());
            facts.came(facts.last_append.unwrap_or_default());
            part.last_append = facts.last_append;
        }
        chunks.clear();
    }
}
