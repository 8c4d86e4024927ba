//! The embedded engine: an append-only log of segment files.
//!
//! - [`format`]: bytes of a segment. [`codec`]: bodies of records. [`footer`]: end of a sealed segment.
//! - [`scan`]: finds records without a footer. [`open`]: recovery. [`scrub`]: checks every byte, a piece at a
//!   time; [`verify`]: strikes out what is damaged.
//! - [`manifest`]: what there should be; [`restore`]: what is done about what is not there.
//! - [`index`], [`facts`], [`catalog`], [`share`] and [`fresh`]: what is held, in memory; [`crowd`]: how much that
//!   may be. [`chunks`]: reading it.
//! - [`write`]: appending. [`records`]: all but chunks. [`roll`]: the life of segments;
//!   [`rewrite`]: their remnants.
//!
//! One writer: appends take a mutex, write one contiguous piece for each batch and flush it once.
//! Nothing is ever changed in place but zeros after the last record. Reading holds the mutex only to
//! look up where the chunks are.
//!
//! Memory: about 20 bytes for each chunk of the segment being written, of which there are at most half
//! a million; nothing for each chunk of a sealed one; ranges and shares for each transaction, within
//! [`Limits`]. What was written last is counted later, by the
//! thousand ([`fresh`]), and in any case before anybody asks. Disk: a segment is removed when all transactions in it
//! are released, and rewritten without those that are when that makes it small enough.

mod catalog;
mod chunks;
mod codec;
mod crowd;
mod facts;
mod footer;
mod format;
mod fresh;
mod index;
mod manifest;
mod open;
mod place;
mod records;
mod restore;
mod rewrite;
mod roll;
mod scan;
mod scrub;
mod share;
mod verify;
mod write;

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::tidmap::Place;
use mdalp_proto::wire::Statement;

pub(crate) use open::load_read_only;

pub(crate) use catalog::Catalog;
pub(crate) use verify::find_damage;

use self::scan::Contents;
use crate::disk::Disk;
use crate::traits::{ChunkLog, Query, Transactions};
use crate::types::{
    AppendResult, Crowding, Durability, Maintained, NewChunk, ReadError, Receipt, ReceiverId,
    ReceiverName, Release, StoreError, TransactionInfo, TransactionSummary, Unfinished, UnixMillis,
};

/// How a [`SegmentLog`] behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Default [`Durability::Fsync`].
    pub durability: Durability,
    /// Size at which a segment is sealed; default 64 MiB, brought into 4 KiB to 1 GiB. Smaller ones free
    /// space sooner and are scanned faster after a crash; each costs a stall when it is sealed.
    pub segment_bytes: u64,
    /// What to leave free of the disk, and what to take of the memory.
    pub limits: Limits,
    /// Marks the segments of a new store; an existing one keeps its own. Draw it at random: it keeps
    /// chunks from being mistaken for records.
    pub new_store_id: u64,
}

impl Options {
    /// The defaults.
    pub fn new(new_store_id: u64) -> Self {
        Self {
            durability: Durability::default(),
            segment_bytes: 64 << 20,
            limits: Limits::default(),
            new_store_id,
        }
    }
}

/// Disk space to leave free (F28), looked at once for each segment and every 8 MiB; and memory that
/// unfinished transactions may take (H45, H46).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// No new transactions below this, or below a tenth of the disk if that is less. Default 1 GiB.
    pub min_free_for_new: u64,
    /// No chunks below this. Default 256 MiB.
    pub min_free_for_append: u64,
    /// Ranges of all transactions together, without the first one of each. Beyond it a chunk that would
    /// open a range is refused if its transaction has 32. Default 262,144, which is 4 MiB to 8 MiB.
    pub ranges: usize,
    /// Transactions that nobody began and that were never whole. Beyond it no more are begun by chunks.
    /// Default 16,384.
    pub unannounced: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_free_for_new: 1 << 30,
            min_free_for_append: 256 << 20,
            ranges: 262_144,
            unannounced: 16_384,
        }
    }
}

impl Limits {
    /// For tests: no limits.
    pub const NONE: Self = Self {
        min_free_for_new: 0,
        min_free_for_append: 0,
        ranges: usize::MAX,
        unannounced: usize::MAX,
    };
}

/// A place in the log whose checksum does not hold. What it held is asked for again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Damage {
    /// Number of the segment: its file name.
    pub segment: u64,
    /// Where in the file.
    pub offset: u64,
    /// What is damaged.
    pub kind: DamageKind,
    /// The chunk that is lost, where that is known.
    pub chunk: Option<(TransactionId, SequenceNumber)>,
}

/// What is damaged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum DamageKind {
    /// A record header, and everything up to the next valid one.
    Header,
    /// The body of a record.
    Body,
    /// A record that is intact but not understood.
    Meaning,
    /// One copy of a segment's header; nothing is lost.
    SegmentHeaderCopy,
    /// Both copies: the whole segment is left alone and nothing in it is used.
    Segment,
    /// The file is a segment of another store, and is left alone.
    Foreign,
    /// The file is another segment of this store than its name says.
    Misplaced,
    /// Chunks or other records that the segment had are not in the file any more, or the file is gone: it
    /// was cut off, removed, emptied, or an older copy was put in its place.
    Lost,
    /// A place that opening does not trust any more: index, footer or end of a sealed segment. Nothing is
    /// lost, it was made anew.
    Index,
    /// The manifest. Nothing is lost; what opening would have noticed by it this time, it did not.
    Manifest,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { segment, offset, kind, chunk } = self;
        let what = match kind {
            DamageKind::Header => "a record's header is damaged",
            DamageKind::Body => "a record is damaged",
            DamageKind::Meaning => "a record is not understood",
            DamageKind::SegmentHeaderCopy => "one copy of the header is damaged",
            DamageKind::Segment => "the header is damaged",
            DamageKind::Foreign => "the file belongs to another store",
            DamageKind::Misplaced => "the file is another segment than its name says",
            DamageKind::Lost => "less is in the file than was written, or it is gone",
            DamageKind::Index => "the index is damaged",
            DamageKind::Manifest => return f.write_str("the manifest is damaged"),
        };
        write!(f, "segment {segment} at {offset}: {what}")?;
        match chunk {
            Some((tid, seq)) => write!(f, ", transaction {tid} lost chunk {seq}"),
            None => Ok(()),
        }
    }
}

/// A write that was cut short, and was never acknowledged (or damage to the very last record).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// Number of the segment.
    pub segment: u64,
    /// Where the valid records end.
    pub offset: u64,
    /// How many bytes were discarded.
    pub bytes: u64,
}

/// What opening a log found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Recovery {
    /// By segment and offset.
    pub damage: Vec<Damage>,
    /// Discarded now; not reported again.
    pub torn: Vec<TornTail>,
}

/// Why a log takes no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{doing} failed: {error}")]
pub struct Poison {
    /// What failed.
    pub doing: &'static str,
    /// How.
    pub error: io::ErrorKind,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another log in this one, writes there.
    #[error("the data directory is in use by another server")]
    Locked,
    /// A later release wrote it.
    #[error("segment {segment} has format {found}; this release understands up to {supported}")]
    Newer {
        /// Number of the segment.
        segment: u64,
        /// Its format.
        found: u32,
        /// The newest format this release reads.
        supported: u32,
    },
    /// The disk failed.
    #[error("{doing} failed")]
    Io {
        /// What failed.
        doing: &'static str,
        /// How.
        source: io::Error,
    },
}

/// See the module.
#[derive(Debug)]
pub struct SegmentLog<D: Disk> {
    disk: D,
    options: Options,
    store: u64,
    recovery: Recovery,
    /// Held while segments are removed, rewritten or verified; taken before all others.
    reclaiming: Mutex<()>,
    /// Taken after `inner` where both are needed.
    spare: Mutex<Spare<D::File>>,
    /// Whether the segment being written is.
    half_full: AtomicBool,
    /// Taken after `reclaiming`.
    scrub: Mutex<scrub::Scrub>,
    inner: Mutex<Inner<D::File>>,
    /// Taken after all others.
    manifest: Mutex<manifest::Manifest<D::File>>,
    /// Dropped last.
    _lock: D::Lock,
}

/// The next segment, made ready beforehand.
#[derive(Debug)]
struct Spare<F> {
    ready: Option<(u64, F)>,
    next_number: u64,
}

#[derive(Debug)]
struct Inner<F> {
    limits: Limits,
    catalog: Catalog<F>,
    fresh: fresh::Fresh,
    /// Of one piece: places of the transactions, and how many chunks of each there are in a row.
    runs: Vec<(Option<Place>, usize)>,
    /// Its new chunks in the order in which they are written, by transaction and place in the piece.
    order: Vec<(Place, u32)>,
    /// Its transactions that were not known before, by their first chunk's place in the piece.
    begun: Vec<u32>,
    active: Option<Active>,
    buf: Vec<u8>,
    poison: Option<Poison>,
    room: write::Room,
    since_room_check: u64,
    /// Segments in which something was not as it was written.
    suspects: BTreeSet<u64>,
    /// Damage that was struck out where nobody could be told.
    unreported: Vec<Damage>,
}

/// The segment being written. Its chunks are in the catalog, like those of all others.
#[derive(Debug)]
struct Active {
    number: u64,
    seed: u32,
    end: u64,
    /// How many chunks it has.
    chunks: usize,
    /// How far room is allocated: beyond it a write could fail, and that would poison the log.
    limit: u64,
    /// All but the parts, which the catalog has.
    contents: Contents,
}

impl Active {
    /// How far chunks and new transactions may go. What is behind stays for releases and receipts: a
    /// full log must be able to record what makes it emptier.
    fn intake_limit(&self) -> u64 {
        self.limit - self.limit / 64
    }
}

impl<F> Inner<F> {
    fn new(limits: Limits, catalog: Catalog<F>, active: Option<Active>) -> Self {
        Self {
            limits,
            catalog,
            fresh: fresh::Fresh::default(),
            runs: Vec::new(),
            order: Vec::new(),
            begun: Vec::new(),
            active,
            buf: Vec::new(),
            poison: None,
            room: write::Room::All,
            since_room_check: 0,
            suspects: BTreeSet::new(),
            unreported: Vec::new(),
        }
    }
}

impl<D: Disk> SegmentLog<D> {
    /// All that is held, counted.
    fn inner(&self) -> MutexGuard<'_, Inner<D::File>> {
        let mut inner = self.uncounted();
        inner.count();
        inner
    }

    /// For appending: chunks that were written last may not be counted.
    fn uncounted(&self) -> MutexGuard<'_, Inner<D::File>> {
        // A panic elsewhere leaves at worst a batch that was not acknowledged.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether chunks can be kept now: there is a segment for them, and room beside it.
    pub fn has_room(&self) -> bool {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).ready.is_some();
        let inner = self.inner();
        inner.room > write::Room::Nothing && (spare || inner.active.is_some())
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Why nothing is accepted any more; a server should stop and say so (F30).
    pub fn poison(&self) -> Option<Poison> {
        self.inner().poison
    }
}

impl<D: Disk> ChunkLog for SegmentLog<D> {
    fn append_with(
        &self,
        now: UnixMillis,
        begun: &[(TransactionId, TransactionInfo)],
        batch: &[NewChunk<'_>],
        results: &mut Vec<AppendResult>,
    ) {
        self.append_batch(now, begun, batch, results);
    }

    /// Not before this segment is half full: who keeps little takes no more than one.
    fn needs_prepare(&self) -> bool {
        self.half_full.load(Ordering::Relaxed)
            && self.spare.try_lock().is_ok_and(|spare| spare.ready.is_none())
    }

    fn prepare(&self) -> Result<(), StoreError> {
        let made = self.make_spare();
        // What the last segment released may be the room for the next one.
        self.remove_segments()?;
        if made == Err(StoreError::Full) { self.make_spare() } else { made }
    }

    fn needs_maintain(&self) -> bool {
        let inner = self.inner();
        !inner.suspects.is_empty() || !inner.unreported.is_empty()
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        self.checkpoint_now()
    }

    fn maintain(&self) -> Result<Maintained, StoreError> {
        self.maintain_step()
    }

    fn durability(&self) -> Durability {
        self.options.durability
    }
}

impl<D: Disk> Transactions for SegmentLog<D> {
    fn begin(&self, tid: TransactionId, info: &TransactionInfo) -> Result<(), StoreError> {
        self.record_begin(tid, info)
    }

    fn declare_receiver(&self, receiver: &ReceiverName) -> Result<ReceiverId, StoreError> {
        self.record_receiver(receiver)
    }

    fn record_statement(
        &self,
        tid: TransactionId,
        _: UnixMillis,
        statement: &Statement,
    ) -> Result<(), StoreError> {
        self.record_statement(tid, statement)
    }

    fn close(&self, tid: TransactionId, receipt: &Receipt) -> Result<(), StoreError> {
        self.record_close(tid, receipt)
    }

    fn release(&self, tid: TransactionId, why: Release) -> Result<(), StoreError> {
        self.record_release(tid, why, None)
    }

    fn release_unchanged(
        &self,
        tid: TransactionId,
        why: Release,
        chunks: u64,
    ) -> Result<(), StoreError> {
        self.record_release(tid, why, Some(chunks))
    }

    fn reclaim(&self) -> Result<bool, StoreError> {
        self.reclaim_segments()
    }
}

impl<D: Disk> Query for SegmentLog<D> {
    fn list(&self) -> Result<Vec<TransactionSummary>, ReadError> {
        Ok(self.inner().catalog.list())
    }

    fn unfinished(&self) -> Result<Vec<Unfinished>, ReadError> {
        Ok(self.inner().catalog.unfinished())
    }

    fn complete_before(&self, time: UnixMillis) -> Result<Vec<TransactionId>, ReadError> {
        Ok(self.inner().catalog.complete_before(time))
    }

    fn crowding(&self) -> Crowding {
        self.inner().catalog.crowd.of(&self.options.limits)
    }

    fn transaction(&self, tid: TransactionId) -> Result<Option<TransactionSummary>, ReadError> {
        Ok(self.inner().catalog.summary(tid))
    }

    fn receivers(&self) -> Result<Vec<ReceiverName>, ReadError> {
        Ok(self.inner().catalog.receivers.clone())
    }

    fn read(
        &self,
        tid: TransactionId,
        from: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let chunks = self.inner().catalog.chunks(tid, from);
        let read = chunks.and_then(|chunks| chunks.visit(visit));
        // A file that ends before its index says so, or whose index cannot be read, is damaged as well.
        if matches!(read, Err(ReadError::Damaged { .. } | ReadError::Io(_))) {
            self.inner().suspect(tid);
            self.mend_suspects();
        }
        read
    }
}
