//! Memory of unfinished transactions is bounded, whatever comes (H45, H46).

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::disk::Disk;
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::{
    AppendError, AppendResult, Appended, ChunkLog, Crowding, Durability, Limits, NewChunk, Options,
    Query, Receipt, ReceiverId, Release, SegmentLog, TransactionInfo, Transactions, Unfinished,
    UnixMillis, chunk_crc,
};

use crate::support::{open, options};

const RANGES: usize = 1000;

fn limited(ranges: usize, unannounced: usize) -> Options {
    let limits = Limits { ranges, unannounced, ..Limits::NONE };
    Options { limits, ..options(Durability::Process, 64 << 10) }
}

/// Appends one byte for each number; receiver 1 gets those in `second`.
fn put(
    log: &SegmentLog<MemDisk>,
    tid: u64,
    seqs: impl IntoIterator<Item = u64>,
    second: fn(u64) -> bool,
) -> Vec<AppendResult> {
    let tid = TransactionId(tid);
    let chunks: Vec<_> = seqs
        .into_iter()
        .map(|seq| NewChunk {
            tid,
            from: ([127, 0, 0, 1], 9).into(),
            seq: SequenceNumber(seq),
            receiver: ReceiverId(second(seq).into()),
            crc: chunk_crc(tid, SequenceNumber(seq), b"x"),
            data: b"x",
        })
        .collect();
    let mut results = Vec::new();
    log.append(UnixMillis(0), &chunks, &mut results);
    results
}

fn one(log: &SegmentLog<MemDisk>, tid: u64, seq: u64) -> AppendResult {
    put(log, tid, [seq], |_| false)[0]
}

fn even(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|n| 2 * n)
}

fn ranges(log: &SegmentLog<MemDisk>) -> usize {
    log.unfinished().unwrap().iter().map(|one| one.ranges).sum()
}

#[test]
fn h45_gaps_of_all_transactions_are_bounded_and_those_with_few_notice_nothing() {
    let disk = MemDisk::new();
    let log = open(&disk, limited(RANGES, usize::MAX));
    for tid in 1..=50 {
        for seq in even(100) {
            let result = one(&log, tid, seq);
            assert!(matches!(result, Ok(Appended::New) | Err(AppendError::Crowded)), "{result:?}");
        }
    }
    // All of them may have 32 when the others have taken the rest.
    assert!((RANGES..=RANGES + 50 * 32).contains(&ranges(&log)), "{}", ranges(&log));
    assert!(log.crowding().ranges >= 1000);
    // Of the refused ones none is held.
    let held: u64 = log.list().unwrap().iter().map(|summary| summary.ranges.len()).sum();
    assert_eq!(held as usize, ranges(&log));

    // Who has many gaps may fill them, go on in a row and repeat; who has few may have some more.
    assert_eq!(one(&log, 1, 500), Err(AppendError::Crowded));
    assert_eq!([1, 3, 199].map(|seq| one(&log, 1, seq)), [Ok(Appended::New); 3]);
    assert!(matches!(one(&log, 1, 2), Ok(Appended::Duplicate { .. })));
    assert!(put(&log, 99, 0..500, |_| false).iter().all(Result::is_ok));
    assert!(put(&log, 98, even(32), |_| false).iter().all(Result::is_ok));
    assert_eq!(one(&log, 98, 1000), Err(AppendError::Crowded));

    // The same is known after a restart, and what is released makes room.
    let before = log.crowding();
    drop(log);
    let log = open(&disk, limited(RANGES, usize::MAX));
    assert_eq!(log.crowding(), before);
    assert_eq!(one(&log, 1, 500), Err(AppendError::Crowded));
    for tid in 2..=50 {
        log.release(TransactionId(tid), Release::Expired).unwrap();
    }
    assert!(log.crowding().ranges < 500);
    assert_eq!(one(&log, 1, 500), Ok(Appended::New));
    let released = log.transaction(TransactionId(2)).unwrap().unwrap();
    assert_eq!((released.ranges.range_count(), released.chunks, released.bytes), (0, 100, 100));
}

#[test]
fn h46_transactions_that_nobody_began_are_bounded_and_others_are_not() {
    let disk = MemDisk::new();
    let log = open(&disk, limited(usize::MAX, 10));
    let info = TransactionInfo::default();
    for tid in 100..120 {
        log.begin(TransactionId(tid), &info).unwrap();
        assert!(one(&log, tid, 0).is_ok());
    }
    for tid in 0..10 {
        assert_eq!(log.crowding(), Crowding { ranges: 0, transactions: 100 * tid as u32 });
        assert!(one(&log, tid, 0).is_ok());
    }
    assert_eq!(one(&log, 10, 0), Err(AppendError::Crowded));
    assert_eq!(log.transaction(TransactionId(10)), Ok(None));
    assert!(one(&log, 9, 1).is_ok() && one(&log, 119, 1).is_ok());
    assert_eq!(log.begin(TransactionId(120), &info), Ok(()));

    // What is whole, and what is released, does not count, also after a restart.
    let receipt = Receipt { revision: 1, bytes: 1, chunks: 1, ..Receipt::default() };
    log.close(TransactionId(0), &receipt).unwrap();
    log.release(TransactionId(1), Release::Removed).unwrap();
    log.reclaim().unwrap();
    assert_eq!(log.crowding().transactions, 800);
    drop(log);
    let log = open(&disk, limited(usize::MAX, 10));
    assert_eq!(log.crowding().transactions, 800);
    assert!(one(&log, 10, 0).is_ok() && one(&log, 11, 0).is_ok());
    assert_eq!(one(&log, 12, 0), Err(AppendError::Crowded));
}

#[test]
fn alternating_receivers_take_bounded_memory_and_no_chunk_is_refused_for_it() {
    let disk = MemDisk::new();
    let log = open(&disk, limited(RANGES, usize::MAX));
    for tid in 0..20 {
        assert!(put(&log, tid, 0..200, |seq| seq % 2 == 1).iter().all(Result::is_ok));
    }
    let listed = |log: &SegmentLog<MemDisk>| -> usize {
        let all = log.list().unwrap();
        all.iter().flat_map(|summary| &summary.shares).map(|s| s.ranges.range_count()).sum()
    };
    // A quarter of the ranges, one transaction more, and one range for each share.
    assert!(listed(&log) <= RANGES / 4 + 200 + 40, "{}", listed(&log));
    for summary in log.list().unwrap() {
        assert_eq!(summary.ranges.to_string(), "0-199");
        let counts: Vec<_> = summary.shares.iter().map(|share| share.chunks).collect();
        assert_eq!(counts, [100, 100]);
    }
    assert_eq!(log.crowding().ranges, 0);
    drop(log);
    let log = open(&disk, limited(RANGES, usize::MAX));
    assert!(listed(&log) <= RANGES / 4 + 200 + 40, "{}", listed(&log));
}

#[test]
fn a_segment_of_tiny_chunks_ends_before_its_index_is_large() {
    const MOST: u64 = 1 << 19;
    let disk = MemDisk::new();
    let log = open(&disk, options(Durability::Process, 64 << 20));
    for start in (0..MOST).step_by(4096) {
        put(&log, 1, start..start + 4096, |_| false);
    }
    let before = disk.list().unwrap().len();
    assert!(one(&log, 1, MOST).is_ok());
    assert_eq!(disk.list().unwrap().len(), before + 1);
    let summary = log.transaction(TransactionId(1)).unwrap().unwrap();
    assert_eq!(summary.ranges.contiguous_from_zero(), Some(MOST + 1));
    assert_eq!(summary.shares[0].ranges, summary.ranges);
}

#[test]
fn transactions_that_come_and_go_are_forgotten_before_a_segment_is_full_of_them() {
    let disk = MemDisk::new();
    let log = open(&disk, options(Durability::Process, 64 << 20));
    for round in 0..4 {
        let tids = round << 14..(round + 1) << 14;
        for tid in tids.clone() {
            assert!(one(&log, tid, 1).is_ok());
        }
        for tid in tids {
            log.release(TransactionId(tid), Release::Expired).unwrap();
        }
        log.reclaim().unwrap();
    }
    let known = log.list().unwrap().len();
    assert!(known <= 3 << 14, "{known}");
}

#[test]
fn duplicates_do_not_make_later_chunks_look_older_after_a_restart() {
    let disk = MemDisk::new();
    let log = open(&disk, options(Durability::Process, 64 << 10));
    let chunk = |seq| NewChunk {
        tid: TransactionId(1),
        from: ([127, 0, 0, 1], 9).into(),
        seq: SequenceNumber(seq),
        receiver: ReceiverId(0),
        crc: chunk_crc(TransactionId(1), SequenceNumber(seq), b"x"),
        data: b"x",
    };
    let mut results = Vec::new();
    for (now, seq) in [(10_000, 0), (90_000, 0), (90_500, 1)] {
        log.append(UnixMillis(now), &[chunk(seq)], &mut results);
    }
    drop(log);
    let log = open(&disk, options(Durability::Process, 64 << 10));
    assert_eq!(log.unfinished().unwrap()[0].last_append, Some(UnixMillis(90_500)));
}

#[test]
fn unfinished_tells_the_same_as_the_summaries() {
    let disk = MemDisk::new();
    let log = open(&disk, options(Durability::Process, 64 << 10));
    log.begin(TransactionId(1), &TransactionInfo::default()).unwrap();
    log.begin(TransactionId(2), &TransactionInfo::default()).unwrap();
    put(&log, 2, [0, 1, 5], |_| false);
    put(&log, 3, [0, 1], |_| false);
    put(&log, 4, [0], |_| false);
    log.close(
        TransactionId(4),
        &Receipt { revision: 1, bytes: 1, chunks: 1, ..Receipt::default() },
    )
    .unwrap();
    let told: Vec<_> = log.list().unwrap().iter().take(3).map(Unfinished::from).collect();
    assert_eq!(log.unfinished(), Ok(told));
}
