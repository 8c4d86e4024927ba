//! Rewriting: a sealed segment of which little is needed is replaced by one that holds only that.
//!
//! The new file has the number of the old one and takes its place in one step, after it was flushed. A
//! crash leaves one of the two, and both hold all that is needed; nothing is ever in two segments, and
//! the format knows nothing of it. Who reads the old file goes on doing so until done: places of
//! chunks are handed out together with the file that they are in.
//!
//! Locks: what is to be kept is looked up under `inner`, and the new segment is entered under it; copying
//! and flushing happen outside. What is released in between is kept this time. `reclaiming` is held
//! throughout, so segments are neither removed nor found damaged meanwhile.
//!
//! Each record is checked when it is copied. What is damaged is not repaired here: such a segment is
//! left alone, and [`super::verify`] strikes out what is lost. Failures before the new file is in place
//! change nothing: it is thrown away, and the segment is not tried again (lack of room apart) before
//! the log is opened anew.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::{Arc, MutexGuard};

use mdalp_proto::ids::TransactionId;

use super::catalog::{Need, Part, Segment};
use super::facts::Facts;
use super::format::{HEADER, Header, START, SegmentId, kind};
use super::index::{Entry, Slice};
use super::scan::{Contents, open_part};
use super::{Inner, SegmentLog, footer};
use crate::disk::{Disk, DiskFile, is_full, write_all_at};
use crate::types::StoreError;

/// Read, and written and flushed, at once.
const PIECE: u64 = 256 << 10;
/// What a chunk takes beside its data: header and index.
const PER_CHUNK: u64 = (HEADER + Entry::LEN) as u64;
/// About what a transaction takes without chunks: its records, and its part of the footer.
const PER_TRANSACTION: u64 = 128;

/// What is to become of a segment.
#[derive(Debug)]
struct Plan<F> {
    file: Arc<F>,
    id: SegmentId,
    keep: BTreeMap<TransactionId, Need>,
    /// About how large the new file will be.
    size: u64,
}

/// What a segment takes now, what of that is needed, and how much of that is payload.
#[derive(Clone, Copy, Default, Debug)]
struct Sizes {
    all: u64,
    needed: u64,
    payload: u64,
}

impl Sizes {
    /// Space is to stay below twice the payload that is needed. A chunk of 100 bytes takes 148, so that
    /// a segment reaches that when 0.74 of it are needed, and one of larger chunks later.
    ///
    /// At least a quarter must become free, whatever the payload: from one rewriting of a segment to
    /// the next it shrinks to 3/4, so in all no more than 3/4 + (3/4)² + … = 3 times its size is written.
    /// Also, what was just rewritten is never worth it again.
    fn are_worth_it(self) -> bool {
        self.all > 2 * self.payload && self.needed <= self.all / 4 * 3
    }
}

impl<F: DiskFile> Inner<F> {
    /// What a segment is to be replaced by, if it is worth it.
    fn plan(&mut self, number: u64) -> Option<Plan<F>> {
        let is_active = self.active.as_ref().is_some_and(|active| active.number == number);
        if is_active || !mem::take(&mut self.catalog.segments.get_mut(&number)?.less_needed) {
            return None;
        }
        let segment = self.catalog.segments.get(&number)?;
        if segment.given_up || !segment.damage.is_empty() {
            return None;
        }
        let mut keep = BTreeMap::new();
        let mut sizes = Sizes { all: START, needed: START, payload: 0 };
        for (&tid, part) in &segment.parts {
            // Without it the disk was full when the segment was sealed; the next opening does it again.
            let count = u64::from(part.index.disk?.count);
            let chunks = part.bytes + count * PER_CHUNK;
            sizes.all += chunks + PER_TRANSACTION;
            let need = self.catalog.need(number, tid);
            match need {
                Need::All => {
                    sizes.needed += chunks + PER_TRANSACTION;
                    sizes.payload += part.bytes;
                }
                Need::Release => sizes.needed += PER_TRANSACTION,
                Need::Nothing => continue,
            }
            keep.insert(tid, need);
        }
        let (file, id) = (Arc::clone(&segment.file), segment.id);
        let is_worth_it = !keep.is_empty() && sizes.are_worth_it();
        is_worth_it.then_some(Plan { file, id, keep, size: sizes.needed })
    }
}

impl<D: Disk> SegmentLog<D> {
    /// Rewrites the oldest segment that is worth it and for which there is room; `false` if none is worth
    /// it. Whatever else fails is told at once, and once for each segment.
    pub(super) fn rewrite_one(&self, alone: &MutexGuard<'_, ()>) -> Result<bool, StoreError> {
        let numbers: Vec<u64> = self.inner().catalog.segments.keys().copied().collect();
        let mut without_room = Ok(false);
        for number in numbers {
            let Some(plan) = self.inner().plan(number) else { continue };
            let done = self.rewrite(&plan, alone);
            if done.is_err() {
                // If this fails too, the next attempt removes it, or opening.
                let _ = self.disk.discard_drafts();
            }
            match done {
                Ok(()) => return Ok(true),
                Err(StoreError::Full) => {
                    if let Some(segment) = self.inner().catalog.segments.get_mut(&number) {
                        segment.less_needed = true;
                    }
                    without_room = Err(StoreError::Full);
                }
                Err(error) => {
                    if let Some(segment) = self.inner().catalog.segments.get_mut(&number) {
                        segment.given_up = true;
                    }
                    return Err(error);
                }
            }
        }
        without_room
    }

    fn rewrite(&self, plan: &Plan<D::File>, _: &MutexGuard<'_, ()>) -> Result<(), StoreError> {
        let id = plan.id;
        let failed = |error: io::Error| match error {
            error if is_full(&error) => StoreError::Full,
            error => StoreError::Io(error.kind()),
        };
        // It gives back more than it takes; the whole reserve is for those who only take.
        let reserve = self.options.limits.min_free_for_append / 4;
        if let Ok(Some(space)) = self.disk.space()
            && space.free < plan.size.saturating_add(reserve)
        {
            return Err(StoreError::Full);
        }
        self.disk.discard_drafts().map_err(failed)?;
        let file = self.disk.draft(id.number).map_err(failed)?;
        let copied = copy(plan, &file).map_err(failed)?;
        let (contents, end) = copied.ok_or(StoreError::Damaged { segment: id.number })?;
        // Flushed also in a store that does not flush: what it replaces has been on the disk for long.
        let slices = footer::seal(&file, id, end, true, &contents).map_err(failed)?;
        let body = footer::encode(id, true, &contents, &contents.parts, &slices);
        let len = file.len().map_err(failed)?;
        let segment = segment_of(file, id, contents, &slices);
        // Before the old one is gone, or a crash in between would make missed what was released in it.
        self.record_in_manifest(|manifest| manifest.add_sealed(id, len, &body))?;
        if let Err(error) = self.disk.replace(id.number) {
            // The old one is to be entered again.
            self.manifest().sealed.remove(&id.number);
            return Err(failed(error));
        }
        if let Err(error) = self.disk.sync_dir() {
            // The old file is still open and has all. What relies on the new one must not follow.
            return Err(self.inner().poisoned("replacing a segment", &error).into());
        }
        let mut inner = self.inner();
        let old = inner.catalog.replace(segment);
        drop(inner);
        drop(old);
        Ok(())
    }
}

fn segment_of<F: DiskFile>(
    file: F,
    id: SegmentId,
    contents: Contents,
    slices: &BTreeMap<TransactionId, Slice>,
) -> Segment<F> {
    let mut segment = Segment { parts: contents.parts, ..Segment::new(Arc::new(file), id) };
    segment.sealed(slices);
    segment.forget();
    segment
}

/// Writes what is to be kept to a new file, all but the footer: what that will say, and where it goes.
/// `None` if anything is not as it must be.
fn copy<F: DiskFile>(plan: &Plan<F>, to: &F) -> io::Result<Option<(Contents, u64)>> {
    let Some((mut old, _)) = footer::load(&*plan.file, plan.id)? else { return Ok(None) };
    let mut from = Source { file: &*plan.file, bytes: Vec::new(), at: 0 };
    let mut to = Target { file: to, bytes: plan.id.encode().to_vec(), at: 0 };
    let mut new = Contents {
        clock: old.clock,
        receivers: mem::take(&mut old.receivers),
        old: old.old,
        ..Contents::default()
    };
    let mut clock = None;
    let end = plan.file.len()?;
    let mut at = START;
    while at < end {
        let header = from.bytes(at, HEADER as u64)?;
        let Some(header) = header.and_then(|bytes| Header::decode(plan.id.seed(), bytes)) else {
            return Ok(None);
        };
        let len = header.record_len();
        if at + len > end {
            return Ok(None);
        }
        let Some(kept) = is_kept(plan, &header) else { return Ok(None) };
        if kept {
            let Some(record) = from.bytes(at, len)? else { return Ok(None) };
            if !header.fits(&record[HEADER..]) {
                return Ok(None);
            }
            match header.kind {
                kind::CLOCK => clock = Some(record.to_vec()),
                kind::CHUNK => {
                    to.put(&clock.take().unwrap_or_default())?;
                    let Ok(offset) = u32::try_from(to.put(record)?) else { return Ok(None) };
                    let (facts, index) = open_part(&mut new.parts, TransactionId(header.tid));
                    facts.bytes += u64::from(header.len);
                    index.push(Entry { seq: header.seq, offset, crc: header.crc });
                }
                _ => _ = to.put(record)?,
            }
        }
        at += len;
    }
    let end = to.end()?;
    let whole = plan.keep.iter().all(|(&tid, &need)| {
        let told = old.parts.get_mut(&tid).and_then(|part| part.facts.take());
        told.is_some_and(|told| take_facts(&mut new, tid, need, *told))
    });
    Ok((whole && new.parts.len() == plan.keep.len()).then_some((new, end)))
}

/// Whether a record goes into the new file; `None` if it is not understood.
fn is_kept<F>(plan: &Plan<F>, header: &Header) -> Option<bool> {
    let need = plan.keep.get(&TransactionId(header.tid)).copied().unwrap_or(Need::Nothing);
    match header.kind {
        kind::CHUNK | kind::BEGIN | kind::CLOSE | kind::STATEMENT | kind::ORIGIN | kind::LOST => {
            Some(need == Need::All)
        }
        kind::RELEASE => Some(need == Need::Release),
        kind::RECEIVER | kind::CLOCK => Some(true),
        kind::INDEX | kind::FOOTER | kind::TRAILER => Some(false),
        _ => None,
    }
}

/// Gives a transaction's new part the facts that the old footer `told`; `false` if the chunks that
/// were copied are not those that it told of.
fn take_facts(new: &mut Contents, tid: TransactionId, need: Need, mut told: Facts) -> bool {
    if need == Need::Release {
        let facts = Facts { release: told.release, ..Facts::default() };
        new.parts.insert(tid, Part { facts: Some(Box::new(facts)), ..Part::default() });
        return told.release.is_some();
    }
    let (found, index) = open_part(&mut new.parts, tid);
    let held = mem::take(&mut told.held);
    let same =
        index.held() == held && index.len() as u64 == held.len() && found.bytes == told.bytes;
    *found = told;
    same
}

/// Reads a file from front to back.
struct Source<'a, F> {
    file: &'a F,
    bytes: Vec<u8>,
    at: u64,
}

impl<F: DiskFile> Source<'_, F> {
    /// So many bytes; `None` if the file ends before.
    fn bytes(&mut self, at: u64, len: u64) -> io::Result<Option<&[u8]>> {
        if at < self.at || at + len > self.at + self.bytes.len() as u64 {
            self.bytes.resize(len.max(PIECE) as usize, 0);
            let count = self.file.read_at(&mut self.bytes, at);
            self.bytes.truncate(*count.as_ref().unwrap_or(&0));
            self.at = at;
            count?;
        }
        let start = (at - self.at) as usize;
        Ok(self.bytes.get(start..start + len as usize))
    }
}

/// Writes a file from front to back.
struct Target<'a, F> {
    file: &'a F,
    /// What is not written yet, and where that goes.
    bytes: Vec<u8>,
    at: u64,
}

impl<F: DiskFile> Target<'_, F> {
    /// Adds a record, and says where it is.
    fn put(&mut self, record: &[u8]) -> io::Result<u64> {
        if self.bytes.len() as u64 >= PIECE {
            self.write()?;
        }
        let offset = self.at + self.bytes.len() as u64;
        self.bytes.extend_from_slice(record);
        Ok(offset)
    }

    fn write(&mut self) -> io::Result<()> {
        write_all_at(self.file, &self.bytes, self.at)?;
        // All at once at the end, it would hold up the flushes of those who append.
        self.file.sync_data()?;
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    /// Writes the rest, and says where it ends.
    fn end(mut self) -> io::Result<u64> {
        self.write()?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_rewritten_is_not_worth_it_again_and_classic_chunks_stay_below_twice() {
        // Of a thousand chunks of so many bytes, so many are needed.
        let sizes = |bytes: u64, needed: u64| Sizes {
            all: START + 1000 * (bytes + PER_CHUNK),
            needed: START + needed * (bytes + PER_CHUNK),
            payload: needed * bytes,
        };
        for bytes in [0, 1, 100, 1200] {
            assert!(!sizes(bytes, 1000).are_worth_it());
            assert!(sizes(bytes, 0).are_worth_it());
        }
        for bytes in [100, 500, 1200] {
            let stays = (0..=1000).map(|needed| sizes(bytes, needed)).find(|s| !s.are_worth_it());
            let stays = stays.unwrap();
            assert!(stays.all <= 2 * stays.payload + START, "{stays:?}");
        }
        assert!(!sizes(1200, 600).are_worth_it(), "large chunks have time");
    }
}
