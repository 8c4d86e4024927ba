//! Looks at every byte of the log and strikes out what is damaged, so that it can be sent again.
//!
//! Opening trusts footers; what changes in a segment afterwards shows when it is read, or here: in bounded
//! steps ([`scrub`](Scrub)), or all at once. A segment in which anything is not as it was written is scanned
//! as a whole. What its records still say counts; what its footer, the manifest or the memory knows besides
//! (statements, receipts, which chunks there were) stays known; the rest is lost, by name. The segment then
//! gets a new index and footer, which say so, behind its records.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::tidmap::TidMap;

use super::catalog::{Catalog, Facts, Segment};
use super::crowd::Crowd;
use super::format::{HEADER, Header, START, SegmentId, kind};
use super::manifest::{self, Found, Manifest};
use super::open::read_all;
use super::scan::{Contents, Scan, open_part, scan};
use super::write::Refused;
use super::{Damage, DamageKind, Inner, SegmentLog, footer};
use crate::disk::{Disk, DiskFile, is_full, write_all_at};
use crate::types::{Durability, Maintained, ReadError, StoreError};

/// So much is read in one step, unless one record is longer.
const STEP: u64 = 4 << 20;
/// And no less: a segment's header is looked at as a whole.
const LEAST: u64 = 64 << 10;
/// So many lost chunks of a segment are named one by one; all of them are known by their ranges.
const MOST_NAMED: usize = 256;

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

impl<D: Disk> SegmentLog<D> {
    /// Reads all segments and returns all damage, old and new, by segment and offset.
    ///
    /// Chunks that turn out to be damaged are no longer held. Appending goes on while sealed segments are
    /// read. [`maintain`](crate::ChunkLog::maintain) does the same in small steps.
    pub fn verify(&self) -> Result<Vec<Damage>, ReadError> {
        // A segment must not be replaced by one that was copied before damage in it was struck out.
        let alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        for number in self.numbers() {
            self.check(number, &alone)?;
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
        match self.check_suspects(&alone) {
            Ok(mut damage) => {
                self.inner().unreported.append(&mut damage);
                true
            }
            Err(_) => false,
        }
    }

    fn check_suspects(&self, alone: &MutexGuard<'_, ()>) -> Result<Vec<Damage>, ReadError> {
        let mut damage = Vec::new();
        loop {
            let next = self.inner().suspects.pop_first();
            let Some(number) = next else { return Ok(damage) };
            damage.append(&mut self.check(number, alone)?);
        }
    }

    /// One step of maintenance, see [`ChunkLog::maintain`](crate::ChunkLog::maintain).
    pub(super) fn maintain_step(&self) -> Result<Maintained, StoreError> {
        let alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        let unreadable = |error: ReadError| match error {
            ReadError::Io(kind) => StoreError::Io(kind),
            _ => StoreError::Unavailable,
        };
        let mut damage = {
            let inner = &mut *self.inner();
            if inner.poison.is_some() {
                return Err(StoreError::Poisoned);
            }
            let bad = inner.catalog.segments.values().filter(|segment| segment.has_bad_index());
            inner.suspects.extend(bad.map(|segment| segment.id.number));
            mem::take(&mut inner.unreported)
        };
        damage.append(&mut self.check_suspects(&alone).map_err(unreadable)?);
        self.complete_manifest(&alone)?;
        let mut scrub = self.scrub.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = STEP;
        loop {
            let (number, at) = (scrub.number, scrub.at);
            let next = self.inner().catalog.segments.range(number..).next().map(|(&next, _)| next);
            let Some(next) = next else {
                *scrub = Scrub::default();
                return Ok(Maintained { damage, more: false });
            };
            let at = if next == number { at } else { 0 };
            let (piece, read) = self.look_at(next, at, left).map_err(|error| io_error(&error))?;
            left = left.saturating_sub(read);
            (scrub.number, scrub.at) = match piece {
                Piece::Good(at) => (next, at),
                Piece::End => (next + 1, 0),
                Piece::Suspect => {
                    damage.append(&mut self.check(next, &alone).map_err(unreadable)?);
                    left = 0;
                    (next + 1, 0)
                }
            };
            if left == 0 {
                return Ok(Maintained { damage, more: true });
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
        let count = file.read_at(&mut bytes, at)?;
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

    /// Looks at all of one segment, and strikes out what is damaged; returns what was not known before.
    fn check(&self, number: u64, _: &MutexGuard<'_, ()>) -> Result<Vec<Damage>, ReadError> {
        let (file, id, known, counts, was_sealed) = {
            let inner = &mut *self.inner();
            if inner.active.as_ref().is_some_and(|active| active.number == number) {
                return self.check_active(inner);
            }
            let Some(segment) = inner.catalog.segments.get(&number) else { return Ok(Vec::new()) };
            let file = Arc::clone(&segment.file);
            (file, segment.id, segment.damage.clone(), counts(segment), segment.is_sealed())
        };
        let bytes = read_all(&*file)?;
        let found = scan(&bytes, id);
        let told = footer::load(&*file, id)?;
        let mut fresh = new_damage(&found, &known);
        let is_sealed = told.is_some() && found.end == bytes.len() as u64;
        let report = |kind, offset| Damage { segment: number, offset, kind, chunk: None };
        if bytes.get(..START as usize) != Some(&id.encode()[..]) {
            fresh.push(report(DamageKind::SegmentHeaderCopy, 0));
        }
        if was_sealed && !is_sealed && found.tail.is_empty() {
            fresh.push(report(DamageKind::Lost, found.end));
        }
        if was_sealed && found_counts(&found.contents) != counts && fresh.is_empty() {
            fresh.push(report(DamageKind::Lost, found.end));
        }
        if fresh.is_empty() && (is_sealed || !was_sealed) {
            return Ok(fresh);
        }
        let told = told.map(|(contents, _)| contents).or_else(|| self.recorded(number));
        let mut inner = self.inner();
        self.strike_out(&mut inner, number, found, told, &mut fresh)?;
        drop(inner);
        self.manifest().sealed.remove(&number);
        Ok(fresh)
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
        keep_names(&mut found.contents.damage, &segment.damage, fresh);
        let durable = self.options.durability == Durability::Fsync;
        let (file, id) = (Arc::clone(&segment.file), segment.id);
        let sealed = write_all_at(&*file, &id.encode(), 0)
            .and_then(|()| footer::seal(&*file, id, found.end, durable, &found.contents));
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
    fn check_active(&self, inner: &mut Inner<D::File>) -> Result<Vec<Damage>, ReadError> {
        let Some(active) = &inner.active else { return Ok(Vec::new()) };
        let (number, end) = (active.number, active.end);
        let Some(segment) = inner.catalog.segments.get_mut(&number) else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; end as usize];
        let count = segment.file.read_at(&mut bytes, 0)?;
        bytes.truncate(count);
        let mut found = scan(&bytes, segment.id);
        let mut fresh = new_damage(&found, &segment.damage);
        let report = |kind, offset| Damage { segment: number, offset, kind, chunk: None };
        if found.end != end && found.tail.is_empty() {
            fresh.push(report(DamageKind::Lost, found.end));
        }
        if bytes.get(..START as usize) != Some(&segment.id.encode()[..]) {
            fresh.push(report(DamageKind::SegmentHeaderCopy, 0));
        }
        if fresh.is_empty() {
            return Ok(fresh);
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
        let id = segment.id;
        if let Err(error) = write_all_at(&*segment.file, &id.encode(), 0) {
            inner.poisoned("writing a segment", &error);
            return Err(error.into());
        }
        count_again(inner)?;
        match self.roll(inner) {
            Ok(()) | Err(Refused::Full) => Ok(fresh),
            Err(Refused::Poisoned) => Err(ReadError::Unavailable),
        }
    }

    pub(super) fn manifest(&self) -> MutexGuard<'_, Manifest<D::File>> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters what is not in the manifest yet: segments that were sealed, and how far the one being written
    /// is. That is entered when nothing was appended since the last step, or much since it was entered.
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
            let before = mem::replace(&mut inner.seen_end, active.unwrap_or_default());
            let (number, end, size) = self.manifest().active;
            let snapshot = active.filter(|&(now, at)| {
                let known = if now == number { end } else { 0 };
                at > known && (before == (now, at) || at - known > (16 * size).max(1 << 20))
            });
            (new, snapshot.and_then(|_| snapshot_of(inner)))
        };
        for some in new.chunks(64) {
            let mut add = Vec::new();
            for (file, id) in some {
                let body = footer::load_body(&**file, *id).map_err(|error| io_error(&error))?;
                let len = file.len().map_err(|error| io_error(&error))?;
                // Without a footer the disk was full when it was to be sealed.
                add.extend(body.map(|body| (*id, len, body)));
            }
            self.record_in_manifest(|manifest| {
                add.iter().for_each(|(id, len, body)| manifest.add_sealed(*id, *len, body));
            })?;
        }
        let Some((id, end, body)) = active else { return Ok(()) };
        self.record_in_manifest(|manifest| manifest.add_active(id, end, &body))
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

/// Looks at every byte without changing anything: all damage, old and new, by segment and offset. The end of
/// a segment that is being written is not looked at.
pub(crate) fn find_damage<F: DiskFile>(catalog: &Catalog<F>) -> Result<Vec<Damage>, ReadError> {
    let mut all = Vec::new();
    for (&number, segment) in &catalog.segments {
        let bytes = read_all(&*segment.file)?;
        let mut found = scan(&bytes, segment.id);
        let told = footer::load(&*segment.file, segment.id)?;
        if !segment.is_sealed() {
            found.tail.clear();
        }
        let mut fresh = new_damage(&found, &segment.damage);
        if segment.is_sealed() && told.is_none() && found.tail.is_empty() {
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

fn facts_of(contents: Contents) -> BTreeMap<TransactionId, Facts> {
    let parts = contents.parts.into_iter();
    parts.filter_map(|(tid, part)| Some((tid, *part.facts?))).collect()
}

/// What the segment being written holds, for the manifest.
fn snapshot_of<F: DiskFile>(inner: &Inner<F>) -> Option<(SegmentId, u64, Vec<u8>)> {
    let active = inner.active.as_ref()?;
    let segment = inner.catalog.segments.get(&active.number)?;
    let body =
        footer::encode(segment.id, false, &active.contents, &segment.parts, &BTreeMap::new());
    Some((segment.id, active.end, body))
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
/// which chunks are lost. These are named in `fresh`.
fn name_lost(
    found: &mut Contents,
    known: BTreeMap<TransactionId, Facts>,
    number: u64,
    fresh: &mut Vec<Damage>,
) {
    let mut named: BTreeSet<_> = fresh.iter().filter_map(|damage| damage.chunk).collect();
    let mut lost_chunks = Vec::new();
    for (tid, facts) in known {
        let (part, index) = open_part(&mut found.parts, tid);
        let mut lost = facts.held.clone();
        lost.subtract(&index.held());
        part.lose(&lost);
        part.supplement(&facts);
        let names = lost.iter().flatten().map(|seq| (tid, SequenceNumber(seq)));
        lost_chunks.extend(names.filter(|name| named.insert(*name)).take(MOST_NAMED));
    }
    for damage in fresh.iter().filter(|damage| damage.kind != DamageKind::Index) {
        if let Some((tid, seq)) = damage.chunk {
            part_lost(found, tid, seq);
        }
    }
    let mut names = lost_chunks.into_iter().take(MOST_NAMED);
    let nameless = fresh.iter_mut().filter(|damage| damage.kind == DamageKind::Header);
    let mut offset = 0;
    for damage in nameless {
        damage.chunk = names.next();
        offset = damage.offset;
    }
    fresh.extend(names.map(|chunk| Damage {
        segment: number,
        offset,
        kind: DamageKind::Lost,
        chunk: Some(chunk),
    }));
}

fn part_lost(found: &mut Contents, tid: TransactionId, seq: SequenceNumber) {
    let one: RangeSet = [seq.0..=seq.0].into_iter().collect();
    open_part(&mut found.parts, tid).0.lose(&one);
}

/// Gives the damage that was found the names that are known.
fn keep_names(found: &mut Vec<Damage>, known: &[Damage], fresh: &[Damage]) {
    // Several chunks may be lost at one place: each keeps its name.
    let is_lost = |damage: &Damage| damage.kind == DamageKind::Lost && damage.chunk.is_some();
    let all = known.iter().chain(fresh);
    let all = all.filter(|damage| damage.chunk.is_some() && !is_lost(damage));
    let names: BTreeMap<u64, Damage> = all.map(|damage| (damage.offset, *damage)).collect();
    for damage in found.iter_mut() {
        damage.chunk = damage.chunk.or(names.get(&damage.offset).and_then(|one| one.chunk));
    }
    let offsets: BTreeSet<u64> = found.iter().map(|damage| damage.offset).collect();
    let keeps = |damage: &&Damage| is_lost(damage) || !offsets.contains(&damage.offset);
    found.extend(known.iter().filter(keeps));
    found.extend(fresh.iter().filter(|damage| is_lost(damage)));
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
        None => scan(&read_all(&*segment.file)?, segment.id).contents.parts,
    };
    for (tid, part) in &mut segment.parts {
        if part.facts.is_none() {
            let read = facts.remove(tid).and_then(|part| part.facts);
            part.facts = Some(read.unwrap_or_else(|| Box::new(Facts::default())));
        }
    }
    Ok(is_good)
}
