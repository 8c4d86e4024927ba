//! Segments of which little is needed are rewritten: space, crashes, and who is there meanwhile.

use std::io;

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::conformance::{chunk, put, read, reclaim};
use mdalp_store::disk::mem::{Failure, MemDisk, Op};
use mdalp_store::disk::{Access, Disk, DiskFile};
use mdalp_store::{
    Appended, Assembled, ChunkLog, Durability, Options, Query, ReadError, Reader, Receipt, Release,
    SegmentLog, State, StoreError, TransactionInfo, Transactions, UnixMillis, assemble,
};

use crate::faults::{fates, reopen_and_check};
use crate::support::{Promises, choices, open, options};

const SEGMENT: u64 = 256 << 10;

pub(crate) fn small() -> Options {
    options(Durability::Fsync, 16 << 10)
}

pub(crate) fn data(tid: u64, seq: u64) -> [u8; 100] {
    std::array::from_fn(|at| (tid.wrapping_mul(7) ^ seq.wrapping_mul(31) ^ at as u64) as u8)
}

/// So many chunks of each of these transactions, in turns.
pub(crate) fn fill(log: &dyn ChunkLog, tids: std::ops::Range<u64>, chunks: u64) {
    let mut results = Vec::new();
    for seq in 0..chunks {
        let all: Vec<_> = tids.clone().map(|tid| data(tid, seq)).collect();
        let batch: Vec<_> = tids
            .clone()
            .zip(&all)
            .map(|(tid, data)| chunk(TransactionId(tid), seq, data))
            .collect();
        log.append(UnixMillis(1000 * seq), &batch, &mut results);
        assert!(results.iter().all(|result| *result == Ok(Appended::New)));
    }
}

pub(crate) fn is_whole(store: &dyn Query, tid: u64, chunks: u64) -> bool {
    let read = read(store, TransactionId(tid)).unwrap();
    read.len() as u64 == chunks
        && read.iter().zip(0..).all(|((at, bytes), seq)| *at == seq && *bytes == data(tid, seq))
}

/// All segments but the last one, which is being written.
fn sealed_numbers(disk: &MemDisk) -> Vec<u64> {
    let mut numbers = disk.list().unwrap();
    numbers.pop();
    numbers
}

/// Bytes of all segments but those that are allocated as a whole: one is written, one is ready.
fn sealed_bytes(disk: &MemDisk, segment: u64) -> u64 {
    let len = |number| disk.open(number, Access::Read).unwrap().len().unwrap();
    disk.list().unwrap().into_iter().map(len).filter(|&len| len != segment).sum()
}

#[test]
fn space_stays_below_twice_the_live_payload_however_many_interleaved_transactions_go() {
    const CHUNKS: u64 = 1500;
    let disk = MemDisk::new();
    let log = open(&disk, options(Durability::Process, SEGMENT));
    fill(&log, 0..16, CHUNKS);
    let mut before = u64::MAX;
    for tid in 0..15 {
        log.release(TransactionId(tid * 7 % 16), Release::Removed).unwrap();
        reclaim(&log);
        let (live, bytes) = ((15 - tid) * CHUNKS * 100, sealed_bytes(&disk, SEGMENT));
        assert!(bytes <= 2 * live, "{bytes} for {live}");
        assert!(bytes <= before);
        before = bytes;
        for left in tid + 1..16 {
            assert!(is_whole(&log, left * 7 % 16, CHUNKS));
        }
    }
    drop(log);
    let log = open(&disk, options(Durability::Process, SEGMENT));
    assert_eq!(log.verify(), Ok(vec![]));
    assert!(is_whole(&log, 15 * 7 % 16, CHUNKS));
    assert!(is_whole(&Reader::open(&disk).unwrap(), 15 * 7 % 16, CHUNKS));
    log.release(TransactionId(15 * 7 % 16), Release::Removed).unwrap();
    reclaim(&log);
    assert_eq!(sealed_bytes(&disk, SEGMENT), 0);
}

/// Transaction 9 stays, in every segment; the others are released so that later segments hold the
/// releases of what earlier ones have.
fn releases(log: &SegmentLog<MemDisk>, promises: &mut Promises, reached: &mut dyn FnMut()) {
    promises.declare(log, 1);
    promises.begin(log, 9);
    for tid in 1..4 {
        for round in 0..14 {
            let chunks: Vec<_> = (0..4).map(|n| (tid, 10 * round + n)).collect();
            promises.append(log, tid * 5000 + round * 400, &chunks);
        }
        promises.append(log, tid * 5000, &[(9, 2 * tid), (9, 2 * tid + 1), (4, tid), (tid, 200)]);
    }
    promises.close(log, 9);
    reached();
    for tid in [2, 1, 3] {
        promises.forget(log, tid);
        // Fills the segment that has the release, and goes too: the segment is needed until the chunks
        // of `tid` are gone, and no longer.
        let filler: Vec<_> = (0..50).map(|n| (10 + tid, n)).collect();
        promises.append(log, 90_000, &filler);
        promises.release(log, 10 + tid);
        promises.append(log, 90_000, &[(9, 2 * tid), (9, 50 + tid), (9, 3)]);
    }
    promises.release(log, 4);
}

const TINY: u64 = 4 << 10;

fn tiny() -> Options {
    options(Durability::Fsync, TINY)
}

/// Runs that on a new disk on which `prepare` arranged an accident; `reached` hears when it begins.
fn run(prepare: impl Fn(&MemDisk), reached: &mut dyn FnMut(u64)) -> (MemDisk, Promises) {
    let disk = MemDisk::new();
    let mut promises = Promises::default();
    prepare(&disk);
    if let Ok(log) = SegmentLog::open(disk.clone(), tiny()) {
        releases(&log, &mut promises, &mut || reached(disk.operations()));
    }
    (disk, promises)
}

/// The operations of the part with releases.
fn operations() -> std::ops::RangeInclusive<u64> {
    let mut start = 0;
    let (disk, promises) = run(|_| {}, &mut |at| start = at);
    let end = disk.operations();
    // With its footer a full segment is longer than it was allocated.
    let lens = |number| disk.open(number, Access::Read).unwrap().len().unwrap();
    let rewritten = disk.list().unwrap().into_iter().filter(|&number| lens(number) < TINY);
    assert!(rewritten.count() >= 2 && end - start > 60);
    disk.kill();
    promises.check(&open(&disk, tiny()));
    start..=end
}

#[test]
fn a_power_cut_at_any_operation_of_a_rewriting_loses_nothing_and_brings_nothing_back() {
    for at in operations() {
        let (disk, promises) = run(|disk| disk.inject(Op::Any, at, Failure::PowerCut), &mut |_| {});
        for disk in fates(&disk) {
            reopen_and_check(&disk, &promises, tiny());
        }
        // The next process goes on where this one was.
        disk.crash(choices(at));
        let log = open(&disk, tiny());
        reclaim(&log);
        promises.check(&log);
        disk.crash(|| 0);
        reopen_and_check(&disk, &promises, tiny());
    }
}

#[test]
fn any_failing_operation_of_a_rewriting_loses_nothing() {
    for failure in [Failure::Io, Failure::NoSpace, Failure::Short(37)] {
        for at in operations() {
            let (disk, promises) = run(|disk| disk.inject(Op::Any, at, failure), &mut |_| {});
            for crash in [false, true] {
                let disk = disk.fork();
                if crash {
                    disk.crash(choices(at));
                } else {
                    disk.kill();
                }
                reopen_and_check(&disk, &promises, tiny());
            }
        }
    }
}

/// A log of 16 transactions of which 3 are to stay, in segments of 16 KiB.
fn sixteen(disk: &MemDisk) -> SegmentLog<MemDisk> {
    let log = open(disk, small());
    fill(&log, 0..16, 100);
    for tid in 3..16 {
        log.release(TransactionId(tid), Release::Expired).unwrap();
    }
    log
}

#[test]
fn what_fails_before_the_new_segment_is_in_place_changes_nothing_and_is_told_once() {
    let failures = [
        (Op::Create, Failure::Io),
        (Op::Write, Failure::Io),
        (Op::SetLen, Failure::Io),
        (Op::SyncData, Failure::Io),
        (Op::Replace, Failure::Io),
    ];
    for (op, failure) in failures {
        let disk = MemDisk::new();
        let log = sixteen(&disk);
        let before = sealed_bytes(&disk, 16 << 10);
        disk.inject(op, 0, failure);
        assert!(matches!(log.reclaim(), Err(StoreError::Io(_))), "{op:?}");
        assert_eq!(sealed_bytes(&disk, 16 << 10), before, "{op:?}");
        assert_eq!(log.poison(), None, "{op:?}");
        assert!((0..3).all(|tid| is_whole(&log, tid, 100)));
        // The others are rewritten, that one is left alone.
        reclaim(&log);
        let after = sealed_bytes(&disk, 16 << 10);
        assert!(after < before / 2, "{op:?}: {after} of {before}");
        fill(&log, 20..21, 100);
        disk.crash(|| 0);
        let log = open(&disk, small());
        assert!((0..3).chain([20]).all(|tid| is_whole(&log, tid, 100)));
        reclaim(&log);
        assert!(sealed_bytes(&disk, 16 << 10) < after, "{op:?}");
        assert!((0..3).all(|tid| is_whole(&log, tid, 100)));
    }
}

#[test]
fn a_directory_that_cannot_be_flushed_ends_all_writing_and_either_segment_has_all() {
    for kept in 0..2 {
        let disk = MemDisk::new();
        let log = sixteen(&disk);
        disk.inject(Op::SyncDir, 0, Failure::Io);
        assert_eq!(log.reclaim(), Err(StoreError::Poisoned));
        assert_eq!(log.poison().unwrap().doing, "replacing a segment");
        let operations = disk.operations();
        assert_eq!(log.reclaim(), Err(StoreError::Poisoned));
        assert!(put(&log, TransactionId(1), 100, b"late").is_err());
        assert_eq!(disk.operations(), operations);
        assert!((0..3).all(|tid| is_whole(&log, tid, 100)));
        if kept == 0 {
            disk.crash(|| 0);
        } else {
            disk.kill();
        }
        assert!((0..3).all(|tid| is_whole(&open(&disk, small()), tid, 100)));
    }
}

#[test]
fn a_disk_that_gets_full_keeps_the_old_segment_until_there_is_room() {
    let disk = MemDisk::new();
    let log = sixteen(&disk);
    let before = sealed_bytes(&disk, 16 << 10);
    // Without any room nothing is begun; then there is some, but it does not suffice.
    disk.set_capacity(Some(1));
    let operations = disk.operations();
    assert_eq!(log.reclaim(), Err(StoreError::Full));
    assert_eq!(disk.operations(), operations);
    disk.set_capacity(None);
    for (attempt, _) in (0..).zip(sealed_numbers(&disk)) {
        disk.inject(Op::Write, attempt, Failure::Short(20));
    }
    assert_eq!(log.reclaim(), Err(StoreError::Full));
    assert_eq!(sealed_bytes(&disk, 16 << 10), before);
    assert!((0..3).all(|tid| is_whole(&log, tid, 100)));
    reclaim(&log);
    assert!(sealed_bytes(&disk, 16 << 10) < before / 3);
    assert!((0..3).all(|tid| is_whole(&log, tid, 100)));
    assert_eq!(log.poison(), None);
}

#[test]
fn a_rewritten_segment_without_its_footer_tells_the_same() {
    let disk = MemDisk::new();
    let log = sixteen(&disk);
    let info = TransactionInfo { client: "a client".into(), ..TransactionInfo::default() };
    log.begin(TransactionId(50), &info).unwrap();
    fill(&log, 50..60, 100);
    let done = assemble(&log, TransactionId(50), &mut io::sink()).unwrap();
    let Assembled { bytes, chunks, blake3 } = done;
    let receipt = Receipt { revision: 1, bytes, chunks, blake3, closed: UnixMillis(7) };
    log.close(TransactionId(50), &receipt).unwrap();
    fill(&log, 60..70, 100);
    for tid in (51..60).chain(61..70).rev() {
        log.release(TransactionId(tid), Release::Expired).unwrap();
    }
    fill(&log, 70..80, 100);
    (71..80).for_each(|tid| log.release(TransactionId(tid), Release::Removed).unwrap());
    reclaim(&log);
    drop(log);
    let alive = |disk: &MemDisk| {
        let mut list = open(disk, small()).list().unwrap();
        list.retain(|one| matches!(one.state, State::Open | State::Complete));
        list
    };
    let before = alive(&disk);
    assert_eq!(before.len(), 6);
    for number in sealed_numbers(&disk) {
        let len = disk.open(number, Access::Read).unwrap().len().unwrap();
        disk.flip_bit(number, (len - 1) * 8);
    }
    disk.kill();
    assert_eq!(alive(&disk), before);
}

#[test]
fn a_release_is_kept_as_long_as_an_earlier_segment_has_its_chunks() {
    let disk = MemDisk::new();
    let log = open(&disk, small());
    // The first segment has little that is released, the second one has little else.
    fill(&log, 0..1, 90);
    fill(&log, 1..2, 5);
    fill(&log, 2..3, 30);
    log.release(TransactionId(1), Release::Expired).unwrap();
    fill(&log, 3..4, 120);
    log.release(TransactionId(3), Release::Expired).unwrap();
    let second = sealed_numbers(&disk)[1];
    let len = |disk: &MemDisk| disk.open(second, Access::Read).unwrap().len().unwrap();
    let before = len(&disk);
    reclaim(&log);
    assert!(len(&disk) < before / 2);
    let footerless = disk.fork();
    footerless.flip_bit(second, (len(&disk) - 1) * 8);
    disk.kill();
    for disk in [disk, footerless] {
        let log = open(&disk, small());
        let state = log.transaction(TransactionId(1)).unwrap().unwrap().state;
        assert_eq!(state, State::Expired);
        assert!(is_whole(&log, 0, 90) && is_whole(&log, 2, 30));
    }
}

#[test]
fn a_damaged_chunk_neither_becomes_good_nor_vanishes() {
    let disk = MemDisk::new();
    let log = sixteen(&disk);
    let numbers = sealed_numbers(&disk);
    // The first chunk of transaction 0, behind the record of who sent it.
    let mut bytes = vec![0; 4096];
    let file = disk.open(numbers[0], Access::Read).unwrap();
    file.read_at(&mut bytes, 0).unwrap();
    let first = (1024..4000).find(|&at| bytes[at..at + 2] == [0xd7, 1]).unwrap();
    disk.flip_bit(numbers[0], (first as u64 + 32 + 5) * 8);
    assert_eq!(log.reclaim(), Err(StoreError::Damaged { segment: numbers[0] }));
    reclaim(&log);
    assert_eq!(read(&log, TransactionId(0)), Err(ReadError::Damaged { seq: SequenceNumber(0) }));
    let damage = log.verify().unwrap();
    let lost = Some((TransactionId(0), SequenceNumber(0)));
    assert_eq!(damage.iter().map(|damage| damage.chunk).collect::<Vec<_>>(), [lost]);
    reclaim(&log);
    assert_eq!(put(&log, TransactionId(0), 0, &data(0, 0)), Ok(Appended::New));
    assert_eq!(log.verify(), Ok(damage));
    assert!((0..3).all(|tid| is_whole(&log, tid, 100)));
    drop(log);
    assert!((0..3).all(|tid| is_whole(&open(&disk, small()), tid, 100)));
}

#[test]
fn drafts_of_a_process_that_died_are_removed() {
    let disk = MemDisk::new();
    drop(sixteen(&disk));
    disk.draft(1).unwrap().write_at(b"half a segment", 0).unwrap();
    disk.kill();
    let log = open(&disk, small());
    assert_eq!(disk.replace(1).unwrap_err().kind(), io::ErrorKind::NotFound);
    reclaim(&log);
    assert!((0..3).all(|tid| is_whole(&log, tid, 100)));
}
