//! Appending chunks, and writing any record.
//!
//! Does not recover ([`super::open`]) and does not change segments ([`super::roll`]).

use std::io;
use std::sync::atomic::Ordering;

use mdalp_proto::ids::TransactionId;
use mdalp_proto::tidmap::Place;

use super::catalog::{Catalog, Transaction, Unreadable};
use super::codec::Put;
use super::facts::Facts;
use super::format::{HEADER, Header, kind};
use super::scan::open_part;
use super::{Inner, Poison, SegmentLog};
use crate::disk::{Disk, DiskFile, write_all_at};
use crate::types::{
    AppendError, AppendResult, Appended, Durability, NewChunk, StoreError, TransactionInfo,
    UnixMillis,
};

/// What the free space allows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Room {
    Nothing,
    OldTransactions,
    All,
}

/// Look at the free space again after so many bytes.
const ROOM_CHECK: u64 = 8 << 20;
/// A segment has no more chunks: their index is in memory while it is written, and a full segment has
/// that many of classic size.
const MAX_CHUNKS: usize = 1 << 19;
/// Nor chunks of more transactions: released ones are remembered until their segment is removed, and
/// the one being written never is.
const MAX_TRANSACTIONS: usize = 1 << 15;
/// Length of a record of a sender.
const ORIGIN: u64 = HEADER as u64 + 18;
/// Chunks may be dated that much too early after a restart.
const CLOCK_STEP: u64 = 1000;

/// Why a record was not written.
pub(super) enum Refused {
    Full,
    Poisoned,
}

impl From<Refused> for StoreError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Full,
            Refused::Poisoned => Self::Poisoned,
        }
    }
}

fn record_len(chunk: &NewChunk<'_>) -> u64 {
    (HEADER + chunk.data.len()) as u64
}

/// Sorts chunks by transaction if they are few transactions' and mixed: who reads a payload then finds
/// more of it in one place.
fn bring_together(order: &mut [(Place, u32)]) {
    /// Of so many in the beginning one must come again.
    const LOOK_AT: usize = 32;
    let start = &order[..order.len().min(LOOK_AT)];
    let mixed = start.iter().enumerate().skip(2).any(|(at, &(place, _))| {
        start[at - 1].0 != place && start[..at - 1].iter().any(|earlier| earlier.0 == place)
    });
    if mixed {
        order.sort_by_key(|&(place, _)| place);
    }
}

impl<F: DiskFile> Inner<F> {
    pub(super) fn poisoned(&mut self, doing: &'static str, error: &io::Error) -> Refused {
        self.poison.get_or_insert(Poison { doing, error: error.kind() });
        Refused::Poisoned
    }

    /// What becomes of a chunk that is not to be written; `None` if it is.
    fn answer(&mut self, chunk: &NewChunk<'_>) -> Option<AppendResult> {
        let Some(transaction) = self.catalog.transactions.get(chunk.tid) else {
            return (self.room < Room::All).then_some(Err(AppendError::Full));
        };
        let facts = &transaction.facts;
        if facts.release.is_some() {
            return Some(Err(AppendError::Released));
        }
        if facts.held.contains(chunk.seq.0) {
            self.count();
            return Some(self.duplicate(chunk, [].iter()));
        }
        if facts.statement.as_ref().is_some_and(|statement| chunk.seq.0 >= statement.chunks) {
            return Some(Err(AppendError::BeyondEnd));
        }
        (self.room == Room::Nothing).then_some(Err(AppendError::Full))
    }

    /// Enters a fact into the transaction and into its part in the active segment.
    pub(super) fn note(&mut self, tid: TransactionId, enter: impl Fn(&mut Facts)) {
        let Some(active) = &self.active else { return };
        let Catalog { transactions, crowd, .. } = &mut self.catalog;
        let Transaction { facts, segments, .. } = transactions.get_or_default(tid);
        if !segments.is_empty() {
            crowd.leave(facts);
        }
        if segments.last() != Some(&active.number) {
            segments.push(active.number);
        }
        enter(facts);
        if facts.release.is_some() {
            facts.forget_ranges();
        }
        crowd.enter(facts);
        if let Some(segment) = self.catalog.segments.get_mut(&active.number) {
            enter(open_part(&mut segment.parts, tid).0);
        }
    }

    /// Enters the chunks of `piece` into what is held, and adds a result for each: `New` for those to
    /// be written now.
    fn take(&mut self, piece: &[NewChunk<'_>], results: &mut Vec<AppendResult>) {
        let Self { catalog: Catalog { transactions, crowd, .. }, runs, order, begun, room, .. } =
            self;
        let limits = &self.limits;
        let refused = if *room < Room::All { AppendError::Full } else { AppendError::Crowded };
        // All look-ups before all else: the processor waits for the memory of several at a time.
        runs.clear();
        begun.clear();
        let mut at = 0;
        runs.extend(piece.chunk_by(|a, b| a.tid == b.tid).map(|run| {
            let tid = run[0].tid;
            let first = at;
            at += run.len() as u32;
            let found = transactions.find(tid).or_else(|| {
                let admitted = *room == Room::All && crowd.admits(limits);
                admitted.then(|| {
                    let mut new = Transaction::default();
                    new.facts.sender = Some(Box::new(run[0].from));
                    crowd.enter(&new.facts);
                    begun.push(first);
                    transactions.insert(tid, new)
                })
            });
            (found, run.len())
        }));
        let (first, mut all_new) = (results.len(), true);
        order.clear();
        let mut next = 0;
        for &(place, len) in &*runs {
            let start = next;
            next += len;
            let run = &piece[start..next];
            let Some((place, Transaction { facts, .. })) =
                place.and_then(|place| Some((place, transactions.at(place, run[0].tid)?)))
            else {
                results.extend(run.iter().map(|_| Err(refused)));
                continue;
            };
            if facts.release.is_some() {
                results.extend(run.iter().map(|_| Err(AppendError::Released)));
                continue;
            }
            let before = facts.held.range_count();
            let most = crowd.most_ranges(limits);
            let end = facts.statement.as_ref().map(|statement| statement.chunks);
            results.extend(run.iter().zip(start as u32..).map(|(chunk, at)| {
                let held = &mut facts.held;
                if end.is_some_and(|end| chunk.seq.0 >= end) {
                    Err(AppendError::BeyondEnd)
                } else if held.range_count() >= most && held.would_open_range(chunk.seq.0) {
                    Err(AppendError::Crowded)
                } else if held.insert(chunk.seq.0) {
                    order.push((place, at));
                    Ok(Appended::New)
                } else {
                    all_new = false;
                    Err(AppendError::Damaged)
                }
            }));
            crowd.held_changed(before, &facts.held);
        }
        bring_together(order);
        if all_new {
            return;
        }
        self.count_before(piece);
        for (at, chunk) in piece.iter().enumerate() {
            if results[first + at] == Err(AppendError::Damaged) {
                results[first + at] = self.duplicate(chunk, piece[..at].iter());
            }
        }
    }

    /// What becomes of a chunk that is held. If no segment has it, it came `before` in the same batch.
    fn duplicate<'a>(
        &mut self,
        chunk: &NewChunk<'_>,
        mut before: impl Iterator<Item = &'a NewChunk<'a>>,
    ) -> AppendResult {
        let same = |earlier: &&NewChunk<'_>| (earlier.tid, earlier.seq) == (chunk.tid, chunk.seq);
        match self.catalog.crc_of(chunk.tid, chunk.seq.0) {
            Ok(Some(crc)) => return Ok(Appended::Duplicate { crc }),
            Ok(None) => {}
            Err(Unreadable(number)) => {
                self.suspects.insert(number);
                return Err(AppendError::Damaged);
            }
        }
        if let Some(earlier) = before.find(same) {
            return Ok(Appended::Duplicate { crc: earlier.crc });
        }
        self.suspect(chunk.tid);
        Err(AppendError::Damaged)
    }

    /// All segments of a transaction are to be looked at.
    pub(super) fn suspect(&mut self, tid: TransactionId) {
        if let Some(transaction) = self.catalog.transactions.get(tid) {
            self.suspects.extend(&transaction.segments);
        }
    }

    /// Notes which chunks were written from `offset` on: the new ones of the piece that was taken.
    fn written(&mut self, now: UnixMillis, piece: &[NewChunk<'_>], mut offset: u64) {
        for &(place, at) in &self.order {
            let chunk = &piece[at as usize];
            if let Some(transaction) = self.catalog.transactions.at(place, chunk.tid) {
                transaction.facts.last_append = transaction.facts.last_append.max(Some(now));
                self.fresh.push(place, transaction, chunk, offset);
            }
            offset += record_len(chunk);
        }
        if self.fresh.are_many() {
            self.count();
        }
    }
}

impl<D: Disk> SegmentLog<D> {
    pub(super) fn fsync(&self) -> bool {
        self.options.durability == Durability::Fsync
    }

    /// The largest record: so that it always fits into a new segment, beside the receivers.
    pub(super) fn max_record(&self) -> u64 {
        self.options.segment_bytes / 4
    }

    /// A chunk that is held but damaged is struck out at once, and kept anew.
    pub(super) fn append_batch(
        &self,
        now: UnixMillis,
        begun: &[(TransactionId, TransactionInfo)],
        batch: &[NewChunk<'_>],
        results: &mut Vec<AppendResult>,
    ) {
        self.append_once(now, begun, batch, results);
        if !results.contains(&Err(AppendError::Damaged)) || !self.mend_suspects() {
            return;
        }
        let mut again = Vec::new();
        for (result, chunk) in results.iter_mut().zip(batch) {
            if *result == Err(AppendError::Damaged) {
                self.append_once(now, &[], std::slice::from_ref(chunk), &mut again);
                *result = again.first().copied().unwrap_or(*result);
            }
        }
    }

    fn append_once(
        &self,
        now: UnixMillis,
        begun: &[(TransactionId, TransactionInfo)],
        batch: &[NewChunk<'_>],
        results: &mut Vec<AppendResult>,
    ) {
        results.clear();
        let inner = &mut *self.uncounted();
        if inner.room < Room::All {
            self.look_for_room(inner);
        }
        self.put_begins(inner, begun);
        let mut rest = batch;
        while let Some(first) = rest.first() {
            if inner.poison.is_some() {
                results.resize(batch.len(), Err(AppendError::Poisoned));
                return;
            }
            if record_len(first) > self.max_record() {
                results.push(Err(AppendError::TooLong));
                rest = &rest[1..];
                continue;
            }
            let mut fitting = self.fitting(inner, rest);
            if fitting == 0 && inner.room > Room::Nothing {
                match self.roll(inner) {
                    Err(Refused::Full) => inner.room = Room::Nothing,
                    Err(Refused::Poisoned) => continue,
                    Ok(()) => {
                        self.put_begins(inner, begun);
                        fitting = self.fitting(inner, rest).max(1);
                    }
                }
            }
            if inner.room == Room::Nothing {
                // Chunks that are held need no room and are still acknowledged.
                let answer = |chunk| inner.answer(chunk).unwrap_or(Err(AppendError::Full));
                results.extend(rest.iter().map(answer));
                return;
            }
            let (piece, later) = rest.split_at(fitting);
            self.append_piece(inner, now, piece, results);
            rest = later;
        }
    }

    /// Writes that these begin, unless they are known. Of one for which there is no room there must be no
    /// chunk either, though it may be shorter.
    fn put_begins(&self, inner: &mut Inner<D::File>, begun: &[(TransactionId, TransactionInfo)]) {
        for (tid, info) in begun {
            if self.put_begin(inner, *tid, info, false) == Err(StoreError::Full) {
                inner.room = inner.room.min(Room::OldTransactions);
            }
        }
    }

    /// How many chunks, from the first on, fit into the active segment.
    fn fitting(&self, inner: &Inner<D::File>, chunks: &[NewChunk<'_>]) -> usize {
        let Some(active) = &inner.active else { return 0 };
        let mut end = active.end + HEADER as u64;
        let segment = inner.catalog.segments.get(&active.number);
        let is_crowded = segment.is_some_and(|segment| segment.parts.len() >= MAX_TRANSACTIONS);
        let most = if is_crowded { 0 } else { MAX_CHUNKS.saturating_sub(active.chunks) };
        let mut before = None;
        let fits = |chunk: &&NewChunk<'_>| {
            // Its sender may have to be recorded.
            if before.replace(chunk.tid) != Some(chunk.tid) {
                end += ORIGIN;
            }
            end += record_len(chunk);
            end <= active.intake_limit() && record_len(chunk) <= self.max_record()
        };
        chunks.iter().take(most).take_while(fits).count()
    }

    /// Appends chunks for which there is room, in one write.
    fn append_piece(
        &self,
        inner: &mut Inner<D::File>,
        now: UnixMillis,
        piece: &[NewChunk<'_>],
        results: &mut Vec<AppendResult>,
    ) {
        let Some(active) = &mut inner.active else { return };
        let (seed, number) = (active.seed, active.number);
        let first = results.len();
        inner.buf.clear();
        let clock = active.contents.clock;
        let dated = now < clock || now.0 - clock.0 >= CLOCK_STEP;
        if dated {
            Header::of(kind::CLOCK, 0, now.0, 0, &[]).encode(seed, &[], &mut inner.buf);
        }
        inner.take(piece, results);
        if inner.order.is_empty() {
            return;
        }
        for &at in &inner.begun {
            let NewChunk { tid, from, .. } = piece[at as usize];
            let mut body = Vec::new();
            body.address(&from);
            Header::of(kind::ORIGIN, 0, tid.0, 0, &body).encode(seed, &body, &mut inner.buf);
        }
        let Some(active) = &mut inner.active else { return };
        let offset = active.end + inner.buf.len() as u64;
        if dated {
            active.contents.clock = now;
        }
        active.chunks += inner.order.len();
        for &(_, at) in &inner.order {
            let NewChunk { tid, seq, receiver, crc, data, .. } = piece[at as usize];
            debug_assert_eq!(crc, crate::chunk_crc(tid, seq, data));
            Header {
                kind: kind::CHUNK,
                receiver: receiver.0,
                len: data.len() as u32,
                tid: tid.0,
                seq: seq.0,
                crc,
            }
            .encode(seed, data, &mut inner.buf);
        }
        if self.write(inner).is_ok() {
            inner.written(now, piece, offset);
            for &at in &inner.begun {
                let NewChunk { tid, from, .. } = piece[at as usize];
                if let Some(segment) = inner.catalog.segments.get_mut(&number) {
                    open_part(&mut segment.parts, tid).0.sender = Some(Box::new(from));
                }
            }
            return;
        }
        inner.count_before(piece);
        for &(place, at) in &inner.order {
            let chunk = &piece[at as usize];
            if let Some(transaction) = inner.catalog.transactions.at(place, chunk.tid) {
                transaction.facts.held.remove(chunk.seq.0);
            }
        }
        inner.catalog.transactions.retain(|transaction| !transaction.segments.is_empty());
        results.truncate(first);
        results.resize(first + piece.len(), Err(AppendError::Poisoned));
    }

    /// Writes the buffer behind the last record and flushes it. After a failure nobody knows what is
    /// on the disk, so nothing may follow (F30).
    pub(super) fn write(&self, inner: &mut Inner<D::File>) -> Result<(), Refused> {
        self.put(inner, self.fsync())
    }

    /// Writes the buffer behind the last record. What is not flushed here goes with the next flush.
    pub(super) fn put(&self, inner: &mut Inner<D::File>, flush: bool) -> Result<(), Refused> {
        let Some(active) = &mut inner.active else { return Err(Refused::Full) };
        let Some(segment) = inner.catalog.segments.get(&active.number) else {
            return Err(Refused::Full);
        };
        if let Err(error) = write_all_at(&*segment.file, &inner.buf, active.end) {
            return Err(inner.poisoned("writing a segment", &error));
        }
        if flush && let Err(error) = segment.file.sync_data() {
            return Err(inner.poisoned("flushing a segment", &error));
        }
        active.end += inner.buf.len() as u64;
        let half = active.end > active.limit / 2
            || active.chunks > MAX_CHUNKS / 2
            || segment.parts.len() > MAX_TRANSACTIONS / 2;
        self.half_full.store(half, Ordering::Relaxed);
        inner.since_room_check += inner.buf.len() as u64;
        if inner.since_room_check >= ROOM_CHECK {
            self.look_for_room(inner);
        }
        Ok(())
    }

    pub(super) fn look_for_room(&self, inner: &mut Inner<D::File>) {
        inner.since_room_check = 0;
        let limits = self.options.limits;
        inner.room = match self.disk.space() {
            Ok(Some(space)) if space.free < limits.min_free_for_append => Room::Nothing,
            Ok(Some(space)) if space.free < limits.min_free_for_new.min(space.total / 10) => {
                Room::OldTransactions
            }
            // A platform that does not tell shows itself when a segment is allocated.
            _ => Room::All,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mdalp_proto::tidmap::TidMap;

    #[test]
    fn only_chunks_of_transactions_that_come_again_change_their_order() {
        let mut map = TidMap::default();
        let places: Vec<_> = (0..200).map(|tid| map.insert(TransactionId(tid), ())).collect();
        let order = |tids: &mut dyn Iterator<Item = usize>| {
            let mut order: Vec<_> = tids.map(|tid| places[tid]).zip(0..).collect();
            bring_together(&mut order);
            order.into_iter().map(|(_, at)| at).collect::<Vec<_>>()
        };
        assert_eq!(order(&mut (0..9).map(|at| at % 3)), [0, 3, 6, 1, 4, 7, 2, 5, 8]);
        let as_they_came: Vec<_> = (0..200).collect();
        assert_eq!(order(&mut (0..200).map(|at| at / 50)), as_they_came);
        assert_eq!(order(&mut (0..200).rev()), as_they_came);
    }
}
