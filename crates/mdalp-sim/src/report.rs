//! What a run came to.

use crate::world::{End, Violation};
use mdalp_proto::time::Instant;
use std::time::Duration;

/// What one transfer came to.
#[derive(Clone, PartialEq, Debug)]
pub struct RunReport {
    /// How it ended.
    pub end: End,
    /// The transaction's id, once assigned.
    pub tid: Option<u64>,
    /// From the assignment to the last ack (or to the end, without one). What both programs report.
    pub elapsed: Duration,
    /// From the first intent to the assignment.
    pub waited: Duration,
    /// The part of `elapsed` before the first chunk: measuring latencies.
    pub measuring: Duration,
    /// From the first intent to the end.
    pub total: Duration,
    /// From the last ack, or the first chunk without one, to the end.
    pub silent: Duration,
    /// Payload bytes that count as acknowledged.
    pub bytes: u64,
    /// Of how many.
    pub total_bytes: u64,
    /// Chunks that count as acknowledged.
    pub chunks: u64,
    /// Of how many.
    pub total_chunks: u64,
    /// Chunks that the servers really hold, by all stores together.
    pub stored: u64,
    /// Intents sent.
    pub intents: u64,
    /// Data datagrams sent.
    pub datagrams: u64,
    /// Of these, chunks that their receiver had been sent before.
    pub retransmissions: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// In the order of the assignment.
    pub receivers: Vec<ReceiverRun>,
    /// In the order of time; empty unless asked for.
    pub samples: Vec<Sample>,
    /// An invariant that did not hold: a bug.
    pub violation: Option<Violation>,
    /// Hash of the event log: the same for the same scenario, program, seed and options.
    pub hash: u64,
}

/// One receiver's part.
#[derive(Clone, PartialEq, Debug)]
pub struct ReceiverRun {
    /// Its name in the scenario.
    pub name: String,
    /// What echoes showed.
    pub latency: Option<Duration>,
    /// Bytes it was to get at the start.
    pub planned_bytes: u64,
    /// Chunks it was to get at the start.
    pub planned_chunks: u64,
    /// The number of the first of them.
    pub first_seq: u64,
    /// Bytes it acknowledged.
    pub bytes: u64,
    /// Chunks it acknowledged.
    pub chunks: u64,
    /// Datagrams sent to it.
    pub datagrams: u64,
    /// Of these, chunks it had been sent before.
    pub retransmissions: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Smoothed round-trip time.
    pub srtt: Option<Duration>,
    /// `probing`, `active`, `suspect` or `done`.
    pub state: &'static str,
}

/// Something on the time–sequence diagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Index in [`RunReport::receivers`].
    pub receiver: usize,
    /// The chunk.
    pub seq: u64,
    /// What.
    pub kind: SampleKind,
}

/// What a [`Sample`] shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SampleKind {
    /// A chunk was sent.
    Sent,
    /// A chunk was sent again.
    Resent,
    /// A chunk was acknowledged.
    Acked,
}
