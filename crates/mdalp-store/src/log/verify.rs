//! Checks every byte of a log and strikes out what is damaged, so that it can be sent again.
//!
//! Opening trusts footers; a bit that changes in a sealed segment shows when it is read, or here.

use std::mem;
use std::sync::{Arc, PoisonError};

use mdalp_proto::tidmap::TidMap;

use super::catalog::{Facts, Segment};
use super::crowd::Crowd;
use super::open::read_all;
use super::scan::{Scan, scan};
use super::{Damage, Inner, SegmentLog, footer};
use crate::disk::{Disk, DiskFile, is_full};
use crate::types::{Durability, ReadError};

impl<D: Disk> SegmentLog<D> {
    /// Reads all segments and returns all damage, old and new, by segment and offset.
    ///
    /// Chunks that turn out to be damaged are no longer held: the transaction is open again. Appending
    /// goes on while sealed segments are read. Worth a call after [`ReadError::Damaged`], and now and
    /// then.
    pub fn verify(&self) -> Result<Vec<Damage>, ReadError> {
        // A segment must not be replaced by one that was copied before damage in it was struck out.
        let _alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        let segments: Vec<_> = {
            let inner = self.inner();
            let active = inner.active.as_ref().map(|active| active.number);
            let segments = inner.catalog.segments.values();
            segments
                .filter(|segment| Some(segment.id.number) != active)
                .map(|segment| (Arc::clone(&segment.file), segment.id, segment.damage.clone()))
                .collect()
        };
        let mut changed = false;
        for (file, id, known) in segments {
            let found = scan(&read_all(&*file)?, id);
            if found.contents.damage != known || found.dirty > found.end {
                changed = true;
                self.seal_again(&mut self.inner(), id.number, found)?;
            }
        }
        let inner = &mut *self.inner();
        changed |= verify_active(inner)?;
        if changed {
            count_again(inner)?;
        }
        let segments = inner.catalog.segments.values();
        Ok(segments.flat_map(|segment| segment.damage.iter().copied()).collect())
    }

    /// Replaces what is believed of a sealed segment by what was found, on disk first.
    fn seal_again(
        &self,
        inner: &mut Inner<D::File>,
        number: u64,
        found: Scan,
    ) -> Result<(), ReadError> {
        let Some(segment) = inner.catalog.segments.get_mut(&number) else { return Ok(()) };
        let durable = self.options.durability == Durability::Fsync;
        let file = Arc::clone(&segment.file);
        let sealed = footer::seal(&*file, segment.id, found.end, durable, &found.contents);
        segment.parts = found.contents.parts;
        segment.damage = found.contents.damage;
        match sealed {
            Ok(slices) => segment.sealed(&slices),
            // Kept in memory, found again by the next opening or check.
            Err(error) if is_full(&error) => {}
            Err(error) => {
                inner.poisoned("sealing a segment", &error);
                return Err(error.into());
            }
        }
        Ok(())
    }
}

/// The same for the segment being written, whose index is in memory.
fn verify_active<F: DiskFile>(inner: &mut Inner<F>) -> Result<bool, ReadError> {
    let Some(active) = &inner.active else { return Ok(false) };
    let Some(segment) = inner.catalog.segments.get_mut(&active.number) else {
        return Ok(false);
    };
    let mut bytes = vec![0; active.end as usize];
    let count = segment.file.read_at(&mut bytes, 0)?;
    let found = scan(&bytes[..count], segment.id);
    // The last record may be the damaged one: then nothing valid follows it.
    if found.contents.damage == segment.damage && found.end == active.end {
        return Ok(false);
    }
    segment.parts = found.contents.parts;
    segment.damage = found.contents.damage;
    Ok(true)
}

/// Adds all transactions up anew from their parts.
fn count_again<F: DiskFile>(inner: &mut Inner<F>) -> Result<(), ReadError> {
    inner.catalog.transactions = TidMap::default();
    inner.catalog.crowd = Crowd::default();
    for (_, mut segment) in mem::take(&mut inner.catalog.segments) {
        read_facts(&mut segment)?;
        inner.catalog.absorb(segment, &inner.limits);
    }
    Ok(())
}

/// Reads the facts of a sealed segment from its footer.
fn read_facts<F: DiskFile>(segment: &mut Segment<F>) -> Result<(), ReadError> {
    if segment.parts.values().all(|part| part.facts.is_some()) {
        return Ok(());
    }
    let mut facts = footer::load(&*segment.file, segment.id)?
        .map(|(contents, _)| contents.parts)
        .unwrap_or_default();
    for (tid, part) in &mut segment.parts {
        if part.facts.is_none() {
            let read = facts.remove(tid).and_then(|part| part.facts);
            part.facts = Some(read.unwrap_or_else(|| Box::new(Facts::default())));
        }
    }
    Ok(())
}
