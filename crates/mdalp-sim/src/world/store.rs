//! A server's store: the segment log on a simulated disk, or an ideal one, with a reference model
//! beside it.
//!
//! Decides nothing about when to commit; that is the server's business.

use super::checks::Truth;
use super::churn::{self, Churn};
use super::keeping::Book;
use super::net::Net;
use super::server::Pending;
use super::watched::{Attempt, Watched};
use crate::setup::{Disk, Setup, Twin};
use mdalp_netem::Rng;
use mdalp_proto::completion::{Answer, Completion, Retention, seems_over};
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::receiver::SealAsked;
use mdalp_proto::time::Instant;
use mdalp_proto::wire::ChunkCrc;
use mdalp_store::complete::{Done, Steps, holding};
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::{
    AppendError, AppendResult, Appended, ChunkLog, Durability, NewChunk, OpenError, Options, Query,
    ReceiverId, ReceiverName, SegmentLog, State, TransactionInfo, Transactions, UnixMillis,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Numbers of a chunk.
pub(crate) type Key = (u64, u64);

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) disk: MemDisk,
    options: Option<Options>,
    pub(super) log: Option<SegmentLog<MemDisk>>,
    ids: Vec<ReceiverId>,
    /// What appends have confirmed (invariant 30's reference).
    pub(super) model: BTreeMap<Key, ChunkCrc>,
    /// What was acknowledged, in this life or an earlier one.
    pub(crate) acked: BTreeSet<Key>,
    pub(super) book: Book,
    /// Assigned in this life and not begun.
    assigned: BTreeSet<TransactionId>,
    /// Chunks that were written although they were held.
    copies: u64,
    pub(super) twin: Option<Twin>,
    pub(super) churn: Option<Churn>,
    /// What is answered and kept: the rules that ship.
    pub(super) rules: Steps,
}

/// What the calendar shows when a world begins, in milliseconds since 1970.
const EPOCH: u64 = 1_700_000_000_000;

pub(super) fn now_of(net: &Net) -> UnixMillis {
    UnixMillis(EPOCH + net.now.as_nanos() / 1_000_000)
}

fn rules(mut retention: Retention, twin: Option<Twin>, wall: u64, now: Instant) -> Steps {
    if twin == Some(Twin::ReleasesEarly) {
        let Retention { assigned, unannounced, complete, .. } = &mut retention;
        [assigned, unannounced, complete]
            .into_iter()
            .flatten()
            .for_each(|patience| *patience /= 10);
    }
    Steps::new(Completion::new(retention, wall, now))
}

/// Has the rules do something and all that follows from it. Returns also what was written for that.
pub(super) fn drive(
    log: &SegmentLog<MemDisk>,
    rules: &mut Steps,
    twin: Option<Twin>,
    wall: UnixMillis,
    what: impl FnOnce(&mut Steps, &dyn mdalp_store::Store, &mut Vec<Done>),
) -> (Vec<Done>, Vec<Attempt>) {
    let store = Watched::new(log, twin == Some(Twin::ShareTakenForWhole));
    let mut done = Vec::new();
    what(rules, &store, &mut done);
    while rules.step(&store, wall, &mut done) {}
    (done, store.into_attempts())
}

impl Store {
    pub(crate) fn new(setup: &Setup) -> Self {
        let options = match setup.servers.disk {
            Disk::Ideal => None,
            Disk::Log(segment_bytes) => {
                let mut base = Options::new(setup.seed | 1);
                if setup.twin == Some(Twin::NoFlush) {
                    base.durability = Durability::Process;
                }
                Some(Options { segment_bytes, limits: setup.servers.limits, ..base })
            }
        };
        Self {
            disk: MemDisk::new(),
            options,
            log: None,
            ids: Vec::new(),
            model: BTreeMap::new(),
            acked: BTreeSet::new(),
            book: Book::new(setup.servers.retention),
            assigned: BTreeSet::new(),
            copies: 0,
            twin: setup.twin,
            churn: setup.servers.churn.then(Churn::default),
            rules: rules(setup.servers.retention, setup.twin, EPOCH, Instant::ZERO),
        }
    }

    /// Opens the log and declares the receivers.
    pub(crate) fn open(&mut self, net: &Net, receivers: &[usize]) -> Result<(), OpenError> {
        let Some(options) = self.options else {
            self.ids = (0..receivers.len() as u16).map(ReceiverId).collect();
            return Ok(());
        };
        self.log = None;
        self.rules = rules(self.book.retention, self.twin, now_of(net).0, net.now);
        let log = SegmentLog::open(self.disk.clone(), options)?;
        self.ids.clear();
        for index in receivers {
            let name = ReceiverName { address: index.to_string(), name: "r".to_owned() };
            let id = log.declare_receiver(&name).map_err(|error| OpenError::Io {
                doing: "declaring a receiver",
                source: std::io::Error::other(error),
            })?;
            self.ids.push(id);
        }
        self.log = Some(log);
        Ok(())
    }

    /// The process is gone; with `power`, chance decides what was on the medium.
    pub(crate) fn die(&mut self, power: bool, rng: &mut Rng) {
        self.log = None;
        self.assigned.clear();
        if self.disk.failed_flushes() > 0
            && let Some(churn) = &mut self.churn
        {
            churn.flush_failed();
        }
        if power {
            self.disk.crash(|| rng.next_u64());
        } else {
            self.disk.kill();
        }
    }

    /// Appends and says what became of each chunk; `None` in place of a result that contradicts the
    /// model never occurs without a violation.
    pub(crate) fn append(
        &mut self,
        net: &Net,
        truth: &mut Truth,
        batch: &[Pending],
        results: &mut Vec<AppendResult>,
    ) {
        results.clear();
        let chunks = batch.iter().map(|pending| {
            let append = &pending.append;
            let data = &net.bytes(pending.bytes)[append.data.clone()];
            let receiver = self.ids[usize::from(append.local.0)];
            NewChunk {
                tid: append.tid,
                seq: append.seq,
                receiver,
                from: append.from,
                crc: append.crc.0,
                data,
            }
        });
        if let Some(log) = &self.log {
            let chunks: Vec<_> = chunks.collect();
            let begun = chunks.iter().filter(|chunk| self.assigned.contains(&chunk.tid));
            let info = TransactionInfo { begun: now_of(net), ..TransactionInfo::default() };
            let begun: Vec<_> = begun.map(|chunk| (chunk.tid, info.clone())).collect();
            let recorded = if self.twin == Some(Twin::NoBegin) { &[][..] } else { &begun };
            log.append_with(now_of(net), recorded, &chunks, results);
            let begun = begun.iter().map(|(tid, _)| tid.0).collect();
            self.note_appended(net, &begun, batch, results);
        } else if self.options.is_some() {
            results.resize(batch.len(), Err(AppendError::Unavailable));
        } else {
            for chunk in chunks {
                if self.assigned.remove(&chunk.tid) {
                    self.book.begun.insert(chunk.tid.0, now_of(net));
                }
                let held = self.model.get(&(chunk.tid.0, chunk.seq.0));
                let held = held.filter(|_| self.twin != Some(Twin::NoDeduplication));
                results.push(Ok(held.map_or(Appended::New, |c| Appended::Duplicate { crc: c.0 })));
                if held.is_none() {
                    let key = (chunk.tid.0, chunk.seq.0);
                    let before = self.model.insert(key, ChunkCrc(chunk.crc));
                    self.copies += u64::from(before.is_some());
                }
            }
            return;
        }
        for (pending, result) in batch.iter().zip(results.iter()) {
            let key = (pending.append.tid.0, pending.append.seq.0);
            let held = self.model.get(&key).copied();
            match result {
                Ok(Appended::New) => {
                    truth.i30_store_is_the_model(held.is_none(), key);
                    self.model.insert(key, pending.append.crc);
                    self.book.touched.insert(key.0, now_of(net));
                    self.book.lost.remove(&key);
                }
                Ok(Appended::Duplicate { crc }) => {
                    truth.i30_store_is_the_model(held == Some(ChunkCrc(*crc)), key);
                }
                Err(_) => {}
            }
        }
        self.check_crowding(truth, results);
        if let (Some(churn), Some(log)) = (&mut self.churn, &self.log) {
            churn.step(log, now_of(net), self.ids.first().copied().unwrap_or_default());
        }
    }

    /// What was begun and appended, or may have been: the disk failed.
    fn note_appended(
        &mut self,
        net: &Net,
        begun: &BTreeSet<u64>,
        batch: &[Pending],
        results: &[AppendResult],
    ) {
        let now = now_of(net);
        for (pending, result) in batch.iter().zip(results) {
            let tid = pending.append.tid.0;
            match result {
                Ok(_) => {
                    self.assigned.remove(&TransactionId(tid));
                    if begun.contains(&tid) {
                        self.book.begun.insert(tid, now);
                    }
                }
                Err(AppendError::Poisoned) => {
                    if begun.contains(&tid) {
                        self.book.unsure.begun.insert(tid, now);
                    }
                    self.book.touched.entry(tid).or_insert(now);
                }
                Err(_) => {}
            }
        }
    }

    /// The CRC of this chunk, if an append of it was confirmed.
    pub(crate) fn held_crc(&self, key: Key) -> Option<ChunkCrc> {
        self.model.get(&key).copied()
    }

    /// Whether the disk has failed a flush since the log was opened, whatever the log made of it.
    pub(crate) fn flush_failed(&self) -> bool {
        self.log.is_some() && self.disk.failed_flushes() > 0
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.poison().is_some())
    }

    /// Whether the power is gone: also where the log could do without what failed.
    pub(crate) fn is_dark(&self) -> bool {
        self.log.is_some() && self.disk.is_dark()
    }

    /// Notes a new transaction, to be recorded with its first chunk.
    pub(crate) fn assigned(&mut self, tid: TransactionId) {
        self.assigned.insert(tid);
    }

    /// Transactions without a receipt.
    pub(crate) fn open_transactions(&self) -> Vec<TransactionId> {
        match &self.log {
            Some(log) => {
                let list = log.list().unwrap_or_default();
                let open = list.iter().filter(|t| t.state == State::Open).map(|t| t.tid);
                open.filter(|tid| !churn::is_churn(*tid)).collect()
            }
            None => self.book.begun.keys().copied().map(TransactionId).collect(),
        }
    }

    /// Whether a silent transaction seems to be over, as the shipped rules see it.
    pub(crate) fn seems_over(&self, tid: TransactionId) -> bool {
        let found = self.log.as_ref().and_then(|log| log.transaction(tid).ok()?);
        found.and_then(holding).is_some_and(|held| seems_over(&held))
    }

    /// Answers a question by the shipped rules. `None`: no answer.
    pub(crate) fn answer(&mut self, net: &Net, asked: SealAsked) -> Option<Answer> {
        let log = self.log.as_ref()?;
        let (tid, wall) = (asked.seal.tid, now_of(net));
        if asked.seal.statement.chunks == 0 && self.assigned.contains(&tid) {
            let info = TransactionInfo { begun: wall, ..TransactionInfo::default() };
            match log.begin(tid, &info) {
                Ok(()) => {
                    self.assigned.remove(&tid);
                    self.book.begun.insert(tid.0, wall);
                }
                // Whatever comes of it, the answer tells.
                Err(_) => {
                    self.book.unsure.begun.insert(tid.0, wall);
                }
            }
        }
        let (done, attempts) =
            drive(log, &mut self.rules, self.twin, wall, |rules, store, done| {
                rules.ask(store, net.now, asked, done);
            });
        self.book.unsure.note_closed(&attempts, wall);
        let answer = done.into_iter().find_map(|done| match done {
            Done::Answered(answer) if answer.asked == asked => Some(answer),
            _ => None,
        });
        if let Some(answer) = &answer {
            self.book.found(asked.seal.tid.0, answer.found, wall);
        }
        answer
    }

    /// Reads everything back after a restart: what was acknowledged must be there, and nothing may
    /// have other bytes than were sent. What is there is the model from now on.
    pub(crate) fn check_recovery(&mut self, truth: &mut Truth) {
        self.settle();
        let Some(log) = self.log.as_ref().filter(|_| !self.book.is_rotten) else { return };
        let found = contents(log, truth);
        for (key, crc) in found.iter() {
            let before = self.model.get(key);
            truth.i05_recovery_keeps_bytes(before.is_none_or(|before| before == crc), *key);
        }
        self.take_losses(&found);
        if let Some(log) = &self.log {
            self.check_all_there(log, &found, truth);
        }
        self.model = found.0.into_iter().collect();
    }

    /// What a power cut now would leave must hold all that was acknowledged, and reading it twice
    /// must find the same.
    pub(crate) fn check_power_cut(&self, truth: &mut Truth, rng: &mut Rng) {
        let (Some(options), Some(_)) = (self.options, &self.log) else { return };
        if self.acked.is_empty() && self.churn.is_none() {
            return;
        }
        let disk = self.disk.fork();
        disk.crash(|| rng.next_u64());
        let Ok(log) = SegmentLog::open(disk.clone(), options) else {
            return truth.i05_acked_survives(false, (0, 0));
        };
        let found = contents(&log, truth);
        self.check_all_there(&log, &found, truth);
        drop(log);
        disk.crash(|| rng.next_u64());
        let again = SegmentLog::open(disk, options).ok().map(|log| contents(&log, truth));
        truth.i06_recovery_is_idempotent(again.as_ref() == Some(&found));
    }

    fn check_all_there(&self, log: &SegmentLog<MemDisk>, found: &Found, truth: &mut Truth) {
        for key in self.acked.iter().filter(|key| !self.book.lost.contains(key)) {
            truth.i05_acked_survives(found.contains_key(key), *key);
        }
        if let Some(churn) = &self.churn {
            churn.check(log, |key| found.contains_key(key), truth);
        }
    }

    pub(super) fn has_log(&self) -> bool {
        self.options.is_some()
    }

    /// Which chunks of `tid` are held, and how many there are (more, if some are there twice).
    pub(crate) fn held(&self, tid: u64, into: &mut BTreeMap<u64, ChunkCrc>) -> u64 {
        let before = into.len() as u64;
        if let Some(log) = &self.log {
            let _ = log.read(TransactionId(tid), SequenceNumber(0), &mut |seq, data| {
                into.insert(seq.0, ChunkCrc::of(TransactionId(tid), seq, data));
                ControlFlow::Continue(())
            });
        } else {
            let range = self.model.range((tid, 0)..=(tid, u64::MAX));
            into.extend(range.map(|(&(_, seq), &crc)| (seq, crc)));
        }
        into.len() as u64 - before + self.copies
    }
}

/// Chunks in ascending order, with their CRCs.
#[derive(PartialEq, Eq)]
pub(super) struct Found(pub(super) Vec<(Key, ChunkCrc)>);

impl Found {
    pub(super) fn contains_key(&self, key: &Key) -> bool {
        self.0.binary_search_by(|(found, _)| found.cmp(key)).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &ChunkCrc)> {
        self.0.iter().map(|(key, crc)| (key, crc))
    }
}

/// Every chunk in the log, with the CRC of the bytes that are read.
pub(super) fn contents(log: &SegmentLog<MemDisk>, truth: &mut Truth) -> Found {
    let mut found = Vec::new();
    let list = log.list().unwrap_or_default();
    for summary in
        list.iter().filter(|t| matches!(t.state, State::Open | State::Complete | State::Damaged))
    {
        let mut read = RangeSet::new();
        let result = log.read(summary.tid, SequenceNumber(0), &mut |seq, data| {
            read.insert(seq.0);
            let (key, crc) = ((summary.tid.0, seq.0), ChunkCrc::of(summary.tid, seq, data));
            if churn::is_churn(summary.tid) {
                truth.i05_recovery_keeps_bytes(data == churn::data(key), key);
            }
            found.push((key, crc));
            ControlFlow::Continue(())
        });
        truth.i05_recovery_keeps_bytes(result.is_ok(), (summary.tid.0, 0));
        truth.i30_store_is_the_model(read == summary.ranges, (summary.tid.0, 0));
    }
    Found(found)
}
