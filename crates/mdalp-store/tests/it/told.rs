//! Damage is told to whoever maintains the store: whatever fails meanwhile, and however much it is.

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::conformance::{chunk, read};
use mdalp_store::disk::mem::{Failure, MemDisk, Op};
use mdalp_store::disk::{Access, Disk, DiskFile};
use mdalp_store::{
    AppendError, ChunkLog, Damage, DamageKind, Durability, Query, Reader, State, StoreError,
    UnixMillis,
};

use crate::mending::{bytes_of, filled, scrub, settings};
use crate::support::{Promises, open, options, payload};

/// Damages a chunk in the first segment.
fn damage_one(disk: &MemDisk) -> (u64, TransactionId, u64) {
    let number = disk.list().unwrap()[0];
    let (tid, seq) = (TransactionId(4), 7);
    let (bytes, data) = (bytes_of(disk, number), payload(tid, seq));
    let at = bytes.windows(data.len()).position(|window| window == data).unwrap() as u64;
    disk.flip_bit(number, at * 8);
    (number, tid, seq)
}

fn lost(damage: &[Damage]) -> Vec<(u64, Option<(TransactionId, SequenceNumber)>)> {
    damage.iter().map(|one| (one.segment, one.chunk)).collect()
}

#[test]
fn b2_damage_is_told_by_the_next_step_if_a_step_fails() {
    let (disk, _) = filled(5);
    let log = open(&disk, settings());
    let (number, tid, seq) = damage_one(&disk);
    assert!(read(&log, tid).is_err(), "struck out, and nobody was told");
    // The manifest cannot be written.
    disk.inject(Op::Write, 0, Failure::Io);
    assert!(log.maintain().is_err());
    assert!(log.needs_maintain());
    let told = log.maintain().unwrap().damage;
    assert_eq!(lost(&told), [(number, Some((tid, SequenceNumber(seq))))]);
    assert_eq!(log.maintain().unwrap_err(), StoreError::Poisoned);
}

#[test]
fn b2_damage_is_told_if_striking_it_out_fails() {
    let (disk, _) = filled(5);
    let log = open(&disk, settings());
    let (number, tid, seq) = damage_one(&disk);
    disk.inject(Op::Write, 0, Failure::Io);
    let mut results = Vec::new();
    log.append(UnixMillis(0), &[chunk(tid, seq, &payload(tid, seq))], &mut results);
    assert_eq!(results, [Err(AppendError::Damaged)]);
    assert!(log.poison().is_some());
    let told = log.maintain().unwrap().damage;
    assert_eq!(lost(&told), [(number, Some((tid, SequenceNumber(seq))))]);
}

#[test]
fn b2_where_too_many_chunks_are_lost_to_name_them_the_rest_is_told_of() {
    let disk = MemDisk::new();
    let settings = options(Durability::Fsync, 32 << 10);
    let log = open(&disk, settings);
    let mut promises = Promises::default();
    for seq in 0..400 {
        promises.append(&log, 1, &[(1, 5 * seq), (2, 5 * seq)]);
    }
    promises.append(&log, 1, &(0..800).map(|seq| (3, 5 * seq)).collect::<Vec<_>>());
    scrub(&log);
    scrub(&log);
    let number = disk.list().unwrap()[0];
    disk.open(number, Access::Write).unwrap().set_len(1024).unwrap();
    let seen = Reader::open(&disk).unwrap().check().unwrap();
    assert!(!seen.is_empty());
    let told = scrub(&log);
    let named = told.iter().filter(|one| one.chunk.is_some()).count();
    assert_eq!(named, 256);
    assert!(told.contains(&Damage {
        segment: number,
        offset: 0,
        kind: DamageKind::Lost,
        chunk: None
    }));
    assert_eq!(
        log.verify().unwrap().iter().filter(|one| one.kind == DamageKind::Lost).count(),
        257
    );
    assert_eq!(scrub(&log), []);
    drop(log);
    disk.kill();
    let log = open(&disk, settings);
    assert_eq!(scrub(&log), []);
    let known = log.recovery().damage.iter().filter(|one| one.segment == number);
    assert_eq!(known.clone().filter(|one| one.chunk.is_none()).count(), 1);
    let tid = TransactionId(1);
    assert_eq!(log.transaction(tid).unwrap().unwrap().state, State::Damaged);
}
