//! Maintenance in bounded steps: looks at every byte of the log, a piece at a time, and brings the manifest up
//! to date.
//!
//! What is not as it was written is left to [`super::verify`].

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

use super::catalog::Segment;
use super::format::{HEADER, Header, START, SegmentId, kind};
use super::manifest::Manifest;
use super::{Damage, Inner, SegmentLog, footer};
use crate::disk::{Disk, DiskFile, is_full, is_unreadable};
use crate::types::{Maintained, ReadError, StoreError};

/// So much is read in one step, unless one record is longer.
const STEP: u64 = 4 << 20;
/// And no less: a segment's header is looked at as a whole.
const LEAST: u64 = 64 << 10;
/// How far the round is.
#[derive(Default, Debug)]
pub(super) struct Scrub {
    /// The segment to go on with, or the next one.
    number: u64,
    /// Where in it.
    at: u64,
}

/// What a piece of a segment looked like.
enum Piece {
    /// Go on there.
    Good(u64),
    /// As it should be, up to its end.
    End,
    Suspect,
}

fn io_error(error: &std::io::Error) -> StoreError {
    StoreError::Io(error.kind())
}

fn unreadable(error: ReadError) -> StoreError {
    match error {
        ReadError::Io(kind) => StoreError::Io(kind),
        _ => StoreError::Unavailable,
    }
}

impl<D: Disk> SegmentLog<D> {
    /// See [`ChunkLog::checkpoint`](crate::ChunkLog::checkpoint). While segments are removed, rewritten or
    /// looked at, the next one does it.
    pub(super) fn checkpoint_now(&self) -> Result<(), StoreError> {
        let alone = match self.reclaiming.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        let poisoned = self.inner().poison.is_some();
        if poisoned { Ok(()) } else { self.complete_manifest(&alone) }
    }

    /// One step of maintenance, see [`ChunkLog::maintain`](crate::ChunkLog::maintain).
    pub(super) fn maintain_step(&self) -> Result<Maintained, StoreError> {
        let alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut damage = {
            let inner = &mut *self.inner();
            if inner.poison.is_some() {
                let damage = mem::take(&mut inner.unreported);
                let told = Maintained { damage, more: true };
                return if told.damage.is_empty() { Err(StoreError::Poisoned) } else { Ok(told) };
            }
            let bad = inner.catalog.segments.values().filter(|segment| segment.has_bad_index());
            inner.suspects.extend(bad.map(|segment| segment.id.number));
            mem::take(&mut inner.unreported)
        };
        let mended = self.check_suspects(&alone, &mut damage).map_err(unreadable);
        let is_poisoned = self.inner().poison.is_some();
        // What cannot be mended does not keep the others from being looked at.
        let scrubbed = if is_poisoned { Ok(false) } else { self.scrub_on(&alone, &mut damage) };
        match mended.and(scrubbed) {
            Ok(more) => Ok(Maintained { damage, more }),
            Err(error) => {
                // It was struck out all the same: a later step tells.
                self.inner().unreported.append(&mut damage);
                Err(error)
            }
        }
    }

    /// Goes on with the round; says whether there is more of it.
    fn scrub_on(
        &self,
        alone: &MutexGuard<'_, ()>,
        damage: &mut Vec<Damage>,
    ) -> Result<bool, StoreError> {
        self.complete_manifest(alone)?;
        let mut scrub = self.scrub.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = STEP;
        loop {
            let (number, at) = (scrub.number, scrub.at);
            let next = self.inner().catalog.segments.range(number..).next().map(|(&next, _)| next);
            let Some(next) = next else {
                *scrub = Scrub::default();
                return Ok(false);
            };
            let at = if next == number { at } else { 0 };
            // If this fails, the next step goes on behind it.
            (scrub.number, scrub.at) = (next + 1, 0);
            let (piece, read) = self.look_at(next, at, left).map_err(|error| io_error(&error))?;
            left = left.saturating_sub(read);
            match piece {
                Piece::Good(at) => (scrub.number, scrub.at) = (next, at),
                Piece::End => {}
                Piece::Suspect => {
                    if let Err(error) = self.check(next, alone, damage) {
                        self.inner().suspects.insert(next);
                        return Err(unreadable(error));
                    }
                    left = 0;
                }
            }
            if left == 0 {
                return Ok(true);
            }
        }
    }

    /// Checks the records of a segment from `at` on, about `most` bytes, and says how many it read.
    fn look_at(&self, number: u64, at: u64, most: u64) -> std::io::Result<(Piece, u64)> {
        let (file, id, end, known) = {
            let inner = self.inner();
            let Some(segment) = inner.catalog.segments.get(&number) else {
                return Ok((Piece::End, 0));
            };
            let active = inner.active.as_ref().filter(|active| active.number == number);
            let end = active.map(|active| active.end);
            (Arc::clone(&segment.file), segment.id, end, !segment.damage.is_empty())
        };
        let len = file.len()?;
        let sealed = end.is_none();
        let expected = self.manifest().sealed.get(&number).copied();
        if known || sealed && expected.is_some_and(|expected| expected != len) {
            return Ok((Piece::Suspect, len));
        }
        let end = end.unwrap_or(len);
        let mut bytes = vec![0; most.max(LEAST).min(end.saturating_sub(at)) as usize];
        let count = match file.read_at(&mut bytes, at) {
            Err(error) if is_unreadable(&error) => {
                return Ok((Piece::Suspect, bytes.len() as u64));
            }
            read => read?,
        };
        bytes.truncate(count);
        let mut from = 0;
        if at < START {
            // A piece always begins with the header or with a record.
            if bytes.get(..START as usize) != Some(&id.encode()[..]) {
                return Ok((Piece::Suspect, count as u64));
            }
            from = START as usize;
        }
        let mut last = 0;
        loop {
            let here = at + from as u64;
            if here == end {
                // Where a piece ends with the last record but one, the next begins with it.
                let whole = !sealed || last == kind::TRAILER || here == START;
                return Ok((if whole { Piece::End } else { Piece::Suspect }, count as u64));
            }
            let Some(rest) = bytes.get(from..).filter(|rest| rest.len() >= HEADER) else {
                let more = here + HEADER as u64 <= end && from > 0;
                return Ok((if more { Piece::Good(here) } else { Piece::Suspect }, count as u64));
            };
            let Some(header) = Header::decode(id.seed(), rest) else {
                return Ok((Piece::Suspect, count as u64));
            };
            let Some(body) = rest[HEADER..].get(..header.len as usize) else {
                let fits = here + header.record_len() <= end;
                return Ok(match (fits, from) {
                    (false, _) => (Piece::Suspect, count as u64),
                    (true, 0) => {
                        let (piece, read) = self.look_at(number, at, header.record_len())?;
                        (piece, count as u64 + read)
                    }
                    (true, _) => (Piece::Good(here), count as u64),
                });
            };
            if !header.fits(body) {
                return Ok((Piece::Suspect, count as u64));
            }
            last = header.kind;
            from += HEADER + body.len();
        }
    }

    pub(super) fn manifest(&self) -> MutexGuard<'_, Manifest<D::File>> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters what is not in the manifest yet: segments that were sealed, and how far the one being written
    /// is, see [`Manifest::wants`].
    pub(super) fn complete_manifest(&self, _: &MutexGuard<'_, ()>) -> Result<(), StoreError> {
        if !self.manifest().is_there() && !self.create_manifest()? {
            return Ok(());
        }
        let recorded: BTreeSet<u64> = self.manifest().sealed.keys().copied().collect();
        let (new, active) = {
            let inner = &mut *self.inner();
            let active = inner.active.as_ref().map(|active| (active.number, active.end));
            let is_new = |segment: &&Segment<D::File>| {
                let number = segment.id.number;
                !recorded.contains(&number) && active.is_none_or(|(other, _)| other != number)
            };
            let new = inner.catalog.segments.values().filter(is_new);
            let new: Vec<_> = new.map(|segment| (Arc::clone(&segment.file), segment.id)).collect();
            let wanted = active.is_some_and(|active| self.manifest().wants(active));
            (new, if wanted { self.snapshot(inner)? } else { None })
        };
        for some in new.chunks(64) {
            let mut add = Vec::new();
            for (file, id) in some {
                // Without a footer the disk was full when it was to be sealed. What cannot be read is for the
                // round to tell.
                if let (Ok(Some(body)), Ok(len)) = (footer::load_body(&**file, *id), file.len()) {
                    add.push((*id, len, body));
                }
            }
            self.record_in_manifest(|manifest| {
                for (id, len, body) in &add {
                    manifest.add_sealed(*id, *len, body);
                }
            })?;
        }
        if let Some((id, end, body)) = &active {
            self.record_in_manifest(|manifest| manifest.add_active(*id, *end, body))?;
        }
        let compacted = self.manifest().compact(&self.disk);
        match compacted {
            // It is tried again, and may go on growing meanwhile if there is room for that.
            Err(error) if is_full(&error) => Ok(()),
            compacted => compacted.map_err(|error| self.manifest_failed(&error)),
        }
    }

    /// What the segment being written holds, and how far it is.
    fn snapshot(
        &self,
        inner: &mut Inner<D::File>,
    ) -> Result<Option<(SegmentId, u64, Vec<u8>)>, StoreError> {
        let Some(active) = &inner.active else { return Ok(None) };
        let Some(segment) = inner.catalog.segments.get(&active.number) else { return Ok(None) };
        // A begin waits for the flush of its first chunk; if that was refused, nothing has flushed it. Not
        // while chunks are written: who flushes them must be the one to be told if that fails.
        if self.fsync()
            && let Err(error) = segment.file.sync_data()
        {
            return Err(inner.poisoned("flushing a segment", &error).into());
        }
        let body =
            footer::encode(segment.id, false, &active.contents, &segment.parts, &BTreeMap::new());
        Ok(Some((segment.id, active.end, body)))
    }

    /// Adds to the manifest, durably. Without room it says nothing from now on; any other failure is one of
    /// the disk (F30).
    pub(super) fn record_in_manifest(
        &self,
        add: impl FnOnce(&mut Manifest<D::File>),
    ) -> Result<(), StoreError> {
        let mut manifest = self.manifest();
        add(&mut manifest);
        let done = manifest
            .flush()
            .or_else(|error| if is_full(&error) { manifest.make_void() } else { Err(error) });
        drop(manifest);
        done.map_err(|error| self.inner().poisoned("writing the manifest", &error).into())
    }
}

/// Enters what is not in the manifest yet, if there is one.
impl<D: Disk> Drop for SegmentLog<D> {
    fn drop(&mut self) {
        if std::thread::panicking() || self.poison().is_some() || !self.manifest().is_there() {
            return;
        }
        let alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        self.manifest().want();
        // If it fails nothing is lost; it is as after a crash.
        let _ = self.complete_manifest(&alone);
    }
}
