//! A page that cannot be read: it costs what is in its page, which is asked for again, and nothing else.

use std::collections::BTreeSet;

use mdalp_store::disk::mem::MemDisk;
use mdalp_store::disk::{Disk, MANIFEST};
use mdalp_store::{Damage, Query, Reader, SegmentLog, State};

use crate::mending::{Held, all_right, append_all, bytes_of, filled, held, scrub, settings, state};
use crate::support::open;

/// Every page of every file.
fn pages(disk: &MemDisk) -> Vec<(u64, u64)> {
    let names = disk.list().unwrap().into_iter().chain([MANIFEST]);
    let of = |name| (0..bytes_of(disk, name).len() as u64).step_by(4096).map(move |at| (name, at));
    names.flat_map(of).collect()
}

fn count(held: &Held) -> usize {
    held.values().map(BTreeSet::len).sum()
}

/// What is lost is known by its transactions, and all else can be read.
fn is_known(log: &SegmentLog<MemDisk>, before: &Held, found: &[Damage], what: &str) -> usize {
    all_right(log);
    let after = held(log);
    for (tid, seqs) in before {
        let short = after.get(tid).is_none_or(|there| there.len() < seqs.len());
        assert_eq!(state(log, *tid) == Some(State::Damaged), short, "{what}: {tid}");
    }
    let lost = count(before) - count(&after);
    assert!(lost == 0 || !found.is_empty(), "{what}: unnoticed");
    lost
}

/// Sent again it is whole, also for the next process.
fn is_mended(disk: &MemDisk, log: SegmentLog<MemDisk>, before: &Held, what: &str) {
    append_all(&log, before);
    assert_eq!(held(&log), *before, "{what}");
    assert_eq!(all_right(&log), count(before) as u64);
    drop(log);
    disk.kill();
    let log = open(disk, settings());
    assert_eq!(held(&log), *before, "{what}: later");
    assert!(before.keys().all(|tid| state(&log, *tid) != Some(State::Damaged)), "{what}: later");
    assert_eq!(all_right(&log), count(before) as u64);
}

#[test]
fn b2_an_unreadable_page_under_an_open_log_is_struck_out_and_scrubbing_goes_on() {
    let (disk, _) = filled(6);
    let before = held(&Reader::open(&disk).unwrap());
    let mut most = 0;
    // Of the manifest a page that cannot be read cannot be added to either: that ends writing until the next
    // opening.
    for (name, at) in pages(&disk).into_iter().filter(|(name, _)| *name != MANIFEST) {
        let what = format!("segment {name} at {at}");
        let disk = disk.fork();
        let log = open(&disk, settings());
        disk.make_unreadable(name, at);
        // Somebody who reads meanwhile learns of it, and the others are read.
        for &tid in before.keys() {
            let from = mdalp_proto::ids::SequenceNumber(0);
            let mut visit = |_, _: &[u8]| std::ops::ControlFlow::Continue(());
            let _ = log.read(tid, from, &mut visit);
        }
        let found = scrub(&log);
        let lost = is_known(&log, &before, &found, &what);
        most = most.max(lost);
        assert_eq!(scrub(&log), [], "{what}: told once");
        log.verify().unwrap();
        assert_eq!(log.poison(), None, "{what}");
        // The next one knows the same.
        let after = held(&log);
        drop(log);
        disk.kill();
        let log = open(&disk, settings());
        assert_eq!(held(&log), after, "{what}");
        is_mended(&disk, log, &before, &what);
    }
    assert!(most > 0);
}

#[test]
fn b2_a_store_with_an_unreadable_page_can_be_listed_verified_opened_and_mended() {
    let (disk, _) = filled(7);
    let before = held(&Reader::open(&disk).unwrap());
    let mut lossy = 0;
    for (name, at) in pages(&disk) {
        let what = format!("segment {name} at {at}");
        let disk = disk.fork();
        disk.make_unreadable(name, at);
        let reader = Reader::open(&disk).unwrap();
        reader.list().unwrap();
        let seen = reader.check().unwrap();
        let files = disk.list().unwrap();
        let log = open(&disk, settings());
        assert!(files.iter().all(|name| disk.list().unwrap().contains(name)), "{what}: removed");
        let mut found = log.recovery().damage.clone();
        found.extend(scrub(&log));
        let lost = is_known(&log, &before, &found, &what);
        assert!(lost == 0 || !seen.is_empty(), "{what}: not seen by a reader");
        lossy += usize::from(lost > 0);
        is_mended(&disk, log, &before, &what);
    }
    assert!(lossy > 0);
}
