//! Looks at every byte of the log and strikes out what is damaged, so that it can be sent again.
//!
//! Opening trusts footers; what changes in a segment afterwards shows when it is read, or here: in bounded
//! steps ([`super::scrub`]), or all at once. A segment in which anything is not as it was written is scanned
//! as a whole. What its records still say counts; what its footer, the manifest or the memory knows besides
//! (statements, receipts, which chunks there were) stays known; the rest is lost, by name. The segment then
//! gets a new index and footer, which say so, behind its records.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::tidmap::TidMap;

use super::catalog::{Catalog, Segment};
use super::crowd::Crowd;
use super::facts::Facts;
use super::format::{START, SegmentId};
use super::manifest::{self, Found};
use super::open::{read_all, write_header};
use super::scan::{Contents, Scan, open_part, scan, scan_readable};
use super::write::Refused;
use super::{Damage, DamageKind, Inner, SegmentLog, footer};
use crate::disk::{Disk, DiskFile, is_full, read_what_can_be};
use crate::types::{Durability, ReadError};

/// So many lost chunks of a segment are named one by one; all of them are known by their ranges.
const MOST_NAMED: usize = 256;

impl<D: Disk> SegmentLog<D> {
    /// Reads all segments and returns all damage, old and new, by segment and offset.
    ///
    /// Chunks that turn out to be damaged are no longer held. Appending goes on while sealed segments are
    /// read. [`maintain`](crate::ChunkLog::maintain) does the same in small steps.
    pub fn verify(&self) -> Result<Vec<Damage>, ReadError> {
        // A segment must not be replaced by one that was copied before damage in it was struck out.
        let alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut damage = Vec::new();
        for number in self.numbers() {
            if let Err(error) = self.check(number, &alone, &mut damage) {
                self.inner().unreported.append(&mut damage);
                return Err(error);
            }
        }
        let inner = self.inner();
        let segments = inner.catalog.segments.values();
        Ok(segments.flat_map(|segment| segment.damage.iter().copied()).collect())
    }

    fn numbers(&self) -> Vec<u64> {
        self.inner().catalog.segments.keys().copied().collect()
    }

    /// Strikes out what is damaged in the segments that were found to be suspect, unless somebody is about
    /// them: says whether it did.
    pub(super) fn mend_suspects(&self) -> bool {
        let alone = match self.reclaiming.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let mut damage = Vec::new();
        let done = self.check_suspects(&alone, &mut damage);
        self.inner().unreported.append(&mut damage);
        done.is_ok()
    }

    /// Those that cannot be looked at stay suspect.
    pub(super) fn check_suspects(
        &self,
        alone: &MutexGuard<'_, ()>,
        damage: &mut Vec<Damage>,
    ) -> Result<(), ReadError> {
        let mut failed = BTreeSet::new();
        let mut done = Ok(());
        loop {
            let next = self.inner().suspects.pop_first();
            let Some(number) = next else { break };
            if let Err(error) = self.check(number, alone, damage) {
                failed.insert(number);
                done = done.and(Err(error));
            }
        }
        self.inner().suspects.append(&mut failed);
        done
    }

    /// Looks at all of one segment, and strikes out what is damaged; adds what was not known before to
    /// `damage`, also if the disk fails meanwhile.
    pub(super) fn check(
        &self,
        number: u64,
        _: &MutexGuard<'_, ()>,
        damage: &mut Vec<Damage>,
    ) -> Result<(), ReadError> {
        let (file, id, known, counts, was_sealed) = {
            let inner = &mut *self.inner();
            if inner.active.as_ref().is_some_and(|active| active.number == number) {
                return self.check_active(inner, damage);
            }
            let Some(segment) = inner.catalog.segments.get(&number) else { return Ok(()) };
            let file = Arc::clone(&segment.file);
            (file, segment.id, segment.damage.clone(), counts(segment), segment.is_sealed())
        };
        let (bytes, unreadable) = read_all(&*file)?;
        let found = scan_readable(&bytes, &unreadable, id);
        let told = footer::load(&*file, id)?;
        let mut fresh = new_damage(&found, &known);
        let is_sealed = told.is_some() && found.end == bytes.len() as u64;
        let report = |kind, offset| Damage { segment: number, offset, kind, chunk: None };
        if is_header_bad(&bytes, &unreadable, id) {
            fresh.push(report(DamageKind::SegmentHeaderCopy, 0));
        }
        if was_sealed && !is_sealed && found.tail.is_empty() && unreadable.is_empty() {
            fresh.push(report(DamageKind::Lost, found.end));
        }
        if was_sealed && found_counts(&found.contents) != counts && fresh.is_empty() {
            fresh.push(report(DamageKind::Lost, found.end));
        }
        if fresh.is_empty() && (is_sealed || !was_sealed) {
            return Ok(());
        }
        let told = told.map(|(contents, _)| contents).or_else(|| self.recorded(number));
        let mut inner = self.inner();
        let struck_out = self.strike_out(&mut inner, number, found, told, &mut fresh);
        drop(inner);
        damage.append(&mut fresh);
        struck_out?;
        self.manifest().sealed.remove(&number);
        Ok(())
    }

    /// What the manifest says of a segment.
    fn recorded(&self, number: u64) -> Option<Contents> {
        match manifest::load(&self.disk) {
            Ok(Found::Good(mut entries, ..)) => entries.remove(&number).map(|entry| entry.contents),
            _ => None,
        }
    }

    /// Replaces what is believed of a sealed segment by what was found, on disk first.
    fn strike_out(
        &self,
        inner: &mut Inner<D::File>,
        number: u64,
        mut found: Scan,
        told: Option<Contents>,
        fresh: &mut Vec<Damage>,
    ) -> Result<(), ReadError> {
        let Some(segment) = inner.catalog.segments.get_mut(&number) else { return Ok(()) };
        let told = told.map(facts_of).unwrap_or_default();
        name_lost(&mut found.contents, told, number, fresh);
        // What names a lost chunk stays until the new footer, which says it too, is safe.
        let named = found.named;
        found.contents.damage.extend(found.tail.iter().filter(|one| one.offset < named));
        keep_names(&mut found.contents.damage, &segment.damage, fresh);
        let durable = self.options.durability == Durability::Fsync;
        let (file, id) = (Arc::clone(&segment.file), segment.id);
        let sealed = write_header(&*file, id)
            .and_then(|()| footer::seal(&*file, id, named, durable, &found.contents));
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
        count_again(inner)
    }

    /// The same for the segment being written, whose index is in memory. It is sealed early, so that its
    /// footer says what is lost.
    fn check_active(
        &self,
        inner: &mut Inner<D::File>,
        damage: &mut Vec<Damage>,
    ) -> Result<(), ReadError> {
        let Some(active) = &inner.active else { return Ok(()) };
        let (number, end) = (active.number, active.end);
        let Some(segment) = inner.catalog.segments.get_mut(&number) else {
            return Ok(());
        };
        let mut bytes = vec![0; end as usize];
        let (count, unreadable) = read_what_can_be(&*segment.file, &mut bytes, 0)?;
        bytes.truncate(count);
        let mut found = scan_readable(&bytes, &unreadable, segment.id);
        let mut fresh = new_damage(&found, &segment.damage);
        let report = |kind, offset| Damage { segment: number, offset, kind, chunk: None };
        if found.end != end && found.tail.is_empty() && unreadable.is_empty() {
            fresh.push(report(DamageKind::Lost, found.end));
        }
        if is_header_bad(&bytes, &unreadable, segment.id) {
            fresh.push(report(DamageKind::SegmentHeaderCopy, 0));
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let known = segment.parts.iter().map(|(&tid, part)| {
            let facts = part.facts.as_deref().cloned().unwrap_or_default();
            (tid, Facts { held: part.index.memory.held(), ..facts })
        });
        name_lost(&mut found.contents, known.collect(), number, &mut fresh);
        found.contents.damage.append(&mut found.tail);
        keep_names(&mut found.contents.damage, &segment.damage, &fresh);
        segment.parts = found.contents.parts;
        segment.damage = found.contents.damage;
        damage.append(&mut fresh);
        let id = segment.id;
        if let Err(error) = write_header(&*segment.file, id) {
            inner.poisoned("writing a segment", &error);
            return Err(error.into());
        }
        if let Some(active) = &mut inner.active {
            active.end = active.end.max(found.end);
        }
        count_again(inner)?;
        match self.roll(inner) {
            Ok(()) | Err(Refused::Full) => Ok(()),
            Err(Refused::Poisoned) => Err(ReadError::Unavailable),
        }
    }
}

/// Looks at every byte without changing anything: all damage, old and new, by segment and offset. The end of
/// a segment that is being written is not looked at.
pub(crate) fn find_damage<F: DiskFile>(catalog: &Catalog<F>) -> Result<Vec<Damage>, ReadError> {
    let mut all = Vec::new();
    for (&number, segment) in &catalog.segments {
        let (bytes, unreadable) = read_all(&*segment.file)?;
        let mut found = scan_readable(&bytes, &unreadable, segment.id);
        let told = footer::load(&*segment.file, segment.id)?;
        if !segment.is_sealed() {
            found.tail.clear();
        }
        let mut fresh = new_damage(&found, &segment.damage);
        let is_cut = told.is_none() && found.tail.is_empty() && unreadable.is_empty();
        if segment.is_sealed() && is_cut {
            fresh.push(Damage {
                segment: number,
                offset: found.end,
                kind: DamageKind::Lost,
                chunk: None,
            });
        }
        if !fresh.is_empty() {
            let told = told.map(|(contents, _)| facts_of(contents)).unwrap_or_default();
            name_lost(&mut found.contents, told, number, &mut fresh);
        }
        all.extend(segment.damage.iter().chain(&fresh));
    }
    Ok(all)
}

/// Whether a header is not as it was written. Of one that cannot be read the records behind it tell.
fn is_header_bad(bytes: &[u8], unreadable: &[Range<u64>], id: SegmentId) -> bool {
    unreadable.first().is_none_or(|bad| bad.start > 0)
        && bytes.get(..START as usize) != Some(&id.encode()[..])
}

fn facts_of(contents: Contents) -> BTreeMap<TransactionId, Facts> {
    let parts = contents.parts.into_iter();
    parts.filter_map(|(tid, part)| Some((tid, *part.facts?))).collect()
}

/// How many chunks of each transaction a sealed segment has.
fn counts<F>(segment: &Segment<F>) -> BTreeMap<TransactionId, u64> {
    let count = |part: &super::catalog::Part| part.index.disk.map_or(0, |slice| slice.count.into());
    let counts = segment.parts.iter().map(|(&tid, part)| (tid, count(part)));
    counts.filter(|&(_, count)| count > 0).collect()
}

fn found_counts(contents: &Contents) -> BTreeMap<TransactionId, u64> {
    let counts = contents.parts.iter().map(|(&tid, part)| (tid, part.index.memory.len() as u64));
    counts.filter(|&(_, count)| count > 0).collect()
}

/// What was found and was not known by its place.
fn new_damage(found: &Scan, known: &[Damage]) -> Vec<Damage> {
    let offsets: BTreeSet<u64> = known.iter().map(|damage| damage.offset).collect();
    let all = found.contents.damage.iter().chain(&found.tail);
    all.filter(|damage| !offsets.contains(&damage.offset)).copied().collect()
}

/// Gives `found` what was `known` of its transactions besides: what records that are damaged said, and
/// which chunks are lost. These are named in `fresh`; if they are too many, the last one there has no name.
fn name_lost(
    found: &mut Contents,
    known: BTreeMap<TransactionId, Facts>,
    number: u64,
    fresh: &mut Vec<Damage>,
) {
    let mut named: BTreeSet<_> = fresh.iter().filter_map(|damage| damage.chunk).collect();
    let mut lost_chunks = Vec::new();
    let mut cut_off = false;
    for (tid, facts) in known {
        let (part, index) = open_part(&mut found.parts, tid);
        let mut lost = facts.held.clone();
        lost.subtract(&index.held());
        part.lose(&lost);
        part.supplement(&facts);
        let chunks = lost.iter().flatten().map(|seq| (tid, SequenceNumber(seq)));
        let mut chunks = chunks.filter(|name| named.insert(*name));
        lost_chunks.extend(chunks.by_ref().take(MOST_NAMED));
        cut_off |= chunks.next().is_some();
    }
    for damage in fresh.iter().filter(|damage| damage.kind != DamageKind::Index) {
        if let Some((tid, seq)) = damage.chunk {
            part_lost(found, tid, seq);
        }
    }
    cut_off |= lost_chunks.len() > MOST_NAMED;
    let mut rest = lost_chunks.into_iter().take(MOST_NAMED);
    let nameless = fresh.iter_mut().filter(|damage| damage.kind == DamageKind::Header);
    let mut offset = 0;
    for damage in nameless {
        damage.chunk = rest.next();
        offset = damage.offset;
    }
    let lost = |chunk| Damage { segment: number, offset, kind: DamageKind::Lost, chunk };
    fresh.extend(rest.map(|chunk| lost(Some(chunk))));
    if cut_off {
        found.damage.push(lost(None));
        fresh.push(lost(None));
    }
}

fn part_lost(found: &mut Contents, tid: TransactionId, seq: SequenceNumber) {
    let one: RangeSet = [seq.0..=seq.0].into_iter().collect();
    open_part(&mut found.parts, tid).0.lose(&one);
}

/// Gives the damage that was found the names that are known.
fn keep_names(found: &mut Vec<Damage>, known: &[Damage], fresh: &[Damage]) {
    // Several chunks may be lost at one place: each keeps its name.
    let is_lost = |damage: &Damage| damage.kind == DamageKind::Lost;
    let all = known.iter().chain(fresh);
    let all = all.filter(|damage| damage.chunk.is_some() && !is_lost(damage));
    let names: BTreeMap<u64, Damage> = all.map(|damage| (damage.offset, *damage)).collect();
    for damage in found.iter_mut().filter(|damage| !is_lost(damage)) {
        damage.chunk = damage.chunk.or(names.get(&damage.offset).and_then(|one| one.chunk));
    }
    let offsets: BTreeSet<u64> = found.iter().map(|damage| damage.offset).collect();
    let keeps = |damage: &&Damage| is_lost(damage) || !offsets.contains(&damage.offset);
    found.extend(known.iter().filter(keeps));
    found.extend(fresh.iter().filter(|damage| is_lost(damage) && damage.chunk.is_some()));
    found.sort_unstable();
    found.dedup();
}

/// Adds all transactions up anew from their parts.
fn count_again<F: DiskFile>(inner: &mut Inner<F>) -> Result<(), ReadError> {
    for segment in inner.catalog.segments.values_mut() {
        if !read_facts(segment)? {
            inner.suspects.insert(segment.id.number);
        }
    }
    inner.catalog.transactions = TidMap::default();
    inner.catalog.crowd = Crowd::default();
    for (_, segment) in mem::take(&mut inner.catalog.segments) {
        inner.catalog.absorb(segment, &inner.limits);
    }
    Ok(())
}

/// Reads the facts of a sealed segment from its footer; `false` if that is damaged and its records were
/// asked instead.
fn read_facts<F: DiskFile>(segment: &mut Segment<F>) -> Result<bool, ReadError> {
    if segment.parts.values().all(|part| part.facts.is_some()) {
        return Ok(true);
    }
    let told = footer::load(&*segment.file, segment.id)?;
    let is_good = told.is_some();
    let mut facts = match told {
        Some((contents, _)) => contents.parts,
        None => scan(&read_all(&*segment.file)?.0, segment.id).contents.parts,
    };
    for (tid, part) in &mut segment.parts {
        if part.facts.is_none() {
            let read = facts.remove(tid).and_then(|part| part.facts);
            part.facts = Some(read.unwrap_or_else(|| Box::new(Facts::default())));
        }
    }
    Ok(is_good)
}
