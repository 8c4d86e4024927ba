//! Steps over a store in memory: what waits for what.

use super::*;
use crate::disk::mem::MemDisk;
use crate::{ChunkLog as _, Transactions as _};
use crate::{Limits, NewChunk, Options, ReceiverId, SegmentLog, TransactionInfo, chunk_crc};
use mdalp_proto::completion::Retention;
use mdalp_proto::ids::SequenceNumber;
use mdalp_proto::receiver::Local;
use mdalp_proto::wire::{Seal, Verdict};

const WALL: UnixMillis = UnixMillis(1_700_000_000_000);
const LARGE: TransactionId = TransactionId(1);
const SMALL: TransactionId = TransactionId(2);

/// A store with a payload of so many chunks of 1,000 bytes for each transaction.
fn store(payloads: &[(TransactionId, u64)]) -> SegmentLog<MemDisk> {
    let options = Options { segment_bytes: 64 << 10, limits: Limits::NONE, ..Options::new(7) };
    let store = SegmentLog::open(MemDisk::new(), options).unwrap();
    for &(tid, chunks) in payloads {
        store.begin(tid, &TransactionInfo::default()).unwrap();
        for seq in 0..chunks {
            put(&store, tid, seq);
        }
    }
    store
}

fn put(store: &SegmentLog<MemDisk>, tid: TransactionId, seq: u64) {
    let (data, seq) = ([seq as u8; 1000], SequenceNumber(seq));
    let crc = chunk_crc(tid, seq, &data);
    let from = ([192, 0, 2, 1], 9).into();
    let chunk = NewChunk { tid, seq, receiver: ReceiverId(0), from, crc, data: &data };
    let mut results = Vec::new();
    store.append(WALL, &[chunk], &mut results);
    assert!(results[0].is_ok());
}

fn question(tid: TransactionId, chunks: u64) -> SealAsked {
    let payload: Vec<u8> = (0..chunks).flat_map(|seq| [seq as u8; 1000]).collect();
    let blake3 = *blake3::hash(&payload).as_bytes();
    let statement = Statement { chunks, bytes: 1000 * chunks, blake3 };
    let seal = Seal { tid, statement, checked: true };
    SealAsked { local: Local(0), from: ([192, 0, 2, 1], 9).into(), seal, limit: 1200 }
}

fn steps(hash_step: u64) -> Steps {
    let rules = Completion::new(Retention::default(), WALL.0, Instant::ZERO);
    Steps { hash_step, ..Steps::new(rules) }
}

/// Who was answered what, in order.
fn answers(done: &[Done]) -> Vec<(TransactionId, bool)> {
    let answer = |done: &Done| match done {
        Done::Answered(answer) => {
            Some((answer.asked.seal.tid, answer.verdict == Some(Verdict::Complete)))
        }
        other => panic!("{other:?}"),
    };
    done.iter().filter_map(answer).collect()
}

#[test]
fn t17_a_small_payload_is_answered_while_a_large_one_is_hashed() {
    let store = store(&[(LARGE, 400), (SMALL, 3)]);
    let mut steps = steps(10_000);
    let mut done = Vec::new();
    // So much later that the large one has its turn.
    let late = Instant::from_nanos(1_000_000_000);
    steps.ask(&store, Instant::ZERO, question(LARGE, 400), &mut done);
    for _ in 0..5 {
        assert!(steps.step(&store, WALL, &mut done));
    }
    steps.ask(&store, Instant::ZERO, question(SMALL, 3), &mut done);
    while done.is_empty() {
        assert!(steps.step(&store, WALL, &mut done));
    }
    assert_eq!(answers(&done), [(SMALL, true)]);
    // Small ones that keep coming do not keep the large one waiting for ever.
    for _ in 0..100 {
        steps.ask(&store, late, question(SMALL, 3), &mut done);
        steps.step(&store, WALL, &mut done);
        steps.step(&store, WALL, &mut done);
    }
    assert!(answers(&done).contains(&(LARGE, true)));
}

#[test]
fn a_hash_of_steps_is_that_of_the_payload() {
    for hash_step in [1, 999, 1000, 64 << 10, 65_000, 1 << 20] {
        let store = store(&[(LARGE, 200)]);
        let (mut steps, mut done) = (steps(hash_step), Vec::new());
        steps.ask(&store, Instant::ZERO, question(LARGE, 200), &mut done);
        let mut count = 0;
        while steps.step(&store, WALL, &mut done) {
            count += 1;
        }
        assert_eq!(answers(&done), [(LARGE, true)]);
        let whole = 200_000_u64.div_ceil(hash_step.next_multiple_of(1000));
        assert!((whole..=whole + 3).contains(&count), "{count} steps of {hash_step}");
    }
}

#[test]
fn a_chunk_that_comes_while_its_payload_is_hashed_leaves_the_question_without_a_yes() {
    let store = store(&[(LARGE, 20)]);
    let (mut steps, mut done) = (steps(1000), Vec::new());
    steps.ask(&store, Instant::ZERO, question(LARGE, 20), &mut done);
    assert!(steps.step(&store, WALL, &mut done));
    put(&store, LARGE, 20);
    while steps.step(&store, WALL, &mut done) {}
    assert_eq!(answers(&done), [(LARGE, false)]);
}

#[test]
fn b2_a_hash_that_was_begun_before_damage_was_found_says_nothing() {
    let store = store(&[(LARGE, 20)]);
    let (mut steps, mut done) = (steps(1000), Vec::new());
    steps.ask(&store, Instant::ZERO, question(LARGE, 20), &mut done);
    assert!(steps.step(&store, WALL, &mut done) && done.is_empty());
    steps.handle_damage(Some(LARGE));
    while steps.step(&store, WALL, &mut done) {}
    assert_eq!(answers(&done), [(LARGE, false)]);
    steps.ask(&store, Instant::ZERO, question(LARGE, 20), &mut done);
    assert!(steps.step(&store, WALL, &mut done));
    steps.handle_damage(None);
    while steps.step(&store, WALL, &mut done) {}
    assert_eq!(answers(&done), [(LARGE, false), (LARGE, false)]);
    steps.ask(&store, Instant::ZERO, question(LARGE, 20), &mut done);
    while steps.step(&store, WALL, &mut done) {}
    assert_eq!(
        answers(&done),
        [(LARGE, false), (LARGE, false), (LARGE, true)],
        "it is hashed from the beginning"
    );
}
