//! Rules that no other test notices when they break.

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::conformance::{chunk, read};
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::disk::{Access, Disk, DiskFile};
use mdalp_store::{
    AppendError, Appended, ChunkLog, DamageKind, Durability, Limits, Options, Query, ReadError,
    Reader, Receipt, Release, StoreError, Transactions, UnixMillis,
};

use crate::support::{Promises, open, options};

const TID: TransactionId = TransactionId(1);

fn fsync() -> Options {
    options(Durability::Fsync, 4 << 10)
}

/// Two sealed segments and one that is being written.
fn filled() -> MemDisk {
    let disk = MemDisk::new();
    let log = open(&disk, fsync());
    let mut promises = Promises::default();
    promises.begin(&log, 1);
    for seq in 0..50 {
        promises.append(&log, 0, &[(1, seq)]);
    }
    disk.kill();
    disk
}

#[test]
fn a_duplicate_from_the_cache_of_a_killed_process_is_acknowledged_only_once_it_is_durable() {
    let disk = MemDisk::new();
    let log = open(&disk, options(Durability::Process, 4 << 10));
    let mut results = Vec::new();
    log.append(UnixMillis(0), &[chunk(TID, 0, b"data")], &mut results);
    disk.kill();
    let log = open(&disk, fsync());
    log.append(UnixMillis(0), &[chunk(TID, 0, b"data")], &mut results);
    assert!(matches!(results[0], Ok(Appended::Duplicate { .. })));
    disk.crash(|| 0);
    assert_eq!(read(&open(&disk, fsync()), TID), Ok(vec![(0, b"data".to_vec())]));
}

#[test]
fn a_removed_segment_stays_removed() {
    let disk = filled();
    let log = open(&disk, fsync());
    log.release(TID, Release::Removed).unwrap();
    let mut promises = Promises::default();
    (0..50).for_each(|seq| promises.append(&log, 0, &[(2, seq)]));
    // Without rewriting, which flushes the directory again.
    log.prepare().unwrap();
    let left = disk.list().unwrap();
    assert!(left[0] > 1, "{left:?}");
    disk.crash(|| 0);
    assert!(disk.list().unwrap().iter().all(|number| left.contains(number)));
    assert_eq!(read(&open(&disk, fsync()), TID), Err(ReadError::UnknownTransaction));
}

#[test]
fn a_receipt_over_another_number_of_bytes_is_refused() {
    let disk = MemDisk::new();
    let log = open(&disk, fsync());
    let mut results = Vec::new();
    log.append(UnixMillis(0), &[chunk(TID, 0, b"data")], &mut results);
    let receipt = Receipt { revision: 1, bytes: 4, chunks: 1, ..Receipt::default() };
    for bytes in [0, 3, 5] {
        assert_eq!(log.close(TID, &Receipt { bytes, ..receipt }), Err(StoreError::Outdated));
    }
    assert_eq!(log.close(TID, &receipt), Ok(()));
}

#[test]
fn a_damaged_copy_of_a_segment_header_is_reported_and_mended() {
    for byte in [20, 512 + 20] {
        let disk = filled();
        disk.flip_bit(1, byte * 8);
        let reader = Reader::open(&disk).unwrap();
        let kinds =
            |damage: &[mdalp_store::Damage]| damage.iter().map(|d| d.kind).collect::<Vec<_>>();
        assert_eq!(kinds(reader.damage()), [DamageKind::SegmentHeaderCopy]);
        assert_eq!(kinds(&open(&disk, fsync()).recovery().damage), [DamageKind::SegmentHeaderCopy]);
        disk.kill();
        assert_eq!(open(&disk, fsync()).recovery().damage, []);
    }
}

#[test]
fn no_bit_of_a_footer_changes_what_is_held() {
    let disk = filled();
    let before = Reader::open(&disk).unwrap().list().unwrap();
    let end = disk.written(1);
    // Footer and trailer of this segment take less.
    for byte in end - 200..end {
        let disk = disk.fork();
        disk.flip_bit(1, byte * 8 + byte % 8);
        assert_eq!(Reader::open(&disk).unwrap().list().unwrap(), before, "byte {byte}");
        assert_eq!(open(&disk, fsync()).list().unwrap(), before, "byte {byte}");
    }
}

#[test]
fn a_segment_of_another_store_is_left_alone_and_nothing_in_it_counts() {
    let stranger = MemDisk::new();
    let log = open(&stranger, Options { new_store_id: 77, ..fsync() });
    let mut promises = Promises::default();
    (0..50).for_each(|seq| promises.append(&log, 0, &[(9, seq)]));
    let disk = filled();
    let from = stranger.open(1, Access::Read).unwrap();
    let mut bytes = vec![0; from.len().unwrap() as usize];
    from.read_at(&mut bytes, 0).unwrap();
    // Under a number that this store does not use, and that is not the newest.
    let log = open(&disk, fsync());
    log.release(TID, Release::Removed).unwrap();
    let mut promises = Promises::default();
    (0..50).for_each(|seq| promises.append(&log, 0, &[(2, seq)]));
    while log.reclaim() == Ok(true) {}
    drop(log);
    disk.kill();
    let file = disk.create(1).unwrap();
    file.write_at(&bytes, 0).unwrap();
    let reader = Reader::open(&disk).unwrap();
    assert_eq!(reader.damage()[0].kind, DamageKind::Foreign);
    assert_eq!(reader.transaction(TransactionId(9)).unwrap(), None);
    let log = open(&disk, fsync());
    assert_eq!(log.recovery().damage[0].kind, DamageKind::Foreign);
    assert_eq!(log.transaction(TransactionId(9)).unwrap(), None);
    promises.check(&log);
}

#[test]
fn room_is_looked_for_again_while_a_segment_is_written() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(64 << 20));
    let limits = Limits { min_free_for_append: 4 << 20, ..Limits::NONE };
    let settings = Options { limits, segment_bytes: 24 << 20, ..fsync() };
    let log = open(&disk, settings);
    let data = vec![7; 64 << 10];
    let mut results = Vec::new();
    log.append(UnixMillis(0), &[chunk(TID, 0, &data)], &mut results);
    assert!(results[0].is_ok());
    // Somebody else takes the rest of the disk.
    disk.set_capacity(Some(25 << 20));
    let taken = (1..400).take_while(|&seq| {
        log.append(UnixMillis(0), &[chunk(TID, seq, &data)], &mut results);
        results[0].is_ok()
    });
    let taken = taken.count();
    assert!(taken < 140, "{taken} chunks of 64 KiB");
    assert_eq!(results, [Err(AppendError::Full)]);
    disk.set_capacity(None);
    log.append(UnixMillis(0), &[chunk(TID, 900, &data)], &mut results);
    assert!(results[0].is_ok(), "{results:?}");
    let first = log.read(TID, SequenceNumber(900), &mut |_, held| {
        assert_eq!(held, data);
        std::ops::ControlFlow::Break(())
    });
    assert_eq!(first, Ok(()));
}
