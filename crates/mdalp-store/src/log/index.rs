//! Where the chunks of one transaction are within one segment.
//!
//! In memory while the segment is written, on disk (sorted) once it is sealed. Does not know which
//! chunks are held over all segments: [`super::catalog`] does.

use std::io;

use mdalp_proto::ranges::RangeSet;

use crate::disk::{DiskFile, read_exact_at};

/// One chunk: 16 bytes, in memory and on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    /// Of the record, from the start of the file.
    pub(super) offset: u32,
    /// Of the chunk.
    pub(super) crc: u32,
}

impl Entry {
    pub(super) const LEN: usize = 16;

    pub(super) fn encode(self) -> [u8; Self::LEN] {
        let word = u64::from(self.offset) << 32 | u64::from(self.crc);
        (u128::from(self.seq) << 64 | u128::from(word)).to_be_bytes()
    }

    fn decode(bytes: [u8; Self::LEN]) -> Self {
        let word = u128::from_be_bytes(bytes);
        Self { seq: (word >> 64) as u64, offset: (word >> 32) as u32, crc: word as u32 }
    }
}

/// Entries of a segment that is being written.
///
/// Several receivers write ascending runs side by side, so entries come nearly sorted: a sorted front
/// is searched by halving, a short rest one by one, and now and then the rest is merged in.
#[derive(Clone, Default, Debug)]
pub(super) struct MemoryIndex {
    entries: Vec<Entry>,
    sorted: usize,
    /// The number of the last entry: reading it there would wait for memory each time.
    last: u64,
}

impl MemoryIndex {
    pub(super) fn push(&mut self, entry: Entry) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            // A quarter more instead of doubling keeps a chunk below 24 bytes.
            self.entries.reserve_exact((len / 4).max(4));
        }
        let ascending = len == 0 || self.last < entry.seq;
        self.last = entry.seq;
        self.entries.push(entry);
        if self.sorted == len && ascending {
            self.sorted = len + 1;
        } else if len - self.sorted > (self.sorted / 16).max(1024) {
            self.entries.sort_by_key(|entry| entry.seq);
            self.sorted = self.entries.len();
            self.last = self.entries.last().map_or(0, |last| last.seq);
        }
    }

    fn get(&self, seq: u64) -> Option<Entry> {
        let (front, rest) = self.entries.split_at(self.sorted);
        match front.binary_search_by_key(&seq, |entry| entry.seq) {
            Ok(at) => Some(front[at]),
            Err(_) => rest.iter().find(|entry| entry.seq == seq).copied(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn to_sorted(&self) -> Vec<Entry> {
        let mut entries = self.entries.clone();
        entries.sort_by_key(|entry| entry.seq);
        entries
    }

    /// The chunks that have entries.
    pub(super) fn held(&self) -> RangeSet {
        let mut held = RangeSet::new();
        for entry in self.to_sorted() {
            held.insert(entry.seq);
        }
        held
    }
}

/// See the module.
#[derive(Clone, Default, Debug)]
pub(super) struct Index {
    /// Used until the segment is sealed.
    pub(super) memory: MemoryIndex,
    /// Where the entries are in a sealed segment.
    pub(super) disk: Option<Slice>,
}

/// `count` entries from offset `at` of the segment on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    pub(super) at: u64,
    pub(super) count: u32,
}

impl Index {
    /// The entry of a chunk.
    pub(super) fn get(&self, file: &impl DiskFile, seq: u64) -> io::Result<Option<Entry>> {
        let Some(slice) = self.disk else { return Ok(self.memory.get(seq)) };
        let slot = slice.lower_bound(file, seq)?;
        if slot == slice.count {
            return Ok(None);
        }
        Ok(Some(slice.entry(file, slot)?).filter(|entry| entry.seq == seq))
    }

    /// A cursor over all entries from `seq` on, ascending.
    pub(super) fn cursor(&self, file: &impl DiskFile, seq: u64) -> io::Result<Cursor> {
        let Some(slice) = self.disk else {
            let block = self.memory.to_sorted();
            let next = block.partition_point(|entry| entry.seq < seq);
            return Ok(Cursor { block, next, rest: Slice { at: 0, count: 0 } });
        };
        let skipped = slice.lower_bound(file, seq)?;
        let at = slice.at.saturating_add(u64::from(skipped) * Entry::LEN as u64);
        let rest = Slice { at, count: slice.count - skipped };
        Ok(Cursor { block: Vec::new(), next: 0, rest })
    }
}

impl Slice {
    fn entry(self, file: &impl DiskFile, slot: u32) -> io::Result<Entry> {
        let mut bytes = [0; Entry::LEN];
        let offset = self.at.saturating_add(u64::from(slot) * Entry::LEN as u64);
        read_exact_at(file, &mut bytes, offset)?;
        Ok(Entry::decode(bytes))
    }

    /// The first slot whose SEQ is not below `seq`.
    fn lower_bound(self, file: &impl DiskFile, seq: u64) -> io::Result<u32> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(file, middle)?.seq < seq {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

/// Walks an index; entries on disk are read a block at a time.
#[derive(Debug)]
pub(super) struct Cursor {
    block: Vec<Entry>,
    next: usize,
    rest: Slice,
}

impl Cursor {
    const BLOCK: u32 = 1024;

    /// The entry that [`advance`](Self::advance) will step over.
    pub(super) fn peek(&mut self, file: &impl DiskFile) -> io::Result<Option<Entry>> {
        if self.next == self.block.len() && self.rest.count > 0 {
            let count = self.rest.count.min(Self::BLOCK);
            let mut bytes = vec![0; count as usize * Entry::LEN];
            read_exact_at(file, &mut bytes, self.rest.at)?;
            self.block.clear();
            self.block.extend(bytes.as_chunks().0.iter().copied().map(Entry::decode));
            self.next = 0;
            self.rest.at += bytes.len() as u64;
            self.rest.count -= count;
        }
        Ok(self.block.get(self.next).copied())
    }

    /// The entries from there on that are in memory.
    pub(super) fn ahead(&self) -> &[Entry] {
        self.block.get(self.next..).unwrap_or_default()
    }

    pub(super) fn advance(&mut self) {
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64) -> Entry {
        Entry { seq, offset: seq as u32 + 1, crc: !(seq as u32) }
    }

    #[test]
    fn finds_every_entry_of_interleaved_runs() {
        let mut index = MemoryIndex::default();
        for i in 0..3000 {
            for run in [20_000, 0, 10_000] {
                index.push(entry(run + i));
            }
        }
        assert!((0..3000).all(|i| index.get(10_000 + i) == Some(entry(10_000 + i))));
        assert_eq!(index.get(3000), None);
        assert!(index.to_sorted().is_sorted_by_key(|entry| entry.seq));
        assert!(index.entries.capacity() * Entry::LEN <= 9000 * 24);
    }

    #[test]
    fn entries_survive_encoding() {
        let entry = Entry { seq: u64::MAX - 5, offset: 0xdead_beef, crc: 7 };
        assert_eq!(Entry::decode(entry.encode()), entry);
    }
}
