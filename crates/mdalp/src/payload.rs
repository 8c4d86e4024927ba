//! Where the bytes come from: a file read by range, or standard input spooled to disk.
//!
//! Never holds more than one chunk of a file in memory, whatever its length.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;
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
    File(File),
}

/// Input up to this length stays in memory; more goes to a temporary file.
const SPOOL_MEMORY: u64 = 1 << 20;

impl Payload {
    /// A regular file. What it holds now is sent; its length is fixed by this call.
    ///
    /// # Errors
    /// If it cannot be opened, or is a directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
        }
        let name = path.display().to_string();
        if metadata.is_file() {
            let modified = metadata.modified().ok();
            let since = modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            let modified = since.and_then(|since| u64::try_from(since.as_nanos()).ok());
            let (len, source) = (metadata.len(), Arc::new(Source::File(file)));
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
        let mut file = tempfile::tempfile()?;
        io::copy(&mut (&head[..]).chain(input), &mut file)?;
        let len = file.stream_position()?;
        Ok(Self { name, len, modified: None, source: Arc::new(Source::File(file)) })
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
            Source::File(file) => read_exact_at(file, offset, buffer),
        }
    }
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

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    file.seek(io::SeekFrom::Start(offset))?;
    file.read_exact(buffer)
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
}
