//! What goes into the receivers' machine and comes out of it.

use crate::counters::counters;
use crate::ids::{SequenceNumber, TransactionId};
use crate::tidmap::Place;
use crate::wire::{ChunkCrc, Seal, Verdict, encode_ack, encode_seal_reply};
use std::net::SocketAddr;
use std::ops::Range;

/// One of the process's receivers, by its place in the shell's list of sockets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Local(pub u16);

/// A chunk to store. The shell hands it back with the result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// The receiver that took it.
    pub local: Local,
    /// Who sent it, and gets the ack.
    pub from: SocketAddr,
    /// The transaction.
    pub tid: TransactionId,
    /// The chunk's number.
    pub seq: SequenceNumber,
    /// The CRC of numbers and data, as computed here.
    pub crc: ChunkCrc,
    /// Where the data is in the datagram that was just handled.
    pub data: Range<usize>,
    /// Whether the chunk came with a CRC, so that the ack carries one.
    pub wants_crc: bool,
    /// Whether it counts as a range of its own until the answer is there. Of no use to shells.
    pub opens_range: bool,
    /// Where the machine keeps the transaction. Of no use to shells.
    pub place: Place,
}

/// What became of an [`Append`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    /// It is durable.
    New,
    /// A chunk with this number was durable before.
    Duplicate {
        /// The CRC of what is held: the first bytes win (H48).
        crc: ChunkCrc,
    },
    /// It is not durable, and gets no ack.
    Failed,
    /// The same, because the store keeps no more transactions, or no more gaps of this one.
    Crowded,
}

/// An ack to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// The receiver that answers.
    pub local: Local,
    /// The chunk's sender.
    pub to: SocketAddr,
    /// The transaction.
    pub tid: TransactionId,
    /// The chunk's number.
    pub seq: SequenceNumber,
    /// The CRC of what is stored, if the chunk came with one.
    pub crc: Option<ChunkCrc>,
}

impl Ack {
    /// Appends the datagram to `out`. It is shorter than the chunk's was (H51).
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_ack(out, self.tid, self.seq, self.crc);
    }
}

/// A question whether a payload is whole, for the store to answer. The shell hands it back with
/// the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealAsked {
    /// The receiver that was asked.
    pub local: Local,
    /// Who asked, and gets the answer.
    pub from: SocketAddr,
    /// What the client says of its payload.
    pub seal: Seal,
    /// The question's length in bytes: the answer is not longer (H51).
    pub limit: usize,
}

/// An answer to a seal, to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealReply {
    /// The receiver that answers.
    pub local: Local,
    /// Who asked.
    pub to: SocketAddr,
    /// The transaction.
    pub tid: TransactionId,
    verdict: Verdict,
    limit: usize,
}

impl SealReply {
    pub(super) fn new(asked: &SealAsked, verdict: Verdict) -> Self {
        let SealAsked { local, from: to, seal, limit } = *asked;
        Self { local, to, tid: seal.tid, verdict, limit }
    }

    /// Appends the datagram to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_seal_reply(out, self.tid, &self.verdict, self.limit);
    }
}

/// What happened to a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A chunk came of a transaction that was not in memory.
    Claimed {
        /// The transaction.
        tid: TransactionId,
    },
    /// New chunks keep coming. Said every ten seconds at most.
    Active {
        /// The transaction.
        tid: TransactionId,
    },
    /// No new chunk came for [`Config::quiet`](super::Config::quiet): the payload may be whole.
    Quiet {
        /// The transaction.
        tid: TransactionId,
    },
    /// No chunk came for [`Config::idle`](super::Config::idle); the transaction is not in memory any more.
    Idle {
        /// The transaction.
        tid: TransactionId,
    },
    /// The transaction had to leave the memory to others. Nothing else will be said of it unless a
    /// chunk comes.
    Evicted {
        /// The transaction.
        tid: TransactionId,
    },
}

counters! {
    /// What receivers have done and dropped, and why.
    pub struct Counters {
        /// Chunks read, duplicates too.
        chunks,
        /// Chunks stored for the first time.
        stored,
        /// Chunks that were held already, and acknowledged again.
        duplicates,
        /// Of these, chunks that differ from what is held.
        conflicts,
        /// Acks given out.
        acks,
        /// Transactions that left the memory to others.
        evicted,
        /// Datagrams from addresses that cannot be answered.
        drop_bad_source,
        /// Datagrams that do not begin with `Type:`.
        drop_not_mdalp,
        /// Datagrams that cannot be read.
        drop_malformed,
        /// Messages that are not for a receiver.
        drop_unexpected,
        /// Probes of orchestrators answered.
        probes,
        /// Probes shorter than their answer, or too many of them.
        drop_probe,
        /// Seals asked for and handed to the store.
        seals,
        /// Seals where none are served, of transactions that nothing is known of, or too many at once.
        drop_seal,
        /// Chunks that are too long.
        drop_too_long,
        /// Empty chunks that are not the whole payload.
        drop_empty,
        /// Chunks with too high a number.
        drop_seq_limit,
        /// Chunks whose CRC is wrong.
        drop_crc,
        /// Chunks of new transactions from an address that has too many.
        drop_source_quota,
        /// Chunks of new transactions from a prefix that has too many.
        drop_prefix_quota,
        /// Chunks of a transaction that another address owns.
        drop_not_owner,
        /// Chunks of a transaction whose address changes too often.
        drop_restless,
        /// Chunks that would have opened one range too many.
        drop_ranges,
        /// Chunks that the store had no memory for: too many transactions are unfinished, or have too
        /// many gaps.
        drop_crowded,
        /// Chunks that the store did not take for another reason.
        drop_not_stored,
    }
}
