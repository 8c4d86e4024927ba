//! What goes into a transfer and what comes out of it.
//!
//! Does nothing by itself: [`super::Transfer`] is the machine.

use super::{LaneState, Move, Policy};
use crate::ids::{ReceiverAddr, SequenceNumber, TransactionId};
use crate::layout::Layout;
use crate::rtt::RtoConfig;
use crate::split::{Share, number_chunks};
use crate::time::Instant;
use crate::wire::Refusal;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// How patient a transfer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransferConfig {
    /// Bounds of the retransmission timeout.
    pub rto: RtoConfig,
    /// A receiver that owes an answer for this long is suspect: its chunks go to others. Default
    /// 30 s: at 30 % loss fewer than 2 % of living receivers are silent for so long.
    pub suspect_after: Duration,
    /// When nobody has acknowledged anything for this long, the transfer fails. Default 120 s.
    pub fail_after: Duration,
    /// How often a suspect is asked again while others answer. Default 30 s.
    pub suspect_probe: Duration,
    /// The transfer fails at this moment, whatever its state. Default: never.
    pub deadline: Option<Instant>,
    /// Whether a suspect's chunks may go to other receivers. Default true.
    pub reassign: bool,
    /// How many receivers must have each chunk. Default 1; never more than there are receivers.
    pub copies: usize,
    /// How long the servers' confirmation is waited for in silence; longer for long payloads and slow
    /// paths. Default 3 s.
    pub confirm_within: Duration,
}

impl Default for TransferConfig {
    fn default() -> Self {
        Self {
            rto: RtoConfig::default(),
            suspect_after: Duration::from_secs(30),
            fail_after: Duration::from_secs(120),
            suspect_probe: Duration::from_secs(30),
            deadline: None,
            reassign: true,
            copies: 1,
            confirm_within: Duration::from_secs(3),
        }
    }
}

/// A receiver that may be sent to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    /// Where it is.
    pub addr: ReceiverAddr,
    /// Its latency, in any unit that is the same for all.
    pub latency: f64,
    /// Unacknowledged chunks that it takes; 1 unless it advertised more.
    pub window: u16,
    /// Whether it advertised `crc`.
    pub crc: bool,
    /// Whether it advertised `seal`.
    pub seal: bool,
    /// Whether it advertised `record`.
    pub record: bool,
}

/// What is to be sent: fixed before the first chunk leaves.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// The transaction.
    pub tid: TransactionId,
    /// Each receiver's share, in list order.
    pub shares: Vec<Share>,
    /// Which bytes each chunk has.
    pub layout: Layout,
}

impl Plan {
    /// Spreads `payload` bytes, in chunks of at most `chunk`, over `targets` as `policy` says.
    pub fn new(
        tid: TransactionId,
        payload: u64,
        chunk: u16,
        targets: &[Target],
        policy: &dyn Policy,
    ) -> Self {
        let latencies: Vec<f64> = targets.iter().map(|t| t.latency).collect();
        let shares = number_chunks(&policy.plan(payload, chunk, &latencies), chunk);
        Self { tid, layout: Layout::new(&shares, chunk), shares }
    }
}

/// What a datagram carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// One chunk.
    Chunk,
    /// The seal of the whole payload.
    Seal,
}

/// A datagram to send: named, but not filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Index of the receiver.
    pub lane: usize,
    /// What it carries.
    pub content: Content,
    /// The chunk's number; of a seal, the number of chunks.
    pub seq: SequenceNumber,
    /// The chunk's bytes in the payload, empty for a seal. The shell reads them and calls
    /// [`Transfer::encode`](super::Transfer::encode).
    pub range: Range<u64>,
    /// 1 for the first transmission to this receiver; more for retransmissions.
    pub attempt: u32,
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A chunk was acknowledged for the first time.
    Acked {
        /// Index of the receiver.
        lane: usize,
        /// The chunk.
        seq: SequenceNumber,
        /// Its length in bytes.
        bytes: u64,
        /// Its round-trip time, if it was sent once.
        rtt: Option<Duration>,
    },
    /// No ack came in time; the chunk is sent again.
    TimedOut {
        /// Index of the receiver.
        lane: usize,
        /// The chunk.
        seq: SequenceNumber,
        /// The next timeout.
        next: Duration,
    },
    /// A receiver began or ceased to answer.
    State {
        /// Index of the receiver.
        lane: usize,
        /// What it is now.
        state: LaneState,
    },
    /// Chunks moved between receivers.
    Moved {
        /// Who gave how many to whom, and why.
        what: Move,
    },
    /// Every chunk is acknowledged, and the receivers can be asked whether the payload is whole: the
    /// shell gives its hash to [`Transfer::provide_digest`](super::Transfer::provide_digest).
    DigestWanted,
    /// The servers say that these chunks are not there; they are sent again.
    Missing {
        /// How many.
        chunks: u64,
    },
    /// A receiver says that it takes no chunks at this moment: at most one event for each receiver and
    /// reason in ten seconds. It changes nothing else.
    Refused {
        /// Index of the receiver.
        lane: usize,
        /// What it says.
        why: Refusal,
    },
    /// The end; nothing follows.
    Finished(Outcome),
}

/// How a transfer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Every chunk is acknowledged.
    Complete {
        /// Whether the servers have compared length and hash of the payload, or, where each sees only a
        /// share, all that hold chunks have recorded what the whole is.
        verified: bool,
    },
    /// The servers have something else than was sent.
    Mismatch,
    /// Large chunks are sent and nothing at all comes back: the path may drop large datagrams, and
    /// the payload should be sent again in chunks of 100 bytes, in another transaction.
    NothingArrives,
    /// Nobody acknowledged anything for [`TransferConfig::fail_after`].
    NoProgress,
    /// [`TransferConfig::deadline`] came.
    Deadline,
}

/// Datagrams that did not count, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ignored {
    /// From an address that is no receiver of this transfer.
    pub strangers: u64,
    /// Not a message.
    pub undecodable: u64,
    /// A message, but not an ack.
    pub not_an_ack: u64,
    /// A message of another transaction.
    pub wrong_tid: u64,
}
