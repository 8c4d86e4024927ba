//! The life of segments: made ready beforehand, sealed when full, removed when nothing in them is needed.
//! Does not look into them; [`super::rewrite`] does.

use std::io;
use std::mem;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

use super::catalog::{Need, Segment};
use super::codec::Put;
use super::footer;
use super::format::{Header, START, SegmentId, VERSION, kind};
use super::scan::Contents;
use super::write::Refused;
use super::{Active, Inner, SegmentLog, Spare};
use crate::disk::{Allocate, Disk, DiskFile, is_full, write_all_at};
use crate::types::{ReceiverId, StoreError};

impl<D: Disk> SegmentLog<D> {
    /// Makes the next segment ready, so that no batch waits for it, unless one is.
    pub(super) fn make_spare(&self) -> Result<(), StoreError> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.ready.is_some() {
            return Ok(());
        }
        match self.make_segment(&mut spare) {
            Ok(made) => {
                spare.ready = Some(made);
                Ok(())
            }
            Err(error) if is_full(&error) => Err(StoreError::Full),
            Err(error) => {
                drop(spare);
                Err(self.inner().poisoned("preparing a segment", &error).into())
            }
        }
    }

    fn make_segment(&self, spare: &mut Spare<D::File>) -> io::Result<(u64, D::File)> {
        let size = self.options.segment_bytes;
        if let Some(space) = self.disk.space()?
            && space.free < size.saturating_add(self.options.limits.min_free_for_append)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // A number is never used twice: what a failed attempt leaves behind may not be gone for good.
        let number = spare.next_number;
        spare.next_number += 1;
        let file = self.disk.create(number)?;
        match self.make_ready(&file, number) {
            Ok(()) => Ok((number, file)),
            Err(error) => {
                // If this fails too, the next opening removes the empty segment.
                let _ = self.disk.remove(number);
                Err(error)
            }
        }
    }

    /// Of a new segment.
    fn id_of(&self, number: u64) -> SegmentId {
        SegmentId { number, store: self.store, version: VERSION }
    }

    fn make_ready(&self, file: &D::File, number: u64) -> io::Result<()> {
        let how = if self.fsync() { Allocate::Zero } else { Allocate::Reserve };
        file.allocate(self.options.segment_bytes, how)?;
        write_all_at(file, &self.id_of(number).encode(), 0)?;
        if self.fsync() {
            file.sync_data()?;
            self.disk.sync_dir()?;
        }
        Ok(())
    }

    /// Seals the active segment and goes on in the next one.
    pub(super) fn roll(&self, inner: &mut Inner<D::File>) -> Result<(), Refused> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = match spare.ready.take() {
            Some(ready) => Ok(ready),
            None => self.make_segment(&mut spare),
        };
        drop(spare);
        let (number, file) = match ready {
            Ok(made) => made,
            Err(error) if is_full(&error) => return Err(Refused::Full),
            Err(error) => return Err(inner.poisoned("preparing a segment", &error)),
        };
        self.seal_active(inner)?;
        let id = self.id_of(number);
        let segment = Segment::new(Arc::new(file), id);
        inner.catalog.segments.insert(number, segment);
        let mut contents = Contents::default();
        inner.buf.clear();
        for (at, receiver) in inner.catalog.receivers.iter().enumerate() {
            let mut body = Vec::new();
            body.receiver(receiver);
            let header = Header::of(kind::RECEIVER, at as u16, 0, 0, &body);
            header.encode(id.seed(), &body, &mut inner.buf);
            contents.receivers.insert(ReceiverId(at as u16), receiver.clone());
        }
        let limit = self.options.segment_bytes;
        inner.active =
            Some(Active { number, seed: id.seed(), end: START, chunks: 0, limit, contents });
        if !inner.buf.is_empty() {
            self.write(inner)?;
        }
        self.look_for_room(inner);
        Ok(())
    }

    fn seal_active(&self, inner: &mut Inner<D::File>) -> Result<(), Refused> {
        inner.count();
        let Some(mut active) = inner.active.take() else { return Ok(()) };
        let Some(segment) = inner.catalog.segments.get_mut(&active.number) else { return Ok(()) };
        active.contents.parts = mem::take(&mut segment.parts);
        active.contents.damage.clone_from(&segment.damage);
        let file = Arc::clone(&segment.file);
        let sealed = footer::seal(&*file, segment.id, active.end, self.fsync(), &active.contents);
        segment.parts = active.contents.parts;
        match sealed {
            Ok(slices) => {
                segment.sealed(&slices);
                let listed = segment.parts.values().filter_map(|part| part.facts.as_ref());
                let listed = listed.map(|facts| facts.shares.range_count()).sum();
                inner.catalog.crowd.listed_changed(listed, 0);
                segment.forget();
            }
            // Its chunks are safe, and found by scanning: only opening takes longer. But a begin waits for
            // the flush of its first chunk, which goes into the next segment.
            Err(error) if is_full(&error) => {
                if self.fsync()
                    && let Err(error) = file.sync_data()
                {
                    return Err(inner.poisoned("flushing a segment", &error));
                }
            }
            Err(error) => return Err(inner.poisoned("sealing a segment", &error)),
        }
        Ok(())
    }

    /// Removes segments of which nothing is needed, oldest first, and rewrites one of which little is;
    /// says whether it did. Appending goes on meanwhile.
    pub(super) fn reclaim_segments(&self) -> Result<bool, StoreError> {
        let alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        self.remove_unneeded(&alone)?;
        let rewritten = self.rewrite_one(&alone)?;
        if rewritten {
            // Where that was a segment's last need of a later one.
            self.remove_unneeded(&alone)?;
        }
        Ok(rewritten)
    }

    /// Removes segments as above, unless somebody is about it.
    pub(super) fn remove_segments(&self) -> Result<(), StoreError> {
        match self.reclaiming.try_lock() {
            Ok(alone) => self.remove_unneeded(&alone),
            Err(TryLockError::Poisoned(error)) => self.remove_unneeded(&error.into_inner()),
            Err(TryLockError::WouldBlock) => Ok(()),
        }
    }

    /// A release record must outlive what it releases, or that would come back: a segment stays as
    /// long as an earlier one holds chunks that are released in it.
    fn remove_unneeded(&self, _: &MutexGuard<'_, ()>) -> Result<(), StoreError> {
        let numbers: Vec<u64> = self.inner().catalog.segments.keys().copied().collect();
        for number in numbers {
            let inner = self.inner();
            if inner.poison.is_some() {
                // It may be that an earlier removal is not durable.
                return Err(StoreError::Poisoned);
            }
            // What is not needed once never will be.
            if inner.needs(number) {
                continue;
            }
            drop(inner);
            // Before it is gone, or a crash in between would make it missed, with all that was released in it.
            // While it is still there, it is entered again.
            self.record_in_manifest(|manifest| manifest.add_removed(number))?;
            if self.disk.remove(number).is_err() {
                continue; // Nothing is lost but space; the next round tries again.
            }
            // One by one: a later removal must not become durable before an earlier one.
            let durable = self.disk.sync_dir();
            if let Err(error) = durable {
                return Err(self.inner().poisoned("removing a segment", &error).into());
            }
            let mut inner = self.inner();
            let removed = inner.catalog.forget(number);
            drop(inner);
            // Its space is given back when the file is closed, which takes a while.
            drop(removed);
        }
        Ok(())
    }
}

impl<F: DiskFile> Inner<F> {
    fn needs(&self, number: u64) -> bool {
        let Some(segment) = self.catalog.segments.get(&number) else { return true };
        self.active.as_ref().is_some_and(|active| active.number == number)
            || segment.parts.keys().any(|&tid| self.catalog.need(number, tid) != Need::Nothing)
    }
}
