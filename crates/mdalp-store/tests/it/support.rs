//! What several tests share: options, a workload, and what must hold after it, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::conformance::read;
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::{
    AppendError, Appended, Durability, Limits, NewChunk, Options, Query, Receipt, ReceiverId,
    ReceiverName, Release, SegmentLog, State, Store, UnixMillis, assemble, chunk_crc,
};

/// Small segments, nothing left free.
pub(crate) fn options(durability: Durability, segment_bytes: u64) -> Options {
    Options { durability, segment_bytes, limits: Limits::NONE, ..Options::new(0x5eed) }
}

pub(crate) fn open(disk: &MemDisk, options: Options) -> SegmentLog<MemDisk> {
    SegmentLog::open(disk.clone(), options).unwrap()
}

/// The only bytes that a chunk may ever have.
pub(crate) fn payload(tid: TransactionId, seq: u64) -> Vec<u8> {
    (0..seq % 5 * 40).map(|at| (tid.0 ^ seq.wrapping_mul(31) ^ at) as u8).collect()
}

/// What a store has promised.
#[derive(Clone, Default, Debug)]
pub(crate) struct Promises {
    pub(crate) held: BTreeMap<TransactionId, BTreeSet<u64>>,
    begun: BTreeSet<TransactionId>,
    receipts: BTreeMap<TransactionId, Receipt>,
    /// Asked for, whether it succeeded or not.
    releasing: BTreeSet<TransactionId>,
    released: BTreeSet<TransactionId>,
    receivers: Vec<ReceiverName>,
}

impl Promises {
    pub(crate) fn append(&mut self, store: &dyn Store, now: u64, chunks: &[(u64, u64)]) {
        let data: Vec<_> =
            chunks.iter().map(|&(tid, seq)| payload(TransactionId(tid), seq)).collect();
        let mut batch = Vec::new();
        for (&(tid, seq), data) in chunks.iter().zip(&data) {
            let (tid, seq) = (TransactionId(tid), SequenceNumber(seq));
            let crc = chunk_crc(tid, seq, data);
            batch.push(NewChunk {
                tid,
                seq,
                receiver: ReceiverId(seq.0 as u16 % 3),
                from: ([127, 0, 0, 1], 9).into(),
                crc,
                data,
            });
        }
        let mut results = Vec::new();
        store.append(UnixMillis(now), &batch, &mut results);
        assert_eq!(results.len(), batch.len());
        for (chunk, result) in batch.iter().zip(results) {
            match result {
                Ok(Appended::Duplicate { crc }) => assert_eq!(crc, chunk.crc),
                Ok(Appended::New) => {
                    let held = self.held.get(&chunk.tid);
                    assert!(held.is_none_or(|held| !held.contains(&chunk.seq.0)));
                }
                // It may have been written all the same, and begin the transaction anew.
                Err(AppendError::Poisoned) => {
                    self.new_life(chunk.tid);
                    continue;
                }
                Err(_) => continue,
            }
            self.new_life(chunk.tid);
            self.held.entry(chunk.tid).or_default().insert(chunk.seq.0);
        }
    }

    pub(crate) fn begin(&mut self, store: &dyn Store, tid: u64) {
        let tid = TransactionId(tid);
        let info = mdalp_store::TransactionInfo { client: tid.to_string(), ..Default::default() };
        if store.begin(tid, &info).is_ok() {
            self.new_life(tid);
            self.begun.insert(tid);
        }
    }

    /// A transaction that was released and whose space was reclaimed is forgotten, and may come anew.
    fn new_life(&mut self, tid: TransactionId) {
        if self.released.remove(&tid) {
            self.releasing.remove(&tid);
        }
    }

    pub(crate) fn declare(&mut self, store: &dyn Store, number: u64) {
        let receiver = ReceiverName { address: number.to_string(), name: "r".into() };
        if let Ok(id) = store.declare_receiver(&receiver)
            && usize::from(id.0) == self.receivers.len()
        {
            self.receivers.push(receiver);
        }
    }

    pub(crate) fn close(&mut self, store: &dyn Store, tid: u64) {
        let tid = TransactionId(tid);
        let Ok(done) = assemble(store, tid, &mut std::io::sink()) else { return };
        let before = store.transaction(tid).unwrap().unwrap().receipt;
        let receipt = Receipt {
            revision: before.map_or(1, |before| before.revision + 1),
            bytes: done.bytes,
            chunks: done.chunks,
            blake3: done.blake3,
            closed: UnixMillis(9),
        };
        if store.close(tid, &receipt).is_ok() {
            self.receipts.insert(tid, receipt);
        }
    }

    /// Releases a transaction and gives space back.
    pub(crate) fn release(&mut self, store: &dyn Store, tid: u64) {
        self.forget(store, tid);
        while store.reclaim() == Ok(true) {}
    }

    pub(crate) fn forget(&mut self, store: &dyn Store, tid: u64) {
        let tid = TransactionId(tid);
        self.releasing.insert(tid);
        if store.release(tid, Release::Expired).is_ok() {
            self.released.insert(tid);
            self.begun.remove(&tid);
            self.held.remove(&tid);
            self.receipts.remove(&tid);
        }
    }

    /// Every promise is kept, and no chunk has wrong bytes.
    pub(crate) fn check(&self, store: &dyn Query) {
        for summary in store.list().unwrap() {
            if matches!(summary.state, State::Expired | State::Removed) {
                continue;
            }
            let tid = summary.tid;
            assert!(!self.released.contains(&tid), "{tid} came back");
            let chunks = read(store, tid).unwrap();
            let bytes: usize = chunks.iter().map(|(_, data)| data.len()).sum();
            assert_eq!((chunks.len() as u64, bytes as u64), (summary.chunks, summary.bytes));
            let shares: u64 = summary.shares.iter().map(|share| share.ranges.len()).sum();
            assert_eq!(shares, summary.chunks);
            for (seq, data) in chunks {
                assert!(summary.ranges.contains(seq));
                assert_eq!(data, payload(tid, seq), "{tid} {seq}");
            }
        }
        let kept = |tid: &&TransactionId| !self.releasing.contains(*tid);
        for tid in self.begun.iter().filter(kept) {
            let summary = store.transaction(*tid).unwrap().expect("begun");
            assert_eq!(summary.info.unwrap().client, tid.to_string());
        }
        for (tid, held) in self.held.iter().filter(|(tid, _)| kept(tid)) {
            let summary = store.transaction(*tid).unwrap().expect("has chunks");
            let lost: Vec<_> = held.iter().filter(|seq| !summary.ranges.contains(**seq)).collect();
            assert!(lost.is_empty(), "{tid} lost {lost:?}");
        }
        for (tid, receipt) in self.receipts.iter().filter(|(tid, _)| kept(tid)) {
            let found = store.transaction(*tid).unwrap().unwrap().receipt.expect("closed");
            assert!(found == *receipt || found.revision > receipt.revision);
        }
        assert!(store.receivers().unwrap().starts_with(&self.receivers));
    }
}

/// A bit of everything, over several segments of 4 KiB.
pub(crate) fn workload(store: &dyn Store, promises: &mut Promises) {
    promises.declare(store, 1);
    promises.begin(store, 1);
    promises.begin(store, 2);
    promises.declare(store, 2);
    for round in 0..9 {
        let chunks = [(1, round), (1, 20 - round), (2, round), (3, round * 3), (1, round)];
        promises.append(store, round * 400, &chunks);
        match round {
            2 | 7 => promises.close(store, 2),
            4 => promises.release(store, 3),
            6 => promises.declare(store, 3),
            _ => {}
        }
    }
    promises.append(store, 9000, &[(1, 9), (1, 10), (1, 11)]);
    promises.close(store, 1);
    promises.release(store, 2);
    promises.append(store, 9001, &[(4, 1)]);
}

/// A stream of choices from a seed (a 64-bit LCG's upper half).
pub(crate) fn choices(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    }
}
