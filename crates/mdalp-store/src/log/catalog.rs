//! What a log holds, in memory: transactions over all segments, and the chunks of each segment.
//!
//! Does not write. The log itself and [`crate::Reader`] answer questions from the same catalog.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::tidmap::TidMap;

use super::chunks::{Chunks, Source};
use super::crowd::Crowd;
use super::facts::Facts;
use super::format::{HEADER, Header, SegmentId, kind};
use super::index::{Cursor, Index, Slice};
use super::scan::scan;
use super::{Damage, Limits};

use crate::disk::{DiskFile, read_exact_at, read_what_can_be};
use crate::types::{
    ReadError, ReceiverId, ReceiverName, State, TransactionSummary, Unfinished, UnixMillis,
};

/// What one segment holds of a transaction.
#[derive(Default, Debug)]
pub(super) struct Part {
    /// `None` once the segment is sealed and counted: its footer has them.
    pub(super) facts: Option<Box<Facts>>,
    /// What they said of the payload's bytes.
    pub(super) bytes: u64,
    pub(super) index: Index,
}

/// A transaction's facts over all segments, and which segments those are, ascending.
#[derive(Default, Debug)]
pub(super) struct Transaction {
    pub(super) facts: Facts,
    pub(super) segments: Vec<u64>,
    /// The last of its chunks that are not counted yet, see [`super::fresh`].
    pub(super) newest: Option<u32>,
}

/// What one segment must keep of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Need {
    All,
    /// That it was released: its chunks in earlier segments would come back.
    Release,
    Nothing,
}

impl Transaction {
    /// What segment `number`, which has a part of it, must keep.
    fn need(&self, number: u64) -> Need {
        match &self.segments[..] {
            _ if self.facts.release.is_none() => Need::All,
            // The release is the last record of all.
            [_, .., last] if *last == number => Need::Release,
            _ => Need::Nothing,
        }
    }
}

/// A segment and its chunks.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub(super) file: Arc<F>,
    pub(super) id: SegmentId,
    pub(super) parts: BTreeMap<TransactionId, Part>,
    /// Known damage, by offset.
    pub(super) damage: Vec<Damage>,
    /// Rewriting it failed: it stays as it is until the log is opened anew.
    pub(super) given_up: bool,
    /// What it must keep may be less than when that was looked up last.
    pub(super) less_needed: bool,
    /// Whether the index on disk is what was written: [`UNKNOWN`], [`GOOD`] or [`BAD`].
    pub(super) index_is: AtomicU8,
}

const UNKNOWN: u8 = 0;
const GOOD: u8 = 1;
const BAD: u8 = 2;

impl<F: DiskFile> Segment<F> {
    pub(super) fn new(file: Arc<F>, id: SegmentId) -> Self {
        Self {
            file,
            id,
            parts: BTreeMap::new(),
            damage: Vec::new(),
            given_up: false,
            less_needed: true,
            index_is: AtomicU8::new(UNKNOWN),
        }
    }

    /// Whether its index is on disk.
    pub(super) fn is_sealed(&self) -> bool {
        self.parts.is_empty() || self.parts.values().any(|part| part.index.disk.is_some())
    }

    /// Whether the index on disk was found damaged when it was read.
    pub(super) fn has_bad_index(&self) -> bool {
        self.index_is.load(Ordering::Relaxed) == BAD
    }

    /// Whether the index on disk can be used; it is looked at once.
    fn index_is_good(&self) -> io::Result<bool> {
        if self.index_is.load(Ordering::Relaxed) == UNKNOWN {
            let slices = self.parts.values().filter_map(|part| part.index.disk);
            let first = slices.map(|slice| slice.at).min();
            let good = match first.and_then(|at| at.checked_sub(HEADER as u64)) {
                Some(at) => is_intact(&*self.file, self.id, at, kind::INDEX)?,
                None => true,
            };
            self.index_is.store(if good { GOOD } else { BAD }, Ordering::Relaxed);
        }
        Ok(!self.has_bad_index())
    }

    /// The chunks of a transaction held here, from `seq` on; found by scanning if the index is damaged.
    fn cursor(&self, tid: TransactionId, seq: u64) -> io::Result<Option<Cursor>> {
        let Some(part) = self.parts.get(&tid) else { return Ok(None) };
        if part.index.disk.is_none() || self.index_is_good()? {
            return part.index.cursor(&*self.file, seq).map(Some);
        }
        let mut found = scan(&super::open::read_all(&*self.file)?.0, self.id).contents.parts;
        let index = found.remove(&tid).map(|part| part.index).unwrap_or_default();
        index.cursor(&*self.file, seq).map(Some)
    }

    /// From now on the index is on disk; the facts stay until they are [`forget`](Self::forget)ed.
    pub(super) fn sealed(&mut self, slices: &BTreeMap<TransactionId, Slice>) {
        for (tid, part) in &mut self.parts {
            part.index = Index { disk: slices.get(tid).copied(), ..Index::default() };
        }
        self.index_is.store(UNKNOWN, Ordering::Relaxed);
    }

    /// Drops what is counted and on disk.
    pub(super) fn forget(&mut self) {
        for part in self.parts.values_mut().filter(|part| part.index.disk.is_some()) {
            if let Some(facts) = part.facts.take() {
                part.bytes = facts.bytes;
            }
        }
    }

    /// The checksum of a chunk held here, if it is what was written: `None` if no entry tells of it.
    fn crc_of(&self, tid: TransactionId, seq: u64) -> Result<Option<u32>, Unreadable> {
        let number = self.id.number;
        let unreadable = |_| Unreadable(number);
        let Some(part) = self.parts.get(&tid) else { return Ok(None) };
        let entry = part.index.get(&*self.file, seq).map_err(unreadable)?;
        let Some(entry) = entry else { return Ok(None) };
        let offset = u64::from(entry.offset);
        let mut bytes = [0; HEADER];
        read_exact_at(&*self.file, &mut bytes, offset).map_err(unreadable)?;
        let header = Header::decode(self.id.seed(), &bytes);
        let header =
            header.filter(|header| is_chunk(header, tid, seq)).ok_or(Unreadable(number))?;
        let mut body = vec![0; header.len as usize];
        read_exact_at(&*self.file, &mut body, offset + HEADER as u64).map_err(unreadable)?;
        if header.fits(&body) { Ok(Some(header.crc)) } else { Err(Unreadable(number)) }
    }
}

/// The segment in which a chunk should be and is not, or not as it was written.
pub(super) struct Unreadable(pub(super) u64);

/// Whether there is a record of that kind, and both its checksums hold.
fn is_intact(file: &impl DiskFile, id: SegmentId, at: u64, kind: u8) -> io::Result<bool> {
    let mut bytes = [0; HEADER];
    if read_what_can_be(file, &mut bytes, at)?.0 < HEADER {
        return Ok(false);
    }
    let header = Header::decode(id.seed(), &bytes);
    let Some(header) = header.filter(|header| header.kind == kind) else { return Ok(false) };
    let mut body = vec![0; header.len as usize];
    let (count, _) = read_what_can_be(file, &mut body, at + HEADER as u64)?;
    Ok(count == body.len() && header.fits(&body))
}

pub(super) fn is_chunk(header: &Header, tid: TransactionId, seq: u64) -> bool {
    header.kind == kind::CHUNK && header.tid == tid.0 && header.seq == seq
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Catalog<F> {
    pub(super) transactions: TidMap<Transaction>,
    pub(crate) receivers: Vec<ReceiverName>,
    pub(super) segments: BTreeMap<u64, Segment<F>>,
    pub(super) crowd: Crowd,
}

impl<F: DiskFile> Catalog<F> {
    pub(super) fn new() -> Self {
        Self {
            transactions: TidMap::default(),
            receivers: Vec::new(),
            segments: BTreeMap::new(),
            crowd: Crowd::default(),
        }
    }

    /// Adds a segment that is later than all others.
    pub(super) fn absorb(&mut self, mut segment: Segment<F>, limits: &Limits) {
        let number = segment.id.number;
        for (&tid, part) in &mut segment.parts {
            let transaction = self.transactions.get_or_default(tid);
            let known = !transaction.segments.is_empty();
            transaction.segments.push(number);
            let Some(later) = &mut part.facts else { continue };
            let facts = &mut transaction.facts;
            if known {
                self.crowd.leave(facts);
            }
            let held = mem::take(&mut later.held);
            let held = if part.index.disk.is_some() { held } else { part.index.memory.held() };
            facts.merge(later, &held, self.crowd.most_listed(limits));
            self.crowd.enter(facts);
            if part.index.disk.is_none() {
                self.crowd.listed_changed(0, later.shares.range_count());
            }
        }
        segment.forget();
        self.segments.insert(number, segment);
    }

    /// What a segment must keep of a transaction that it has a part of.
    pub(super) fn need(&self, number: u64, tid: TransactionId) -> Need {
        self.transactions.get(tid).map_or(Need::Nothing, |transaction| transaction.need(number))
    }

    /// A transaction was released.
    pub(super) fn less_is_needed_of(&mut self, tid: TransactionId) {
        let Some(transaction) = self.transactions.get(tid) else { return };
        for number in &transaction.segments {
            if let Some(segment) = self.segments.get_mut(number) {
                segment.less_needed = true;
            }
        }
    }

    /// Drops a segment that was removed; what is left of it is for the caller to drop where nobody
    /// waits.
    pub(super) fn forget(&mut self, number: u64) -> Option<Segment<F>> {
        let segment = self.segments.remove(&number)?;
        for &tid in segment.parts.keys() {
            self.leave(number, tid);
        }
        Some(segment)
    }

    /// Takes a segment in the place of the one of the same number, of which it holds the rest.
    pub(super) fn replace(&mut self, segment: Segment<F>) -> Option<Segment<F>> {
        let number = segment.id.number;
        let old = self.segments.remove(&number)?;
        for &tid in old.parts.keys().filter(|tid| !segment.parts.contains_key(tid)) {
            self.leave(number, tid);
        }
        self.segments.insert(number, segment);
        Some(old)
    }

    /// A segment no longer has a part of a transaction.
    fn leave(&mut self, number: u64, tid: TransactionId) {
        let Some(transaction) = self.transactions.get_mut(tid) else { return };
        transaction.segments.retain(|&other| other != number);
        if let [last] = transaction.segments[..]
            && let Some(segment) = self.segments.get_mut(&last)
        {
            // It need not tell any more that this was released.
            segment.less_needed = true;
        }
        if transaction.segments.is_empty() {
            self.crowd.leave(&transaction.facts);
            self.transactions.remove(tid);
        }
    }

    /// Learns receivers that a segment repeats. A number nobody told of gets an empty name.
    pub(super) fn learn(&mut self, receivers: &BTreeMap<ReceiverId, ReceiverName>) {
        for (id, receiver) in receivers {
            let slot = usize::from(id.0);
            if self.receivers.len() <= slot {
                self.receivers.resize(slot + 1, ReceiverName::default());
            }
            self.receivers[slot].clone_from(receiver);
        }
    }

    /// The checksum of a chunk that is held and intact; `None` if no index tells of it.
    pub(super) fn crc_of(&self, tid: TransactionId, seq: u64) -> Result<Option<u32>, Unreadable> {
        let Some(transaction) = self.transactions.get(tid) else { return Ok(None) };
        // Newest first: a chunk is stored twice only if the older copy was found damaged.
        for number in transaction.segments.iter().rev() {
            let Some(segment) = self.segments.get(number) else { continue };
            if let Some(crc) = segment.crc_of(tid, seq)? {
                return Ok(Some(crc));
            }
        }
        Ok(None)
    }

    pub(crate) fn summary(&self, tid: TransactionId) -> Option<TransactionSummary> {
        Some(summary(tid, &self.transactions.get(tid)?.facts))
    }

    pub(crate) fn unfinished(&self) -> Vec<Unfinished> {
        let open = self.transactions.iter().filter(|(_, one)| one.facts.state() == State::Open);
        open.map(|(tid, Transaction { facts, .. })| Unfinished {
            tid,
            begun: facts.info.as_ref().map(|info| info.begun),
            last_append: facts.last_append,
            ranges: facts.held.range_count(),
            gapless: facts.held.contiguous_from_zero().is_some(),
            statement: facts.statement.as_deref().copied(),
        })
        .collect()
    }

    pub(crate) fn complete_before(&self, time: UnixMillis) -> Vec<TransactionId> {
        let old = |facts: &Facts| {
            facts.state() == State::Complete
                && facts.receipt.as_ref().is_some_and(|receipt| receipt.closed < time)
        };
        self.transactions.iter().filter(|(_, one)| old(&one.facts)).map(|(tid, _)| tid).collect()
    }

    pub(crate) fn list(&self) -> Vec<TransactionSummary> {
        self.transactions
            .iter()
            .map(|(tid, transaction)| summary(tid, &transaction.facts))
            .collect()
    }

    /// All that reading a transaction needs, so that no lock is held meanwhile.
    pub(crate) fn chunks(
        &self,
        tid: TransactionId,
        from: SequenceNumber,
    ) -> Result<Chunks<F>, ReadError> {
        let transaction = self.transactions.get(tid);
        let transaction = transaction
            .filter(|transaction| transaction.facts.release.is_none())
            .ok_or(ReadError::UnknownTransaction)?;
        let mut sources = Vec::new();
        for number in transaction.segments.iter().rev() {
            let Some(segment) = self.segments.get(number) else { continue };
            let Some(cursor) = segment.cursor(tid, from.0)? else { continue };
            sources.push(Source::new(cursor, Arc::clone(&segment.file), segment.id.seed()));
        }
        Ok(Chunks::new(tid, sources))
    }
}

fn summary(tid: TransactionId, facts: &Facts) -> TransactionSummary {
    TransactionSummary {
        tid,
        state: facts.state(),
        info: facts.info.as_deref().cloned(),
        sender: facts.sender.as_deref().copied(),
        chunks: if facts.release.is_some() { facts.shares.chunks() } else { facts.held.len() },
        bytes: facts.bytes,
        ranges: facts.held.clone(),
        shares: facts.shares.listed(&facts.held),
        last_append: facts.last_append,
        receipt: facts.receipt.as_deref().copied(),
        statement: facts.statement.as_deref().copied(),
    }
}
