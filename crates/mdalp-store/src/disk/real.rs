//! A directory of the file system as a [`Disk`].
//!
//! Directory 0700, files 0600. The lock is an empty file named `lock`, locked by the operating system,
//! so it ends with its process. Segments are `.seg`, drafts `.new`, the manifest is `manifest`; other files
//! are left alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Access, Allocate, Disk, DiskFile, MANIFEST, Space};

const ZEROS: &[u8] = &[0; 256 * 1024];

/// See the module.
#[derive(Clone, Debug)]
pub struct RealDisk {
    path: Arc<Path>,
}

impl RealDisk {
    /// Makes the directory if it is not there.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if !path.is_dir() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(&path)?;
            if let Some(parent) = path.canonicalize()?.parent() {
                sync_directory(parent)?;
            }
        }
        Self::open(path)
    }

    /// Takes a directory that is there.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if !fs::metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { path: path.into() })
    }

    fn file(&self, number: u64) -> PathBuf {
        if number == MANIFEST {
            return self.path.join("manifest");
        }
        self.path.join(format!("{number:010}.seg"))
    }

    fn draft_file(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:010}.new"))
    }

    /// The numbers in the names that end so.
    fn numbers(&self, ending: &str) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let number = name.strip_suffix(ending).and_then(|digits| digits.parse::<u64>().ok());
            // "7", "+7" and "0000000007" are one number and three names; one of these is ours.
            numbers.extend(number.filter(|number| format!("{number:010}{ending}") == name));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

fn writing() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(()) // There is no such operation; NTFS logs its directories.
}

/// See [`Disk::Lock`].
#[derive(Debug)]
pub struct RealLock(File);

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing is not enough: a child that was forked but has not yet started its program would
        // keep the lock. If this fails, the lock ends with the process.
        let _ = self.0.unlock();
    }
}

impl Disk for RealDisk {
    type File = File;
    type Lock = RealLock;

    fn lock(&self) -> io::Result<RealLock> {
        let file = writing().create(true).truncate(false).open(self.path.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(RealLock(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        let mut numbers = self.numbers(".seg")?;
        numbers.retain(|&number| number != MANIFEST);
        Ok(numbers)
    }

    fn create(&self, number: u64) -> io::Result<File> {
        writing().create_new(true).open(self.file(number))
    }

    fn open(&self, number: u64, access: Access) -> io::Result<File> {
        match access {
            Access::Read => File::open(self.file(number)),
            Access::Write => writing().open(self.file(number)),
        }
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        fs::remove_file(self.file(number))
    }

    fn rename(&self, from: u64, to: u64) -> io::Result<()> {
        // Nobody else makes files here: the directory is locked.
        if fs::symlink_metadata(self.file(to)).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        fs::rename(self.file(from), self.file(to))
    }

    fn draft(&self, number: u64) -> io::Result<File> {
        writing().create_new(true).open(self.draft_file(number))
    }

    fn replace(&self, number: u64) -> io::Result<()> {
        fs::rename(self.draft_file(number), self.file(number))
    }

    fn discard_drafts(&self) -> io::Result<()> {
        let drafts = self.numbers(".new")?;
        drafts.into_iter().try_for_each(|number| fs::remove_file(self.draft_file(number)))
    }

    fn sync_dir(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }

    #[cfg(unix)]
    fn space(&self) -> io::Result<Option<Space>> {
        let stat = rustix::fs::statvfs(&*self.path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Some(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) }))
    }

    #[cfg(not(unix))]
    fn space(&self) -> io::Result<Option<Space>> {
        Ok(None)
    }
}

impl DiskFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match read_some(self, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        loop {
            match write_some(self, buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn allocate(&self, len: u64, how: Allocate) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if how == Allocate::Reserve {
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(self, flags, 0, len) {
                Err(rustix::io::Errno::OPNOTSUPP) => {}
                done => return Ok(done?),
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = how; // Writing zeros takes room everywhere.
        let mut at = DiskFile::len(self)?;
        while at < len {
            let piece = ZEROS.len().min((len - at) as usize);
            super::write_all_at(self, &ZEROS[..piece], at)?;
            at += piece as u64;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }
}

#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;

#[cfg(unix)]
fn read_some(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    FileExt::read_at(file, buf, offset)
}

#[cfg(unix)]
fn write_some(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
    FileExt::write_at(file, buf, offset)
}

#[cfg(windows)]
fn read_some(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(buf, offset)
}

#[cfg(windows)]
fn write_some(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(buf, offset)
}
