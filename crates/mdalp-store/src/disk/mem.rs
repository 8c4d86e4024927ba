//! A disk in memory that keeps what was written apart from what was flushed.
//!
//! Content counts by sectors of 512 bytes; creating and removing files counts by directory entry, and
//! replacing one is a single change. At a crash the caller chooses, for each change that was not
//! flushed, whether it had reached the medium. Operations can be made to fail. Nothing is random here:
//! the same calls give the same disk.
//!
//! A page can be made unreadable; it is so until it is written as a whole, and writing a part of it fails.
//!
//! Not modelled: sectors that tear inside.

mod inode;
mod names;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::inode::{Change, Inode};
use self::names::{Directory, Entry, Name};
use super::{Access, Allocate, Disk, DiskFile, MANIFEST, PAGE, Space};

/// What is written as a whole or not at all.
pub const SECTOR: usize = 512;

/// Kinds of operation that change something and can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Any of them.
    Any,
    /// [`DiskFile::write_at`].
    Write,
    /// [`DiskFile::allocate`].
    Allocate,
    /// [`DiskFile::set_len`].
    SetLen,
    /// [`DiskFile::sync_data`].
    SyncData,
    /// [`Disk::sync_dir`].
    SyncDir,
    /// [`Disk::create`] and [`Disk::draft`].
    Create,
    /// [`Disk::remove`], and [`Disk::discard_drafts`] if there are any.
    Remove,
    /// [`Disk::replace`].
    Replace,
    /// [`Disk::rename`].
    Rename,
}

/// How an operation fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// EIO. After a failed flush unflushed content can still be read, but will never reach the medium
    /// unless it is written again, as on ext4. (Lengths go through the journal and stay pending.)
    Io,
    /// ENOSPC.
    NoSpace,
    /// Of a write, only that many bytes are done.
    Short(usize),
    /// The power goes: this and all further operations fail until [`MemDisk::crash`].
    PowerCut,
}

/// A handle; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk(Arc<Mutex<Sim>>);

#[derive(Clone, Debug, Default)]
struct Sim {
    files: Vec<Inode>,
    dir: Directory,
    durable_dir: Directory,
    pending_dir: Vec<Entry>,
    /// Handles of an earlier epoch belong to a process that is no more.
    epoch: u64,
    locked: bool,
    dark: bool,
    faults: Vec<(Op, u64, Failure)>,
    operations: u64,
    /// Of this life.
    failed_flushes: u64,
    capacity: Option<u64>,
}

impl Sim {
    /// Counts an operation and says whether and how it fails.
    fn operation(&mut self, op: Op, epoch: u64) -> io::Result<Option<Failure>> {
        if self.dark || epoch != self.epoch {
            return Err(io::Error::other("no power, or the process is gone"));
        }
        self.operations += 1;
        let mut hit = None;
        self.faults.retain_mut(|(which, left, failure)| {
            if *which != op && *which != Op::Any {
                return true;
            }
            if *left == 0 {
                hit = Some(*failure);
                return false;
            }
            *left -= 1;
            true
        });
        match hit {
            Some(Failure::PowerCut) => {
                self.dark = true;
                Err(io::Error::other("power cut"))
            }
            Some(Failure::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            hit => Ok(hit),
        }
    }

    /// Enters a change into the directory.
    fn enter(&mut self, entry: Entry) {
        entry.apply(&mut self.dir);
        self.pending_dir.push(entry);
    }

    fn make(&mut self, name: Name) -> io::Result<usize> {
        let epoch = self.epoch;
        if self.operation(Op::Create, epoch)?.is_some() {
            return Err(io_error());
        }
        if self.dir.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.files.len();
        self.files.push(Inode::default());
        self.enter(Entry::Made(name, inode));
        Ok(inode)
    }

    fn drafts(&self) -> impl Iterator<Item = (Name, usize)> {
        let entries = self.dir.iter().map(|(&name, &inode)| (name, inode));
        entries.take_while(|(name, _)| matches!(name, Name::Draft(_)))
    }

    fn used(&self) -> u64 {
        self.dir.values().map(|&inode| self.files[inode].view.len).sum()
    }

    fn room_for(&self, inode: usize, len: u64) -> io::Result<()> {
        let grown = len.saturating_sub(self.files[inode].view.len);
        match self.capacity {
            Some(capacity) if grown > 0 && self.used() + grown > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn next_life(&mut self) {
        self.epoch += 1;
        self.locked = false;
        self.dark = false;
        self.faults.clear();
        self.failed_flushes = 0;
    }
}

fn unreadable() -> io::Error {
    io::Error::from_raw_os_error(super::UNREADABLE[0])
}

fn io_error() -> io::Error {
    io::Error::other("injected input/output error")
}

impl MemDisk {
    /// An empty disk without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    fn sim(&self) -> MutexGuard<'_, Sim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An independent copy, to try several fates from one state. Open handles stay with the
    /// original; for the copy their process is gone.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut sim = self.sim().clone();
        sim.epoch += 1;
        sim.locked = false;
        Self(Arc::new(Mutex::new(sim)))
    }

    /// Makes the `nth` next operation of a kind fail, counted from 0.
    pub fn inject(&self, op: Op, nth: u64, failure: Failure) {
        self.sim().faults.push((op, nth, failure));
    }

    /// Limits the sum of all file lengths.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.sim().capacity = bytes;
    }

    /// How many changing operations were tried.
    pub fn operations(&self) -> u64 {
        self.sim().operations
    }

    /// Whether the power is gone, see [`Failure::PowerCut`].
    pub fn is_dark(&self) -> bool {
        self.sim().dark
    }

    /// How many flushes have failed since the last [`crash`](Self::crash) or [`kill`](Self::kill),
    /// without those of drafts: nothing relies on these.
    pub fn failed_flushes(&self) -> u64 {
        self.sim().failed_flushes
    }

    /// How many changes are not flushed: so often [`crash`](Self::crash) asks.
    pub fn pending(&self) -> usize {
        let sim = self.sim();
        sim.pending_dir.len() + sim.files.iter().map(|file| file.pending.len()).sum::<usize>()
    }

    /// The machine loses power. `choose` is asked once for each unflushed change, directory entries
    /// first, then by file and age; an odd answer means it had reached the medium.
    pub fn crash(&self, mut choose: impl FnMut() -> u64) {
        let mut keep = || choose() % 2 == 1;
        let mut sim = self.sim();
        let sim = &mut *sim;
        for entry in sim.pending_dir.drain(..) {
            if keep() {
                entry.apply(&mut sim.durable_dir);
            }
        }
        sim.dir.clone_from(&sim.durable_dir);
        for file in &mut sim.files {
            file.settle(&mut keep);
            file.view.clone_from(&file.durable);
        }
        sim.next_life();
    }

    /// The process dies, the machine does not: nothing written is lost.
    pub fn kill(&self) {
        self.sim().next_life();
    }

    /// Inverts one bit of a file, on the medium and in the cache. No effect where nothing was written.
    pub fn flip_bit(&self, number: u64, bit: u64) {
        let mut sim = self.sim();
        let Some(&inode) = sim.dir.get(&Name::File(number)) else { return };
        let file = &mut sim.files[inode];
        for content in [&mut file.view, &mut file.durable] {
            if let Some(byte) = content.data.get_mut((bit / 8) as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// From now on the page at `offset` of a file cannot be read, until it is written.
    pub fn make_unreadable(&self, number: u64, offset: u64) {
        let mut sim = self.sim();
        let Some(&inode) = sim.dir.get(&Name::File(number)) else { return };
        sim.files[inode].unreadable.insert(offset / PAGE);
    }

    /// How many bytes of a file are worth flipping: after them come only zeros.
    pub fn written(&self, number: u64) -> u64 {
        let sim = self.sim();
        sim.dir.get(&Name::File(number)).map_or(0, |&inode| sim.files[inode].view.data.len() as u64)
    }
}

/// See [`Disk::Lock`].
#[derive(Debug)]
pub struct MemLock(MemDisk, u64);

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut sim = self.0.sim();
        if sim.epoch == self.1 {
            sim.locked = false;
        }
    }
}

impl Disk for MemDisk {
    type File = MemFile;
    type Lock = MemLock;

    fn lock(&self) -> io::Result<MemLock> {
        let mut sim = self.sim();
        if sim.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        sim.locked = true;
        Ok(MemLock(self.clone(), sim.epoch))
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        let number = |name: &Name| match *name {
            Name::File(MANIFEST) | Name::Draft(_) => None,
            Name::File(number) => Some(number),
        };
        Ok(self.sim().dir.keys().filter_map(number).collect())
    }

    fn create(&self, number: u64) -> io::Result<MemFile> {
        let mut sim = self.sim();
        let inode = sim.make(Name::File(number))?;
        let epoch = sim.epoch;
        Ok(MemFile { disk: self.clone(), inode, epoch })
    }

    fn open(&self, number: u64, _: Access) -> io::Result<MemFile> {
        let sim = self.sim();
        let inode = *sim.dir.get(&Name::File(number)).ok_or(io::ErrorKind::NotFound)?;
        Ok(MemFile { disk: self.clone(), inode, epoch: sim.epoch })
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        let mut sim = self.sim();
        let epoch = sim.epoch;
        if sim.operation(Op::Remove, epoch)?.is_some() {
            return Err(io_error());
        }
        let name = Name::File(number);
        if !sim.dir.contains_key(&name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        sim.enter(Entry::Gone(name));
        Ok(())
    }

    fn rename(&self, from: u64, to: u64) -> io::Result<()> {
        let mut sim = self.sim();
        let epoch = sim.epoch;
        if sim.operation(Op::Rename, epoch)?.is_some() {
            return Err(io_error());
        }
        let inode = *sim.dir.get(&Name::File(from)).ok_or(io::ErrorKind::NotFound)?;
        if sim.dir.contains_key(&Name::File(to)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        sim.enter(Entry::Renamed(from, to, inode));
        Ok(())
    }

    fn draft(&self, number: u64) -> io::Result<MemFile> {
        let mut sim = self.sim();
        let inode = sim.make(Name::Draft(number))?;
        let epoch = sim.epoch;
        Ok(MemFile { disk: self.clone(), inode, epoch })
    }

    fn replace(&self, number: u64) -> io::Result<()> {
        let mut sim = self.sim();
        let epoch = sim.epoch;
        if sim.operation(Op::Replace, epoch)?.is_some() {
            return Err(io_error());
        }
        let inode = *sim.dir.get(&Name::Draft(number)).ok_or(io::ErrorKind::NotFound)?;
        sim.enter(Entry::Replaced(number, inode));
        Ok(())
    }

    fn discard_drafts(&self) -> io::Result<()> {
        let mut sim = self.sim();
        let drafts: Vec<_> = sim.drafts().collect();
        let epoch = sim.epoch;
        if !drafts.is_empty() && sim.operation(Op::Remove, epoch)?.is_some() {
            return Err(io_error());
        }
        for (name, _) in drafts {
            sim.enter(Entry::Gone(name));
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut sim = self.sim();
        let epoch = sim.epoch;
        if let Some(failure) = sim.operation(Op::SyncDir, epoch)? {
            sim.failed_flushes += u64::from(failure == Failure::Io);
            sim.pending_dir.clear();
            return Err(io_error());
        }
        let sim = &mut *sim;
        for entry in sim.pending_dir.drain(..) {
            entry.apply(&mut sim.durable_dir);
        }
        Ok(())
    }

    fn space(&self) -> io::Result<Option<Space>> {
        let sim = self.sim();
        let space = |total: u64| Space { free: total.saturating_sub(sim.used()), total };
        Ok(sim.capacity.map(space))
    }
}

/// See [`Disk::File`].
#[derive(Debug)]
pub struct MemFile {
    disk: MemDisk,
    inode: usize,
    epoch: u64,
}

impl MemFile {
    /// Does one changing operation, unless it is to fail.
    fn change(
        &self,
        op: Op,
        len: Option<u64>,
        change: impl FnOnce(&mut Inode, Option<Failure>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut sim = self.disk.sim();
        let failure = sim.operation(op, self.epoch)?;
        if let Some(len) = len {
            sim.room_for(self.inode, len)?;
        }
        if failure == Some(Failure::Io) && op == Op::SyncData {
            let is_draft = sim.drafts().any(|(_, inode)| inode == self.inode);
            sim.failed_flushes += u64::from(!is_draft);
        }
        let file = &mut sim.files[self.inode];
        match failure {
            Some(Failure::Io) if op == Op::SyncData => {
                file.pending.retain(|change| matches!(change, Change::Len(_)));
                file.sectors.clear();
                Err(io_error())
            }
            Some(Failure::Io) => Err(io_error()),
            failure => change(file, failure),
        }
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let sim = self.disk.sim();
        if sim.dark || sim.epoch != self.epoch {
            return Err(io_error());
        }
        let file = &sim.files[self.inode];
        let end = file.view.len.min(offset + buf.len() as u64);
        if offset < end && file.unreadable.range(offset / PAGE..end.div_ceil(PAGE)).next().is_some()
        {
            return Err(unreadable());
        }
        Ok(file.view.read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.change(Op::Write, Some(offset + buf.len() as u64), |file, failure| {
            if file.is_part_unreadable(offset..offset + buf.len() as u64) {
                return Err(unreadable());
            }
            let count = match failure {
                Some(Failure::Short(count)) => count.min(buf.len()),
                _ => buf.len(),
            };
            file.write(&buf[..count], offset as usize);
            Ok(count)
        })
    }

    fn allocate(&self, len: u64, _: Allocate) -> io::Result<()> {
        self.change(Op::Allocate, Some(len), |file, _| {
            file.set_len(len.max(file.view.len));
            Ok(0)
        })
        .map(drop)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Op::SetLen, None, |file, _| {
            file.set_len(len);
            Ok(0)
        })
        .map(drop)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.sim().files[self.inode].view.len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Op::SyncData, None, |file, _| {
            file.settle(|| true);
            Ok(0)
        })
        .map(drop)
    }
}
