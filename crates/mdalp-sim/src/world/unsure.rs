//! What the disk failed to confirm: the next process may find it or not, and either is right.
//!
//! A doubt is settled when the log is opened again, and from then on it binds the store as what was
//! confirmed does. Nothing is in doubt that may not go, and nothing that was confirmed.

use super::store::Store;
use super::watched::{Attempt, Said};
use mdalp_proto::ids::TransactionId;
use mdalp_store::{Query, State, TransactionSummary, UnixMillis};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Unsure {
    pub(super) begun: BTreeMap<u64, UnixMillis>,
    closed: BTreeMap<u64, UnixMillis>,
    pub(super) released: BTreeSet<TransactionId>,
}

impl Unsure {
    /// Notes receipts that may be on the disk.
    pub(super) fn note_closed(&mut self, attempts: &[Attempt], now: UnixMillis) {
        let unsure = attempts.iter().filter(|one| !one.is_confirmed && one.said == Said::Closed);
        self.closed.extend(unsure.map(|one| (one.tid.0, now)));
    }
}

impl Store {
    /// Believes the log that was opened in what was in doubt, and in nothing else.
    pub(super) fn settle(&mut self) {
        let Some(log) = &self.log else { return };
        let Unsure { begun, closed, released } = std::mem::take(&mut self.book.unsure);
        let found = |tid| log.transaction(tid).ok().flatten();
        for (tid, when) in begun {
            if found(TransactionId(tid)).is_some_and(|one| one.info.is_some()) {
                self.book.begun.entry(tid).or_insert(when);
            }
        }
        for (tid, when) in closed {
            if found(TransactionId(tid)).is_some_and(|one| one.receipt.is_some()) {
                self.book.closed.entry(tid).or_insert(when);
            }
        }
        let is_gone =
            |one: TransactionSummary| matches!(one.state, State::Expired | State::Removed);
        let gone: Vec<_> =
            released.into_iter().filter(|tid| found(*tid).is_some_and(is_gone)).collect();
        for tid in gone {
            self.let_go(tid);
        }
    }
}
