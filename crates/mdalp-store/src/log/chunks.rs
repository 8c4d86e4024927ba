//! Reading a transaction's chunks in order.
//!
//! A segment's chunks of one transaction lie among those of others. The index says where: what is
//! near enough is read at once, and what lies far away is not copied. Takes no lock, and memory for
//! one window and a block of index for each segment.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use mdalp_proto::ids::{SequenceNumber, TransactionId};

use super::catalog::is_chunk;
use super::format::{HEADER, Header};
use super::index::{Cursor, Entry};
use crate::disk::{DiskFile, read_what_can_be};
use crate::types::ReadError;

/// No more is read at once, unless a record is longer.
const WINDOW: u64 = 256 << 10;
/// Copying so much that is not needed costs about as much as reading once more.
const GAP: u64 = 2 << 10;

/// The chunks of one transaction in ascending order, merged from its segments.
#[derive(Debug)]
pub(crate) struct Chunks<F> {
    tid: TransactionId,
    /// Newest segment first.
    sources: Vec<Source<F>>,
    window: Window,
}

impl<F: DiskFile> Chunks<F> {
    pub(super) fn new(tid: TransactionId, sources: Vec<Source<F>>) -> Self {
        Self { tid, sources, window: Window::default() }
    }

    pub(crate) fn visit(
        mut self,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let Self { tid, sources, window } = &mut self;
        loop {
            // The source with the next chunk, the newest of them, and where the others go on: up to
            // there nobody else has to be asked.
            let mut next = None;
            let mut others = None;
            for (at, source) in sources.iter_mut().enumerate() {
                let Some(Entry { seq, .. }) = source.cursor.peek(&*source.file)? else { continue };
                match next {
                    Some((first, _)) if first <= seq => {
                        others = Some(others.map_or(seq, |other: u64| other.min(seq)));
                    }
                    _ => {
                        others = next.map(|(first, _)| first).or(others);
                        next = Some((seq, at));
                    }
                }
            }
            let Some((first, at)) = next else { return Ok(()) };
            let source = &mut sources[at];
            window.clear();
            while let Some(Entry { seq, .. }) = source.cursor.peek(&*source.file)?
                && (seq == first || others.is_none_or(|other| seq < other))
            {
                let data = window.chunk(source, *tid, others)?;
                match data.map(|data| visit(SequenceNumber(seq), data)) {
                    Some(ControlFlow::Continue(())) => {}
                    Some(ControlFlow::Break(())) => return Ok(()),
                    None => return Err(ReadError::Damaged { seq: SequenceNumber(seq) }),
                }
                source.cursor.advance();
            }
            // Older copies of the chunk that was shown.
            for source in sources.iter_mut().filter(|_| others == Some(first)) {
                if source.cursor.peek(&*source.file)?.is_some_and(|entry| entry.seq == first) {
                    source.cursor.advance();
                }
            }
        }
    }
}

/// One segment's chunks of a transaction.
#[derive(Debug)]
pub(super) struct Source<F> {
    cursor: Cursor,
    file: Arc<F>,
    seed: u32,
}

impl<F> Source<F> {
    pub(super) fn new(cursor: Cursor, file: Arc<F>, seed: u32) -> Self {
        Self { cursor, file, seed }
    }
}

/// What was read of one source.
#[derive(Default, Debug)]
struct Window {
    bytes: Vec<u8>,
    at: u64,
    /// Length of the last record: the next one is likely to be as long.
    usual: u64,
}

impl Window {
    /// Forgets what it holds, and keeps the memory.
    fn clear(&mut self) {
        self.at = u64::MAX;
    }

    /// The data of the chunk at the source's cursor, if its record is intact. Chunks from number
    /// `others` on will not be asked for.
    fn chunk<F: DiskFile>(
        &mut self,
        source: &Source<F>,
        tid: TransactionId,
        others: Option<u64>,
    ) -> io::Result<Option<&[u8]>> {
        let ahead = source.cursor.ahead();
        let Some(&Entry { seq, offset, .. }) = ahead.first() else { return Ok(None) };
        let offset = u64::from(offset);
        if !self.holds(offset, HEADER as u64) {
            self.read(source, ahead, others, HEADER as u64)?;
        }
        let Some(bytes) = self.from(offset) else { return Ok(None) };
        let header = Header::decode(source.seed, bytes);
        let Some(header) = header.filter(|header| is_chunk(header, tid, seq)) else {
            return Ok(None);
        };
        self.usual = header.record_len();
        if !self.holds(offset, self.usual) {
            self.read(source, ahead, others, self.usual)?;
        }
        let bytes = self.from(offset).and_then(|bytes| bytes.get(..self.usual as usize));
        Ok(bytes.map(|bytes| &bytes[HEADER..]).filter(|data| header.fits(data)))
    }

    fn from(&self, offset: u64) -> Option<&[u8]> {
        self.bytes.get(usize::try_from(offset.checked_sub(self.at)?).ok()?..)
    }

    fn holds(&self, offset: u64, len: u64) -> bool {
        self.from(offset).is_some_and(|bytes| bytes.len() as u64 >= len)
    }

    /// Reads from the first of `ahead` on: at least `least` bytes, if the file has them, and what is
    /// near of the others.
    fn read<F: DiskFile>(
        &mut self,
        source: &Source<F>,
        ahead: &[Entry],
        others: Option<u64>,
        least: u64,
    ) -> io::Result<()> {
        let Some(first) = ahead.first() else { return Ok(()) };
        self.at = first.offset.into();
        let mut end = self.at + least.max(self.usual);
        for &Entry { seq, offset, .. } in &ahead[1..] {
            let offset = u64::from(offset);
            let near = offset >= self.at && offset <= end + GAP && offset < self.at + WINDOW;
            if !near || others.is_some_and(|other| seq >= other) {
                break;
            }
            end = end.max(offset + self.usual);
        }
        self.bytes.resize((end - self.at) as usize, 0);
        // What cannot be read is damaged: whoever reads may go on behind it.
        let read = read_what_can_be(&*source.file, &mut self.bytes, self.at);
        self.bytes.truncate(read.as_ref().map_or(0, |(count, _)| *count));
        read.map(drop)
    }
}
