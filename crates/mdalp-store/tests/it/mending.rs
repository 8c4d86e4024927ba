//! Damage of every kind, by seed: nothing wrong is handed out, nothing goes unnoticed, no good chunk is
//! unreachable, and sending again mends it.

use std::collections::{BTreeMap, BTreeSet};

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_store::conformance::{chunk, read};
use mdalp_store::disk::mem::{Failure, MemDisk, Op};
use mdalp_store::disk::{Access, Disk, DiskFile, MANIFEST};
use mdalp_store::{
    Appended, ChunkLog, Damage, DamageKind, Durability, Options, Query, Reader, SegmentLog, State,
    Statement, Transactions, UnixMillis, assemble,
};

use crate::support::{Promises, choices, open, options, payload};

pub(crate) const SEGMENT: u64 = 8 << 10;

pub(crate) fn settings() -> Options {
    options(Durability::Fsync, SEGMENT)
}

/// One whole round.
pub(crate) fn scrub(log: &SegmentLog<MemDisk>) -> Vec<Damage> {
    let mut damage = Vec::new();
    loop {
        let step = log.maintain().unwrap();
        damage.extend(step.damage);
        if !step.more {
            return damage;
        }
    }
}

pub(crate) type Held = BTreeMap<TransactionId, BTreeSet<u64>>;

pub(crate) fn held(store: &dyn Query) -> Held {
    let list = store.list().unwrap();
    list.iter().map(|one| (one.tid, one.ranges.iter().flatten().collect())).collect()
}

pub(crate) fn bytes_of(disk: &MemDisk, number: u64) -> Vec<u8> {
    let file = disk.open(number, Access::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

pub(crate) fn put(disk: &MemDisk, number: u64, bytes: &[u8]) {
    let file = disk.open(number, Access::Write).or_else(|_| disk.create(number)).unwrap();
    file.set_len(0).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir().unwrap();
}

/// Six transactions over several segments, with statements and one receipt; and the files as they were
/// in the middle.
pub(crate) fn filled(seed: u64) -> (MemDisk, BTreeMap<u64, Vec<u8>>) {
    let disk = MemDisk::new();
    let log = open(&disk, settings());
    let mut next = choices(seed);
    let mut promises = Promises::default();
    promises.declare(&log, 1);
    promises.begin(&log, 1);
    let mut old = BTreeMap::new();
    for round in 0..40 + next() % 30 {
        let chunks: Vec<_> = (1..=6).map(|tid| (tid, round)).collect();
        promises.append(&log, round * 100, &chunks);
        if round == 20 + seed % 9 {
            scrub(&log);
            old = disk.list().unwrap().into_iter().map(|at| (at, bytes_of(&disk, at))).collect();
            old.insert(MANIFEST, bytes_of(&disk, MANIFEST));
        }
        if next().is_multiple_of(8) {
            log.maintain().unwrap();
        }
    }
    for tid in 1..=3 {
        let tid = TransactionId(tid);
        let done = assemble(&log, tid, &mut std::io::sink()).unwrap();
        let statement = Statement { chunks: done.chunks, bytes: done.bytes, blake3: done.blake3 };
        log.record_statement(tid, UnixMillis(9), &statement).unwrap();
    }
    promises.close(&log, 1);
    // Twice: the segment being written is recorded when it has come to rest.
    assert_eq!((scrub(&log), scrub(&log)), (vec![], vec![]));
    drop(log);
    disk.kill();
    (disk, old)
}

/// Damages one file, and says how.
fn damage(disk: &MemDisk, old: &BTreeMap<u64, Vec<u8>>, seed: u64) -> String {
    let mut next = choices(seed);
    let mut files: Vec<u64> = disk.list().unwrap();
    files.retain(|&number| disk.written(number) > 1024);
    if seed % 10 == 8 {
        files.push(MANIFEST);
    }
    let number = files[next() as usize % files.len()];
    let mut bytes = bytes_of(disk, number);
    let used = disk.written(number);
    let at = (next() % used) as usize;
    match seed % 10 {
        0 | 1 => bytes[at] ^= 1 << (next() % 8),
        2 => {
            for _ in 0..20 {
                bytes[(next() % used) as usize] ^= 1 << (next() % 8);
            }
        }
        3 => bytes.truncate(at),
        4 => {
            disk.remove(number).unwrap();
            disk.sync_dir().unwrap();
            return format!("{number} lost");
        }
        5 => bytes.clear(),
        6 => {
            let end = bytes.len().min(at + next() as usize % 3000 + 1);
            bytes[at..end].fill(0);
        }
        7 => match old.get(&number) {
            Some(old) => bytes.clone_from(old),
            None => bytes[1024..].fill(0),
        },
        8 => {
            let other = files[next() as usize % files.len()];
            let content = bytes_of(disk, other);
            put(disk, other, &bytes);
            bytes = content;
        }
        _ => bytes[..1024].fill(0xff),
    }
    put(disk, number, &bytes);
    format!("{number} kind {} at {at} of {used}", seed % 10)
}

/// Every chunk that is handed out has its bytes; says how many there are.
pub(crate) fn all_right(store: &dyn Query) -> u64 {
    let mut count = 0;
    for (tid, held) in held(store) {
        let chunks = read(store, tid).unwrap();
        assert!(chunks.iter().map(|(seq, _)| *seq).eq(held));
        assert!(chunks.iter().all(|(seq, data)| *data == payload(tid, *seq)));
        count += chunks.len() as u64;
    }
    count
}

pub(crate) fn state(store: &dyn Query, tid: TransactionId) -> Option<State> {
    store.transaction(tid).unwrap().map(|one| one.state)
}

pub(crate) fn append_all(log: &SegmentLog<MemDisk>, all: &Held) {
    let mut results = Vec::new();
    for (&tid, seqs) in all {
        for &seq in seqs {
            log.append(UnixMillis(0), &[chunk(tid, seq, &payload(tid, seq))], &mut results);
            assert!(results[0].is_ok(), "{tid} {seq}: {results:?}");
        }
    }
}

#[test]
fn t1_b2_any_damage_is_noticed_named_and_mended_by_sending_again() {
    let mut kinds = BTreeMap::<_, (u32, u32)>::new();
    let stores: Vec<_> = (0..12).map(filled).collect();
    for seed in 0..300 {
        let (disk, old) = &stores[seed as usize / 10 % 12];
        let disk = disk.fork();
        let before = held(&Reader::open(&disk).unwrap());
        let what = damage(&disk, old, seed);
        let what = format!("seed {seed}: segment {what}");
        // Reading only: nothing wrong, and what is not there is known.
        let reader = Reader::open(&disk).unwrap();
        for (tid, _) in held(&reader) {
            let from = SequenceNumber(0);
            let _ = reader.read(tid, from, &mut |seq, data| {
                assert_eq!(data, payload(tid, seq.0), "{what}");
                std::ops::ControlFlow::Continue(())
            });
        }
        let log = open(&disk, settings());
        let mut found = log.recovery().damage.clone();
        found.extend(scrub(&log));
        all_right(&log);
        let after = held(&log);
        let count = |held: &Held| held.values().map(BTreeSet::len).sum::<usize>();
        let lost = count(&before) - count(&after);
        for (tid, seqs) in &before {
            let short = after.get(tid).is_none_or(|there| there.len() < seqs.len());
            assert!(
                !short || state(&log, *tid) == Some(State::Damaged),
                "{what}: {tid} is smaller"
            );
            assert!(short || state(&log, *tid) != Some(State::Damaged), "{what}: {tid} is whole");
        }
        assert!(lost == 0 || !found.is_empty(), "{what}: unnoticed");
        assert!(seed % 10 > 1 || lost <= 1, "{what}: one bit cost {lost} chunks");
        assert!(
            ![8, 9].contains(&(seed % 10)) || lost == 0,
            "{what}: {lost} good chunks unreachable"
        );
        // The next process knows the same, and finds nothing new.
        drop(log);
        disk.kill();
        let log = open(&disk, settings());
        assert_eq!(held(&log), after, "{what}");
        assert_eq!(scrub(&log), [], "{what}");
        append_all(&log, &before);
        assert_eq!(held(&log), before, "{what}");
        for tid in before.keys() {
            assert_ne!(state(&log, *tid), Some(State::Damaged), "{what}: {tid} is mended");
        }
        all_right(&log);
        drop(log);
        disk.kill();
        let log = open(&disk, settings());
        assert_eq!(held(&log), before, "{what}");
        assert!(before.keys().all(|tid| state(&log, *tid) != Some(State::Damaged)), "{what}");
        assert_eq!(all_right(&log), count(&before) as u64);
        let tally = kinds.entry(seed % 10).or_default();
        tally.0 += 1;
        tally.1 += u32::from(lost > 0);
    }
    // All kinds but the last two lose something now and then; else they are no damage.
    assert!(kinds.iter().all(|(kind, (_, lost))| (*lost > 5) == (*kind < 8)), "{kinds:?}");
}

#[test]
fn b2_a_duplicate_of_a_damaged_chunk_is_kept_anew_at_once() {
    let (disk, _) = filled(3);
    let number = disk.list().unwrap()[0];
    let log = open(&disk, settings());
    // The data of some chunk in a sealed segment, under the open log.
    let bytes = bytes_of(&disk, number);
    let (tid, seq) = (TransactionId(2), 4);
    let data = payload(tid, seq);
    let at = bytes.windows(data.len()).position(|window| window == data).unwrap() as u64;
    disk.flip_bit(number, at * 8 + 3);
    let mut results = Vec::new();
    log.append(UnixMillis(0), &[chunk(tid, seq, &data)], &mut results);
    assert_eq!(results, [Ok(Appended::New)], "the copy that was held was not intact");
    log.append(UnixMillis(0), &[chunk(tid, seq, &data)], &mut results);
    assert!(matches!(results[0], Ok(Appended::Duplicate { .. })));
    let told = log.maintain().unwrap().damage;
    let expected = (number, DamageKind::Body, Some((tid, SequenceNumber(seq))));
    assert_eq!(told.iter().map(|d| (d.segment, d.kind, d.chunk)).collect::<Vec<_>>(), [expected]);
    all_right(&log);
    disk.kill();
    all_right(&open(&disk, settings()));
}

#[test]
fn b2_reading_a_damaged_chunk_strikes_it_out() {
    let (disk, _) = filled(5);
    let log = open(&disk, settings());
    let (tid, seq) = (TransactionId(4), 7);
    let data = payload(tid, seq);
    let number = disk.list().unwrap()[0];
    let bytes = bytes_of(&disk, number);
    let at = bytes.windows(data.len()).position(|window| window == data).unwrap() as u64;
    disk.flip_bit(number, at * 8);
    assert!(read(&log, tid).is_err());
    assert_eq!(state(&log, tid), Some(State::Damaged));
    let chunks = read(&log, tid).unwrap();
    assert!(chunks.iter().all(|(held, _)| *held != seq), "the others can be read");
}

/// The last record has rotten, its segment is sealed because of that, and the disk fails twice meanwhile.
#[test]
fn i31_a_chunk_that_is_lost_keeps_its_name_when_the_footer_that_told_it_is_cut_short() {
    const TID: TransactionId = TransactionId(1);
    for (write, sync) in (0..12).flat_map(|write| (0..24).map(move |sync| (write, sync))) {
        let disk = MemDisk::new();
        let log = open(&disk, settings());
        for seq in 0..5 {
            log.append(UnixMillis(1), &[chunk(TID, seq, &[9; 100])], &mut Vec::new());
        }
        let segment = disk.list().unwrap()[0];
        // The last bytes of two chunks.
        for record in [0, 3] {
            disk.flip_bit(segment, (disk.written(segment) - record * 132 - 1) * 8);
        }
        disk.inject(Op::Write, write, Failure::Short(70));
        disk.inject(Op::SyncData, sync, Failure::Io);
        // Two rounds: the second finds the footer that was cut short, and writes another one.
        for _ in 0..8 {
            if log.maintain().is_err() {
                break;
            }
        }
        drop(log);
        for fate in [0, u64::MAX] {
            let disk = disk.fork();
            disk.crash(|| fate);
            let log = open(&disk, settings());
            let found = log.recovery();
            let is_named =
                found.damage.iter().any(|one| one.chunk == Some((TID, SequenceNumber(4))));
            let is_cut = !found.torn.is_empty();
            assert!(is_named || is_cut, "{write} {sync} {fate} {found:?}");
            assert_eq!(held(&log)[&TID].len(), 3, "{write} {sync} {fate}");
        }
    }
}
