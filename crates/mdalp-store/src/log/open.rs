//! Opening a log: what was found on the disk becomes a catalog, and the last segment is continued.
//!
//! Opening twice gives the same as opening once, and a crash in between changes nothing: the only bytes
//! written are identical ones, zeros over a torn tail, and footers. Drafts that a crash left are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::catalog::{Catalog, Segment};
use super::format::{FileHeader, START, SegmentId, VERSION, file_header};
use super::manifest::{self, Found, Manifest};
use super::place::{Files, Misplaced, put_in_place};
use super::scan::{Contents, Scan, scan, scan_readable, used};
use super::{
    Active, Damage, DamageKind, Inner, Limits, OpenError, Options, Poison, Recovery, SegmentLog,
    Spare, TornTail, footer, restore,
};
use crate::disk::{
    Access, Disk, DiskFile, MANIFEST, is_full, is_unreadable, read_what_can_be, write_all_at,
};
use crate::types::{Durability, ReceiverId, ReceiverName, StoreError};

fn failed(doing: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io { doing, source }
}

/// All bytes of a file, and where they could not be read.
pub(super) fn read_all(file: &impl DiskFile) -> io::Result<(Vec<u8>, Vec<Range<u64>>)> {
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    let (count, unreadable) = read_what_can_be(file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok((bytes, unreadable))
}

/// Writes a segment's header again. Where it cannot even be read this may fail, and the segment has to do
/// without.
pub(super) fn write_header(file: &impl DiskFile, id: SegmentId) -> io::Result<()> {
    match write_all_at(file, &id.encode(), 0) {
        Err(error) if is_unreadable(&error) => Ok(()),
        done => done,
    }
}

/// Writes the bytes of a segment again, but nothing over what could not be read.
fn write_again(
    file: &impl DiskFile,
    bytes: &[u8],
    range: Range<u64>,
    unreadable: &[Range<u64>],
) -> io::Result<()> {
    let mut at = range.start;
    let end = range.end..range.end;
    for bad in unreadable.iter().chain([&end]) {
        let to = bad.start.min(range.end);
        if at < to {
            write_all_at(file, &bytes[at as usize..to as usize], at)?;
        }
        at = at.max(bad.end);
    }
    Ok(())
}

/// A segment file, as far as its header goes.
enum Identified<F> {
    /// And whether the header is as it was written.
    Segment(Arc<F>, SegmentId, bool),
    /// Another segment of the same store.
    Misplaced(F, SegmentId),
    /// It was being made.
    Blank,
    /// Left alone; the number of which its header speaks.
    Unusable(Option<u64>),
}

fn read_header(file: &impl DiskFile) -> io::Result<FileHeader> {
    let mut bytes = [0; START as usize];
    let (count, _) = read_what_can_be(file, &mut bytes, 0)?;
    Ok(file_header(&bytes[..count]))
}

/// Which store this is, if there are segments of several: that of the newest. Its own next segment
/// will be newer still, so that the answer stays the same.
fn store_of<D: Disk>(disk: &D, numbers: &[u64]) -> Option<u64> {
    numbers.iter().rev().find_map(|&number| {
        let header = read_header(&disk.open(number, Access::Read).ok()?).ok()?;
        match header {
            FileHeader::Segment { id, .. } if id.number == number => Some(id.store),
            _ => None,
        }
    })
}

/// A segment that is under the manifest's name.
fn stray<D: Disk>(disk: &D, manifest: &Found) -> io::Result<Option<(D::File, SegmentId)>> {
    if !matches!(manifest, Found::Damaged) {
        return Ok(None);
    }
    let file = disk.open(MANIFEST, Access::Read)?;
    match read_header(&file)? {
        FileHeader::Segment { id, .. } => Ok(Some((file, id))),
        _ => Ok(None),
    }
}

/// Reads a file's header; what is wrong with it goes into `damage`.
fn identify<F: DiskFile>(
    file: F,
    number: u64,
    store: Option<u64>,
    manifest: &Found,
    damage: &mut Vec<Damage>,
) -> Result<Identified<F>, OpenError> {
    let reading = failed("reading a segment");
    let mut report = |kind| damage.push(Damage { segment: number, offset: 0, kind, chunk: None });
    match read_header(&file).map_err(&reading)? {
        FileHeader::Newer(found) => {
            Err(OpenError::Newer { segment: number, found, supported: VERSION })
        }
        FileHeader::Blank if used(&read_all(&file).map_err(&reading)?.0) == 0 => {
            Ok(Identified::Blank)
        }
        FileHeader::Bad | FileHeader::Blank => {
            report(DamageKind::Segment);
            // Its records still say whose they are.
            let id = manifest.id_of(number).filter(|id| store == Some(id.store));
            let (bytes, _) = read_all(&file).map_err(&reading)?;
            Ok(match id.filter(|&id| scan(&bytes, id).end > START) {
                Some(id) => Identified::Segment(Arc::new(file), id, false),
                None => Identified::Unusable(None),
            })
        }
        FileHeader::Segment { id, .. } if id.number != number && store == Some(id.store) => {
            report(DamageKind::Misplaced);
            Ok(Identified::Misplaced(file, id))
        }
        FileHeader::Segment { id, .. }
            if id.number != number || store.is_some_and(|store| store != id.store) =>
        {
            report(DamageKind::Foreign);
            Ok(Identified::Unusable(Some(id.number)))
        }
        FileHeader::Segment { id, intact } => {
            if !intact {
                report(DamageKind::SegmentHeaderCopy);
            }
            Ok(Identified::Segment(Arc::new(file), id, intact))
        }
    }
}

/// The catalog of a directory that somebody else may be writing.
pub(crate) fn load_read_only<D: Disk>(
    disk: &D,
) -> Result<(Catalog<D::File>, Vec<Damage>), OpenError> {
    let mut catalog = Catalog::new();
    let mut damage = Vec::new();
    let manifest = || manifest::load(disk).map_err(failed("reading the manifest"));
    let before = manifest()?;
    // Twice: where names move while a directory is listed, one of a file that is replaced meanwhile may
    // be missing.
    let mut numbers = BTreeSet::new();
    for _ in 0..2 {
        numbers.extend(disk.list().map_err(failed("listing the data directory"))?);
    }
    let numbers: Vec<u64> = numbers.into_iter().collect();
    let stray = stray(disk, &before).map_err(failed("reading the manifest"))?;
    let store = store_of(disk, &numbers).or(before.store());
    let store = store.or(stray.as_ref().map(|(_, id)| id.store));
    // All before any is read, the newest first: a release outlives what it releases, so whoever has a
    // transaction's chunks must have looked for its release before.
    let mut files = Vec::new();
    for number in numbers.into_iter().rev() {
        match disk.open(number, Access::Read) {
            Ok(file) => files.push((number, file)),
            // Removed since it was listed: nothing in it was needed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("opening a segment")(error)),
        }
    }
    let after = manifest()?;
    let mut good = BTreeMap::new();
    let mut misplaced = Vec::new();
    for (number, file) in files.into_iter().rev() {
        match identify(file, number, store, &before, &mut damage)? {
            Identified::Segment(file, id, _) => _ = good.insert(number, (file, id)),
            Identified::Misplaced(file, id) => misplaced.push((file, id)),
            Identified::Blank | Identified::Unusable(_) => {}
        }
    }
    misplaced.extend(stray.filter(|(_, id)| store == Some(id.store)));
    for (file, id) in misplaced {
        good.entry(id.number).or_insert_with(|| (Arc::new(file), id));
    }
    for (file, id) in good.into_values() {
        let reading = failed("reading a segment");
        let told = footer::load(&*file, id).map_err(&reading)?;
        let contents = if let Some((contents, _)) = told {
            contents
        } else {
            let (bytes, unreadable) = read_all(&*file).map_err(&reading)?;
            scan_readable(&bytes, &unreadable, id).contents
        };
        let (segment, receivers) = segment_of(file, id, contents);
        damage.extend_from_slice(&segment.damage);
        catalog.learn(&receivers);
        catalog.absorb(segment, &Limits::NONE);
    }
    damage.extend(restore::enter(&mut catalog, &before, after));
    Ok((catalog, damage))
}

/// What recovery has found so far.
struct Opening<'a, D: Disk> {
    disk: &'a D,
    fsync: bool,
    recovery: Recovery,
    catalog: Catalog<D::File>,
    active: Option<Active>,
}

type Settled<F> = (Segment<F>, BTreeMap<ReceiverId, ReceiverName>);

impl<D: Disk> Opening<'_, D> {
    fn remove(&self, number: u64) -> Result<(), OpenError> {
        self.disk.remove(number).map_err(failed("removing an empty segment"))
    }

    /// Brings one segment into order; `None` if it was empty and is gone.
    fn settle(
        &mut self,
        file: Arc<D::File>,
        id: SegmentId,
        last: bool,
    ) -> Result<Option<Settled<D::File>>, OpenError> {
        let reading = failed("reading a segment");
        if let Some((contents, durable)) = footer::load(&*file, id).map_err(&reading)?
            && (durable || !self.fsync)
        {
            return Ok(Some(segment_of(file, id, contents)));
        }
        let (mut bytes, unreadable) = read_all(&*file).map_err(&reading)?;
        let Scan { contents, end, dirty, sealed, .. } = scan_readable(&bytes, &unreadable, id);
        if contents.parts.is_empty() && !unreadable.is_empty() {
            // Not empty, but nothing of it can be read now.
            self.recovery.damage.extend(contents.damage);
            return Ok(None);
        }
        if dirty > end {
            let torn = TornTail { segment: id.number, offset: end, bytes: dirty - end };
            self.recovery.torn.push(torn);
        }
        if end == START {
            // Not even kept as the next segment: whether its name is durable is not known.
            self.remove(id.number)?;
            return Ok(None);
        }
        let continued = last
            && !sealed
            && id.version == VERSION
            && unreadable.last().is_none_or(|bad| bad.end < end);
        let limit = bytes.len() as u64;
        bytes.resize(bytes.len().max(dirty as usize), 0);
        bytes[end as usize..dirty as usize].fill(0);
        let from = if self.fsync { 0 } else { end };
        let to = if continued { dirty } else { end };
        write_again(&*file, &bytes, from..to, &unreadable)
            .and_then(|()| if self.fsync { file.sync_data() } else { Ok(()) })
            .map_err(failed("writing the last segment again"))?;
        if continued {
            let receivers = contents.receivers.clone();
            let chunks = contents.chunks();
            let (number, seed) = (id.number, id.seed());
            let mut active = Active { number, seed, end, chunks, limit, contents };
            let contents = Contents {
                parts: mem::take(&mut active.contents.parts),
                damage: mem::take(&mut active.contents.damage),
                receivers,
                ..Contents::default()
            };
            self.active = Some(active);
            return Ok(Some(segment_of(file, id, contents)));
        }
        let sealed = footer::seal(&*file, id, end, self.fsync, &contents);
        let (mut segment, receivers) = segment_of(Arc::clone(&file), id, contents);
        match sealed {
            Ok(slices) => segment.sealed(&slices),
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(failed("sealing a segment")(error)),
        }
        Ok(Some((segment, receivers)))
    }
}

fn segment_of<F: DiskFile>(file: Arc<F>, id: SegmentId, contents: Contents) -> Settled<F> {
    let Contents { parts, damage, receivers, .. } = contents;
    (Segment { parts, damage, ..Segment::new(file, id) }, receivers)
}

impl<D: Disk> SegmentLog<D> {
    /// Opens a log, or makes one in an empty directory.
    ///
    /// Reads the footers of sealed segments and all of the last one, and compares what they say with the
    /// manifest. In [`Durability::Fsync`] what the last segment holds is written once more and flushed
    /// before anything is acknowledged: after a killed process or a failed flush it may be in the cache
    /// alone, looking as if it were safe.
    pub fn open(disk: D, options: Options) -> Result<Self, OpenError> {
        let lock = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked,
            _ => failed("locking the data directory")(error),
        })?;
        let segment_bytes = options.segment_bytes.clamp(4 << 10, 1 << 30);
        let options = Options { segment_bytes, ..options };
        disk.discard_drafts().map_err(failed("removing what was not finished"))?;
        let numbers = disk.list().map_err(failed("listing the data directory"))?;
        let manifest = manifest::load(&disk).map_err(failed("reading the manifest"))?;
        let stray = stray(&disk, &manifest).map_err(failed("reading the manifest"))?;
        let store = store_of(&disk, &numbers).or(manifest.store());
        let store = store.or(stray.as_ref().map(|(_, id)| id.store));
        let mut opening = Opening {
            disk: &disk,
            fsync: options.durability == Durability::Fsync,
            recovery: Recovery::default(),
            catalog: Catalog::new(),
            active: None,
        };
        let mut files = Files::default();
        for &number in &numbers {
            let file = disk.open(number, Access::Write).map_err(failed("opening a segment"))?;
            let damage = &mut opening.recovery.damage;
            match identify(file, number, store, &manifest, damage)? {
                Identified::Segment(file, id, intact) => {
                    if !intact {
                        write_header(&*file, id)
                            .and_then(|()| file.sync_data())
                            .map_err(failed("writing a segment's header again"))?;
                    }
                    files.good.insert(number, (file, id));
                }
                Identified::Misplaced(file, id) => {
                    files.misplaced.push(Misplaced { name: number, file, id });
                }
                Identified::Blank => opening.remove(number)?,
                Identified::Unusable(id) => _ = files.unusable.insert(number, id),
            }
        }
        match stray {
            Some((file, id)) if store == Some(id.store) => {
                files.misplaced.push(Misplaced { name: MANIFEST, file, id });
            }
            Some((_, id)) => _ = files.unusable.insert(MANIFEST, Some(id.number)),
            None => {}
        }
        let mut last = numbers.last().copied().max(manifest.last()).unwrap_or(MANIFEST);
        put_in_place(&disk, &mut files, &mut last)
            .map_err(failed("putting a segment in its place"))?;
        // From the end, because only the last segment with records can be continued.
        let mut settled = Vec::new();
        for (file, id) in files.good.into_values().rev() {
            settled.extend(opening.settle(file, id, settled.is_empty())?);
        }
        for (segment, receivers) in settled.into_iter().rev() {
            opening.recovery.damage.extend_from_slice(&segment.damage);
            opening.catalog.learn(&receivers);
            opening.catalog.absorb(segment, &options.limits);
        }
        if opening.fsync {
            disk.sync_dir().map_err(failed("flushing the data directory"))?;
        }
        let Opening { recovery, catalog, active, .. } = opening;
        let store = store.unwrap_or(options.new_store_id);
        let mut log = Self {
            store,
            options,
            recovery,
            spare: Mutex::new(Spare { ready: None, next_number: last + 1 }),
            half_full: AtomicBool::new(false),
            scrub: Mutex::default(),
            inner: Mutex::new(Inner::new(options.limits, catalog, active)),
            manifest: Mutex::new(Manifest::new(store)),
            reclaiming: Mutex::new(()),
            _lock: lock,
            disk,
        };
        let found = log.compare_with(manifest).map_err(|error| log.open_error(&error))?;
        log.recovery.damage.extend(found);
        log.recovery.damage.sort_unstable();
        log.get_ready().map_err(|error| log.open_error(&error))?;
        Ok(log)
    }

    fn open_error(&self, error: &StoreError) -> OpenError {
        match self.poison() {
            Some(Poison { doing, error }) => failed(doing)(error.into()),
            None => failed("preparing a segment")(io::Error::other(*error)),
        }
    }

    fn get_ready(&self) -> Result<(), StoreError> {
        self.remove_segments()?;
        self.look_for_room(&mut self.inner());
        if self.inner().active.is_some() {
            // It is not full; when it is half full, the next one is made.
            return Ok(());
        }
        match self.make_spare() {
            // A full disk can still be read and released from.
            Err(StoreError::Full) => Ok(()),
            done => done,
        }
    }
}
