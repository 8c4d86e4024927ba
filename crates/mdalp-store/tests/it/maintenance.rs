//! Maintenance and its manifest: accidents at every operation lose nothing, and raise no false alarm.

use mdalp_proto::ids::TransactionId;
use mdalp_store::disk::mem::{Failure, MemDisk, Op};
use mdalp_store::disk::{Access, Disk, DiskFile, MANIFEST};
use mdalp_store::{
    ChunkLog, DamageKind, Durability, Options, Query, Reader, SegmentLog, State, Store,
    Transactions,
};

use crate::faults::reopen_and_check;
use crate::mending::scrub;
use crate::support::{Promises, choices, open, options, workload};

fn fsync() -> Options {
    options(Durability::Fsync, 4 << 10)
}

/// A workload with maintenance in between.
fn maintained(store: &dyn Store, promises: &mut Promises) {
    workload(store, promises);
    let _ = store.maintain();
    // Segments come, are recorded, rewritten without half of what is in them, and go.
    for tid in 10..13 {
        for seq in 0..9 {
            let at = 20_000 + tid * 100 + seq;
            promises.append(store, at, &[(tid, 3 * seq), (tid, 3 * seq + 2), (30 + tid % 2, at)]);
        }
        let _ = store.maintain();
        let _ = store.maintain();
        promises.release(store, tid);
        promises.release(store, tid);
    }
    promises.release(store, 30);
    promises.append(store, 30_000, &[(10, 1), (12, 2)]);
    promises.release(store, 31);
}

fn run(prepare: impl Fn(&MemDisk)) -> (MemDisk, Promises) {
    let disk = MemDisk::new();
    let mut promises = Promises::default();
    prepare(&disk);
    if let Ok(log) = SegmentLog::open(disk.clone(), fsync()) {
        maintained(&log, &mut promises);
    }
    (disk, promises)
}

/// Nothing is called lost that nobody lost.
fn no_false_alarm(disk: &MemDisk, promises: &Promises) {
    let damaged = |store: &dyn Query, tid: TransactionId| {
        store.transaction(tid).unwrap().is_some_and(|one| one.state == State::Damaged)
    };
    let lost = |damage: &[mdalp_store::Damage]| {
        damage.iter().any(|one| matches!(one.kind, DamageKind::Lost | DamageKind::Manifest))
    };
    let reader = Reader::open(disk).unwrap();
    assert!(!lost(reader.damage()), "{:?}", reader.damage());
    let log = open(disk, fsync());
    assert!(!lost(&log.recovery().damage), "{:?}", log.recovery().damage);
    let found = scrub(&log);
    assert!(!lost(&found), "{found:?}");
    promises.check(&log);
    for tid in promises.held.keys() {
        assert!(!damaged(&log, *tid) && !damaged(&reader, *tid), "{tid}");
    }
}

/// A new store, and what it has promised so far.
fn fresh() -> (MemDisk, SegmentLog<MemDisk>, Promises) {
    let disk = MemDisk::new();
    let log = open(&disk, fsync());
    (disk, log, Promises::default())
}

#[test]
fn a_power_cut_at_any_operation_of_maintenance_loses_nothing_and_alarms_nobody() {
    let operations = run(|_| {}).0.operations();
    for at in 0..=operations {
        let (disk, promises) = run(|disk| disk.inject(Op::Any, at, Failure::PowerCut));
        for seed in 0..3 {
            let disk = disk.fork();
            match seed {
                0 => disk.crash(|| 0),
                1 => disk.crash(|| 1),
                _ => disk.crash(choices(at)),
            }
            let first = disk.fork();
            no_false_alarm(&disk, &promises);
            reopen_and_check(&first, &promises, fsync());
        }
    }
}

#[test]
fn any_failing_operation_of_maintenance_loses_nothing_and_alarms_nobody() {
    let operations = run(|_| {}).0.operations();
    for failure in [Failure::Io, Failure::NoSpace, Failure::Short(9)] {
        for at in 0..operations {
            let (disk, promises) = run(|disk| disk.inject(Op::Any, at, failure));
            disk.kill();
            let forked = disk.fork();
            no_false_alarm(&disk, &promises);
            forked.crash(choices(at));
            no_false_alarm(&forked, &promises);
        }
    }
}

/// Six transactions in turn over three segments.
fn in_turn() -> (MemDisk, SegmentLog<MemDisk>, Promises) {
    let (disk, log, mut promises) = fresh();
    for seq in 0..25 {
        promises.append(&log, 0, &[(1, seq), (2, seq), (3, seq)]);
    }
    scrub(&log);
    scrub(&log);
    (disk, log, promises)
}

/// Fills a segment and releases what fills it.
fn pass_by(log: &SegmentLog<MemDisk>, promises: &mut Promises, tid: u64) {
    for seq in 0..50 {
        promises.append(log, 0, &[(tid, seq)]);
    }
    promises.release(log, tid);
}

#[test]
fn what_was_removed_or_rewritten_is_not_missed_and_its_ids_come_anew() {
    for kept in [None, Some(3)] {
        let (disk, log, mut promises) = in_turn();
        let before = disk.list().unwrap();
        (1..=3).filter(|tid| Some(*tid) != kept).for_each(|tid| promises.release(&log, tid));
        (50..60).for_each(|tid| pass_by(&log, &mut promises, tid));
        let forgotten = log.transaction(TransactionId(2)).unwrap();
        assert_eq!(forgotten, None, "the segment with its release is gone");
        assert_eq!(disk.list().unwrap().contains(&before[0]), kept.is_some());
        promises.append(&log, 0, &[(2, 1), (2, 3)]);
        drop(log);
        disk.kill();
        no_false_alarm(&disk, &promises);
    }
}

#[test]
fn a_statement_or_receipt_survives_damage_to_its_record_wherever_it_is() {
    for sealed in [true, false] {
        let (disk, log, mut promises) = in_turn();
        let done = mdalp_store::assemble(&log, TransactionId(1), &mut std::io::sink()).unwrap();
        promises.close(&log, 1);
        let before = log.transaction(TransactionId(1)).unwrap().unwrap();
        assert_eq!(before.state, State::Complete);
        if sealed {
            (0..50).for_each(|seq| promises.append(&log, 0, &[(4, seq)]));
        }
        // The record of the receipt: its hash is nowhere else before the footer.
        let number = disk.list().unwrap().into_iter().find_map(|number| {
            let file = disk.open(number, Access::Read).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(&mut bytes, 0).unwrap();
            let at = bytes.windows(32).position(|window| window == done.blake3)?;
            Some((number, at as u64))
        });
        let (number, at) = number.unwrap();
        disk.flip_bit(number, at * 8);
        let found = scrub(&log);
        assert!(found.iter().any(|one| one.segment == number && one.kind == DamageKind::Body));
        assert_eq!(log.transaction(TransactionId(1)).unwrap().unwrap(), before);
        drop(log);
        disk.kill();
        let mut again = open(&disk, fsync()).transaction(TransactionId(1)).unwrap().unwrap();
        again.last_append = before.last_append;
        assert_eq!(again, before);
    }
}

#[test]
fn no_bit_of_an_index_hides_a_chunk_from_a_reader_or_from_maintenance() {
    let (disk, log, promises) = in_turn();
    drop(log);
    disk.kill();
    let number = disk.list().unwrap()[0];
    let end = disk.written(number);
    let file = disk.open(number, Access::Read).unwrap();
    let mut bytes = vec![0; end as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let index = bytes.windows(2).rposition(|window| window == [0xD7, 7]).unwrap() as u64;
    assert!(end - index > 1000);
    for byte in index..end {
        let disk = disk.fork();
        disk.flip_bit(number, byte * 8 + byte % 8);
        promises.check(&Reader::open(&disk).unwrap());
        let log = open(&disk, fsync());
        promises.check(&log);
        let mut found = log.recovery().damage.len() + log.recovery().torn.len();
        found += scrub(&log).len();
        assert!(found > 0, "byte {byte}");
        promises.check(&log);
    }
}

#[test]
fn a_damaged_manifest_is_reported_costs_nothing_and_is_made_anew() {
    let (disk, promises) = run(|_| {});
    disk.kill();
    let end = disk.written(MANIFEST);
    for byte in (0..end).step_by(7) {
        let disk = disk.fork();
        disk.flip_bit(MANIFEST, byte * 8 + byte % 8);
        promises.check(&Reader::open(&disk).unwrap());
        let log = open(&disk, fsync());
        promises.check(&log);
        scrub(&log);
        scrub(&log);
        drop(log);
        disk.kill();
        no_false_alarm(&disk, &promises);
    }
}

#[test]
fn a_store_without_a_manifest_gets_one_and_a_void_one_is_made_anew() {
    let disk = MemDisk::new();
    let mut promises = Promises::default();
    let log = open(&disk, fsync());
    workload(&log, &mut promises);
    drop(log);
    disk.kill();
    assert!(disk.open(MANIFEST, Access::Read).is_err());
    scrub(&open(&disk, fsync()));
    disk.kill();
    assert!(disk.written(MANIFEST) > 64);
    disk.open(MANIFEST, Access::Write).unwrap().write_at(&[0; 8], 0).unwrap();
    scrub(&open(&disk, fsync()));
    disk.kill();
    no_false_alarm(&disk, &promises);
    assert_ne!(disk.open(MANIFEST, Access::Read).unwrap().read_at(&mut [0; 8], 0).unwrap(), 0);
}

#[test]
fn a_step_reads_a_bounded_piece_and_a_round_reads_all() {
    let disk = MemDisk::new();
    let settings = options(Durability::Process, 16 << 20);
    let log = open(&disk, settings);
    let data = vec![3; 1200];
    let mut results = Vec::new();
    for seq in 0..8000 {
        let chunk = mdalp_store::conformance::chunk(TransactionId(1), seq, &data);
        log.append(mdalp_store::UnixMillis(0), &[chunk], &mut results);
    }
    // About 10 MB.
    let steps = (1..100).take_while(|_| log.maintain().unwrap().more).count();
    assert_eq!(steps, 2);
    assert!(!log.maintain().unwrap().damage.iter().any(|_| true));
}

/// Which segments would be missed if they were lost now, and which are there.
fn missed(disk: &MemDisk) -> (Vec<u64>, Vec<u64>) {
    let there = disk.list().unwrap();
    let is_missed = |number: &u64| {
        let disk = disk.fork();
        disk.remove(*number).unwrap();
        disk.sync_dir().unwrap();
        let seen = Reader::open(&disk).unwrap().damage().iter().any(|one| one.segment == *number);
        let log = open(&disk, fsync());
        let lost = |one: &mdalp_store::Damage| one.kind == DamageKind::Lost;
        let told = log.recovery().damage.iter().any(|one| lost(one) && one.segment == *number);
        assert_eq!(seen, told, "{number}");
        told
    };
    (there.iter().copied().filter(is_missed).collect(), there)
}

#[test]
fn b2_what_was_sealed_and_what_rests_would_be_missed_without_a_round_of_maintenance() {
    let (disk, log, mut promises) = fresh();
    scrub(&log);
    for seq in 0..40 {
        promises.append(&log, 0, &[(1, seq), (2, seq), (3, seq)]);
    }
    log.checkpoint().unwrap();
    let (missed_at_once, there) = missed(&disk);
    assert!(there.len() > 2);
    assert!(missed_at_once.len() + 2 >= there.len(), "{missed_at_once:?} of {there:?}");
    log.checkpoint().unwrap();
    let with_chunks = |number: &u64| disk.written(*number) > 1100;
    let expected: Vec<u64> = there.into_iter().filter(with_chunks).collect();
    assert_eq!(missed(&disk).0, expected);
    let operations = disk.operations();
    (0..200).for_each(|_| log.checkpoint().unwrap());
    assert_eq!(disk.operations(), operations, "there is nothing to do");
}

#[test]
fn b2_the_manifest_stays_small_while_a_server_runs() {
    const MIB: u64 = 1 << 20;
    let disk = MemDisk::new();
    let settings = options(Durability::Fsync, 16 << 20);
    let log = open(&disk, settings);
    let mut promises = Promises::default();
    // Many small transactions in the segment being written: its record is large.
    let many: Vec<(u64, u64)> = (1..400).map(|tid| (tid, 0)).collect();
    promises.append(&log, 0, &many);
    (0..2).for_each(|_| log.checkpoint().unwrap());
    let record = disk.written(MANIFEST);
    assert!(record > 20 << 10, "{record}");
    // A trickle that always rests is not copied each time.
    for seq in 1..50 {
        promises.append(&log, 0, &[(1, seq)]);
        (0..2).for_each(|_| log.checkpoint().unwrap());
    }
    assert!(disk.written(MANIFEST) <= 3 * record, "once a minute at most");
    // And what does not count any more is dropped.
    let (mut most, mut minutes) = (0, 0);
    for seq in 50..250 {
        promises.append(&log, 0, &[(2, seq)]);
        let before = disk.written(MANIFEST);
        (0..60).for_each(|_| log.checkpoint().unwrap());
        minutes += u64::from(disk.written(MANIFEST) != before);
        most = most.max(disk.written(MANIFEST));
    }
    assert_eq!(minutes, 200, "a minute later it is on record");
    assert!(minutes * record > 4 * MIB && most < MIB + 3 * record, "{most}");
    promises.append(&log, 0, &[(3, 7)]);
    (0..60).for_each(|_| log.checkpoint().unwrap());
    disk.kill();
    no_false_alarm(&disk, &promises);
    let (would_be_missed, there) = missed(&disk);
    assert_eq!(would_be_missed[..], there[..1]);
}

#[test]
fn b2_a_power_cut_while_a_segment_is_removed_or_rewritten_brings_nothing_back_as_damaged() {
    // The manifest knows the chunks, and not that they were released: it is behind.
    let prepare = |kept: u64| {
        let disk = MemDisk::new();
        let log = open(&disk, fsync());
        let mut promises = Promises::default();
        for seq in 0..6 {
            promises.append(&log, 0, &[(1, seq), (2, seq), (3, seq)]);
        }
        (0..2).for_each(|_| log.checkpoint().unwrap());
        (1..4).filter(|tid| *tid != kept).for_each(|tid| promises.forget(&log, tid));
        for seq in 0..50 {
            promises.append(&log, 0, &[(9, seq)]);
        }
        if kept == 0 {
            promises.forget(&log, 9);
        }
        (disk, log, promises)
    };
    for kept in [0, 3] {
        let (disk, log, _) = prepare(kept);
        let before = (disk.operations(), disk.list().unwrap()[0], disk.written(1));
        while log.reclaim() == Ok(true) {}
        let gone = disk.list().unwrap()[0] != before.1;
        assert_eq!(gone, kept == 0);
        assert!(gone || disk.written(1) < before.2, "rewritten");
        for at in 0..disk.operations() - before.0 {
            let (disk, log, promises) = prepare(kept);
            disk.inject(Op::Any, at, Failure::PowerCut);
            while log.reclaim() == Ok(true) {}
            for seed in 0..3 {
                let disk = disk.fork();
                match seed {
                    0 => disk.crash(|| 0),
                    1 => disk.crash(|| 1),
                    _ => disk.crash(choices(at)),
                }
                no_false_alarm(&disk, &promises);
            }
        }
    }
}

#[test]
fn b2_what_a_log_held_when_it_was_closed_would_be_missed() {
    let (disk, log, mut promises) = fresh();
    log.checkpoint().unwrap();
    for seq in 0..40 {
        promises.append(&log, 0, &[(1, seq), (2, seq), (3, seq)]);
    }
    drop(log);
    disk.kill();
    let with_chunks = |number: &u64| disk.written(*number) > 1100;
    let expected: Vec<u64> = disk.list().unwrap().into_iter().filter(with_chunks).collect();
    assert!(expected.len() > 2);
    assert_eq!(missed(&disk).0, expected);
    no_false_alarm(&disk, &promises);
}

#[test]
fn b2_a_begin_that_was_not_flushed_yet_is_not_missed_after_a_power_cut() {
    let (disk, log, mut promises) = fresh();
    promises.append(&log, 0, &[(1, 0)]);
    // The first chunk is refused: nothing flushes what was written for it.
    let data = vec![0; 2 << 10];
    let refused = mdalp_store::conformance::chunk(TransactionId(2), 0, &data);
    let mut results = Vec::new();
    let begun = [(TransactionId(2), mdalp_store::TransactionInfo::default())];
    log.append_with(mdalp_store::UnixMillis(0), &begun, &[refused], &mut results);
    assert!(results[0].is_err());
    (0..2).for_each(|_| log.checkpoint().unwrap());
    assert!(log.transaction(TransactionId(2)).unwrap().is_some());
    disk.crash(|| 0);
    no_false_alarm(&disk, &promises);
}

#[test]
fn b2_a_power_cut_or_failure_while_the_manifest_is_compacted_loses_nothing_and_alarms_nobody() {
    let settings = options(Durability::Fsync, 1 << 20);
    // One record before it is large enough.
    let base = MemDisk::new();
    let mut promises = Promises::default();
    let log = open(&base, settings);
    let many: Vec<(u64, u64)> = (1..1000).map(|tid| (tid, 0)).collect();
    promises.append(&log, 0, &many);
    (0..2).for_each(|_| log.checkpoint().unwrap());
    let record = base.written(MANIFEST);
    for seq in 1..100 {
        promises.append(&log, 0, &[(2, seq)]);
        if base.written(MANIFEST) + record > 1 << 20 {
            break;
        }
        (0..60).for_each(|_| log.checkpoint().unwrap());
    }
    base.kill();
    let compact = |fault: Option<(u64, Failure)>| {
        let disk = base.fork();
        let log = open(&disk, settings);
        let operations = disk.operations();
        if let Some((at, failure)) = fault {
            disk.inject(Op::Any, at, failure);
        }
        for _ in 0..2 {
            let _ = log.checkpoint();
        }
        let operations = disk.operations() - operations;
        (disk, operations)
    };
    let (disk, operations) = compact(None);
    assert!(disk.written(MANIFEST) < 1 << 19, "{}", disk.written(MANIFEST));
    for at in 0..operations {
        for failure in [Failure::PowerCut, Failure::NoSpace] {
            let (disk, _) = compact(Some((at, failure)));
            let killed = disk.fork();
            disk.crash(choices(at));
            no_false_alarm(&disk, &promises);
            if !matches!(failure, Failure::PowerCut) {
                no_false_alarm(&killed, &promises);
            }
        }
    }
}
