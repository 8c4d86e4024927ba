//! Reads payloads: all chunks in order, without a gap, hashed on the way.
//!
//! Whether the highest chunk held is the last one of the payload, nobody can tell from the chunks.

use crate::traits::Query;
use crate::types::ReadError;
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::ranges::RangeSet;
use std::io::{self, Write};
use std::ops::ControlFlow;

/// A payload that was read without a gap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assembled {
    /// Its length.
    pub bytes: u64,
    /// Its chunks.
    pub chunks: u64,
    /// Its BLAKE3.
    pub blake3: [u8; 32],
}

/// Why a payload was not assembled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// The store's fault.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// These chunks below the highest one held are missing; what came before them was written.
    #[error("chunks {0} are missing")]
    Missing(RangeSet),
    /// The sink's fault.
    #[error("writing the payload failed")]
    Sink(#[source] io::Error),
}

/// So many bytes are hashed and written at once: by the hundred, or in pieces that do not fit the
/// hash's tree, both cost several times as much.
const PIECE: usize = 64 << 10;

/// Writes the payload of `tid` to `sink`, in constant memory. Stops at the first gap.
pub fn assemble(
    from: &dyn Query,
    tid: TransactionId,
    sink: &mut dyn Write,
) -> Result<Assembled, AssembleError> {
    let summary = from.transaction(tid)?.ok_or(ReadError::UnknownTransaction)?;
    // Chunks that come after the summary was taken belong to a later assembly.
    let end = summary.ranges.last().map_or(0, |last| last.saturating_add(1));
    match Assembly::default().advance(from, tid, end, u64::MAX, sink)? {
        Step::Done(assembled) => Ok(assembled),
        Step::More | Step::Gap => Err(AssembleError::Missing(summary.ranges.missing_below(end))),
    }
}

/// A payload that is read in steps.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    hasher: blake3::Hasher,
    /// What was read and is neither hashed nor written yet.
    piece: Vec<u8>,
    bytes: u64,
    chunks: u64,
}

/// How far an [`Assembly`] is.
pub(crate) enum Step {
    /// All chunks were read.
    Done(Assembled),
    /// There are more.
    More,
    /// The next one is not held.
    Gap,
}

impl Assembly {
    /// Reads on for about `most` bytes, not beyond chunk `end`.
    pub(crate) fn advance(
        &mut self,
        from: &dyn Query,
        tid: TransactionId,
        end: u64,
        most: u64,
        sink: &mut dyn Write,
    ) -> Result<Step, AssembleError> {
        let stop = self.bytes.saturating_add(most);
        let mut sink_error = None;
        from.read(tid, SequenceNumber(self.chunks), &mut |seq, data| {
            if seq.0 != self.chunks || seq.0 >= end || self.bytes >= stop {
                return ControlFlow::Break(());
            }
            self.piece.extend_from_slice(data);
            self.bytes += data.len() as u64;
            self.chunks += 1;
            while self.piece.len() >= PIECE {
                if let Err(error) = self.put(PIECE, sink) {
                    sink_error = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        if let Some(error) = sink_error {
            return Err(AssembleError::Sink(error));
        }
        if self.chunks < end {
            return Ok(if self.bytes >= stop { Step::More } else { Step::Gap });
        }
        self.put(self.piece.len(), sink).map_err(AssembleError::Sink)?;
        let Self { bytes, chunks, .. } = *self;
        Ok(Step::Done(Assembled { bytes, chunks, blake3: *self.hasher.finalize().as_bytes() }))
    }

    fn put(&mut self, len: usize, sink: &mut dyn Write) -> io::Result<()> {
        let piece = &self.piece[..len];
        self.hasher.update(piece);
        sink.write_all(piece)?;
        self.piece.drain(..len);
        Ok(())
    }
}
