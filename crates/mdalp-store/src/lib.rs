//! What MDALP servers keep: chunks until they are a payload, transactions, receipts.
//!
//! [`ChunkLog`], [`Transactions`] and [`Query`] are made for more than one engine. Blocking and
//! without a runtime: a server gives the store a thread.
//!
//! ```
//! use mdalp_proto::ids::{SequenceNumber, TransactionId};
//! use mdalp_store::disk::mem::MemDisk;
//! use mdalp_store::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let disk = MemDisk::new(); // or RealDisk::create("mdalp-data")?
//! let options = Options { segment_bytes: 64 << 10, limits: Limits::NONE, ..Options::new(4711) };
//! let log = SegmentLog::open(disk, options)?;
//! let receiver = log.declare_receiver(&ReceiverName::default())?;
//!
//! let (tid, seq, data) = (TransactionId(1), SequenceNumber(0), b"hello");
//! let from = "192.0.2.1:9".parse()?;
//! let crc = chunk_crc(tid, seq, data);
//! let mut results = Vec::new();
//! log.append(UnixMillis(0), &[NewChunk { tid, seq, receiver, from, crc, data }], &mut results);
//! assert_eq!(results, [Ok(Appended::New)]); // now an ack may leave
//!
//! let mut payload = Vec::new();
//! let whole = assemble(&log, tid, &mut payload)?;
//! assert_eq!((whole.chunks, &payload[..]), (1, &b"hello"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! A server loop: drain what has arrived, `append` it as one batch, ack each `Ok`. On
//! [`AppendError::Poisoned`] stop and say why ([`SegmentLog::poison`]). Let a helper thread call
//! [`SegmentLog::prepare`] when [`SegmentLog::needs_prepare`], and
//! another one [`SegmentLog::reclaim`] after releases, until that says `false`, and
//! [`SegmentLog::maintain`] now and then: it finds damage before somebody needs what is damaged.
//!
//! Not here: when a transaction counts as complete or expires (servers decide), the protocol, and any
//! clock or source of randomness (both are arguments).

mod assemble;
pub mod complete;
#[cfg(feature = "test-util")]
pub mod conformance;
pub mod disk;
mod log;
mod reader;
mod traits;
mod types;

pub use assemble::{AssembleError, Assembled, assemble};
pub use log::{
    Damage, DamageKind, Limits, OpenError, Options, Poison, Recovery, SegmentLog, TornTail,
};
pub use reader::Reader;
pub use traits::{ChunkLog, Query, Store, Transactions};
pub use types::{
    AppendError, AppendResult, Appended, Crowding, Durability, Maintained, NewChunk, ReadError,
    Receipt, ReceiverId, ReceiverName, Release, Share, State, StoreError, TransactionInfo,
    TransactionSummary, Unfinished, UnixMillis,
};

pub use mdalp_proto::wire::Statement;

use mdalp_proto::ids::{SequenceNumber, TransactionId};

/// CRC-32C over TID and SEQ as 64-bit big-endian numbers, then the data: what the wire carries, and
/// what a chunk's record is checked with.
pub fn chunk_crc(tid: TransactionId, seq: SequenceNumber, data: &[u8]) -> u32 {
    let mut ids = [0; 16];
    ids[..8].copy_from_slice(&tid.0.to_be_bytes());
    ids[8..].copy_from_slice(&seq.0.to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&ids), data)
}
