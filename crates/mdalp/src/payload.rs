//! Where the bytes come from: a file read by range, or standard input spooled to disk.
//!
//! Never holds more than one chunk of a file in memory, whatever its length. Reads by offset and never
//! moves a file's cursor, for several threads read one handle.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// A payload of known length that can be read at any offset.
#[derive(Clone, Debug)]
pub struct Payload {
    name: String,
    len: u64,
    modified: Option<u64>,
    source: Arc<Source>,
}

#[derive(Debug)]
enum Source {
    Memory(Vec<u8>),
    File(Readable),
}

#[derive(Debug)]
struct Readable {
    file: File,
    /// Whether the system can be asked for what it has in memory alone: until it said that it cannot.
    knows_cached: AtomicBool,
}

impl Source {
    fn of(file: File) -> Self {
        Self::File(Readable { file, knows_cached: AtomicBool::new(true) })
    }
}

/// Input up to this length stays in memory; more goes to a temporary file.
const SPOOL_MEMORY: u64 = 1 << 20;

impl Payload {
    /// A regular file. What it holds now is sent; its length is fixed by this call.
    ///
    /// # Errors
    /// If it cannot be opened, or is a directory or a device without an end.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            let what = "is a directory; send an archive of it (tar), or its files one by one";
            return Err(io::Error::new(io::ErrorKind::IsADirectory, what));
        }
        if is_endless(&file, &metadata) {
            let what = "is a device without an end; send a part of it through a pipe (head -c N)";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let name = path.display().to_string();
        // What the system makes up as it is read says that it is empty.
        let made_up = || read_some(&file, &mut [0], 0).is_ok_and(|read| read > 0);
        if metadata.is_file() && (metadata.len() > 0 || !made_up()) {
            let modified = modified(&metadata);
            let (len, source) = (metadata.len(), Arc::new(Source::of(file)));
            return Ok(Self { name, len, modified, source });
        }
        // Pipes and devices have no length and cannot be read twice.
        Self::spool(name, file)
    }

    /// All that `input` gives until its end.
    ///
    /// # Errors
    /// If it cannot be read, or no temporary file can be written.
    pub fn spool(name: impl Into<String>, mut input: impl Read) -> io::Result<Self> {
        let mut head = Vec::new();
        input.by_ref().take(SPOOL_MEMORY).read_to_end(&mut head)?;
        let name = name.into();
        if (head.len() as u64) < SPOOL_MEMORY {
            return Ok(Self { name, ..Self::from(head) });
        }
        let dir = std::env::temp_dir();
        let full = |len: u64, error: io::Error| {
            let (dir, kind) = (dir.display(), error.kind());
            io::Error::new(kind, format!("keeping a copy in {dir} after {len} bytes: {error}"))
        };
        let mut file = tempfile::tempfile_in(&dir).map_err(|error| full(0, error))?;
        let (mut len, mut block) = (0, head);
        while !block.is_empty() {
            file.write_all(&block).map_err(|error| full(len, error))?;
            len += block.len() as u64;
            block.clear();
            input.by_ref().take(SPOOL_MEMORY).read_to_end(&mut block)?;
        }
        Ok(Self { name, len, modified: None, source: Arc::new(Source::of(file)) })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// When the file was last changed, in nanoseconds since 1970; `None` for what is no file.
    pub fn modified(&self) -> Option<u64> {
        self.modified
    }

    /// Whether the file was written to since it was opened, as far as the system says.
    pub fn has_changed(&self) -> bool {
        let Source::File(Readable { file, .. }) = &*self.source else { return false };
        self.modified.is_some()
            && file
                .metadata()
                .is_ok_and(|now| now.len() != self.len || modified(&now) != self.modified)
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If the file cannot be read or has become shorter.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match &*self.source {
            Source::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(buffer.len());
                let range = bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
                buffer.copy_from_slice(range);
                Ok(())
            }
            Source::File(Readable { file, .. }) => {
                read_exact(offset, buffer, |buffer, offset| read_some(file, buffer, offset))
            }
        }
    }

    /// The same, without keeping the caller's thread waiting for a disk.
    pub(crate) async fn fill(&self, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        match &*self.source {
            Source::File(source) if !read_cached(source, offset, buffer) => {
                self.fill_elsewhere(offset, buffer).await
            }
            Source::File(_) => Ok(()),
            Source::Memory(_) => self.read_at(offset, buffer),
        }
    }

    /// Reads on a thread that may wait.
    async fn fill_elsewhere(&self, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        let (payload, mut bytes) = (self.clone(), std::mem::take(buffer));
        let reading = tokio::task::spawn_blocking(move || {
            let result = payload.read_at(offset, &mut bytes);
            (bytes, result)
        });
        let (bytes, result) = reading.await.map_err(io::Error::other)?;
        *buffer = bytes;
        result
    }
}

/// When a file was last written to, in nanoseconds since 1970.
fn modified(metadata: &std::fs::Metadata) -> Option<u64> {
    let at = metadata.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(at.as_nanos()).ok()
}

/// How much is read at a time for hashing.
const HASH_BLOCK: usize = 256 << 10;

impl Payload {
    /// BLAKE3 of the whole payload. Blocks for as long as reading it takes.
    ///
    /// # Errors
    /// As [`Payload::read_at`].
    pub fn blake3(&self) -> io::Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        let mut block = vec![0; HASH_BLOCK];
        let mut offset = 0;
        while offset < self.len {
            let length = block.len().min(usize::try_from(self.len - offset).unwrap_or(usize::MAX));
            self.read_at(offset, &mut block[..length])?;
            hasher.update(&block[..length]);
            offset += length as u64;
        }
        Ok(*hasher.finalize().as_bytes())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        let (name, len) = ("memory".to_owned(), bytes.len() as u64);
        Self { name, len, modified: None, source: Arc::new(Source::Memory(bytes)) }
    }
}

/// Fills `buffer` if the system has all of it in memory. Where it cannot say, the disk is waited for.
#[cfg(target_os = "linux")]
fn read_cached(source: &Readable, offset: u64, buffer: &mut [u8]) -> bool {
    use rustix::io::{Errno, ReadWriteFlags, preadv2};
    let wait = |buffer: &mut [u8]| {
        read_exact(offset, buffer, |buffer, offset| read_some(&source.file, buffer, offset)).is_ok()
    };
    if !source.knows_cached.load(Ordering::Relaxed) {
        return wait(buffer);
    }
    let into = &mut [io::IoSliceMut::new(buffer)];
    match preadv2(&source.file, into, offset, ReadWriteFlags::NOWAIT) {
        Ok(read) => read == buffer.len(),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            source.knows_cached.store(false, Ordering::Relaxed);
            wait(buffer)
        }
        Err(_) => false,
    }
}

#[cfg(not(target_os = "linux"))]
fn read_cached(source: &Readable, offset: u64, buffer: &mut [u8]) -> bool {
    read_exact(offset, buffer, |buffer, offset| read_some(&source.file, buffer, offset)).is_ok()
}

/// Whether reading may never come to an end: a character device that is neither a terminal nor the
/// null device.
#[cfg(unix)]
fn is_endless(file: &File, metadata: &Metadata) -> bool {
    use std::io::IsTerminal;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let null = || std::fs::metadata("/dev/null").map(|null| null.rdev());
    metadata.file_type().is_char_device()
        && !file.is_terminal()
        && null().is_ok_and(|null| null != metadata.rdev())
}

#[cfg(not(unix))]
fn is_endless(_: &File, _: &Metadata) -> bool {
    false
}

/// Fills `buffer` from `offset` on, whatever `read` gives at a time.
fn read_exact(
    mut offset: u64,
    mut buffer: &mut [u8],
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    while !buffer.is_empty() {
        match read(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                offset += length as u64;
                buffer = &mut buffer[length..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(unix)]
fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

/// Moves the handle's cursor as a side effect, which nothing here relies on.
#[cfg(windows)]
fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn short_and_long_input_is_read_back_at_any_offset() {
        for len in [0, 1, 1000, SPOOL_MEMORY as usize, SPOOL_MEMORY as usize * 2 + 7] {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let payload = Payload::spool("-", &bytes[..]).unwrap();
            assert_eq!((payload.len(), payload.is_empty()), (len as u64, len == 0));
            let mut buffer = vec![0; len.min(100)];
            let offset = len - buffer.len();
            payload.read_at(offset as u64, &mut buffer).unwrap();
            assert_eq!(buffer, bytes[offset..]);
            assert!(payload.read_at(offset as u64 + 1, &mut [0; 100]).is_err());
        }
    }

    #[test]
    fn s10_bytes_of_a_file_are_its_bytes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"a\r\nb\xff\0\r\n").unwrap();
        let payload = Payload::open(file.path()).unwrap();
        let mut bytes = vec![0; payload.len() as usize];
        payload.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, b"a\r\nb\xff\0\r\n");
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_a_directory_is_no_payload() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(100).unwrap();
        let payload = Payload::open(file.path()).unwrap();
        file.as_file().set_len(50).unwrap();
        assert!(payload.read_at(0, &mut [0; 100]).is_err());
        assert!(Payload::open(&std::env::temp_dir()).is_err());
    }

    #[test]
    fn b7_a_payload_is_read_by_offset_while_another_thread_hashes_the_same_handle() {
        let bytes: Vec<u8> = (0..3 << 20).map(|i: u32| (i * 31 % 251) as u8).collect();
        let payload = Payload::spool("-", &bytes[..]).unwrap();
        let expected = *blake3::hash(&bytes).as_bytes();
        std::thread::scope(|scope| {
            let hashing = scope.spawn(|| payload.blake3().unwrap());
            for start in (0..bytes.len() - 1200).step_by(1201) {
                let mut chunk = [0; 1200];
                payload.read_at(start as u64, &mut chunk).unwrap();
                assert_eq!(chunk[..], bytes[start..start + 1200], "at {start}");
            }
            assert_eq!(hashing.join().unwrap(), expected);
        });
    }

    #[tokio::test]
    async fn b12_what_is_not_in_memory_is_read_elsewhere_and_is_the_same() {
        let bytes: Vec<u8> = (0..3 << 20).map(|i: u32| (i * 31 % 251) as u8).collect();
        let payload = Payload::spool("-", &bytes[..]).unwrap();
        for start in [0, 1, 1 << 20, bytes.len() - 70_000] {
            let (mut here, mut elsewhere) = (vec![0; 70_000], vec![0; 70_000]);
            payload.fill(start as u64, &mut here).await.unwrap();
            payload.fill_elsewhere(start as u64, &mut elsewhere).await.unwrap();
            assert_eq!((&here[..], &elsewhere[..]), (&bytes[start..start + 70_000], &here[..]));
        }
        let mut behind = vec![0; 10];
        let error = payload.fill(bytes.len() as u64 - 5, &mut behind).await.unwrap_err();
        assert_eq!((error.kind(), behind.len()), (io::ErrorKind::UnexpectedEof, 10));
    }

    #[test]
    fn b7_short_and_interrupted_reads_by_offset_are_gone_on_with() {
        let bytes: Vec<u8> = (0..100).collect();
        let (mut buffer, mut calls) = ([0; 50], 0);
        let short = |buffer: &mut [u8], offset: u64| {
            calls += 1;
            if calls % 3 == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let from = &bytes[offset as usize..];
            let length = buffer.len().min(from.len()).min(7);
            buffer[..length].copy_from_slice(&from[..length]);
            Ok(length)
        };
        read_exact(20, &mut buffer, short).unwrap();
        assert_eq!(buffer[..], bytes[20..70]);
        let end = read_exact(0, &mut [0; 2], |_, offset| Ok(usize::from(offset == 0)));
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn t28_a_device_without_an_end_is_no_payload_and_what_says_it_is_empty_is_read() {
        let refused = |path: &str| Payload::open(Path::new(path)).unwrap_err().to_string();
        assert!(refused("/dev/zero").contains("without an end"));
        assert!(refused("/dev/urandom").contains("without an end"));
        assert!(refused("/").contains("is a directory"));
        assert!(Payload::open(Path::new("/dev/null")).unwrap().is_empty());
        assert!(!Payload::open(Path::new("/proc/version")).unwrap().is_empty());
    }

    #[test]
    fn t28_input_that_cannot_be_read_to_its_end_says_so() {
        struct Fails(u64);
        impl Read for Fails {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += buffer.len() as u64;
                let fails = self.0 > 4 * SPOOL_MEMORY;
                if fails { Err(io::Error::other("torn")) } else { Ok(buffer.len()) }
            }
        }
        assert_eq!(Payload::spool("-", Fails(0)).unwrap_err().to_string(), "torn");
    }
}
