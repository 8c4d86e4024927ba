//! What goes into a store and comes out of it, and how it can fail.
//!
//! Does not say how anything is kept: these types are shared by all engines.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::wire::Statement;

use crate::log::Damage;

/// Wall-clock time in milliseconds since 1970. Always an argument: a store reads no clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct UnixMillis(pub u64);

/// Names a receiver within one store; given out by [`Transactions::declare_receiver`].
///
/// [`Transactions::declare_receiver`]: crate::Transactions::declare_receiver
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ReceiverId(pub u16);

/// What an acknowledged chunk survives.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Durability {
    /// Power loss: the disk was told to flush before `append` returned.
    #[default]
    Fsync,
    /// The death of this process, not that of the machine.
    Process,
}

/// One chunk to keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewChunk<'a> {
    /// Its transaction.
    pub tid: TransactionId,
    /// Its place in the payload.
    pub seq: SequenceNumber,
    /// Who received it.
    pub receiver: ReceiverId,
    /// Who sent it. Recorded with the first chunk of a transaction that nobody began.
    pub from: SocketAddr,
    /// [`chunk_crc`](crate::chunk_crc) of the three: computed once, by the receiver. A wrong value makes
    /// the chunk count as damaged when it is read.
    pub crc: u32,
    /// The bytes.
    pub data: &'a [u8],
}

/// What became of a chunk that is now held durably.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Appended {
    /// It was written now.
    New,
    /// It was held already (the first bytes win). `crc` is that of the bytes held: another value
    /// than the new chunk's is a conflict (H48).
    Duplicate {
        /// [`chunk_crc`](crate::chunk_crc) of what is held.
        crc: u32,
    },
}

/// Why a chunk must not be acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Too much is under way; the sender repeats.
    #[error("the store is busy")]
    Busy,
    /// No space. Intake opens again by itself when there is some (F28).
    #[error("the store is full")]
    Full,
    /// Unfinished transactions take as much memory as they may: no new ones are begun by chunks, and
    /// those with gaps get no more of them ([`Limits`](crate::Limits)). Other chunks are taken.
    #[error("too many transactions are unfinished, or have too many gaps")]
    Crowded,
    /// A write or flush failed: nothing is accepted until the store is opened anew (F30).
    #[error("the store failed earlier and takes no more")]
    Poisoned,
    /// The engine cannot be reached; whether the chunk is held is not known.
    #[error("the store cannot be reached")]
    Unavailable,
    /// The transaction was released; its chunks may be gone.
    #[error("the transaction was released")]
    Released,
    /// The sender stated that the payload has fewer chunks.
    #[error("the chunk is beyond the end that the sender stated")]
    BeyondEnd,
    /// The chunk can never be kept: it is larger than a segment.
    #[error("the chunk is too long for the store")]
    TooLong,
    /// The chunk was kept, but what is on the disk is damaged, and it could not be struck out now: the sender
    /// repeats.
    #[error("the held chunk is damaged")]
    Damaged,
}

/// The result for one chunk of a batch. Only `Ok` may be acknowledged.
pub type AppendResult = Result<Appended, AppendError>;

/// A receiver as people know it. Text, because a store gives it no meaning.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct ReceiverName {
    /// Address, as handed to the client.
    pub address: String,
    /// Name from the configuration.
    pub name: String,
}

/// What is known of a transaction when it begins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TransactionInfo {
    /// The client's address.
    pub client: String,
    /// When its intent was accepted.
    pub begun: UnixMillis,
    /// The receivers handed out, in that order.
    pub receivers: Vec<ReceiverName>,
}

/// What a server states about a whole payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    /// 1 for the first close; a late chunk reopens, and the next close is one higher.
    pub revision: u32,
    /// Length of the payload.
    pub bytes: u64,
    /// Number of its chunks.
    pub chunks: u64,
    /// BLAKE3 of the payload.
    pub blake3: [u8; 32],
    /// When it was closed.
    pub closed: UnixMillis,
}

/// Why a transaction's chunks need not be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// Nothing happened for too long, or its retention is over.
    Expired,
    /// Somebody removed it, or it is kept elsewhere.
    Removed,
}

/// Where a transaction stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Chunks may come; no receipt, or one that no longer covers what is held.
    Open,
    /// The receipt covers exactly what is held, and nothing came after it.
    Complete,
    /// Less is held than a receipt or a statement on record says was held. What is missing may be sent
    /// again.
    Damaged,
    /// Released as [`Release::Expired`].
    Expired,
    /// Released as [`Release::Removed`].
    Removed,
}

/// The part of a transaction that one receiver was the first to write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Share {
    /// The receiver.
    pub receiver: ReceiverId,
    /// How many chunks.
    pub chunks: u64,
    /// How many payload bytes.
    pub bytes: u64,
    /// Which. Holds at most [`Share::MAX_RANGES`] ranges a receiver, and fewer if all transactions
    /// have many; chunks that would open more are counted above but not listed (a hostile sender
    /// could alternate receivers).
    pub ranges: RangeSet,
}

impl Share {
    /// See [`Share::ranges`].
    pub const MAX_RANGES: usize = 1024;
}

/// All that is known of a transaction, without its payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransactionSummary {
    /// Which.
    pub tid: TransactionId,
    /// Where it stands.
    pub state: State,
    /// What was recorded at its begin; `None` if chunks came without one.
    pub info: Option<TransactionInfo>,
    /// Who sent its first chunk, where nobody began it.
    pub sender: Option<SocketAddr>,
    /// Chunks held.
    pub chunks: u64,
    /// Payload bytes held.
    pub bytes: u64,
    /// Which chunks are held.
    pub ranges: RangeSet,
    /// Who wrote them first, by receiver.
    pub shares: Vec<Share>,
    /// When the last new chunk came (to the second after a restart); `None` without chunks.
    pub last_append: Option<UnixMillis>,
    /// The newest receipt, also if late chunks have outdated it.
    pub receipt: Option<Receipt>,
    /// What the sender stated of the whole.
    pub statement: Option<Statement>,
}

impl TransactionSummary {
    /// The client's address, from its intent or else from its first chunk.
    pub fn client(&self) -> Option<String> {
        let begun = self.info.as_ref().map(|info| info.client.clone());
        begun.or_else(|| self.sender.map(|sender| sender.to_string()))
    }
}

/// A transaction in [`State::Open`], in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unfinished {
    /// Which.
    pub tid: TransactionId,
    /// When it began; `None` if chunks came without a record of that.
    pub begun: Option<UnixMillis>,
    /// When the last new chunk came.
    pub last_append: Option<UnixMillis>,
    /// In how many separate ranges its chunks are.
    pub ranges: usize,
    /// Whether these are one that begins with 0.
    pub gapless: bool,
    /// What the sender stated of the whole.
    pub statement: Option<Statement>,
}

impl From<&TransactionSummary> for Unfinished {
    fn from(summary: &TransactionSummary) -> Self {
        Self {
            tid: summary.tid,
            begun: summary.info.as_ref().map(|info| info.begun),
            last_append: summary.last_append,
            ranges: summary.ranges.range_count(),
            gapless: summary.ranges.contiguous_from_zero().is_some(),
            statement: summary.statement,
        }
    }
}

/// How much of what unfinished transactions may take of the memory is taken, in thousandths. Beyond
/// 1,000, chunks are refused as [`AppendError::Crowded`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Crowding {
    /// Of the ranges.
    pub ranges: u32,
    /// Of the transactions that nobody began.
    pub transactions: u32,
}

/// What one step of [`ChunkLog::maintain`](crate::ChunkLog::maintain) found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Maintained {
    /// Damage that was not known before. What it held is struck out, so that it can be sent again.
    pub damage: Vec<Damage>,
    /// Whether this round has further steps; if not, all that is held was looked at.
    pub more: bool,
}

/// Why something other than a chunk was not recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The transaction id is in use: draw another.
    #[error("transaction id is in use")]
    AlreadyExists,
    /// No such transaction.
    #[error("no such transaction")]
    UnknownTransaction,
    /// The transaction was released.
    #[error("the transaction was released")]
    Released,
    /// The receipt does not cover what is held, or has the wrong revision: assemble again.
    #[error("the receipt does not match what is held")]
    Outdated,
    /// Another statement of the whole is on record, or more is held than stated.
    #[error("it contradicts what is on record")]
    Contradicted,
    /// More text or more receivers than a record holds.
    #[error("too long for a record")]
    TooLong,
    /// No space, or too little to begin something new.
    #[error("the store is full")]
    Full,
    /// A write or flush failed: nothing is accepted until the store is opened anew.
    #[error("the store failed earlier and takes no more")]
    Poisoned,
    /// The disk failed while something was copied; all is as it was before.
    #[error("copying failed: {0}")]
    Io(io::ErrorKind),
    /// A segment is damaged, and was left alone.
    #[error("segment {segment} is damaged")]
    Damaged {
        /// Its number.
        segment: u64,
    },
    /// The engine cannot be reached.
    #[error("the store cannot be reached")]
    Unavailable,
}

/// Why a payload, or a part of it, could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No such transaction, or released.
    #[error("no such transaction")]
    UnknownTransaction,
    /// Stores that are read as one have different statements of the whole on record.
    #[error("the data directories disagree on what the whole payload is")]
    Contradiction,
    /// A chunk fails its checksum. A store that is open for writing has struck it out by now, so that it can be
    /// sent again.
    #[error("chunk {seq} is damaged on disk")]
    Damaged {
        /// The chunk.
        seq: SequenceNumber,
    },
    /// The disk failed.
    #[error("reading failed: {0}")]
    Io(io::ErrorKind),
    /// The engine cannot be reached.
    #[error("the store cannot be reached")]
    Unavailable,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
