//! Who appends, releases and reads while segments are rewritten.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, Weak};

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::conformance::{chunk, put, reclaim};
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::disk::{Access, Disk, RealDisk, Space};
use mdalp_store::{
    AppendError, Appended, Assembled, Query, Reader, Receipt, Release, SegmentLog, State,
    Transactions, UnixMillis, assemble,
};

use crate::remnants::{data, fill, is_whole, small};
use crate::support::open;

/// A disk on which something happens whenever a segment is opened, its draft is made, and that takes
/// its place.
#[derive(Clone)]
pub(crate) struct Watched(pub(crate) MemDisk, pub(crate) Arc<Mutex<Option<Hook>>>);

pub(crate) type Hook = Box<dyn FnMut(&str) + Send>;

impl Watched {
    fn reached(&self, what: &str) {
        // What happens may lead here again.
        let hook = self.1.lock().unwrap().take();
        if let Some(mut hook) = hook {
            hook(what);
            *self.1.lock().unwrap() = Some(hook);
        }
    }
}

impl Disk for Watched {
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
        self.reached("open");
        self.0.open(number, access)
    }
    fn remove(&self, number: u64) -> io::Result<()> {
        self.0.remove(number)
    }
    fn rename(&self, from: u64, to: u64) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn draft(&self, number: u64) -> io::Result<Self::File> {
        self.reached("draft");
        self.0.draft(number)
    }
    fn replace(&self, number: u64) -> io::Result<()> {
        self.reached("replace");
        self.0.replace(number)?;
        self.reached("replaced");
        Ok(())
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
fn appending_releasing_closing_and_reading_go_on_while_a_segment_is_rewritten() {
    for moment in ["draft", "replace", "replaced"] {
        let hook = Arc::new(Mutex::new(None::<Hook>));
        let disk = Watched(MemDisk::new(), Arc::clone(&hook));
        let log = Arc::new(SegmentLog::open(disk.clone(), small()).unwrap());
        fill(&*log, 0..16, 100);
        for tid in 5..16 {
            log.release(TransactionId(tid), Release::Expired).unwrap();
        }
        let weak: Weak<SegmentLog<Watched>> = Arc::downgrade(&log);
        let mut times = 0;
        *hook.lock().unwrap() = Some(Box::new(move |what| {
            if what != moment {
                return;
            }
            let log = weak.upgrade().unwrap();
            assert!((0..3).all(|tid| is_whole(&*log, tid, 100 + if tid == 1 { times } else { 0 })));
            // A chunk that is held, in the segment that is being copied too, and one that is not.
            for seq in 0..100 {
                let repeated = put(&*log, TransactionId(0), seq, &data(0, seq));
                let crc = chunk(TransactionId(0), seq, &data(0, seq)).crc;
                assert_eq!(repeated, Ok(Appended::Duplicate { crc }));
            }
            let new = put(&*log, TransactionId(1), 100 + times, &data(1, 100 + times));
            assert_eq!(new, Ok(Appended::New));
            if times == 0 {
                log.release(TransactionId(3), Release::Removed).unwrap();
                assert_eq!(put(&*log, TransactionId(3), 0, b""), Err(AppendError::Released));
                let done = assemble(&*log, TransactionId(2), &mut io::sink()).unwrap();
                let Assembled { bytes, chunks, blake3 } = done;
                let receipt = Receipt { revision: 1, bytes, chunks, blake3, closed: UnixMillis(0) };
                log.close(TransactionId(2), &receipt).unwrap();
            }
            times += 1;
        }));
        reclaim(&*log);
        *hook.lock().unwrap() = None;
        let late = log.transaction(TransactionId(1)).unwrap().unwrap().chunks - 100;
        assert!(late > 3);
        for crash in [false, true] {
            if crash {
                disk.0.crash(|| 0);
            }
            let log = if crash { open(&disk.0, small()) } else { open(&copy_of(&disk.0), small()) };
            reclaim(&log);
            assert!(
                (0..5)
                    .filter(|tid| *tid != 3)
                    .all(|tid| { is_whole(&log, tid, 100 + if tid == 1 { late } else { 0 }) })
            );
            let state = log.transaction(TransactionId(2)).unwrap().unwrap().state;
            assert_eq!(state, State::Complete);
            let gone = log.transaction(TransactionId(3)).unwrap().map(|one| one.state);
            assert!(matches!(gone, None | Some(State::Removed)));
        }
    }
}

/// What a killed process leaves.
fn copy_of(disk: &MemDisk) -> MemDisk {
    let copy = disk.fork();
    copy.kill();
    copy
}

#[test]
fn who_began_to_read_before_a_rewriting_reads_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::create(dir.path()).unwrap();
    let log = SegmentLog::open(disk.clone(), small()).unwrap();
    fill(&log, 0..16, 200);
    let reader = Reader::open(&disk).unwrap();
    for tid in 1..16 {
        log.release(TransactionId(tid), Release::Expired).unwrap();
    }
    let mut next = 0;
    log.read(TransactionId(0), SequenceNumber(0), &mut |seq, bytes| {
        assert_eq!((seq.0, bytes), (next, &data(0, next)[..]));
        if seq.0 == 3 {
            reclaim(&log);
        }
        next += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(next, 200);
    assert!(is_whole(&log, 0, 200));
    assert!((0..16).all(|tid| is_whole(&reader, tid, 200)), "a snapshot");
    let names = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().ends_with(".new")));
}
