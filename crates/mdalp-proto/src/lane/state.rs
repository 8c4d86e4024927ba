//! What others may see of a lane. Values only.

/// Whether a receiver answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaneState {
    /// Nothing heard from it yet.
    Probing,
    /// It acknowledges.
    Active,
    /// Silent for so long that its chunks go to others.
    Suspect,
    /// It answered, and nothing is left to send to it.
    Done,
}

impl LaneState {
    /// The name in events and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Probing => "probing",
            Self::Active => "active",
            Self::Suspect => "suspect",
            Self::Done => "done",
        }
    }
}

/// What a lane did so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LaneStats {
    /// Bytes of payload acknowledged by this receiver.
    pub bytes: u64,
    /// Chunks acknowledged by this receiver.
    pub chunks: u64,
    /// Datagrams sent to it.
    pub datagrams: u64,
    /// Of these, chunks that had been sent to it before.
    pub retransmissions: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Acks of chunks that it had acknowledged before.
    pub duplicate_acks: u64,
    /// Acks of chunks that were never sent to it (H40).
    pub optimistic_acks: u64,
    /// Acks whose CRC was not the chunk's.
    pub crc_mismatches: u64,
}
