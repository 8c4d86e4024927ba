//! Segment files under each other's names, or under that of the manifest: whatever fails or loses power while
//! they are put in their places, and however little room there is, nothing is lost.

use std::collections::BTreeMap;

use mdalp_store::disk::mem::{Failure, MemDisk, Op};
use mdalp_store::disk::{Disk, MANIFEST};
use mdalp_store::{ChunkLog, Damage, DamageKind, Reader, SegmentLog};

use crate::faults::fates;
use crate::mending::{Held, all_right, bytes_of, filled, held, put, scrub, settings};
use crate::support::open;

/// Gives each of the names the content of the next one.
fn turn(disk: &MemDisk, names: &[u64]) {
    let contents: Vec<_> = names.iter().map(|&name| bytes_of(disk, name)).collect();
    for (at, &name) in names.iter().enumerate() {
        put(disk, name, &contents[(at + 1) % names.len()]);
    }
}

/// No more room than what is there takes.
fn leave_no_room(disk: &MemDisk) {
    let names = disk.list().unwrap().into_iter().chain([MANIFEST]);
    let used = names.map(|name| bytes_of(disk, name).len() as u64).sum();
    disk.set_capacity(Some(used));
}

/// Stores that are in disorder, and what they hold.
fn in_disorder() -> Vec<(MemDisk, Held, Vec<u64>)> {
    let (disk, _) = filled(3);
    let before = held(&Reader::open(&disk).unwrap());
    let all = disk.list().unwrap();
    let written: Vec<_> = all.iter().copied().filter(|&at| disk.written(at) > 1024).collect();
    let (first, second, third) = (written[0], written[1], written[2]);
    let last = *written.last().unwrap();
    let turns: [&[u64]; 5] = [
        &[first, second],
        &[first, second, third],
        &[first, last],
        &[MANIFEST, second],
        &[MANIFEST, first, last],
    ];
    let mut stores = Vec::new();
    for names in turns {
        let disk = disk.fork();
        turn(&disk, names);
        stores.push((disk, before.clone(), names.to_vec()));
    }
    // Under names that nobody has, behind all others.
    let moved = disk.fork();
    moved.rename(first, 40).unwrap();
    moved.rename(MANIFEST, 41).unwrap();
    moved.rename(second, MANIFEST).unwrap();
    moved.sync_dir().unwrap();
    stores.push((moved, before, vec![40, 41]));
    stores
}

fn is_whole(disk: &MemDisk, before: &Held, what: &str) {
    disk.kill();
    assert_eq!(held(&Reader::open(disk).unwrap()), *before, "{what}: read only");
    let log = open(disk, settings());
    assert_eq!(held(&log), *before, "{what}");
    all_right(&log);
}

#[test]
fn b2_exchanged_segments_are_put_in_place_without_room() {
    for (disk, before, names) in in_disorder() {
        leave_no_room(&disk);
        let log = open(&disk, settings());
        assert_eq!(held(&log), before, "{names:?}");
        all_right(&log);
        drop(log);
        disk.kill();
        // Also a manifest is made over nothing.
        let log = open(&disk, settings());
        let is_misplaced = |damage: &&Damage| damage.kind == DamageKind::Misplaced;
        assert_eq!(log.recovery().damage.iter().find(is_misplaced), None, "{names:?}: for good");
        scrub(&log);
        disk.set_capacity(None);
        while log.maintain().unwrap().more {}
        drop(log);
        is_whole(&disk, &before, &format!("{names:?}"));
    }
}

#[test]
fn b2_a_power_cut_at_any_operation_of_putting_segments_in_place_loses_none() {
    for (disk, before, names) in in_disorder() {
        leave_no_room(&disk);
        for at in 0.. {
            let disk = disk.fork();
            disk.inject(Op::Any, at, Failure::PowerCut);
            let opened = SegmentLog::open(disk.clone(), settings());
            if opened.is_ok_and(|log| log.maintain().is_ok()) && !disk.is_dark() {
                assert!(at > 4);
                break;
            }
            for disk in fates(&disk) {
                is_whole(&disk, &before, &format!("{names:?}, cut at {at}"));
                disk.crash(|| 0);
                is_whole(&disk, &before, &format!("{names:?}, cut at {at} and later"));
            }
        }
    }
}

#[test]
fn b2_any_failing_operation_of_putting_segments_in_place_loses_none() {
    for (disk, before, names) in in_disorder() {
        leave_no_room(&disk);
        for failure in [Failure::Io, Failure::NoSpace] {
            for at in 0.. {
                let disk = disk.fork();
                disk.inject(Op::Any, at, failure);
                let operations = disk.operations();
                if let Ok(log) = SegmentLog::open(disk.clone(), settings()) {
                    let _ = log.maintain();
                }
                let reached = disk.operations() - operations > at;
                let what = format!("{names:?}, {failure:?} at {at}");
                // The next process fails as well, at the same place or later.
                disk.kill();
                disk.inject(Op::SyncDir, at % 3, failure);
                drop(SegmentLog::open(disk.clone(), settings()));
                is_whole(&disk, &before, &what);
                disk.crash(|| 0);
                is_whole(&disk, &before, &format!("{what}, then a power cut"));
                if !reached {
                    break;
                }
            }
        }
    }
}

#[test]
fn b2_what_is_in_the_place_of_a_segment_is_kept_under_another_name() {
    let (disk, _) = filled(4);
    let before = held(&Reader::open(&disk).unwrap());
    let names = disk.list().unwrap();
    let (first, second, last) = (names[0], names[1], *names.last().unwrap());
    // The second one is where nobody looks for it, and in its place are a copy of the first, or junk.
    for junk in [bytes_of(&disk, first), vec![7; 5000]] {
        let disk = disk.fork();
        put(&disk, last + 9, &bytes_of(&disk, second));
        put(&disk, second, &junk);
        let log = open(&disk, settings());
        assert_eq!(held(&log), before);
        drop(log);
        let files: BTreeMap<_, _> =
            disk.list().unwrap().into_iter().map(|at| (at, bytes_of(&disk, at))).collect();
        assert!(files.iter().any(|(&name, bytes)| name > last && *bytes == junk));
        is_whole(&disk, &before, "afterwards");
    }
}
