//! The few operations a segment log asks of a disk.
//!
//! Files are named by number alone, so nothing that came from the network can become a path (H53).
//! [`RealDisk`] is a directory; [`mem::MemDisk`] is a model whose power can be cut at any operation.
//! Neither knows what is in the files.

pub mod mem;
mod real;

use std::io;
use std::ops::Range;

pub use real::{RealDisk, RealLock};

/// The number of the file that says which segments there are; never listed.
pub const MANIFEST: u64 = 0;

/// A flat directory of numbered files.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Keeps other writers out until dropped.
    type Lock: Send + Sync;

    /// Takes the directory for this writer; [`io::ErrorKind::WouldBlock`] if another one has it.
    fn lock(&self) -> io::Result<Self::Lock>;
    /// The numbers of all files but [`MANIFEST`], ascending.
    fn list(&self) -> io::Result<Vec<u64>>;
    /// Makes a new, empty file.
    fn create(&self, number: u64) -> io::Result<Self::File>;
    /// Opens a file.
    fn open(&self, number: u64, access: Access) -> io::Result<Self::File>;
    /// Removes a file's name.
    fn remove(&self, number: u64) -> io::Result<()>;
    /// Gives a file another name, which no file has; [`io::ErrorKind::AlreadyExists`] if one does. A crash
    /// leaves one of the two names; who has the file open goes on using it.
    fn rename(&self, from: u64, to: u64) -> io::Result<()>;
    /// Makes a new, empty file that is not listed: the draft of what is to replace a file.
    fn draft(&self, number: u64) -> io::Result<Self::File>;
    /// Puts a draft in the place of the file of its number. A crash leaves one of the two; who has the
    /// replaced one open goes on reading it.
    fn replace(&self, number: u64) -> io::Result<()>;
    /// Removes all drafts.
    fn discard_drafts(&self) -> io::Result<()>;
    /// Makes creations, removals, replacements and new names durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// What room there is; `None` where the platform does not tell.
    fn space(&self) -> io::Result<Option<Space>>;
}

/// An open file. Offsets are explicit: there is no cursor to share.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads at `offset`; fewer bytes than asked for are read only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`; writing fewer bytes than given means that there is no room.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Extends a file to `len` bytes of zeros for which there is certainly room.
    fn allocate(&self, len: u64, how: Allocate) -> io::Result<()>;
    /// Cuts the file off at `len`, or extends it with zeros without taking room.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Makes content and length durable. After an error nothing is known of what was written since
    /// the last success; it must not be repeated (F30).
    fn sync_data(&self) -> io::Result<()>;
}

/// What a file is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading alone.
    Read,
    /// Reading and writing.
    Write,
}

/// How room is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocate {
    /// As cheaply as possible.
    Reserve,
    /// By writing the zeros: later writes then change no metadata, so that flushing them skips the
    /// file system's journal (about twice as fast on ext4).
    Zero,
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// What this process may still use.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// Writes all of `buf`, or says why not. A short write is not continued: it means no room.
pub(crate) fn write_all_at(file: &impl DiskFile, buf: &[u8], offset: u64) -> io::Result<()> {
    if file.write_at(buf, offset)? == buf.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::StorageFull.into())
    }
}

/// Fills all of `buf`, or says why not.
pub(crate) fn read_exact_at(file: &impl DiskFile, buf: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read_at(buf, offset)? == buf.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// So much is lost at least where the disk cannot read, and can only be written as a whole: a page of the
/// operating system's cache.
const PAGE: u64 = 4 << 10;

/// Reads like [`DiskFile::read_at`]; where that fails, page by page. Says also which pages cannot be read: they
/// are filled with ones, because zeros would look like room that was never written to.
pub(crate) fn read_what_can_be(
    file: &impl DiskFile,
    buf: &mut [u8],
    offset: u64,
) -> io::Result<(usize, Vec<Range<u64>>)> {
    match file.read_at(buf, offset) {
        Err(error) if is_unreadable(&error) => {}
        done => return Ok((done?, Vec::new())),
    }
    let end = file.len()?.min(offset + buf.len() as u64);
    let mut bad: Vec<Range<u64>> = Vec::new();
    let mut at = offset;
    while at < end {
        let next = end.min((at / PAGE + 1) * PAGE);
        let page = &mut buf[(at - offset) as usize..(next - offset) as usize];
        match file.read_at(page, at) {
            Ok(count) if count == page.len() => {}
            Ok(count) => return Ok(((at - offset) as usize + count, bad)),
            Err(error) if is_unreadable(&error) => {
                page.fill(0xff);
                let page = at / PAGE * PAGE..(at / PAGE + 1) * PAGE;
                match bad.last_mut().filter(|last| last.end == page.start) {
                    Some(last) => last.end = page.end,
                    None => bad.push(page),
                }
            }
            Err(error) => return Err(error),
        }
        at = next;
    }
    Ok((end.saturating_sub(offset) as usize, bad))
}

/// Whether an error says that the medium does not give back what was written there.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| UNREADABLE.contains(&code))
}

/// EIO; of file systems with checksums of their own EBADMSG.
#[cfg(unix)]
const UNREADABLE: [i32; 2] =
    [rustix::io::Errno::IO.raw_os_error(), rustix::io::Errno::BADMSG.raw_os_error()];
/// `ERROR_CRC`, `ERROR_READ_FAULT`, `ERROR_IO_DEVICE`.
#[cfg(not(unix))]
const UNREADABLE: [i32; 3] = [23, 30, 1117];

/// Whether an error only says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
