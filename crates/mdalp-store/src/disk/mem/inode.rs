//! The content of one file: what is seen, what is on the medium, and what is between.
//!
//! Knows no names and injects no faults; [`super::MemDisk`] does.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{PAGE, SECTOR};

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) view: Content,
    pub(super) durable: Content,
    pub(super) pending: Vec<Change>,
    /// The sectors of `pending`, one after the other.
    pub(super) sectors: Vec<u8>,
    /// Numbers of the pages that cannot be read.
    pub(super) unreadable: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// Sector number, and where it starts in [`Inode::sectors`].
    Sector(usize, usize),
    Len(u64),
}

/// `len` bytes, of which those after `data` are zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) data: Vec<u8>,
    pub(super) len: u64,
}

impl Content {
    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.data.truncate(usize::try_from(len).unwrap_or(usize::MAX));
    }

    fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[at..end].copy_from_slice(bytes);
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let count = buf.len().min(self.len.saturating_sub(offset) as usize);
        let from = (offset as usize).min(self.data.len());
        let stored = count.min(self.data.len() - from);
        buf[..stored].copy_from_slice(&self.data[from..from + stored]);
        buf[stored..count].fill(0);
        count
    }
}

impl Inode {
    pub(super) fn set_len(&mut self, len: u64) {
        self.view.set_len(len);
        self.pending.push(Change::Len(len));
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if self.view.len < end as u64 {
            self.set_len(end as u64);
        }
        self.view.write(bytes, offset);
        let whole = (offset as u64).div_ceil(PAGE)..end as u64 / PAGE;
        self.unreadable.retain(|page| !whole.contains(page));
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let at = self.sectors.len();
            let from = sector * SECTOR;
            let to = self.view.data.len().min(from + SECTOR);
            self.sectors.extend_from_slice(&self.view.data[from..to]);
            self.sectors.resize(at + SECTOR, 0);
            self.pending.push(Change::Sector(sector, at));
        }
    }

    /// Whether bytes are in a page that cannot be read, and not all of it.
    pub(super) fn is_part_unreadable(&self, bytes: Range<u64>) -> bool {
        let pages = bytes.start / PAGE..bytes.end.div_ceil(PAGE);
        let whole = |page: &u64| bytes.start <= page * PAGE && (page + 1) * PAGE <= bytes.end;
        bytes.start < bytes.end && !self.unreadable.range(pages).all(whole)
    }

    /// Makes those pending changes durable that `keep` wants; forgets the others.
    pub(super) fn settle(&mut self, mut keep: impl FnMut() -> bool) {
        for change in self.pending.drain(..) {
            match change {
                _ if !keep() => {}
                Change::Len(len) => self.durable.set_len(len),
                Change::Sector(sector, at) => {
                    self.durable.write(&self.sectors[at..at + SECTOR], sector * SECTOR);
                }
            }
        }
        self.sectors.clear();
        // A sector beyond the end of the file is not part of it.
        self.durable.set_len(self.durable.len);
    }
}
