//! The wire format: one message per datagram, ASCII header fields, raw bytes at the end.
//!
//! Decoding borrows and never panics; whatever can be built can be encoded. Does not judge whether
//! a message makes sense at this moment: the machines do.
//!
//! | Type | message | fields |
//! | --- | --- | --- |
//! | 0 | [`Message::Intent`] | optional `NONCE`; anything else may follow and is ignored |
//! | 1 | [`Message::Assignment`] | `TID`, optional `NONCE`, `DATA` (receiver list, see [`list`]) |
//! | 2 | [`Message::Data`] | `TID`, `SEQ`, optional `CRC`, `DATA` (raw, to the end) |
//! | 3 | [`Message::Ack`] | `TID`, `SEQ`, optional `CRC`; anything may follow and is ignored |
//! | 4 | [`Message::Seal`] | `TID`, `SEQ` (chunks), optional `CRC`, `DATA` (`<bytes> <BLAKE3 in hex>`) |
//! | 5 | [`Message::SealReply`] | `TID`, `DATA` (`complete`, `missing 3-9,14`, `mismatch`, `recorded <CRC>`, `refused <why>`) |
//! | 6 | [`Message::Queued`] | `NONCE`, `DATA` (place in the queue, from 1) |
//! | 7 | [`Message::Probe`] | `NONCE`; anything may follow and is ignored |
//! | 8 | [`Message::ProbeReply`] | `NONCE`, `DATA` (capabilities, as in a list entry) |

pub mod caps;
mod decode;
mod encode;
pub mod list;

pub use caps::Capabilities;
pub use decode::{DecodeError, decode};
pub use encode::{
    CLASSIC_CHUNK, MAX_DATA_HEADER, encode_ack, encode_assignment, encode_data_header,
    encode_intent, encode_nonced_intent, encode_probe, encode_probe_reply, encode_queued,
    encode_seal, encode_seal_reply,
};
pub(crate) use encode::{encode_padded_intent, encode_spelled};

use crate::ids::{Nonce, SequenceNumber, TransactionId};
use crate::ranges::RangeSet;

/// The port that orchestrators and receivers listen on.
pub const PORT: u16 = 4650;

/// The longest Type 1 datagram that classic clients can read.
pub const MAX_CLASSIC_ASSIGNMENT: usize = 1024;

/// CRC-32C of a chunk: TID and SEQ as 64-bit big-endian, then the data.
///
/// It covers the numbers as well, so that good data under a damaged SEQ is noticed too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct ChunkCrc(pub u32);

impl ChunkCrc {
    /// The CRC of `data` sent as chunk `seq` of transaction `tid`.
    pub fn of(tid: TransactionId, seq: SequenceNumber, data: &[u8]) -> Self {
        let mut numbers = [0; 16];
        numbers[..8].copy_from_slice(&tid.0.to_be_bytes());
        numbers[8..].copy_from_slice(&seq.0.to_be_bytes());
        Self(crc32c::crc32c_append(crc32c::crc32c(&numbers), data))
    }
}

/// What a datagram says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// Client to orchestrator: I want to send a payload.
    Intent {
        /// Tells this intent from every other one; classic clients have none.
        nonce: Option<Nonce>,
    },
    /// Orchestrator to client: your transaction, and the receivers' list, not yet parsed.
    Assignment {
        /// The transaction.
        tid: TransactionId,
        /// The nonce of the intent that this answers, if that had one.
        nonce: Option<Nonce>,
        /// The list as it stands in the datagram; [`list::parse`] reads it.
        list: &'a [u8],
    },
    /// Client to receiver: one chunk.
    Data {
        /// The transaction.
        tid: TransactionId,
        /// The chunk's number.
        seq: SequenceNumber,
        /// Present only where the receiver advertised `crc`. Not verified by decoding.
        crc: Option<ChunkCrc>,
        /// The chunk's bytes, to the end of the datagram.
        data: &'a [u8],
    },
    /// Receiver to client: this chunk is durable here.
    Ack {
        /// The transaction.
        tid: TransactionId,
        /// The chunk's number.
        seq: SequenceNumber,
        /// The CRC of what was stored, if the chunk came with one.
        crc: Option<ChunkCrc>,
    },
    /// Client to receiver: this was all; is it whole?
    Seal(Seal),
    /// Receiver to client: the answer to a seal.
    SealReply {
        /// The transaction.
        tid: TransactionId,
        /// What the servers found.
        verdict: Verdict,
    },
    /// Orchestrator to client: the intent was read and waits.
    Queued {
        /// The nonce of the intent.
        nonce: Nonce,
        /// Its place in the queue, from 1.
        position: u64,
    },
    /// Orchestrator to receiver: are you there, and what do you speak?
    Probe {
        /// Comes back in the answer.
        nonce: Nonce,
    },
    /// Receiver to orchestrator: this is what I speak.
    ProbeReply {
        /// That of the probe.
        nonce: Nonce,
        /// What the receiver advertises.
        caps: Capabilities,
    },
}

/// What a sender states of its whole payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Statement {
    /// How many chunks it has: their numbers are 0 to `chunks` − 1.
    pub chunks: u64,
    /// The payload's length in bytes.
    pub bytes: u64,
    /// BLAKE3 of the payload.
    pub blake3: [u8; 32],
}

/// What a client says of a finished payload (Type 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seal {
    /// The transaction.
    pub tid: TransactionId,
    /// The whole payload.
    pub statement: Statement,
    /// Whether it carries a CRC. One whose CRC is wrong is malformed: decoding checks it. A
    /// receiver that cannot compare the statement with the whole payload records only such a one.
    pub checked: bool,
}

impl Seal {
    /// The CRC that a checked seal carries: of TID and number of chunks, then of its `DATA`.
    pub fn crc(&self) -> ChunkCrc {
        encode::seal_crc(self)
    }
}

/// What the servers found when they assembled a sealed payload (Type 5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Length and hash are the client's: the receipt.
    Complete,
    /// These chunks are not there.
    Missing(RangeSet),
    /// All chunks are there, but length or hash differ; or another statement is on record.
    Mismatch,
    /// The receiver cannot see the whole, and has recorded what the sender states of it: the
    /// statement whose seal has this CRC.
    Recorded(ChunkCrc),
    /// The receiver takes no chunks of this transaction at this moment.
    Refused(Refusal),
}

/// Why a receiver takes no chunks of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// The sender's address has as many unfinished transactions here as it may have.
    SourceQuota,
    /// The sender's network prefix has.
    PrefixQuota,
    /// The store has no room for more unfinished transactions, or for more gaps of this one.
    Crowded,
    /// The disk is full.
    Full,
}

impl Refusal {
    /// All of them, for decoding and tests.
    pub const ALL: [Self; 4] = [Self::SourceQuota, Self::PrefixQuota, Self::Crowded, Self::Full];

    /// Its word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::SourceQuota => "source-quota",
            Self::PrefixQuota => "prefix-quota",
            Self::Crowded => "crowded",
            Self::Full => "full",
        }
    }
}

#[cfg(test)]
mod tests;
