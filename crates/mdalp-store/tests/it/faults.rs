//! Power cuts at every operation, every operation failing, every byte damaged.

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::conformance::chunk;
use mdalp_store::disk::mem::{Failure, MemDisk, Op};
use mdalp_store::disk::{Access, Allocate, Disk, DiskFile};
use mdalp_store::{
    AppendError, ChunkLog, DamageKind, Durability, Limits, OpenError, Options, Query, ReadError,
    Reader, SegmentLog, State, StoreError, TransactionInfo, Transactions, UnixMillis,
};

use crate::support::{Promises, choices, open, options, workload};

const SMALL: u64 = 4 << 10;

fn fsync() -> Options {
    options(Durability::Fsync, SMALL)
}

/// Runs the workload on a new disk on which `prepare` arranged an accident.
fn run(options: Options, prepare: impl Fn(&MemDisk)) -> (MemDisk, Promises) {
    let disk = MemDisk::new();
    let mut promises = Promises::default();
    prepare(&disk);
    if let Ok(log) = SegmentLog::open(disk.clone(), options) {
        workload(&log, &mut promises);
    }
    (disk, promises)
}

/// Opens, checks, opens again: nothing may change by that. (What is known of a released transaction
/// shrinks with its segments.)
pub(crate) fn reopen_and_check(disk: &MemDisk, promises: &Promises, options: Options) {
    promises.check(&Reader::open(disk).unwrap());
    let known = |log: &SegmentLog<MemDisk>| {
        let mut list = log.list().unwrap();
        list.retain(|one| matches!(one.state, State::Open | State::Complete));
        (list, log.receivers().unwrap())
    };
    let log = open(disk, options);
    promises.check(&log);
    let before = known(&log);
    drop(log);
    let log = open(disk, options);
    assert_eq!(known(&log), before);
    assert_eq!(log.recovery().torn, []);
    assert_eq!(log.verify().unwrap(), log.recovery().damage);
}

/// Every subset of few pending changes; of many: none, all, each alone, each missing, and some.
pub(crate) fn fates(disk: &MemDisk) -> Vec<MemDisk> {
    let pending = disk.pending();
    let all = if pending < 64 { (1_u64 << pending) - 1 } else { u64::MAX };
    let mut masks: Vec<u64> = if pending <= 5 {
        (0..=all).collect()
    } else {
        let each = (0..pending.min(64)).flat_map(|bit| [1 << bit, all & !(1 << bit)]);
        [0, all, all >> 1, all >> 2].into_iter().chain(each).collect()
    };
    masks.extend((0..4).map(|seed| choices(seed)() & all));
    let crash = |mask: u64| {
        let disk = disk.fork();
        let mut bit = 0;
        disk.crash(|| {
            bit += 1;
            mask >> ((bit - 1) % 64)
        });
        disk
    };
    masks.into_iter().map(crash).collect()
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    let operations = run(fsync(), |_| {}).0.operations();
    assert!(operations > 50);
    for at in 0..=operations {
        let (disk, promises) = run(fsync(), |disk| disk.inject(Op::Any, at, Failure::PowerCut));
        for disk in fates(&disk) {
            reopen_and_check(&disk, &promises, fsync());
        }
    }
}

#[test]
fn a_power_cut_during_recovery_loses_nothing_acknowledged() {
    let operations = run(fsync(), |_| {}).0.operations();
    for at in 0..=operations {
        let (disk, promises) = run(fsync(), |disk| disk.inject(Op::Any, at, Failure::PowerCut));
        disk.crash(choices(at));
        for during in 0.. {
            let disk = disk.fork();
            disk.inject(Op::Any, during, Failure::PowerCut);
            if SegmentLog::open(disk.clone(), fsync()).is_ok() {
                break;
            }
            for disk in [1, 2, 3].map(|seed| {
                let disk = disk.fork();
                disk.crash(choices(seed));
                disk
            }) {
                reopen_and_check(&disk, &promises, fsync());
            }
        }
    }
}

#[test]
fn any_failing_operation_followed_by_a_power_cut_loses_nothing_acknowledged() {
    let operations = run(fsync(), |_| {}).0.operations();
    let failures = [Failure::Io, Failure::NoSpace, Failure::Short(0), Failure::Short(37)];
    for failure in failures {
        for at in 0..operations {
            let (disk, mut promises) = run(fsync(), |disk| disk.inject(Op::Any, at, failure));
            // First the process ends; what the next one believes must survive the machine.
            disk.kill();
            let log = open(&disk, fsync());
            promises.check(&log);
            workload(&log, &mut promises);
            promises.check(&log);
            disk.crash(choices(at));
            reopen_and_check(&disk, &promises, fsync());
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_acknowledged_without_flushing() {
    let options = options(Durability::Process, SMALL);
    let operations = run(options, |_| {}).0.operations();
    for at in 0..=operations {
        let (disk, mut promises) = run(options, |disk| disk.inject(Op::Any, at, Failure::PowerCut));
        disk.kill();
        reopen_and_check(&disk, &promises, options);
        // From now on with flushing: what was there before must become durable too.
        let log = open(&disk, fsync());
        workload(&log, &mut promises);
        disk.crash(|| 0);
        reopen_and_check(&disk, &promises, fsync());
    }
}

#[test]
fn a_power_cut_without_flushing_never_gives_wrong_bytes() {
    let options = options(Durability::Process, SMALL);
    for seed in 0..200 {
        let (disk, _) = run(options, |_| {});
        disk.crash(choices(seed));
        let log = open(&disk, options);
        log.verify().unwrap();
        Promises::default().check(&log);
    }
}

#[test]
fn one_damaged_bit_costs_one_chunk_which_is_reported_and_taken_again() {
    // One sealed segment and one that is being written.
    let disk = MemDisk::new();
    let log = open(&disk, fsync());
    let all: Vec<_> = (0..31).map(|seq| (1, seq)).collect();
    for batch in all.chunks(4) {
        Promises::default().append(&log, 0, batch);
    }
    disk.kill();
    let segments = disk.list().unwrap();
    assert_eq!(segments.len(), 2);
    let mut lost_some = 0;
    for segment in segments {
        // Steps that meet every part of a record and every bit of a byte; all of them take a minute.
        for byte in (0..disk.written(segment)).step_by(5) {
            let disk = disk.fork();
            disk.flip_bit(segment, byte * 8 + byte % 8);
            let log = open(&disk, fsync());
            let damage = log.verify().unwrap();
            let held: u64 = log.list().unwrap().iter().map(|summary| summary.chunks).sum();
            assert!(held + 1 >= all.len() as u64, "segment {segment} byte {byte}: {held} left");
            if held == all.len() as u64 {
                Promises::default().check(&log);
                continue;
            }
            lost_some += 1;
            assert!(!damage.is_empty() || !log.recovery().torn.is_empty());
            let mut promises = Promises::default();
            promises.check(&log);
            promises.append(&log, 0, &all);
            promises.check(&log);
            drop(log);
            promises.check(&open(&disk, fsync()));
        }
    }
    assert!(lost_some > 0);
}

#[test]
fn bytes_that_change_under_an_open_log_are_not_given_out() {
    let disk = MemDisk::new();
    let log = open(&disk, fsync());
    Promises::default().append(&log, 0, &[(1, 0), (1, 1), (1, 2)]);
    let segment = disk.list().unwrap()[0];
    let end = disk.written(segment);
    disk.flip_bit(segment, (end - 1) * 8);
    let mut seen = Vec::new();
    let read = log.read(TransactionId(1), SequenceNumber(0), &mut |seq, _| {
        seen.push(seq.0);
        std::ops::ControlFlow::Continue(())
    });
    assert!(matches!(read, Err(ReadError::Damaged { seq: SequenceNumber(2) })), "{read:?}");
    assert_eq!(seen, [0, 1]);
}

#[test]
fn segments_without_a_record_do_not_pile_up() {
    let disk = MemDisk::new();
    for _ in 0..5 {
        drop(open(&disk, fsync()));
        disk.kill();
        let file = disk.create(90).unwrap();
        file.allocate(4096, Allocate::Zero).unwrap();
    }
    drop(open(&disk, fsync()));
    assert_eq!(disk.list().unwrap().len(), 1, "the one that is ready");
}

#[test]
fn both_segment_headers_damaged_is_reported_and_the_file_is_left_alone() {
    let (disk, _) = run(fsync(), |_| {});
    disk.kill();
    let segment = disk.list().unwrap()[0];
    disk.flip_bit(segment, 20 * 8);
    disk.flip_bit(segment, (512 + 20) * 8);
    let log = open(&disk, fsync());
    assert_eq!(log.recovery().damage[0].kind, DamageKind::Segment);
    Promises::default().check(&log);
    assert!(disk.list().unwrap().contains(&segment));
}

#[test]
fn b3_a_transaction_is_begun_with_its_first_chunk_and_one_flush_for_both() {
    let disk = MemDisk::new();
    let log = open(&disk, fsync());
    let mut results = Vec::new();
    log.append(UnixMillis(1), &[chunk(TransactionId(1), 0, b"x")], &mut results);
    let begun = [(TransactionId(7), TransactionInfo { client: "c".into(), ..Default::default() })];
    // The clock's record and the chunk are one write: with the begin two, and a flush.
    let before = disk.operations();
    log.append_with(UnixMillis(1), &begun, &[chunk(TransactionId(7), 0, b"x")], &mut results);
    assert_eq!((disk.operations() - before, disk.pending()), (3, 0));
    // No ack before both are flushed, and no chunk without its begin.
    for nth in 0..3 {
        let disk = MemDisk::new();
        let log = open(&disk, fsync());
        log.append(UnixMillis(1), &[chunk(TransactionId(1), 0, b"x")], &mut results);
        disk.inject(if nth == 2 { Op::SyncData } else { Op::Write }, nth % 2, Failure::Io);
        log.append_with(UnixMillis(1), &begun, &[chunk(TransactionId(7), 0, b"x")], &mut results);
        assert_eq!(results, [Err(AppendError::Poisoned)], "{nth}");
    }
    for fate in 0..8_u64 {
        let disk = disk.fork();
        let mut bits = fate;
        disk.crash(|| {
            bits >>= 1;
            bits
        });
        let held = open(&disk, fsync()).transaction(TransactionId(7)).unwrap().unwrap();
        assert_eq!((held.info.unwrap().client, held.chunks), ("c".into(), 1));
    }
}

#[test]
fn b3_a_begin_is_flushed_when_its_chunk_opens_the_next_segment_and_sealing_has_no_room() {
    let info = TransactionInfo { client: "c".into(), ..Default::default() };
    let begun = [(TransactionId(7), info)];
    let (mut results, mut rolled) = (Vec::new(), 0);
    for filler in 0..100_u64 {
        let disk = MemDisk::new();
        let log = open(&disk, fsync());
        for seq in 0..filler {
            log.append(UnixMillis(1), &[chunk(TransactionId(1), seq, b"x")], &mut results);
        }
        // A segment that is ready needs no room.
        log.prepare().unwrap();
        // The begin, then the footer.
        disk.inject(Op::Write, 1, Failure::NoSpace);
        log.append_with(
            UnixMillis(1),
            &begun,
            &[chunk(TransactionId(7), 0, &[7; 300])],
            &mut results,
        );
        if results[0].is_err() {
            continue;
        }
        for fate in [0, u64::MAX] {
            let disk = disk.fork();
            disk.crash(|| fate);
            let held = open(&disk, fsync()).transaction(TransactionId(7)).unwrap().unwrap();
            assert!(held.info.is_some() && held.chunks == 1, "{filler}: {held:?}");
        }
        // If the one that was ready is in use, there is another one now.
        let before = disk.list().unwrap().len();
        log.prepare().unwrap();
        rolled += disk.list().unwrap().len() - before;
    }
    assert!(rolled > 0);
}

#[test]
fn f28_a_chunk_that_is_shorter_than_its_begin_is_not_kept_without_it() {
    let info = TransactionInfo { client: "c".repeat(200), ..Default::default() };
    let begun = [(TransactionId(7), info)];
    let (mut results, mut refused) = (Vec::new(), 0);
    for filler in 0..110_u64 {
        let disk = MemDisk::new();
        let log = open(&disk, fsync());
        for seq in 0..filler {
            log.append(UnixMillis(1), &[chunk(TransactionId(1), seq, b"x")], &mut results);
        }
        disk.inject(Op::Allocate, 0, Failure::NoSpace);
        let first = chunk(TransactionId(7), 0, b"x");
        log.append_with(UnixMillis(1), &begun, std::slice::from_ref(&first), &mut results);
        if results == [Err(AppendError::Full)] {
            refused += 1;
            log.append_with(UnixMillis(1), &begun, &[first], &mut results);
        }
        assert_eq!(results, [Ok(mdalp_store::Appended::New)], "{filler}");
        let held = log.transaction(TransactionId(7)).unwrap().unwrap();
        assert!(held.info.is_some(), "{filler}");
    }
    assert!(refused > 0);
}

#[test]
fn a_failed_flush_is_never_repeated() {
    let disk = MemDisk::new();
    let log = open(&disk, fsync());
    let mut promises = Promises::default();
    promises.append(&log, 0, &[(1, 1)]);
    disk.inject(Op::SyncData, 0, Failure::Io);
    promises.append(&log, 0, &[(1, 2)]);
    let operations = disk.operations();
    promises.append(&log, 0, &[(1, 3)]);
    assert_eq!(log.begin(TransactionId(9), &TransactionInfo::default()), Err(StoreError::Poisoned));
    assert_eq!(disk.operations(), operations);
    assert_eq!(promises.held.values().map(std::collections::BTreeSet::len).sum::<usize>(), 1);
    assert_eq!(log.poison().unwrap().doing, "flushing a segment");
}

#[test]
fn a_full_disk_closes_intake_and_room_opens_it() {
    let disk = MemDisk::new();
    let log = open(&disk, fsync());
    let mut promises = Promises::default();
    promises.append(&log, 0, &[(1, 0)]);
    disk.inject(Op::Allocate, 0, Failure::NoSpace);
    disk.inject(Op::Allocate, 1, Failure::NoSpace);
    let mut refused = 0;
    for seq in 1..60 {
        let before = promises.held[&TransactionId(1)].len();
        promises.append(&log, 0, &[(1, seq)]);
        refused += u32::from(promises.held[&TransactionId(1)].len() == before);
    }
    assert_eq!(refused, 2);
    assert_eq!(log.poison(), None);
    promises.check(&log);
}

#[test]
fn low_space_refuses_new_transactions_first_and_chunks_later() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(1 << 20));
    let limits =
        Limits { min_free_for_new: 64 << 10, min_free_for_append: 32 << 10, ..Limits::NONE };
    let log = open(&disk, Options { limits, ..fsync() });
    let mut results = Vec::new();
    let mut put = |tid, seq| {
        log.append(UnixMillis(0), &[chunk(TransactionId(tid), seq, b"x")], &mut results);
        results[0]
    };
    assert!(put(1, 0).is_ok());
    disk.set_capacity(Some(60 << 10));
    let begin = || log.begin(TransactionId(9), &TransactionInfo::default());
    // A tenth of this disk is less than the limit.
    assert_eq!(begin(), Ok(()));
    disk.set_capacity(Some(16 << 10));
    assert_eq!(log.begin(TransactionId(8), &TransactionInfo::default()), Err(StoreError::Full));
    assert_eq!(put(1, 1), Err(AppendError::Full));
    assert!(put(1, 0).is_ok(), "a duplicate needs no room");
    disk.set_capacity(None);
    assert!(put(1, 1).is_ok());
}

#[test]
fn a_second_writer_is_refused() {
    let disk = MemDisk::new();
    let log = open(&disk, fsync());
    assert!(matches!(SegmentLog::open(disk.clone(), fsync()), Err(OpenError::Locked)));
    drop(log);
    open(&disk, fsync());
}

#[test]
fn among_segments_of_two_stores_opening_again_chooses_the_same() {
    let (stranger, disk) = (MemDisk::new(), MemDisk::new());
    drop(open(&disk, fsync()));
    let log = open(&stranger, Options { new_store_id: 77, ..fsync() });
    workload(&log, &mut Promises::default());
    let newest = stranger.list().unwrap().into_iter().max().unwrap();
    let from = stranger.open(newest, Access::Read).unwrap();
    let mut bytes = vec![0; from.len().unwrap() as usize];
    from.read_at(&mut bytes, 0).unwrap();
    let to = disk.create(newest).unwrap();
    to.write_at(&bytes, 0).unwrap();

    // The first segment is empty and goes, and with it all that said whose directory it was.
    let mut promises = Promises::default();
    promises.append(&open(&disk, fsync()), 1, &[(9, 1), (9, 2)]);
    promises.check(&open(&disk, fsync()));
    promises.check(&Reader::open(&disk).unwrap());
}
