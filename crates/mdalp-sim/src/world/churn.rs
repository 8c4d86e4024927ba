//! Transactions of nobody that come and go in a server's log, so that its segments are rewritten while
//! those of the clients lie between them.
//!
//! Appends, releases and gives space back with each commit; remembers what must be there after a crash
//! and what must not. Does not know of the clients' chunks.

use super::checks::Truth;
use super::store::Key;
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::wire::ChunkCrc;
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::{
    ChunkLog, NewChunk, Query, ReceiverId, Release, SegmentLog, State, Transactions, UnixMillis,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Nobody else draws these, or once in 2⁴⁴ times.
const FIRST: u64 = u64::MAX - (1 << 20);
/// Chunks for each commit.
const CHUNKS: u64 = 8;
/// Commits for each transaction.
const COMMITS: u64 = 4;
/// More commits than rewrite a dozen segments.
const MANY: u64 = 128;
/// Of so many one stays.
const STAYS: u64 = 8;

#[derive(Debug, Default)]
pub(crate) struct Churn {
    calls: u64,
    commits: u64,
    /// By transaction.
    held: BTreeMap<u64, BTreeSet<u64>>,
    /// When the last chunk of each came, or may have come.
    touched: BTreeMap<u64, UnixMillis>,
    released: BTreeSet<u64>,
}

/// Whether a transaction is one of these.
pub(crate) fn is_churn(tid: TransactionId) -> bool {
    tid.0 >= FIRST
}

pub(crate) fn data((tid, seq): Key) -> [u8; 100] {
    let mut data = [(tid ^ seq.wrapping_mul(31)) as u8; 100];
    data.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= at as u8);
    data
}

fn crc_of(key: Key) -> ChunkCrc {
    ChunkCrc::of(TransactionId(key.0), SequenceNumber(key.1), &data(key))
}

impl Churn {
    /// To be called with each commit. In a long flood of them each eighth is enough.
    pub(crate) fn step(
        &mut self,
        log: &SegmentLog<MemDisk>,
        now: UnixMillis,
        receiver: ReceiverId,
    ) {
        self.calls += 1;
        if self.calls > MANY && !self.calls.is_multiple_of(8) {
            return;
        }
        let (tid, part) = (FIRST + self.commits / COMMITS, self.commits % COMMITS);
        self.commits += 1;
        let keys = (part * CHUNKS..(part + 1) * CHUNKS).map(|seq| (tid, seq));
        let all: Vec<_> = keys.map(|key| (key, data(key))).collect();
        let chunks = all.iter().map(|&(key, ref data)| NewChunk {
            tid: TransactionId(key.0),
            seq: SequenceNumber(key.1),
            receiver,
            from: ([127, 0, 0, 1], 9).into(),
            crc: crc_of(key).0,
            data,
        });
        let mut results = Vec::new();
        log.append(now, &chunks.collect::<Vec<_>>(), &mut results);
        let taken = all.iter().zip(&results).filter(|(_, result)| result.is_ok());
        self.touched.insert(tid, now);
        self.held.entry(tid).or_default().extend(taken.map(|(&((_, seq), _), _)| seq));
        if part + 1 < COMMITS {
            return;
        }
        let old = tid.saturating_sub(2);
        if old >= FIRST && !(old - FIRST).is_multiple_of(STAYS) {
            self.held.remove(&old);
            if log.release(TransactionId(old), Release::Expired).is_ok() {
                self.released.insert(old);
            }
        }
        while log.reclaim() == Ok(true) {}
    }

    /// The rules let `tid` go.
    pub(crate) fn expired(&mut self, tid: u64) {
        self.held.remove(&tid);
    }

    /// Whether no chunk of `tid` has come for so long.
    pub(crate) fn is_silent(&self, tid: u64, now: UnixMillis, patience: Duration) -> bool {
        let last = self.touched.get(&tid);
        last.is_some_and(|last| u128::from(now.0.saturating_sub(last.0)) >= patience.as_millis())
    }

    /// Chunks that are there no more, and why that is; they count as not taken from now on.
    pub(crate) fn struck_out(&mut self, found: impl Fn(&Key) -> bool) -> Vec<Key> {
        let mut gone = Vec::new();
        for (&tid, seqs) in &mut self.held {
            seqs.retain(|&seq| {
                let there = found(&(tid, seq));
                gone.extend((!there).then_some((tid, seq)));
                there
            });
        }
        gone
    }

    /// A directory that could not be flushed may show the next process what a power cut takes back: a
    /// removed segment whose releases were removed after it. That is not promised.
    pub(crate) fn flush_failed(&mut self) {
        self.released.clear();
    }

    /// What was taken must be among what was `found`, and what was released must not be back.
    pub(crate) fn check(
        &self,
        log: &SegmentLog<MemDisk>,
        found: impl Fn(&Key) -> bool,
        truth: &mut Truth,
    ) {
        for (&tid, seqs) in &self.held {
            for &seq in seqs {
                truth.i05_acked_survives(found(&(tid, seq)), (tid, seq));
            }
        }
        for &tid in &self.released {
            let state = log.transaction(TransactionId(tid)).ok().flatten().map(|one| one.state);
            let is_gone = matches!(state, None | Some(State::Expired | State::Removed));
            truth.i05_released_stays_so(is_gone, tid);
        }
    }
}
