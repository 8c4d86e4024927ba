//! What every engine must do: one suite for all of them, run from the engine's own tests.
//!
//! Does not look inside an engine. What cannot be provoked from outside (a full disk, an engine that
//! cannot be reached) the [`Harness`] provokes, where the engine knows it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;

use mdalp_proto::ids::{SequenceNumber, TransactionId};

use crate::{
    AppendError, AppendResult, Appended, AssembleError, Assembled, ChunkLog as _, NewChunk,
    Query as _, ReadError, Receipt, ReceiverId, ReceiverName, Release, State, Statement, Store,
    StoreError, TransactionInfo, Transactions as _, UnixMillis, assemble, chunk_crc,
};

/// Makes stores of one engine for the suite.
pub trait Harness {
    /// The engine.
    type Store: Store;
    /// A new, empty store.
    fn create(&mut self) -> Self::Store;
    /// Ends a store as a killed process would, and opens what it left.
    fn restart(&mut self, store: Self::Store) -> Self::Store;
    /// Takes away (or gives back) all room; `false` if that cannot be done.
    fn set_full(&mut self, store: &Self::Store, full: bool) -> bool;
    /// Makes the engine fail for good at the next write or unreachable; `false` if that cannot be done.
    fn break_it(&mut self, store: &Self::Store) -> bool;
}

const TID: TransactionId = TransactionId(0x0123_4567_89ab_cdef);
/// Who sent the chunks of this suite.
const SENDER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 9);
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Appends one chunk.
///
/// # Panics
/// If the engine does not give one result.
pub fn put(store: &dyn Store, tid: TransactionId, seq: u64, data: &[u8]) -> AppendResult {
    let mut results = Vec::new();
    store.append(NOW, &[chunk(tid, seq, data)], &mut results);
    assert_eq!(results.len(), 1, "one result for each chunk");
    results[0]
}

/// A chunk of receiver 0.
pub fn chunk(tid: TransactionId, seq: u64, data: &[u8]) -> NewChunk<'_> {
    let seq = SequenceNumber(seq);
    let crc = chunk_crc(tid, seq, data);
    NewChunk { tid, seq, receiver: ReceiverId(0), from: SENDER, crc, data }
}

/// All chunks of a transaction.
pub fn read(
    store: &(impl crate::Query + ?Sized),
    tid: TransactionId,
) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
    let mut chunks = Vec::new();
    store.read(tid, SequenceNumber(0), &mut |seq, data| {
        chunks.push((seq.0, data.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(chunks)
}

/// Gives back all the space that can be given back.
///
/// # Panics
/// If that fails, or does not end.
pub fn reclaim(store: &dyn Store) {
    let mut rounds = 0;
    while store.reclaim().expect("the store works") {
        rounds += 1;
        assert!(rounds < 100_000, "it never ends");
    }
}

/// Runs all of it.
///
/// # Panics
/// At the first thing that is not as it must be.
pub fn run<H: Harness>(harness: &mut H) {
    transactions(harness);
    begun_with_the_first_chunk(harness);
    duplicates_and_conflicts(harness);
    out_of_order_with_a_gap(harness);
    nothing_comes_after_the_stated_end(harness);
    statements(harness);
    released_transactions(harness);
    remnants(harness);
    full(harness);
    broken(harness);
}

fn transactions<H: Harness>(harness: &mut H) {
    let store = harness.create();
    let name = |n: u8| ReceiverName { address: format!("127.0.0.{n}:4650"), name: format!("r{n}") };
    let info = TransactionInfo {
        client: "192.0.2.1:9".into(),
        begun: NOW,
        receivers: vec![name(2), name(3)],
    };
    assert_eq!(store.transaction(TID), Ok(None));
    assert_eq!(store.begin(TID, &info), Ok(()));
    assert_eq!(store.begin(TID, &info), Err(StoreError::AlreadyExists));
    let first = store.declare_receiver(&name(2));
    let second = store.declare_receiver(&name(3));
    assert_ne!(first, second);
    assert_eq!(store.declare_receiver(&name(2)), first);

    let store = harness.restart(store);
    assert_eq!(store.begin(TID, &info), Err(StoreError::AlreadyExists));
    assert_eq!(store.declare_receiver(&name(3)), second);
    assert_eq!(store.receivers(), Ok(vec![name(2), name(3)]));
    let list = store.list().expect("the store works");
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].tid, list[0].state, &list[0].info), (TID, State::Open, &Some(info)));
    assert_eq!((list[0].chunks, list[0].last_append), (0, None));
}

fn begun_with_the_first_chunk<H: Harness>(harness: &mut H) {
    let store = harness.create();
    let info =
        TransactionInfo { client: "192.0.2.1:9".into(), begun: NOW, ..TransactionInfo::default() };
    let (begun, batch) = ([(TID, info.clone())], [chunk(TID, 0, b"first"), chunk(TID, 1, b"next")]);
    let mut results = Vec::new();
    store.append_with(NOW, &begun, &batch, &mut results);
    assert_eq!(results, [Ok(Appended::New), Ok(Appended::New)]);
    let store = harness.restart(store);
    assert_eq!(store.begin(TID, &info), Err(StoreError::AlreadyExists));
    // What is on record stays.
    let other = [(TID, TransactionInfo { client: "192.0.2.2:9".into(), ..info.clone() })];
    store.append_with(NOW, &other, &[chunk(TID, 2, b"")], &mut results);
    assert_eq!(results, [Ok(Appended::New)]);
    let store = harness.restart(store);
    let held = store.transaction(TID).expect("the store works").expect("begun");
    assert_eq!((held.info, held.chunks), (Some(info), 3));
}

fn duplicates_and_conflicts<H: Harness>(harness: &mut H) {
    let store = harness.create();
    let crc = chunk_crc(TID, SequenceNumber(0), b"first");
    let batch = [chunk(TID, 0, b"first"), chunk(TID, 0, b"other"), chunk(TID, 1, b"")];
    let mut results = vec![Err(AppendError::Busy)];
    store.append(NOW, &batch, &mut results);
    let duplicate = Ok(Appended::Duplicate { crc });
    assert_eq!(results, [Ok(Appended::New), duplicate, Ok(Appended::New)]);
    assert_eq!(put(&store, TID, 0, b"other"), duplicate);

    let store = harness.restart(store);
    assert_eq!(put(&store, TID, 0, b"first"), duplicate);
    assert_eq!(read(&store, TID), Ok(vec![(0, b"first".to_vec()), (1, Vec::new())]));
    store.append(NOW, &[], &mut results);
    assert_eq!(results, []);
}

fn out_of_order_with_a_gap<H: Harness>(harness: &mut H) {
    let store = harness.create();
    let other = TransactionId(7);
    for (seq, receiver) in [(30, 2), (10, 0), (0, 1), (31, 2), (20, 0), (1, 1)] {
        let data = [seq as u8; 40];
        let chunk = NewChunk { receiver: ReceiverId(receiver), ..chunk(TID, seq, &data) };
        let mut results = Vec::new();
        store.append(NOW, &[chunk], &mut results);
        assert_eq!(results, [Ok(Appended::New)]);
        assert_eq!(put(&store, other, seq, b"other"), Ok(Appended::New));
    }
    let store = harness.restart(store);
    let summary = store.transaction(TID).expect("works").expect("held");
    assert_eq!(summary.ranges.to_string(), "0-1,10,20,30-31");
    assert_eq!((summary.chunks, summary.bytes), (6, 240));
    let shares: Vec<_> =
        summary.shares.iter().map(|s| (s.receiver.0, s.ranges.to_string())).collect();
    assert_eq!(shares, [(0, "10,20".into()), (1, "0-1".into()), (2, "30-31".into())]);
    let seqs: Vec<_> = read(&store, TID).expect("works").into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, [0, 1, 10, 20, 30, 31]);

    let mut from = Vec::new();
    let mut visit = |seq: SequenceNumber, data: &[u8]| {
        assert_eq!(data, [seq.0 as u8; 40]);
        from.push(seq.0);
        if seq.0 == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert_eq!(store.read(TID, SequenceNumber(2), &mut visit), Ok(()));
    assert_eq!(from, [10, 20], "starts where asked, ends where told");
    let mut sink = Vec::new();
    let missing = assemble(&store, TID, &mut sink);
    assert!(
        matches!(missing, Err(AssembleError::Missing(gap)) if gap.to_string() == "2-9,11-19,21-29")
    );
}

fn nothing_comes_after_the_stated_end<H: Harness>(harness: &mut H) {
    let store = harness.create();
    let receipt = |store: &H::Store, revision| {
        let mut payload = Vec::new();
        let done = assemble(store, TID, &mut payload).expect("without a gap");
        assert_eq!(done.bytes, payload.len() as u64);
        Receipt {
            revision,
            bytes: done.bytes,
            chunks: done.chunks,
            blake3: done.blake3,
            closed: NOW,
        }
    };
    let state = |store: &H::Store| {
        let summary = store.transaction(TID).expect("works").expect("held");
        (summary.state, summary.receipt.map(|receipt| receipt.revision))
    };
    assert_eq!(put(&store, TID, 0, b"early"), Ok(Appended::New));
    let first = receipt(&store, 1);
    assert_eq!(first.blake3, *blake3::hash(b"early").as_bytes());
    assert_eq!(store.close(TransactionId(8), &first), Err(StoreError::UnknownTransaction));
    assert_eq!(store.close(TID, &Receipt { revision: 2, ..first }), Err(StoreError::Outdated));
    assert_eq!(store.close(TID, &first), Ok(()));
    assert_eq!(store.close(TID, &first), Ok(()));
    assert_eq!(state(&store), (State::Complete, Some(1)));
    assert_eq!(store.complete_before(NOW), Ok(Vec::new()));
    assert_eq!(store.complete_before(UnixMillis(NOW.0 + 1)), Ok(vec![TID]));

    let store = harness.restart(store);
    assert_eq!(state(&store), (State::Complete, Some(1)));
    assert!(matches!(put(&store, TID, 0, b"again"), Ok(Appended::Duplicate { .. })));
    assert_eq!(state(&store), (State::Complete, Some(1)), "a duplicate changes nothing");
    assert_eq!(put(&store, TID, 1, b"late"), Err(AppendError::BeyondEnd));
    let later = Receipt { revision: 2, ..first };
    assert_eq!(store.close(TID, &later), Ok(()), "made again, one revision higher");
    let store = harness.restart(store);
    assert_eq!(state(&store), (State::Complete, Some(2)));
}

fn statements<H: Harness>(harness: &mut H) {
    let store = harness.create();
    let summary = |store: &H::Store, tid| store.transaction(tid).expect("works").expect("held");
    let whole = Statement { chunks: 3, bytes: 9, blake3: [7; 32] };
    let state = |store: &H::Store, tid, one: &Statement| store.record_statement(tid, NOW, one);
    assert_eq!(state(&store, TID, &whole), Err(StoreError::UnknownTransaction));
    assert_eq!(put(&store, TID, 1, b"two"), Ok(Appended::New));
    assert_eq!(summary(&store, TID).sender, Some(SENDER));
    let shorter = Statement { chunks: 1, ..whole };
    assert_eq!(state(&store, TID, &shorter), Err(StoreError::Contradicted), "more is held");
    assert_eq!(state(&store, TID, &whole), Ok(()));
    assert_eq!(state(&store, TID, &whole), Ok(()));
    let other = Statement { bytes: 8, ..whole };
    assert_eq!(state(&store, TID, &other), Err(StoreError::Contradicted));

    let store = harness.restart(store);
    assert_eq!(summary(&store, TID).statement, Some(whole));
    assert_eq!(summary(&store, TID).sender, Some(SENDER));
    assert_eq!(summary(&store, TID).state, State::Open, "a share is not the whole");
    assert_eq!(put(&store, TID, 3, b"four"), Err(AppendError::BeyondEnd));
    assert_eq!(put(&store, TID, 0, b"one"), Ok(Appended::New));
    assert_eq!(put(&store, TID, 2, b"end"), Ok(Appended::New));
    let receipt = Receipt { revision: 1, bytes: 9, chunks: 3, blake3: [8; 32], closed: NOW };
    assert_eq!(store.close(TID, &receipt), Err(StoreError::Contradicted));
    let receipt = Receipt { blake3: [7; 32], ..receipt };
    assert_eq!(store.close(TID, &Receipt { bytes: 8, ..receipt }), Err(StoreError::Contradicted));
    assert_eq!(store.close(TID, &receipt), Ok(()));
    assert_eq!(summary(&store, TID).state, State::Complete);

    // A receipt states as well; over another number of bytes than is held there is none.
    let closed = TransactionId(5);
    assert_eq!(put(&store, closed, 0, b"all"), Ok(Appended::New));
    let receipt = Receipt { revision: 1, bytes: 3, chunks: 1, blake3: [1; 32], closed: NOW };
    assert_eq!(store.close(closed, &Receipt { bytes: 4, ..receipt }), Err(StoreError::Outdated));
    assert_eq!(store.close(closed, &receipt), Ok(()));
    assert_eq!(put(&store, closed, 1, b"more"), Err(AppendError::BeyondEnd));

    let empty = TransactionId(6);
    let nothing = Statement { chunks: 0, bytes: 0, blake3: [2; 32] };
    assert_eq!(state(&store, empty, &nothing), Ok(()));
    assert_eq!(store.release(closed, Release::Removed), Ok(()));
    assert_eq!(state(&store, closed, &whole), Err(StoreError::Released));
    let store = harness.restart(store);
    assert_eq!(summary(&store, empty).statement, Some(nothing));
    assert_eq!(summary(&store, TID).state, State::Complete);
}

fn released_transactions<H: Harness>(harness: &mut H) {
    let store = harness.create();
    assert_eq!(put(&store, TID, 0, b"data"), Ok(Appended::New));
    assert_eq!(
        store.release(TransactionId(8), Release::Expired),
        Err(StoreError::UnknownTransaction)
    );
    assert_eq!(store.release(TID, Release::Expired), Ok(()));
    assert_eq!(store.release(TID, Release::Removed), Ok(()));
    assert_eq!(put(&store, TID, 0, b"data"), Err(AppendError::Released));
    assert_eq!(store.close(TID, &Receipt::default()), Err(StoreError::Released));
    assert_eq!(read(&store, TID), Err(ReadError::UnknownTransaction));
    assert_eq!(store.transaction(TID).expect("works").map(|t| t.state), Some(State::Expired));
    reclaim(&store);
    let store = harness.restart(store);
    let state = store.transaction(TID).expect("works").map(|t| t.state);
    assert!(matches!(state, None | Some(State::Expired)), "it may be forgotten, not come back");
}

fn remnants<H: Harness>(harness: &mut H) {
    let store = harness.create();
    let (whole, unfinished) = (TransactionId(3), TransactionId(9));
    let info = TransactionInfo { client: "192.0.2.1:9".into(), begun: NOW, receivers: Vec::new() };
    assert_eq!(store.begin(whole, &info), Ok(()));
    for round in 0..60 {
        let receiver = ReceiverId(round as u16 / 7 % 2);
        let data: Vec<_> = (0..16).map(|tid| [(tid ^ round) as u8; 100]).collect();
        let chunks = (0..16).map(TransactionId).zip(&data).map(|(tid, data)| {
            let seq = if tid == unfinished { 2 * round } else { round };
            NewChunk { receiver, ..chunk(tid, seq, data) }
        });
        let chunks: Vec<_> = chunks.collect();
        let mut results = Vec::new();
        store.append(UnixMillis(NOW.0 + 5000 * round), &chunks, &mut results);
        assert_eq!(results, [Ok(Appended::New); 16]);
    }
    let done = assemble(&store, whole, &mut std::io::sink()).expect("without a gap");
    let Assembled { bytes, chunks, blake3 } = done;
    let receipt = Receipt { revision: 1, bytes, chunks, blake3, closed: NOW };
    assert_eq!(store.close(whole, &receipt), Ok(()));
    let tell = |store: &H::Store| {
        [whole, unfinished].map(|tid| {
            (store.transaction(tid).expect("works").expect("held"), read(store, tid).expect("held"))
        })
    };
    let before = tell(&store);
    assert_eq!((before[0].0.state, before[1].0.state), (State::Complete, State::Open));
    for tid in (0..16).map(TransactionId).filter(|tid| ![whole, unfinished].contains(tid)) {
        assert_eq!(store.release(tid, Release::Expired), Ok(()));
        reclaim(&store);
        assert_eq!(tell(&store), before);
    }
    let store = harness.restart(store);
    reclaim(&store);
    assert_eq!(tell(&store), before);
    for round in 0..60 {
        let repeated = put(&store, unfinished, 2 * round, b"again");
        assert!(matches!(repeated, Ok(Appended::Duplicate { .. })), "{repeated:?}");
    }
    let list = store.list().expect("the store works");
    let alive = list.iter().filter(|one| matches!(one.state, State::Open | State::Complete));
    assert_eq!(alive.count(), 2, "nothing comes back");
}

fn full<H: Harness>(harness: &mut H) {
    let store = harness.create();
    assert_eq!(put(&store, TID, 0, b"held"), Ok(Appended::New));
    if !harness.set_full(&store, true) {
        return;
    }
    let mut held = 1;
    while put(&store, TID, held, &[7; 100]) == Ok(Appended::New) {
        held += 1;
        assert!(held < 10_000_000, "it never gets full");
    }
    assert_eq!(put(&store, TID, held, &[7; 100]), Err(AppendError::Full));
    assert!(matches!(put(&store, TID, 0, b"held"), Ok(Appended::Duplicate { .. })));
    assert_eq!(read(&store, TID).expect("works").len() as u64, held);
    // Releasing needs no room and makes some.
    assert_eq!(store.release(TID, Release::Removed), Ok(()));
    reclaim(&store);
    let other = TransactionId(9);
    assert_eq!(put(&store, other, 0, &[7; 100]), Ok(Appended::New));
    let mut held = 1;
    while put(&store, other, held, &[7; 100]) == Ok(Appended::New) {
        held += 1;
    }
    assert!(harness.set_full(&store, false));
    assert_eq!(put(&store, other, held, &[7; 100]), Ok(Appended::New), "it opens again by itself");
    assert_eq!(store.begin(TransactionId(8), &TransactionInfo::default()), Ok(()));
}

fn broken<H: Harness>(harness: &mut H) {
    let store = harness.create();
    assert_eq!(put(&store, TID, 0, b"held"), Ok(Appended::New));
    if !harness.break_it(&store) {
        return;
    }
    let gone = [Err(AppendError::Poisoned), Err(AppendError::Unavailable)];
    assert!(gone.contains(&put(&store, TID, 1, b"lost")));
    assert!(gone.contains(&put(&store, TID, 2, b"lost")));
    let summary = store.transaction(TID);
    if let Ok(Some(summary)) = summary {
        assert_eq!((summary.chunks, summary.bytes), (1, 4), "nothing that failed counts as held");
    }
    let store = harness.restart(store);
    assert!(matches!(put(&store, TID, 0, b"held"), Ok(Appended::Duplicate { .. })));
    assert!(put(&store, TID, 1, b"lost").is_ok());
}
