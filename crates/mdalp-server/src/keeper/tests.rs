//! The keeper's work on a store, without its thread.

use super::*;
use mdalp_proto::completion::{Finding, Reason};
use mdalp_proto::ids::SequenceNumber;
use mdalp_proto::receiver::Local;
use mdalp_proto::time::Instant;
use mdalp_proto::wire::{Seal, Statement, Verdict};
use mdalp_store::disk::Disk;
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::{
    ChunkLog, Limits, NewChunk, Options, Query, SegmentLog, State, TransactionInfo, Transactions,
    UnixMillis, chunk_crc,
};
use std::time::Duration;

/// One that the orchestrator in the same process assigned, and one that it knows nothing of.
const ANNOUNCED: TransactionId = TransactionId(1);
const SHARE: TransactionId = TransactionId(2);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(after: Duration) -> UnixMillis {
    UnixMillis(1_700_000_000_000 + after.as_millis() as u64)
}

fn clock(after: Duration) -> Instant {
    Instant::ZERO + after
}

fn store() -> SegmentLog<MemDisk> {
    let options = Options { segment_bytes: 64 << 10, limits: Limits::NONE, ..Options::new(7) };
    let store = SegmentLog::open(MemDisk::new(), options).unwrap();
    let info = TransactionInfo { begun: at(Duration::ZERO), ..TransactionInfo::default() };
    store.begin(ANNOUNCED, &info).unwrap();
    store
}

fn put(store: &SegmentLog<MemDisk>, tid: TransactionId, seqs: &[u64]) {
    for &seq in seqs {
        let (seq, data) = (SequenceNumber(seq), [seq as u8; 10]);
        let crc = chunk_crc(tid, seq, &data);
        let from = ([192, 0, 2, 1], 9).into();
        let chunk = NewChunk { tid, seq, receiver: ReceiverId(0), from, crc, data: &data };
        let mut results = Vec::new();
        store.append(at(Duration::ZERO), &[chunk], &mut results);
        assert!(results[0].is_ok(), "{results:?}");
    }
}

/// What a sender of so many chunks states.
fn stated(chunks: u64) -> Statement {
    let payload: Vec<u8> = (0..chunks).flat_map(|seq| [seq as u8; 10]).collect();
    Statement { chunks, bytes: 10 * chunks, blake3: *blake3::hash(&payload).as_bytes() }
}

fn steps(keep: Retention) -> Steps {
    Steps::new(Completion::new(keep, at(Duration::ZERO).0, Instant::ZERO))
}

fn rules() -> Steps {
    steps(Retention::default())
}

/// All that a sweep does.
fn sweep(
    store: &SegmentLog<MemDisk>,
    rules: &mut Steps,
    clock: Instant,
    wall: UnixMillis,
) -> Vec<Done> {
    let mut done = Vec::new();
    rules.sweep(store, clock, wall, &mut done);
    while rules.step(store, wall, &mut done) {}
    done
}

fn ask(
    store: &SegmentLog<MemDisk>,
    rules: &mut Steps,
    tid: TransactionId,
    statement: Statement,
) -> (Option<Verdict>, Finding) {
    let seal = Seal { tid, statement, checked: true };
    let from = ([192, 0, 2, 1], 9).into();
    let asked = SealAsked { local: Local(0), from, seal, limit: 1200 };
    let mut done = Vec::new();
    rules.ask(store, Instant::ZERO, asked, &mut done);
    while rules.step(store, at(Duration::ZERO), &mut done) {}
    let mut done = done.into_iter();
    match (done.next(), done.next()) {
        (Some(Done::Answered(answer)), None) => (answer.verdict, answer.found),
        other => panic!("{other:?}"),
    }
}

fn recorded(tid: TransactionId, statement: Statement) -> Verdict {
    Verdict::Recorded(Seal { tid, statement, checked: true }.crc())
}

fn state(store: &SegmentLog<MemDisk>, tid: TransactionId) -> State {
    store.transaction(tid).unwrap().unwrap().state
}

#[test]
fn b1_a_share_is_recorded_and_never_closed_called_unfinished_or_deleted() {
    let store = store();
    let mut rules = rules();
    for (tid, seqs) in [(SHARE, [0, 1]), (TransactionId(3), [4, 5])] {
        put(&store, tid, &seqs);
        let answer = ask(&store, &mut rules, tid, stated(9));
        assert_eq!(answer, (Some(recorded(tid, stated(9))), Finding::Recorded));
        assert_eq!(ask(&store, &mut rules, tid, stated(9)).0, Some(recorded(tid, stated(9))));
        assert!(matches!(inspect(&store, tid), Outcome::Nothing));
    }
    put(&store, TransactionId(4), &[7]);
    assert!(matches!(inspect(&store, TransactionId(4)), Outcome::Over), "no word of a gap");
    let done = sweep(&store, &mut rules, clock(3650 * DAY), at(3650 * DAY));
    let released: Vec<_> = done.iter().map(|done| format!("{done:?}")).collect();
    assert_eq!(released, ["Released(TransactionId(1), Expired)"], "it was never begun");
    assert_eq!(state(&store, SHARE), State::Open);
    assert_eq!(state(&store, TransactionId(4)), State::Open);
}

#[test]
fn t1_what_happens_to_be_there_is_never_closed_as_whole() {
    let store = store();
    put(&store, ANNOUNCED, &[0, 1, 2]);
    assert!(matches!(inspect(&store, ANNOUNCED), Outcome::Over));
    assert_eq!(store.transaction(ANNOUNCED).unwrap().unwrap().receipt, None);
    let (verdict, _) = ask(&store, &mut rules(), ANNOUNCED, stated(5));
    assert_eq!(verdict, Some(Verdict::Missing([3..=4].into_iter().collect())));
    assert_eq!(state(&store, ANNOUNCED), State::Open);
}

#[test]
fn a_payload_is_closed_once_it_is_compared_with_what_its_sender_states() {
    let store = store();
    let mut rules = rules();
    put(&store, ANNOUNCED, &[0, 1, 2]);
    let wrong = Statement { blake3: [9; 32], ..stated(3) };
    assert_eq!(ask(&store, &mut rules, ANNOUNCED, wrong).0, Some(Verdict::Mismatch));
    assert_eq!(state(&store, ANNOUNCED), State::Open);
    let closed = Finding::Closed { revision: 1 };
    let right = ask(&store, &mut rules, ANNOUNCED, stated(3));
    assert_eq!(right, (Some(Verdict::Complete), closed));
    assert_eq!(state(&store, ANNOUNCED), State::Complete);
    let again = ask(&store, &mut rules, ANNOUNCED, stated(3));
    assert_eq!(again, (Some(Verdict::Complete), Finding::Nothing));
    assert_eq!(ask(&store, &mut rules, ANNOUNCED, wrong).0, Some(Verdict::Mismatch));
}

#[test]
fn a_share_that_is_the_whole_is_compared_too() {
    let store = store();
    put(&store, SHARE, &[0, 1]);
    let answer = ask(&store, &mut rules(), SHARE, stated(2));
    assert_eq!(answer, (Some(Verdict::Complete), Finding::Closed { revision: 1 }));
}

#[test]
fn gaps_of_an_assigned_transaction_expire_after_days_and_whole_ones_after_what_is_set() {
    let store = store();
    let keep = Retention { complete: Some(DAY), ..Retention::default() };
    let mut rules = steps(keep);
    put(&store, ANNOUNCED, &[0, 2]);
    put(&store, SHARE, &[0, 1]);
    assert_eq!(ask(&store, &mut rules, SHARE, stated(2)).0, Some(Verdict::Complete));
    let mut released = |after| {
        let done = sweep(&store, &mut rules, clock(after), at(after));
        done.into_iter()
            .map(|done| match done {
                Done::Released(tid, why) => (tid, why),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(released(DAY / 2), []);
    assert_eq!(released(2 * DAY), [(SHARE, Reason::Removed)]);
    assert_eq!(released(6 * DAY), []);
    assert_eq!(released(8 * DAY), [(ANNOUNCED, Reason::Expired)]);
}

#[test]
fn f27_nothing_expires_by_a_calendar_that_was_set() {
    let store = store();
    let mut rules = rules();
    put(&store, ANNOUNCED, &[0, 2]);
    let year = 365 * DAY;
    let done = sweep(&store, &mut rules, clock(DAY), at(year));
    assert!(matches!(done[..], [Done::CalendarSet]), "{done:?}");
    assert_eq!(state(&store, ANNOUNCED), State::Open);
    assert!(sweep(&store, &mut rules, clock(2 * DAY), at(year + DAY)).is_empty());
    let done = sweep(&store, &mut rules, clock(9 * DAY), at(year + 8 * DAY));
    assert_eq!(done.len(), 1, "it is trusted again");
}

#[test]
fn b2_rotten_bytes_are_found_within_a_round_and_then_once_a_day() {
    let disk = MemDisk::new();
    let options = Options { segment_bytes: 64 << 10, limits: Limits::NONE, ..Options::new(7) };
    let store = SegmentLog::open(disk.clone(), options).unwrap();
    put(&store, SHARE, &[0, 1, 2]);
    let mut scrub = Scrub::default();
    let mut round = |from: u64| -> Vec<Damage> {
        let seconds = from..from + 9;
        seconds.flat_map(|at| scrub.turn(&store, Instant::from_millis(1000 * at))).collect()
    };
    assert_eq!(round(1), []);
    let segment = (0..9).max_by_key(|number| disk.written(*number)).unwrap();
    let end = 8 * disk.written(segment);
    (1..20).for_each(|byte| disk.flip_bit(segment, end - 64 * byte));
    assert_eq!(round(60), [], "the round is over");
    let found = round(24 * 3600 + 60);
    assert!(found.iter().any(|one| one.chunk.is_some()), "{found:?}");
}

#[test]
fn b2_between_rounds_a_sealed_segment_is_soon_on_record_and_nothing_is_scrubbed() {
    let disk = MemDisk::new();
    let options = Options { segment_bytes: 4 << 10, limits: Limits::NONE, ..Options::new(7) };
    let store = SegmentLog::open(disk.clone(), options).unwrap();
    let mut scrub = Scrub::default();
    let mut turn = |at: u64| scrub.turn(&store, Instant::from_millis(1000 * at));
    assert_eq!(turn(1), [], "the first round, of an empty store");
    let seqs: Vec<u64> = (0..200).collect();
    put(&store, SHARE, &seqs);
    let first = disk.list().unwrap()[0];
    disk.flip_bit(first, 8 * 1100);
    assert_eq!(turn(2), [], "no step of the next round");
    disk.kill();
    disk.remove(first).unwrap();
    let store = SegmentLog::open(disk, options).unwrap();
    assert_eq!(state(&store, SHARE), State::Damaged);
}
