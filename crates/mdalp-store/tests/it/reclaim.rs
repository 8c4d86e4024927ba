//! Giving space back while others look, and when there is none left.

use std::io;
use std::sync::{Arc, Mutex};

use mdalp_proto::ids::TransactionId;
use mdalp_store::conformance::{put, reclaim};
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::disk::{Access, Disk, RealDisk, Space};
use mdalp_store::{
    Appended, Durability, Limits, Options, Query, Reader, Release, SegmentLog, State, Transactions,
};

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

type Hook = Arc<Mutex<dyn FnMut() + Send>>;

/// A disk on which something happens whenever a file is opened.
#[derive(Clone)]
struct OnOpen(MemDisk, Hook);

impl Disk for OnOpen {
    type File = <MemDisk as Disk>::File;
    type Lock = <MemDisk as Disk>::Lock;

    fn lock(&self) -> io::Result<Self::Lock> {
        self.0.lock()
    }
    fn list(&self) -> io::Result<Vec<u64>> {
        self.0.list()
    }
    fn create(&self, number: u64) -> io::Result<Self::File> {
        self.0.create(number)
    }
    fn open(&self, number: u64, access: Access) -> io::Result<Self::File> {
        (self.1.lock().unwrap())();
        self.0.open(number, access)
    }
    fn remove(&self, number: u64) -> io::Result<()> {
        self.0.remove(number)
    }
    fn draft(&self, number: u64) -> io::Result<Self::File> {
        self.0.draft(number)
    }
    fn replace(&self, number: u64) -> io::Result<()> {
        self.0.replace(number)
    }
    fn discard_drafts(&self) -> io::Result<()> {
        self.0.discard_drafts()
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
    fn space(&self) -> io::Result<Option<Space>> {
        self.0.space()
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
        let hook = move || {
            if opened == when {
                reclaim(&*again);
            }
            opened += 1;
        };
        let reader = Reader::open(&OnOpen(disk, Arc::new(Mutex::new(hook)))).unwrap();
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
