//! Operations, faults of the disk and crashes against a plain map.

use crate::script::Script;
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::disk::mem::{Failure, MemDisk, Op};
use mdalp_store::{
    Appended, ChunkLog, Durability, Limits, NewChunk, Options, Query, ReadError, Receipt,
    ReceiverId, Release, SegmentLog, State, Transactions, UnixMillis, assemble, chunk_crc,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io::sink;
use std::ops::ControlFlow;

struct World {
    disk: MemDisk,
    options: Options,
    log: SegmentLog<MemDisk>,
    /// What was acknowledged.
    held: BTreeMap<u64, BTreeSet<u64>>,
    /// Asked to be released: what becomes of these is not followed.
    released: BTreeSet<u64>,
    receipts: BTreeMap<u64, Receipt>,
    clock: u64,
}

/// The only bytes that a chunk may have.
fn payload(tid: u64, seq: u64) -> Vec<u8> {
    (0..seq % 5 * 40).map(|at| (tid ^ seq.wrapping_mul(31) ^ at) as u8).collect()
}

pub(super) fn run(script: &mut Script<'_>) {
    let disk = MemDisk::new();
    let durability = if script.flag() { Durability::Fsync } else { Durability::Process };
    let options = Options {
        durability,
        segment_bytes: 4 << 10,
        limits: Limits::NONE,
        ..Options::new(0x5eed)
    };
    let log = SegmentLog::open(disk.clone(), options).expect("an empty disk");
    let (held, released, receipts) = Default::default();
    let mut world = World { disk, options, log, held, released, receipts, clock: 0 };
    for _ in 0..80 {
        if script.is_over() {
            break;
        }
        world.step(script);
    }
    world.restart(MemDisk::kill);
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        self.clock += 300;
        match script.below(16) {
            0..=6 => self.append(script),
            7 => self.close(script.below(6).into()),
            8 => {
                let tid = u64::from(script.below(6));
                self.released.insert(tid);
                self.held.remove(&tid);
                self.receipts.remove(&tid);
                let _ = self.log.release(TransactionId(tid), Release::Expired);
                while self.log.reclaim() == Ok(true) {}
            }
            9 => {
                let _ = self.log.verify();
            }
            10 => {
                let _ = self.log.prepare();
            }
            11 => self.inject(script),
            12 => {
                let capacity = script.flag().then(|| 6_000 + 100 * u64::from(script.byte()));
                self.disk.set_capacity(capacity);
            }
            13 => {
                let mut fate = script.u64() | 1;
                let crash = self.options.durability == Durability::Fsync;
                self.restart(|disk| {
                    if crash {
                        disk.crash(|| {
                            fate = fate.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            fate >> 33
                        });
                    } else {
                        disk.kill();
                    }
                });
            }
            14 => self.restart(MemDisk::kill),
            _ => self.check(),
        }
    }

    fn inject(&mut self, script: &mut Script<'_>) {
        let op = [
            Op::Any,
            Op::Write,
            Op::Allocate,
            Op::SetLen,
            Op::SyncData,
            Op::SyncDir,
            Op::Create,
            Op::Remove,
            Op::Replace,
        ][usize::from(script.below(9))];
        let failure = match script.below(4) {
            0 => Failure::Io,
            1 => Failure::NoSpace,
            2 => Failure::Short(script.byte().into()),
            _ => Failure::PowerCut,
        };
        self.disk.inject(op, u64::from(script.below(20)), failure);
    }

    fn append(&mut self, script: &mut Script<'_>) {
        let chunks: Vec<(u64, u64, Vec<u8>)> = (0..script.below(12))
            .map(|_| {
                let (tid, seq) = (u64::from(script.below(6)), u64::from(script.below(60)));
                (tid, seq, payload(tid, seq))
            })
            .collect();
        let batch: Vec<_> = chunks
            .iter()
            .map(|(tid, seq, data)| {
                let (tid, seq) = (TransactionId(*tid), SequenceNumber(*seq));
                let crc = chunk_crc(tid, seq, data);
                NewChunk {
                    tid,
                    seq,
                    receiver: ReceiverId(seq.0 as u16 % 3),
                    from: ([127, 0, 0, 1], 9).into(),
                    crc,
                    data,
                }
            })
            .collect();
        let poisoned = self.log.poison().is_some();
        let mut results = Vec::new();
        self.log.append(UnixMillis(self.clock), &batch, &mut results);
        assert_eq!(results.len(), batch.len());
        for (chunk, result) in batch.iter().zip(results) {
            assert!(!poisoned || result.is_err(), "7: after a failure nothing is acknowledged");
            let (tid, seq) = (chunk.tid.0, chunk.seq.0);
            match result {
                Ok(Appended::Duplicate { crc }) => assert_eq!(crc, chunk.crc),
                Ok(Appended::New) => {
                    let known = self.held.get(&tid).is_some_and(|held| held.contains(&seq));
                    assert!(!known, "{tid} {seq} was acknowledged before");
                }
                Err(_) => continue,
            }
            if !self.released.contains(&tid) {
                self.held.entry(tid).or_default().insert(seq);
            }
        }
    }

    fn close(&mut self, tid: u64) {
        let id = TransactionId(tid);
        let Ok(done) = assemble(&self.log, id, &mut sink()) else { return };
        let Ok(Some(summary)) = self.log.transaction(id) else { return };
        let receipt = Receipt {
            revision: summary.receipt.map_or(1, |before| before.revision + 1),
            bytes: done.bytes,
            chunks: done.chunks,
            blake3: done.blake3,
            closed: UnixMillis(9),
        };
        if self.log.close(id, &receipt).is_ok() && !self.released.contains(&tid) {
            self.receipts.insert(tid, receipt);
        }
    }

    fn restart(&mut self, die: impl FnOnce(&MemDisk)) {
        die(&self.disk);
        // Opening may itself run out of room or fail; the next try is on a disk that works.
        self.log = if let Ok(log) = SegmentLog::open(self.disk.clone(), self.options) {
            log
        } else {
            self.disk.kill();
            self.disk.set_capacity(None);
            SegmentLog::open(self.disk.clone(), self.options).expect("a disk that works")
        };
        assert_eq!(self.log.poison(), None);
        self.check();
    }

    /// Every promise is kept, and no chunk has wrong bytes.
    fn check(&self) {
        for summary in self.log.list().expect("known without the disk") {
            let tid = summary.tid;
            let (mut chunks, mut bytes) = (0, 0);
            let read = self.log.read(tid, SequenceNumber(0), &mut |seq, data| {
                assert_eq!(data, payload(tid.0, seq.0), "{tid} {seq}");
                assert!(summary.ranges.contains(seq.0));
                chunks += 1;
                bytes += data.len() as u64;
                ControlFlow::Continue(())
            });
            match read {
                Ok(()) => assert_eq!((chunks, bytes), (summary.chunks, summary.bytes)),
                Err(ReadError::UnknownTransaction) => {
                    assert!(matches!(summary.state, State::Expired | State::Removed));
                }
                // The power is off.
                Err(ReadError::Io(_)) => {}
                Err(other) => unreachable!("{tid}: {other}"),
            }
        }
        for (tid, held) in &self.held {
            let summary = self.log.transaction(TransactionId(*tid)).expect("known");
            let ranges = summary.expect("4: it has chunks").ranges;
            let lost: Vec<_> = held.iter().filter(|seq| !ranges.contains(**seq)).collect();
            assert!(lost.is_empty(), "4: {tid} lost {lost:?}");
        }
        for (tid, receipt) in &self.receipts {
            let summary = self.log.transaction(TransactionId(*tid)).expect("known");
            let found = summary.and_then(|summary| summary.receipt).expect("it was closed");
            assert!(found == *receipt || found.revision > receipt.revision);
        }
    }
}
