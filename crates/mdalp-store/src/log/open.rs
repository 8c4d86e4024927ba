//! Opening a log: what was found on the disk becomes a catalog, and the last segment is continued.
//!
//! Opening twice gives the same as opening once, and a crash in between changes nothing: the only bytes
//! written are identical ones, zeros over a torn tail, and footers. Drafts that a crash left are removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem;
use std::sync::{Arc, Mutex};

use super::catalog::{Catalog, Segment};
use super::format::{FileHeader, START, SegmentId, VERSION, file_header};
use super::fresh::Fresh;
use super::scan::{Contents, Scan, scan, used};
use super::write::Room;
use super::{
    Active, Damage, DamageKind, Inner, Limits, OpenError, Options, Poison, Recovery, SegmentLog,
    Spare, TornTail, footer,
};
use crate::disk::{Access, Disk, DiskFile, is_full, write_all_at};
use crate::types::{Durability, ReceiverId, ReceiverName, StoreError};

fn failed(doing: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io { doing, source }
}

/// All bytes of a file.
pub(super) fn read_all(file: &impl DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// A segment file, as far as its header goes.
enum Identified<F> {
    Segment(Arc<F>, SegmentId),
    /// It was being made.
    Blank,
    /// Left alone.
    Unusable,
}

fn read_header(file: &impl DiskFile) -> io::Result<FileHeader> {
    let mut bytes = [0; START as usize];
    let count = file.read_at(&mut bytes, 0)?;
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

/// Reads a file's header; what is wrong with it goes into `damage`.
fn identify<F: DiskFile>(
    file: F,
    number: u64,
    store: Option<u64>,
    damage: &mut Vec<Damage>,
) -> Result<Identified<F>, OpenError> {
    let reading = failed("reading a segment");
    let mut report = |kind| damage.push(Damage { segment: number, offset: 0, kind, chunk: None });
    match read_header(&file).map_err(&reading)? {
        FileHeader::Newer(found) => {
            Err(OpenError::Newer { segment: number, found, supported: VERSION })
        }
        FileHeader::Blank if used(&read_all(&file).map_err(&reading)?) == 0 => {
            Ok(Identified::Blank)
        }
        FileHeader::Bad | FileHeader::Blank => {
            report(DamageKind::Segment);
            Ok(Identified::Unusable)
        }
        FileHeader::Segment { id, .. }
            if id.number != number || store.is_some_and(|store| store != id.store) =>
        {
            report(DamageKind::Foreign);
            Ok(Identified::Unusable)
        }
        FileHeader::Segment { id, intact } => {
            if !intact {
                report(DamageKind::SegmentHeaderCopy);
            }
            Ok(Identified::Segment(Arc::new(file), id))
        }
    }
}

/// The catalog of a directory that somebody else may be writing.
pub(crate) fn load_read_only<D: Disk>(
    disk: &D,
) -> Result<(Catalog<D::File>, Vec<Damage>), OpenError> {
    let mut catalog = Catalog::new();
    let mut damage = Vec::new();
    // Twice: where names move while a directory is listed, one of a file that is replaced meanwhile may
    // be missing.
    let mut numbers = BTreeSet::new();
    for _ in 0..2 {
        numbers.extend(disk.list().map_err(failed("listing the data directory"))?);
    }
    let numbers: Vec<u64> = numbers.into_iter().collect();
    let store = store_of(disk, &numbers);
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
    for (number, file) in files.into_iter().rev() {
        let Identified::Segment(file, id) = identify(file, number, store, &mut damage)? else {
            continue;
        };
        let reading = failed("reading a segment");
        let contents = match footer::load(&*file, id).map_err(&reading)? {
            Some((contents, _)) => contents,
            None => scan(&read_all(&*file).map_err(&reading)?, id).contents,
        };
        let (segment, receivers) = segment_of(file, id, contents);
        damage.extend_from_slice(&segment.damage);
        catalog.learn(&receivers);
        catalog.absorb(segment, &Limits::NONE);
    }
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
        let mut bytes = read_all(&*file).map_err(&reading)?;
        let Scan { contents, end, dirty, sealed } = scan(&bytes, id);
        if dirty > end {
            let torn = TornTail { segment: id.number, offset: end, bytes: dirty - end };
            self.recovery.torn.push(torn);
        }
        if end == START {
            // Not even kept as the next segment: whether its name is durable is not known.
            self.remove(id.number)?;
            return Ok(None);
        }
        let continued = last && !sealed && id.version == VERSION;
        let limit = bytes.len() as u64;
        let (end, dirty) = (end as usize, dirty as usize);
        bytes[end..dirty].fill(0);
        let from = if self.fsync { 0 } else { end };
        let to = if continued { dirty } else { end };
        write_all_at(&*file, &bytes[from..to], from as u64)
            .and_then(|()| if self.fsync { file.sync_data() } else { Ok(()) })
            .map_err(failed("writing the last segment again"))?;
        if continued {
            let receivers = contents.receivers.clone();
            let chunks = contents.chunks();
            let (number, seed, end) = (id.number, id.seed(), end as u64);
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
        let sealed = footer::seal(&*file, id, end as u64, self.fsync, &contents);
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
    /// Reads the footers of sealed segments and all of the last one. In [`Durability::Fsync`] what the
    /// last segment holds is written once more and flushed before anything is acknowledged: after a
    /// killed process or a failed flush it may be in the cache alone, looking as if it were safe.
    pub fn open(disk: D, options: Options) -> Result<Self, OpenError> {
        let lock = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked,
            _ => failed("locking the data directory")(error),
        })?;
        let segment_bytes = options.segment_bytes.clamp(4 << 10, 1 << 30);
        let options = Options { segment_bytes, ..options };
        let mut opening = Opening {
            disk: &disk,
            fsync: options.durability == Durability::Fsync,
            recovery: Recovery::default(),
            catalog: Catalog::new(),
            active: None,
        };
        disk.discard_drafts().map_err(failed("removing what was not finished"))?;
        let numbers = disk.list().map_err(failed("listing the data directory"))?;
        let store = store_of(&disk, &numbers);
        let mut files = Vec::new();
        for &number in &numbers {
            let file = disk.open(number, Access::Write).map_err(failed("opening a segment"))?;
            let damage = &mut opening.recovery.damage;
            match identify(file, number, store, damage)? {
                Identified::Segment(file, id) => files.push((file, id)),
                Identified::Blank => opening.remove(number)?,
                Identified::Unusable => {}
            }
        }
        // From the end, because only the last segment with records can be continued.
        let mut settled = Vec::new();
        for (file, id) in files.into_iter().rev() {
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
        let Opening { mut recovery, catalog, active, .. } = opening;
        recovery.damage.sort_unstable();
        let inner = Inner {
            limits: options.limits,
            catalog,
            fresh: Fresh::default(),
            runs: Vec::new(),
            order: Vec::new(),
            begun: Vec::new(),
            active,
            buf: Vec::new(),
            poison: None,
            room: Room::All,
            since_room_check: 0,
        };
        let spare = Spare { ready: None, next_number: numbers.last().map_or(1, |last| last + 1) };
        let log = Self {
            store: store.unwrap_or(options.new_store_id),
            options,
            recovery,
            spare: Mutex::new(spare),
            inner: Mutex::new(inner),
            reclaiming: Mutex::new(()),
            _lock: lock,
            disk,
        };
        log.get_ready().map_err(|error| match log.poison() {
            Some(Poison { doing, error }) => failed(doing)(error.into()),
            None => failed("preparing a segment")(io::Error::other(error)),
        })?;
        Ok(log)
    }

    fn get_ready(&self) -> Result<(), StoreError> {
        self.remove_segments()?;
        self.look_for_room(&mut self.inner());
        match self.make_spare() {
            // A full disk can still be read and released from.
            Err(StoreError::Full) => Ok(()),
            done => done,
        }
    }
}
