//! The manifest: which segments there are, and what each holds of which transaction, a second time.
//!
//! It is how opening notices that a segment is lost, empty, cut off, an older copy, or another one's content
//! ([`compare`]), and what a damaged segment's index and footer are checked against. Nothing is ever deleted
//! because of it: what it knows of releases only explains why something is not there.
//!
//! A file beside the segments: a header, then records as in segments ([`super::format`]), with the store's
//! seed for segment 0.
//!
//! | kind | TID | SEQ | receiver | body |
//! | --- | --- | --- | --- | --- |
//! | 64 | a sealed segment | length of its file | its format version | its footer's |
//! | 65 | the segment being written | how far it is written | its format version | a footer's |
//! | 66 | a segment that was removed | 0 | 0 | none |
//!
//! The last record of a segment counts. What makes a segment larger is recorded later, by
//! [`ChunkLog::checkpoint`](crate::ChunkLog::checkpoint) and when the log is closed: a crash in between costs
//! nothing but what would be noticed. What makes it smaller (removing, rewriting) is recorded and flushed
//! before it is done: a manifest that knows less than there is costs as little, and opening completes it.
//! Where there is no room for that, the manifest is made void by writing over its first bytes, and made anew
//! later.

use std::collections::BTreeMap;
use std::{io, mem};

use mdalp_proto::ids::TransactionId;
use mdalp_proto::ranges::RangeSet;

use super::catalog::Catalog;
use super::facts::Facts;
use super::footer;
use super::format::{HEADER, Header, SegmentId, VERSION};
use super::scan::{Contents, next_header};
use crate::disk::{Access, Disk, DiskFile, MANIFEST, read_exact_at, write_all_at};

const MAGIC: &[u8; 8] = b"MDALPMAN";
/// Where the first record is.
const START: usize = 64;
const SEALED: u8 = 64;
const ACTIVE: u8 = 65;
const REMOVED: u8 = 66;
/// Below this a manifest is not worth being copied without what no longer counts.
const SMALL: u64 = 1 << 20;
/// The segment being written is recorded at the latest after so many bytes, or after 16 times what that takes.
const MUCH: u64 = 8 << 20;
/// And after so many checkpoints: about a minute.
const LATEST: u32 = 60;

/// What the manifest says of a segment.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) contents: Contents,
    /// Length of the file; of the segment being written how far it is written.
    pub(super) len: u64,
    pub(super) sealed: bool,
    version: u32,
    /// Where the record is, and how long.
    at: (u64, u64),
}

pub(super) type Entries = BTreeMap<u64, Entry>;

/// Where the record of each segment is, and how long.
type Places = BTreeMap<u64, (u64, u64)>;

/// What was found instead of, or in, a manifest.
#[derive(Debug)]
pub(super) enum Found {
    /// None, or one that was made void.
    Nothing,
    /// It cannot be relied on.
    Damaged,
    /// Entries, the store, and where the records end.
    Good(Entries, u64, u64),
}

impl Found {
    /// Which store it belongs to.
    pub(super) fn store(&self) -> Option<u64> {
        match self {
            Self::Good(_, store, _) => Some(*store),
            _ => None,
        }
    }

    /// The last segment that it knows.
    pub(super) fn last(&self) -> Option<u64> {
        match self {
            Self::Good(entries, ..) => entries.keys().next_back().copied(),
            _ => None,
        }
    }

    /// What a segment's header should say.
    pub(super) fn id_of(&self, number: u64) -> Option<SegmentId> {
        let Self::Good(entries, store, _) = self else { return None };
        let version = entries.get(&number)?.version;
        Some(SegmentId { number, store: *store, version })
    }
}

fn header(store: u64) -> [u8; START] {
    let mut bytes = [0; START];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
    bytes[16..24].copy_from_slice(&store.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn seed(store: u64) -> u32 {
    SegmentId { number: MANIFEST, store, version: VERSION }.seed()
}

/// Reads the manifest of a directory.
pub(super) fn load<D: Disk>(disk: &D) -> io::Result<Found> {
    match disk.open(MANIFEST, Access::Read) {
        Ok(file) => match super::open::read_all(&file)? {
            (bytes, unreadable) if unreadable.is_empty() => Ok(decode(&bytes)),
            _ => Ok(Found::Damaged),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

fn decode(bytes: &[u8]) -> Found {
    if bytes.iter().take(MAGIC.len()).all(|&byte| byte == 0) {
        return Found::Nothing;
    }
    let store = bytes.get(16..24).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    let Some(store) = store.filter(|&store| bytes.get(..START) == Some(&header(store)[..])) else {
        return Found::Damaged;
    };
    let seed = seed(store);
    let mut entries = Entries::new();
    let mut at = START;
    while at < bytes.len() {
        let record = Header::decode(seed, &bytes[at..]).and_then(|header| {
            let body = bytes.get(at + HEADER..)?.get(..header.len as usize)?;
            header.fits(body).then_some((header, body))
        });
        let entered =
            record.and_then(|(header, body)| enter(&mut entries, store, at, &header, body));
        if entered.is_none() {
            // Nothing valid behind it: an addition that was cut short.
            if next_header(bytes, at + 1, seed).is_some() || record.is_some() {
                return Found::Damaged;
            }
            break;
        }
        at += record.map_or(0, |(header, _)| header.record_len() as usize);
    }
    Found::Good(entries, store, at as u64)
}

fn enter(entries: &mut Entries, store: u64, at: usize, header: &Header, body: &[u8]) -> Option<()> {
    let number = header.tid;
    if header.kind == REMOVED {
        entries.remove(&number);
        return Some(());
    }
    let sealed = header.kind == SEALED;
    if !sealed && header.kind != ACTIVE {
        return None;
    }
    let id = SegmentId { number, store, version: header.receiver.into() };
    let (contents, _) = footer::decode(body, id)?;
    let at = (at as u64, header.record_len());
    entries.insert(number, Entry { contents, len: header.seq, sealed, version: id.version, at });
    Some(())
}

/// A manifest that is added to.
#[derive(Debug)]
pub(super) struct Manifest<F> {
    /// `None`: there is none, or a void one.
    file: Option<F>,
    store: u64,
    end: u64,
    /// What is on record: length of each sealed segment's file.
    pub(super) sealed: BTreeMap<u64, u64>,
    /// Number of the segment being written and how far that was, and how large the record is.
    active: (u64, u64, u64),
    /// The segment being written, and how far, at the last checkpoint.
    seen: (u64, u64),
    /// Checkpoints since it was recorded.
    waited: u32,
    /// The last one of each segment.
    records: Places,
    /// Where it ended when there was no room for a copy.
    tried: u64,
    buf: Vec<u8>,
}

impl<F: DiskFile> Manifest<F> {
    /// None yet.
    pub(super) fn new(store: u64) -> Self {
        let (sealed, active, seen, waited, records, tried, buf) = Default::default();
        Self { file: None, store, end: 0, sealed, active, seen, waited, records, tried, buf }
    }

    /// Goes on with what was loaded.
    pub(super) fn resume(file: F, store: u64, end: u64, entries: &Entries) -> Self {
        let sealed = entries.iter().filter(|(_, entry)| entry.sealed);
        let sealed = sealed.map(|(&number, entry)| (number, entry.len)).collect();
        let records = entries.iter().map(|(&number, entry)| (number, entry.at)).collect();
        Self { file: Some(file), end, sealed, records, ..Self::new(store) }
    }

    pub(super) fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// Whether it is time to record the segment being written, which is written that far.
    ///
    /// At rest it is recorded if what is new is more than the record, so that the manifest grows less than the
    /// log; what is left, and what never rests, a minute later.
    pub(super) fn wants(&mut self, (number, at): (u64, u64)) -> bool {
        let (last, end, size) = self.active;
        let end = if last == number { end } else { 0 };
        let rests = mem::replace(&mut self.seen, (number, at)) == self.seen;
        let new = at.saturating_sub(end);
        self.waited = self.waited.saturating_add(1);
        let due = self.waited >= LATEST || new > MUCH.max(16 * size) || rests && new > size;
        new > 0 && due
    }

    /// The segment being written is to be recorded now, if it is not.
    pub(super) fn want(&mut self) {
        self.waited = LATEST;
    }

    /// Makes an empty one in the place of what there is.
    pub(super) fn create<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        let store = self.store;
        self.replace(disk, &header(store))?;
        self.sealed.clear();
        self.records.clear();
        self.active = (0, 0, 0);
        Ok(())
    }

    /// Copies it without what no longer counts, if that is most of it. No other draft may be in the making.
    pub(super) fn compact<D: Disk<File = F>>(&mut self, disk: &D) -> io::Result<()> {
        let live: u64 = self.records.values().map(|(_, len)| len).sum();
        if self.end < self.tried + SMALL || self.end < 3 * live {
            return Ok(());
        }
        // What cannot be read is made anew.
        let Ok((bytes, records)) = self.copied() else { return self.make_void() };
        let done = self.replace(disk, &bytes);
        if done.is_ok() {
            (self.records, self.tried) = (records, 0);
        } else {
            // Where there was no room, not again at once; the draft must not take what is left.
            self.tried = self.end;
            disk.discard_drafts()?;
        }
        done
    }

    /// What counts of it, and where that then is.
    fn copied(&self) -> io::Result<(Vec<u8>, Places)> {
        let mut bytes = header(self.store).to_vec();
        let mut records = self.records.clone();
        for (at, len) in records.values_mut() {
            let mut record = vec![0; *len as usize];
            read_exact_at(self.file.as_ref().ok_or(io::ErrorKind::NotFound)?, &mut record, *at)?;
            *at = bytes.len() as u64;
            bytes.append(&mut record);
        }
        Ok((bytes, records))
    }

    fn replace<D: Disk<File = F>>(&mut self, disk: &D, bytes: &[u8]) -> io::Result<()> {
        disk.discard_drafts()?;
        let file = disk.draft(MANIFEST)?;
        write_all_at(&file, bytes, 0)?;
        file.sync_data()?;
        disk.replace(MANIFEST)?;
        disk.sync_dir()?;
        self.file = Some(file);
        self.end = bytes.len() as u64;
        Ok(())
    }

    /// Adds what a sealed segment holds: the body of its footer.
    pub(super) fn add_sealed(&mut self, id: SegmentId, len: u64, body: &[u8]) {
        self.add(SEALED, id, len, body);
        self.sealed.insert(id.number, len);
    }

    /// Adds what the segment being written holds, up to `end`.
    pub(super) fn add_active(&mut self, id: SegmentId, end: u64, body: &[u8]) {
        self.add(ACTIVE, id, end, body);
        self.active = (id.number, end, body.len() as u64);
        self.waited = 0;
    }

    /// Adds that a segment was removed.
    pub(super) fn add_removed(&mut self, number: u64) {
        self.add(REMOVED, SegmentId { number, store: self.store, version: 0 }, 0, &[]);
        self.sealed.remove(&number);
        self.records.remove(&number);
    }

    fn add(&mut self, kind: u8, id: SegmentId, len: u64, body: &[u8]) {
        if self.file.is_some() {
            let header = Header::of(kind, id.version as u16, id.number, len, body);
            let at = self.end + self.buf.len() as u64;
            header.encode(seed(self.store), body, &mut self.buf);
            self.records.insert(id.number, (at, header.record_len()));
        }
    }

    /// Writes what was added, and flushes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.buf.is_empty() {
            return Ok(());
        }
        let written = write_all_at(file, &self.buf, self.end).and_then(|()| file.sync_data());
        self.end += self.buf.len() as u64;
        self.buf.clear();
        written
    }

    /// From now on it says nothing.
    pub(super) fn make_void(&mut self) -> io::Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        (self.sealed, self.active, self.records, self.buf) = Default::default();
        write_all_at(&file, &[0; MAGIC.len()], 0)?;
        file.sync_data()
    }
}

/// What a segment should tell of a transaction, and nothing on the disk does.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) segment: u64,
    pub(super) tid: TransactionId,
    /// What was known of it.
    pub(super) facts: Facts,
    /// Chunks that were held and are not.
    pub(super) lost: RangeSet,
    /// Of format version 1.
    pub(super) old: bool,
}

/// Compares what should be there with what is.
pub(super) fn compare<F: DiskFile>(entries: Entries, catalog: &Catalog<F>) -> Vec<Missing> {
    // The last segment that tells of a release.
    let mut released = BTreeMap::new();
    for (&number, entry) in &entries {
        for (&tid, part) in &entry.contents.parts {
            if part.facts.as_ref().is_some_and(|facts| facts.release.is_some()) {
                released.insert(tid, number);
            }
        }
    }
    let mut missing = Vec::new();
    for (number, entry) in entries {
        let old = entry.contents.old;
        for (tid, part) in entry.contents.parts {
            let Some(facts) = part.facts else { continue };
            if released.get(&tid).is_some_and(|&last| last >= number) {
                continue;
            }
            let nothing = Facts::default();
            let there = catalog.transactions.get(tid).map_or(&nothing, |found| &found.facts);
            if there.release.is_some() {
                continue;
            }
            let mut lost = facts.held.clone();
            lost.union_with(facts.lost.as_deref().unwrap_or(&RangeSet::new()));
            lost.subtract(&there.held);
            lost.subtract(there.lost.as_deref().unwrap_or(&RangeSet::new()));
            if !lost.is_empty() || there.lacks(&facts) {
                missing.push(Missing { segment: number, tid, facts: *facts, lost, old });
            }
        }
    }
    missing
}
