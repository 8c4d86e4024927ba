//! What a server's store does now and then, with a second book of what may go and what was lost.
//!
//! The rules that ship decide; this says whether they kept what they must. What is in the book comes
//! from what was seen to happen, not from the store.

use super::checks::Truth;
use super::churn;
use super::net::Net;
use super::store::{Found, Key, Store, contents, drive, now_of};
use super::unsure::Unsure;
use super::watched::{Attempt, Said};
use crate::setup::Twin;
use mdalp_netem::Rng;
use mdalp_proto::completion::{Finding, Retention};
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::wire::{ChunkCrc, Statement};
use mdalp_store::disk::Disk;
use mdalp_store::{
    AppendError, AppendResult, ChunkLog, Damage, Query, Reader, Release, State, Transactions,
    UnixMillis,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Steps of scrubbing in a row; a store that never ends is stopped here.
const STEPS: usize = 10_000;

/// What was seen of the transactions in one store, by their ids.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) retention: Retention,
    /// When the orchestrator of this process began them, and when the last new chunk came, by the
    /// calendar.
    pub(super) begun: BTreeMap<u64, UnixMillis>,
    pub(super) touched: BTreeMap<u64, UnixMillis>,
    stated: BTreeSet<u64>,
    pub(super) closed: BTreeMap<u64, UnixMillis>,
    /// Chunks that were struck out as damaged and did not come again.
    pub(super) lost: BTreeSet<Key>,
    /// Something on the disk is damaged, and nobody has looked yet.
    pub(super) is_rotten: bool,
    /// Records may be lost that are no chunks: what this book says of them does not bind the store.
    is_damaged: bool,
    /// All damage found so far names a chunk.
    only_chunks: bool,
    /// How far the calendar is ahead, in milliseconds.
    pub(super) leap: u64,
    /// What the disk failed to confirm.
    pub(super) unsure: Unsure,
    pub(super) gone: BTreeSet<u64>,
    pub(super) crowded: u64,
    pub(super) struck: u64,
}

impl Book {
    pub(super) fn new(retention: Retention) -> Self {
        Self {
            retention,
            begun: BTreeMap::new(),
            touched: BTreeMap::new(),
            stated: BTreeSet::new(),
            closed: BTreeMap::new(),
            lost: BTreeSet::new(),
            is_rotten: false,
            is_damaged: false,
            only_chunks: true,
            leap: 0,
            unsure: Unsure::default(),
            gone: BTreeSet::new(),
            crowded: 0,
            struck: 0,
        }
    }

    /// A question of `tid` has left something on record.
    pub(super) fn found(&mut self, tid: u64, found: Finding, now: UnixMillis) {
        match found {
            Finding::Closed { .. } => {
                self.closed.insert(tid, now);
                self.stated.insert(tid);
            }
            Finding::Recorded => {
                self.stated.insert(tid);
            }
            Finding::Nothing => {}
        }
    }

    /// Whether the operator's settings let `tid` go, of which these chunks are held.
    fn may_go(&self, tid: u64, why: Release, seqs: &[u64], now: UnixMillis) -> bool {
        let passed = |since: Option<&UnixMillis>, patience: Option<std::time::Duration>| {
            let Some((since, patience)) = since.zip(patience) else { return false };
            u128::from(now.0.saturating_sub(since.0)) >= patience.as_millis()
        };
        let since = self.touched.get(&tid).or(self.begun.get(&tid));
        let has_gaps = seqs.iter().enumerate().any(|(at, &seq)| at as u64 != seq);
        let announced = self.begun.contains_key(&tid);
        match why {
            Release::Removed => passed(self.closed.get(&tid), self.retention.complete),
            Release::Expired if announced && seqs.is_empty() => {
                !self.stated.contains(&tid) && passed(since, Some(self.retention.unclaimed))
            }
            Release::Expired if announced => has_gaps && passed(since, self.retention.assigned),
            // The begin failed as far as anybody was told, and is on the disk.
            Release::Expired if seqs.is_empty() => true,
            Release::Expired => {
                !self.stated.contains(&tid) && passed(since, self.retention.unannounced)
            }
        }
    }
}

impl Store {
    fn wall(&self, net: &Net) -> UnixMillis {
        UnixMillis(now_of(net).0 + self.book.leap)
    }

    /// Releases what is kept no longer, gives space back, and scrubs. Returns whose chunks are not held
    /// any more; `None` among them if nobody knows.
    pub(super) fn look(&mut self, net: &Net, truth: &mut Truth) -> Vec<Option<TransactionId>> {
        let (wall, twin) = (self.wall(net), self.twin);
        let mut lost = Vec::new();
        let Some(log) = &self.log else { return lost };
        let (_, attempts) = drive(log, &mut self.rules, twin, wall, |rules, store, done| {
            rules.sweep(store, net.now, wall, done);
        });
        for Attempt { tid, said, is_confirmed } in attempts {
            let Said::Released(why) = said else { continue };
            let may_go = self.may_go(tid, why, now_of(net));
            truth.i31_kept(may_go || self.book.is_damaged, tid.0);
            if !is_confirmed {
                self.book.unsure.released.insert(tid);
                continue;
            }
            self.let_go(tid);
            if !churn::is_churn(tid) {
                lost.push(Some(tid));
            }
        }
        let Some(log) = &self.log else { return lost };
        while log.reclaim() == Ok(true) {}
        lost.extend(self.scrub(truth).into_iter().flatten());
        lost
    }

    /// Whether the operator's settings let `tid` go.
    fn may_go(&self, tid: TransactionId, why: Release, now: UnixMillis) -> bool {
        if let Some(churn) = self.churn.as_ref().filter(|_| churn::is_churn(tid)) {
            let patience = self.book.retention.unannounced.filter(|_| why == Release::Expired);
            return patience.is_some_and(|patience| churn.is_silent(tid.0, now, patience));
        }
        let held = self.model.range((tid.0, 0)..=(tid.0, u64::MAX));
        let seqs: Vec<_> = held.map(|(&(_, seq), _)| seq).collect();
        self.book.may_go(tid.0, why, &seqs, now)
    }

    /// `tid` is released.
    pub(super) fn let_go(&mut self, tid: TransactionId) {
        if let Some(churn) = self.churn.as_mut().filter(|_| churn::is_churn(tid)) {
            return churn.expired(tid.0);
        }
        self.forget(tid.0);
        self.book.gone.insert(tid.0);
    }

    /// What was released need not be there any more.
    fn forget(&mut self, tid: u64) {
        let all = (tid, 0)..=(tid, u64::MAX);
        let held: Vec<_> = self.model.range(all.clone()).map(|(key, _)| *key).collect();
        for key in held {
            self.model.remove(&key);
        }
        for set in [&mut self.acked, &mut self.book.lost] {
            let gone: Vec<_> = set.range(all.clone()).copied().collect();
            for key in gone {
                set.remove(&key);
            }
        }
    }

    /// What crowding was answered with: nothing that is held may have gone for it.
    pub(super) fn check_crowding(&mut self, truth: &mut Truth, results: &[AppendResult]) {
        let crowded = results.iter().filter(|result| **result == Err(AppendError::Crowded)).count();
        let Some(log) = self.log.as_ref().filter(|_| crowded > 0) else { return };
        self.book.crowded += crowded as u64;
        if self.twin == Some(Twin::CrowdingDeletes) {
            let unfinished = log.unfinished().unwrap_or_default();
            let old = unfinished.iter().filter(|one| !churn::is_churn(one.tid));
            if let Some(oldest) = old.min_by_key(|one| one.last_append) {
                let _ = log.release(oldest.tid, Release::Expired);
            }
        }
        // The clients' alone: of those of strangers there are many, and they are counted in the end.
        for tid in truth.clients.iter().filter_map(|client| client.tid).collect::<Vec<_>>() {
            let acked = self.acked.range((tid, 0)..=(tid, u64::MAX));
            let mut acked = acked.filter(|key| !self.book.lost.contains(key)).peekable();
            if acked.peek().is_none() {
                continue;
            }
            let found = log.transaction(TransactionId(tid)).ok().flatten();
            let held = found.filter(|one| !matches!(one.state, State::Expired | State::Removed));
            for key in acked {
                let there = held.as_ref().is_some_and(|held| held.ranges.contains(key.1));
                truth.i35_crowding_deletes_nothing(there, *key);
            }
        }
    }

    /// Flips bits anywhere on the disk; how many.
    pub(super) fn rot(&mut self, bits: u8, rng: &mut Rng) -> u8 {
        let files = self.disk.list().unwrap_or_default();
        let written: Vec<_> =
            files.into_iter().map(|file| (file, self.disk.written(file))).collect();
        let all: u64 = written.iter().map(|(_, bytes)| bytes * 8).sum();
        if all == 0 || self.log.is_none() {
            return 0;
        }
        for _ in 0..bits {
            let mut bit = rng.up_to(all - 1);
            for &(file, bytes) in &written {
                if bit < bytes * 8 {
                    self.disk.flip_bit(file, bit);
                    break;
                }
                bit -= bytes * 8;
            }
        }
        self.book.is_rotten = true;
        bits
    }

    /// Before anybody has looked: whatever is read is what was stored.
    pub(super) fn check_rotten(&self, truth: &mut Truth) {
        let Some(log) = &self.log else { return };
        let tids: BTreeSet<_> = self.model.keys().map(|key| key.0).collect();
        for tid in tids.into_iter().map(TransactionId) {
            let _ = log.read(tid, SequenceNumber(0), &mut |seq, data| {
                let (key, crc) = ((tid.0, seq.0), ChunkCrc::of(tid, seq, data));
                let known = self.model.get(&key).is_none_or(|known| *known == crc);
                truth.i31_no_wrong_bytes(known, key);
                ControlFlow::Continue(())
            });
        }
    }

    /// Looks at every byte. What is not there any more must be named as damaged. Returns as
    /// [`Self::look`]; nothing if the disk failed meanwhile.
    pub(super) fn scrub(&mut self, truth: &mut Truth) -> Option<Vec<Option<TransactionId>>> {
        let log = self.log.as_ref()?;
        let mut damage = Vec::new();
        for _ in 0..STEPS {
            let found = log.maintain().ok()?;
            damage.extend(found.damage);
            if !found.more {
                break;
            }
        }
        let lost = damage.iter().map(|one| one.chunk.map(|(tid, _)| tid)).collect();
        for (tid, _) in damage.iter().filter_map(|one| one.chunk) {
            self.rules.handle_damage(tid);
        }
        if !self.book.is_rotten {
            return Some(lost);
        }
        damage.extend(log.recovery().damage.iter().copied());
        // In small steps as much is found as at once.
        let seen: BTreeSet<_> = damage.iter().map(|one| (one.segment, one.offset)).collect();
        let is_unseen = |one: &Damage| !seen.contains(&(one.segment, one.offset));
        let unseen = log.verify().ok()?.into_iter().find(is_unseen);
        truth.i31_scrubbing_finds_all(unseen);
        let torn = !log.recovery().torn.is_empty();
        let found = contents(log, truth);
        let churn = self.churn.iter_mut().flat_map(|one| one.struck_out(|k| found.contains_key(k)));
        let gone = self.model.keys().filter(|key| !found.contains_key(key)).copied();
        let gone: BTreeSet<_> = gone.chain(churn).collect();
        for key in gone {
            self.book.struck += 1;
            truth.i31_damage_is_named(torn || explains(&damage, key), key, &damage);
        }
        for (key, crc) in found.iter() {
            let known = self.model.get(key).is_none_or(|known| known == crc);
            truth.i31_no_wrong_bytes(known, *key);
        }
        self.book.lost.extend(self.acked.iter().filter(|key| !found.contains_key(key)));
        self.model = found.0.into_iter().collect();
        self.book.is_rotten = false;
        self.book.is_damaged |= torn || !damage.is_empty();
        self.book.only_chunks &= !torn && damage.iter().all(|one| one.chunk.is_some());
        Some(lost)
    }

    /// After opening a log whose disk has rotted: what is in a place that is reported is lost.
    pub(super) fn take_losses(&mut self, found: &Found) {
        let Some(log) = self.log.as_ref().filter(|_| self.book.is_damaged) else { return };
        let damage = &log.recovery().damage;
        let is_lost = |key: &Key| !found.contains_key(key) && explains(damage, *key);
        self.book.lost.extend(self.acked.iter().filter(|key| is_lost(key)));
        if let Some(churn) = &mut self.churn {
            churn.struck_out(|key| !is_lost(key));
        }
    }

    /// Chunks struck out, transactions let go, chunks refused.
    pub(super) fn stats(&self) -> [u64; 3] {
        [self.book.struck, self.book.gone.len() as u64, self.book.crowded]
    }

    /// Whether nothing is lost that is no chunk: then a question finds what is missing.
    pub(super) fn knows_its_losses(&self) -> bool {
        self.book.only_chunks
    }

    pub(super) fn is_rotten(&self) -> bool {
        self.book.is_rotten
    }

    /// Sets the calendar ahead.
    pub(super) fn set_calendar(&mut self, leap: std::time::Duration) {
        self.book.leap = leap.as_millis() as u64;
    }

    /// Whether `tid` was let go.
    pub(super) fn released(&self, tid: u64) -> bool {
        self.book.gone.contains(&tid)
    }

    /// How many acknowledged chunks of `tid` are damaged and did not come again.
    pub(super) fn lost_of(&self, tid: u64) -> usize {
        self.book.lost.range((tid, 0)..=(tid, u64::MAX)).count()
    }

    /// What somebody else finds who opens the directory: the chunks of `tid`, what is on record of the
    /// whole, and whether it was released.
    pub(super) fn seen_from_outside(&self, tid: TransactionId, all: &mut Seen) {
        if !self.has_log() {
            return;
        }
        let Ok(reader) = Reader::open(&self.disk) else { return };
        let Ok(Some(summary)) = reader.transaction(tid) else { return };
        all.is_released |= matches!(summary.state, State::Expired | State::Removed);
        let receipt = summary.receipt.map(|receipt| Statement {
            chunks: receipt.chunks,
            bytes: receipt.bytes,
            blake3: receipt.blake3,
        });
        all.statements.extend(summary.statement.into_iter().chain(receipt));
        let _ = reader.read(tid, SequenceNumber(0), &mut |seq, data| {
            let before = all.chunks.insert(seq.0, data.to_vec());
            all.contradictions += u64::from(before.is_some_and(|before| before != data));
            ControlFlow::Continue(())
        });
    }
}

/// Whether a chunk that is gone is in a place that is reported.
fn explains(damage: &[Damage], (tid, seq): Key) -> bool {
    let chunk = Some((TransactionId(tid), SequenceNumber(seq)));
    damage.iter().any(|one| one.chunk.is_none() || one.chunk == chunk)
}

/// What is seen of one transaction in several directories.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) chunks: BTreeMap<u64, Vec<u8>>,
    pub(super) statements: Vec<Statement>,
    pub(super) is_released: bool,
    /// Chunks of which two stores have different bytes.
    pub(super) contradictions: u64,
}
