//! What goes into the completion machine and comes out of it.
//!
//! No rules: see the module.

use crate::ids::TransactionId;
use crate::ranges::RangeSet;
use crate::receiver::SealAsked;
use crate::wire::{Statement, Verdict};
use std::net::SocketAddr;

/// How much of a transaction a store sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All of it: the orchestrator in the same process recorded its begin, and all receivers that it
    /// handed out write into this store.
    Whole,
    /// What came to this store's receivers. Others may hold the rest.
    Share,
}

/// Where a transaction stands in a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Chunks may come.
    Open,
    /// The receipt on record covers exactly what is held.
    Complete,
    /// Less is held than was: bytes rotted, or a file is lost.
    Damaged,
}

/// A receipt on record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OnRecord {
    /// How often the transaction was closed.
    pub revision: u32,
    /// What was held then. A lower bound for ever.
    pub whole: Statement,
    /// When, in milliseconds since 1970.
    pub closed: u64,
}

/// What a store holds of a transaction that was not released.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    /// How much of it this store sees.
    pub scope: Scope,
    /// Where it stands.
    pub standing: Standing,
    /// What its sender stated of the whole.
    pub statement: Option<Statement>,
    /// The newest receipt.
    pub receipt: Option<OnRecord>,
    /// The chunks held.
    pub ranges: RangeSet,
    /// Their bytes.
    pub bytes: u64,
    /// When it began, in milliseconds since 1970, if that is on record.
    pub begun: Option<u64>,
    /// When the last new chunk came.
    pub last_append: Option<u64>,
}

/// An unfinished transaction in short: what a sweep decides by first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Which.
    pub tid: TransactionId,
    /// How much of it this store sees.
    pub scope: Scope,
    /// When it began, in milliseconds since 1970.
    pub begun: Option<u64>,
    /// When the last new chunk came.
    pub last_append: Option<u64>,
    /// In how many separate ranges its chunks are.
    pub ranges: usize,
    /// Whether these are one that begins with 0.
    pub gapless: bool,
    /// Whether its sender's statement is on record.
    pub stated: bool,
}

impl Candidate {
    /// The short form of `held`.
    pub fn of(tid: TransactionId, held: &Holding) -> Self {
        Self {
            tid,
            scope: held.scope,
            begun: held.begun,
            last_append: held.last_append,
            ranges: held.ranges.range_count(),
            gapless: held.ranges.contiguous_from_zero().is_some_and(|chunks| chunks > 0),
            stated: held.statement.is_some(),
        }
    }
}

/// What hashing a held payload led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hashed {
    /// All chunks below the end that was asked for were read.
    Whole {
        /// Their bytes.
        bytes: u64,
        /// Their BLAKE3.
        blake3: [u8; 32],
    },
    /// They changed meanwhile, or could not be read: the questions get no answer, and come again.
    Failed,
}

/// What recording a statement or a receipt led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It is durable.
    Done,
    /// Another statement is on record, or a chunk beyond the end is held.
    Contradicted,
    /// The store failed, or has changed meanwhile.
    Failed,
}

/// Why a transaction is released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It was never finished.
    Expired,
    /// It was complete for as long as is wanted.
    Removed,
}

/// What became known of a transaction with an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// Nothing new.
    Nothing,
    /// It was closed with a receipt of this revision.
    Closed {
        /// The receipt's number, from 1.
        revision: u32,
    },
    /// The sender's statement was put on record.
    Recorded,
}

/// A question with its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The question.
    pub asked: SealAsked,
    /// The answer to send; none where nothing can be said.
    pub verdict: Option<Verdict>,
    /// What became known with it, for the log.
    pub found: Finding,
}

impl Answer {
    /// Whether the transaction ends with it: it counts against nobody's quota any more.
    pub fn is_final(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Complete | Verdict::Recorded(_)))
    }

    /// Who asked.
    pub fn from(&self) -> SocketAddr {
        self.asked.from
    }
}

/// What the shell is to do. Each action is carried out, and its result handed back, before the next
/// one is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send this answer.
    Answer(Answer),
    /// Go on hashing the chunks of `tid` below `end` for a while. When that is done, tell
    /// [`Completion::handle_hashed`](super::Completion::handle_hashed); before, ask again, for another
    /// transaction may go first.
    Hash {
        /// Which.
        tid: TransactionId,
        /// The number of its chunks.
        end: u64,
    },
    /// Record what the sender of `tid` states; tell
    /// [`Completion::handle_written`](super::Completion::handle_written).
    Record {
        /// Which.
        tid: TransactionId,
        /// What it states.
        statement: Statement,
    },
    /// Record that `tid` is whole; tell [`Completion::handle_written`](super::Completion::handle_written).
    Close {
        /// Which.
        tid: TransactionId,
        /// What the sender stated, and what is held.
        statement: Statement,
        /// The receipt's number.
        revision: u32,
    },
    /// Look these up and tell [`Completion::handle_looked`](super::Completion::handle_looked).
    Look(Vec<TransactionId>),
    /// Release these, each unless a chunk has come since, and tell
    /// [`Completion::handle_released`](super::Completion::handle_released).
    Release(Vec<Due>),
}

/// A transaction that is kept no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// Which.
    pub tid: TransactionId,
    /// Why.
    pub why: Reason,
    /// How many chunks were held when that was decided.
    pub chunks: u64,
}
