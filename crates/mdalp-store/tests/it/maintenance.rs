//! Maintenance and its manifest: accidents at every operation lose nothing, and raise no false alarm.

use mdalp_proto::ids::TransactionId;
use mdalp_store::disk::mem::{Failure, MemDisk, Op};
use mdalp_store::disk::{Access, Disk, DiskFile, MANIFEST};
use mdalp_store::{
    ChunkLog, DamageKind, Durability, Options, Query, Reader, SegmentLog, State, Store,
};

use crate::faults::reopen_and_check;
use crate::mending::scrub;
use crate::support::{Promises, choices, open, options, workload};

fn fsync() -> Options {
    options(Durability::Fsync, 4 << 10)
}

/// A workload with maintenance in between.
fn maintained(store: &dyn Store, promises: &mut Promises) {
    for round in 0..3 {
        workload(store, promises);
        let _ = store.maintain();
        promises.append(store, 20_000 + round, &[(5, round), (6, round)]);
        let _ = store.maintain();
        promises.release(store, 5);
        promises.release(store, 1);
    }
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
    let steps = (1..).take_while(|_| log.maintain().unwrap().more).count();
    assert_eq!(steps, 2);
    assert!(!log.maintain().unwrap().damage.iter().any(|_| true));
}
