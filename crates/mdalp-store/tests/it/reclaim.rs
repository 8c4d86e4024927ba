//! Giving space back while others look, and when there is none left.

use std::sync::{Arc, Mutex};

use mdalp_proto::ids::TransactionId;
use mdalp_store::conformance::{put, reclaim};
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::disk::{Disk, RealDisk};
use mdalp_store::{
    Appended, Durability, Limits, Options, Query, Reader, Release, SegmentLog, State, Transactions,
};

use crate::beside::{Hook, Watched};
use crate::remnants::{data, fill, is_whole, small};
use crate::support::{open, options};

#[test]
fn a_file_of_somebody_else_does_not_keep_the_store_from_opening() {
    for stray in ["7.new", "+7.new", "00000000000000007.new", "7.seg"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(stray), b"mine").unwrap();
        let log = SegmentLog::open(RealDisk::create(dir.path()).unwrap(), small());
        assert!(log.is_ok(), "{stray}: {:?}", log.err());
        assert_eq!(std::fs::read(dir.path().join(stray)).unwrap(), b"mine");
    }
}

#[test]
fn a_reader_does_not_see_a_released_transaction_as_alive_whenever_space_is_given_back() {
    for when in 0..12 {
        let disk = MemDisk::new();
        let log = Arc::new(open(&disk, small()));
        // The chunks of transaction 1 are in an early segment with something that stays, its release is
        // in a later one with something that stays.
        fill(&*log, 1..2, 60);
        fill(&*log, 0..1, 30);
        fill(&*log, 2..3, 30);
        fill(&*log, 4..5, 60);
        log.release(TransactionId(1), Release::Removed).unwrap();
        log.release(TransactionId(4), Release::Removed).unwrap();
        fill(&*log, 3..4, 120);
        log.release(TransactionId(3), Release::Expired).unwrap();
        let (again, mut opened) = (Arc::clone(&log), 0);
        let hook: Hook = Box::new(move |_| {
            if opened == when {
                reclaim(&*again);
            }
            opened += 1;
        });
        let reader = Reader::open(&Watched(disk, Arc::new(Mutex::new(Some(hook))))).unwrap();
        let seen = reader.transaction(TransactionId(1)).unwrap().map(|one| one.state);
        assert!(matches!(seen, None | Some(State::Removed)), "{when}: {seen:?}");
        assert!(is_whole(&reader, 0, 30) && is_whole(&reader, 2, 30));
    }
}

#[test]
fn f28_a_full_store_gets_room_from_what_is_released_among_what_is_not() {
    const CAPACITY: u64 = 1 << 20;
    const RESERVE: u64 = 64 << 10;
    let disk = MemDisk::new();
    let limits = Limits { min_free_for_append: RESERVE, min_free_for_new: RESERVE, ..Limits::NONE };
    let log = open(&disk, Options { limits, ..options(Durability::Fsync, 64 << 10) });
    disk.set_capacity(Some(CAPACITY));
    let mut seq = 0;
    while (0..16).all(|tid| put(&log, TransactionId(tid), seq, &data(tid, seq)).is_ok()) {
        seq += 1;
    }
    // Somebody else takes what is above the reserve.
    let free = disk.space().unwrap().unwrap().free;
    disk.set_capacity(Some(CAPACITY - free.saturating_sub(RESERVE - 1)));
    for tid in 1..16 {
        log.release(TransactionId(tid), Release::Expired).unwrap();
    }
    reclaim(&log);
    // The last round may have begun with this one.
    assert!(is_whole(&log, 0, seq) || is_whole(&log, 0, seq + 1), "what was not released is there");
    assert_eq!(put(&log, TransactionId(0), seq + 1, b"more"), Ok(Appended::New));
}
