//! What is known of a transaction: from one segment, or from all.
//!
//! Knows no segments; [`super::catalog`] merges what they say.

use std::net::SocketAddr;

use mdalp_proto::ranges::RangeSet;
use mdalp_proto::wire::Statement;

use super::share::Shares;
use crate::types::{Receipt, ReceiverId, Release, State, TransactionInfo, UnixMillis};

/// What is known of a transaction: from one segment, or from all.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    pub(super) info: Option<Box<TransactionInfo>>,
    pub(super) receipt: Option<Box<Receipt>>,
    pub(super) release: Option<Release>,
    pub(super) last_append: Option<UnixMillis>,
    pub(super) bytes: u64,
    /// Of a part with an index in memory: nothing, the index knows.
    pub(super) held: RangeSet,
    pub(super) shares: Shares,
    /// What the sender stated of the whole.
    pub(super) statement: Option<Box<Statement>>,
    /// Who sent the first chunk, if nobody began it.
    pub(super) sender: Option<Box<SocketAddr>>,
    /// So many chunks were held when a receipt or statement was recorded.
    pub(super) floor: u64,
    /// Chunks came after the last receipt.
    pub(super) reopened: bool,
    /// Chunks that were held once and were found damaged, or went with their segment. Those that are held
    /// again stay in it.
    pub(super) lost: Option<Box<RangeSet>>,
}

impl Facts {
    /// Notes when a chunk came.
    pub(super) fn came(&mut self, now: UnixMillis) {
        // The log's clock is coarse; no chunk came before its transaction began.
        let begun = self.info.as_ref().map(|info| info.begun);
        self.last_append = self.last_append.max(Some(now)).max(begun);
    }

    /// Counts a chunk that is held.
    pub(super) fn count_chunk(&mut self, len: u64, receiver: ReceiverId) {
        self.bytes += len;
        self.shares.count(receiver, len);
    }

    /// Enters a receipt, and what it says of the whole if the sender `states` it.
    pub(super) fn close(&mut self, receipt: &Receipt, states: bool) {
        self.floor = self.floor.max(receipt.chunks);
        self.reopened = false;
        if states && self.statement.is_none() {
            self.statement = Some(Box::new(stated(receipt)));
        }
        self.receipt = Some(Box::new(*receipt));
    }

    /// Enters a statement that was recorded when `held` chunks were held.
    pub(super) fn state_whole(&mut self, statement: &Statement, held: u64) {
        self.floor = self.floor.max(held);
        self.statement.get_or_insert_with(|| Box::new(*statement));
    }

    /// Notes that chunks which were held are lost.
    pub(super) fn lose(&mut self, chunks: &RangeSet) {
        if !chunks.is_empty() {
            self.lost.get_or_insert_default().union_with(chunks);
        }
    }

    /// What is lost and was not sent again.
    pub(super) fn still_lost(&self) -> RangeSet {
        let mut lost = self.lost.as_deref().cloned().unwrap_or_default();
        lost.subtract(&self.held);
        lost
    }

    /// Whether `known` says anything of the transaction that this does not.
    pub(super) fn lacks(&self, known: &Self) -> bool {
        let nobody = self.info.is_none() && self.sender.is_none();
        (self.info.is_none() && known.info.is_some())
            || (nobody && known.sender.is_some())
            || (self.statement.is_none() && known.statement.is_some())
            || self.revision() < known.revision()
            || self.floor < known.floor
    }

    pub(super) fn revision(&self) -> Option<u32> {
        self.receipt.as_ref().map(|receipt| receipt.revision)
    }

    /// Takes what `known` says of the transaction and this does not: records that cannot be read any more.
    pub(super) fn supplement(&mut self, known: &Self) {
        if self.info.is_none() {
            self.info.clone_from(&known.info);
        }
        if self.sender.is_none() {
            self.sender.clone_from(&known.sender);
        }
        if self.statement.is_none() {
            self.statement.clone_from(&known.statement);
        }
        if self.revision() < known.revision() {
            self.receipt.clone_from(&known.receipt);
            self.reopened = known.reopened;
        }
        self.release = self.release.or(known.release);
        self.floor = self.floor.max(known.floor);
        self.last_append = self.last_append.max(known.last_append);
        self.lose(known.lost.as_deref().unwrap_or(&RangeSet::new()));
    }

    /// Adds what a later segment says, of which `held` is held there.
    pub(super) fn merge(&mut self, later: &Self, held: &RangeSet, most_listed: usize) {
        if self.info.is_none() {
            self.info.clone_from(&later.info);
        }
        if later.receipt.is_some() {
            self.receipt.clone_from(&later.receipt);
            self.reopened = later.reopened;
        } else {
            self.reopened |= later.reopened;
        }
        if self.statement.is_none() {
            self.statement.clone_from(&later.statement);
        }
        if self.sender.is_none() {
            self.sender.clone_from(&later.sender);
        }
        self.floor = self.floor.max(later.floor);
        self.release = later.release.or(self.release);
        self.last_append = self.last_append.max(later.last_append);
        self.bytes += later.bytes;
        self.shares.merge(&self.held, &later.shares, held, most_listed);
        self.held.union_with(held);
        self.lose(later.lost.as_deref().unwrap_or(&RangeSet::new()));
        if self.release.is_some() {
            self.forget_ranges();
        }
    }

    /// For a transaction that is released: nobody asks any more which chunks it had.
    pub(super) fn forget_ranges(&mut self) {
        self.held = RangeSet::new();
        self.lost = None;
        self.shares.forget_ranges();
    }

    pub(super) fn state(&self) -> State {
        match (self.release, &self.receipt) {
            (Some(Release::Expired), _) => State::Expired,
            (Some(Release::Removed), _) => State::Removed,
            (None, _) if self.held.len() < self.floor || !self.still_lost().is_empty() => {
                State::Damaged
            }
            (None, Some(receipt)) if receipt.chunks == self.held.len() && !self.reopened => {
                State::Complete
            }
            (None, _) => State::Open,
        }
    }
}

/// What a receipt says of the whole.
pub(super) fn stated(receipt: &Receipt) -> Statement {
    Statement { chunks: receipt.chunks, bytes: receipt.bytes, blake3: receipt.blake3 }
}
