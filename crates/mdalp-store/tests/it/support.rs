//! What several tests share.

use mdalp_store::disk::mem::MemDisk;
use mdalp_store::{Durability, Limits, Options, SegmentLog};

/// Small segments, nothing left free.
pub(crate) fn options(durability: Durability, segment_bytes: u64) -> Options {
    Options { durability, segment_bytes, limits: Limits::NONE, ..Options::new(0x5eed) }
}

pub(crate) fn open(disk: &MemDisk, options: Options) -> SegmentLog<MemDisk> {
    SegmentLog::open(disk.clone(), options).unwrap()
}
