//! The conformance suite on the embedded engine: in memory and on a real directory.

use std::path::PathBuf;

use mdalp_store::conformance::{Harness, run};
use mdalp_store::disk::RealDisk;
use mdalp_store::disk::mem::{Failure, MemDisk, Op};
use mdalp_store::{Durability, Options, SegmentLog};

use crate::support::{open, options};

struct Memory(Options, MemDisk);

impl Harness for Memory {
    type Store = SegmentLog<MemDisk>;

    fn create(&mut self) -> Self::Store {
        self.1 = MemDisk::new();
        open(&self.1, self.0)
    }

    fn restart(&mut self, store: Self::Store) -> Self::Store {
        match self.0.durability {
            Durability::Fsync => self.1.crash(|| 0),
            Durability::Process => self.1.kill(),
        }
        drop(store);
        open(&self.1, self.0)
    }

    fn set_full(&mut self, _: &Self::Store, full: bool) -> bool {
        self.1.set_capacity(full.then_some(self.0.segment_bytes * 5 / 2));
        true
    }

    fn break_it(&mut self, _: &Self::Store) -> bool {
        self.1.inject(Op::Any, 0, Failure::Io);
        true
    }
}

struct Directory(Options, tempfile::TempDir, u32);

impl Directory {
    fn path(&self) -> PathBuf {
        self.1.path().join(self.2.to_string())
    }
}

impl Harness for Directory {
    type Store = SegmentLog<RealDisk>;

    fn create(&mut self) -> Self::Store {
        self.2 += 1;
        SegmentLog::open(RealDisk::create(self.path()).unwrap(), self.0).unwrap()
    }

    fn restart(&mut self, store: Self::Store) -> Self::Store {
        drop(store);
        SegmentLog::open(RealDisk::open(self.path()).unwrap(), self.0).unwrap()
    }

    fn set_full(&mut self, _: &Self::Store, _: bool) -> bool {
        false
    }

    fn break_it(&mut self, _: &Self::Store) -> bool {
        false
    }
}

#[test]
fn the_segment_log_in_memory_conforms() {
    for durability in [Durability::Fsync, Durability::Process] {
        for segment_bytes in [4 << 10, 64 << 10] {
            run(&mut Memory(options(durability, segment_bytes), MemDisk::new()));
        }
    }
}

#[test]
fn the_segment_log_in_a_directory_conforms() {
    for durability in [Durability::Fsync, Durability::Process] {
        let dir = tempfile::tempdir().unwrap();
        run(&mut Directory(options(durability, 4 << 10), dir, 0));
    }
}
