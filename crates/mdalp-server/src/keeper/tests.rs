//! What the keeper does with a store on a disk in memory.

use super::*;
use mdalp_proto::ids::SequenceNumber;
use mdalp_proto::wire::Statement;
use mdalp_store::disk::mem::MemDisk;
use mdalp_store::{
    AppendResult, Limits, NewChunk, Options, Query, SegmentLog, TransactionInfo, Transactions,
    chunk_crc,
};

const HOUR: Duration = Duration::from_secs(3600);
const QUIET: Duration = Duration::from_secs(10);
const ANNOUNCED: TransactionId = TransactionId(1);
const UNKNOWN: TransactionId = TransactionId(2);
const UNBEGUN: TransactionId = TransactionId(3);

fn at(time: Duration) -> UnixMillis {
    UnixMillis(1_000_000_000_000 + time.as_millis() as u64)
}

fn append(store: &dyn Store, tid: TransactionId, seqs: &[u64]) {
    let data = b"0123456789";
    let chunks: Vec<_> = seqs
        .iter()
        .map(|&seq| {
            let (seq, receiver) = (SequenceNumber(seq), ReceiverId(0));
            NewChunk { tid, seq, receiver, crc: chunk_crc(tid, seq, data), data }
        })
        .collect();
    let mut results = vec![];
    store.append(at(Duration::ZERO), &chunks, &mut results);
    assert!(results.iter().all(Result::is_ok));
}

/// Three transactions at time zero: two with a gap, of which one was announced; one without chunks.
fn store() -> SegmentLog<MemDisk> {
    store_with(Limits::NONE)
}

fn store_with(limits: Limits) -> SegmentLog<MemDisk> {
    let options = Options { limits, ..Options::new(7) };
    let store = SegmentLog::open(MemDisk::default(), options).unwrap();
    let info = TransactionInfo { begun: at(Duration::ZERO), ..TransactionInfo::default() };
    store.declare_receiver(&ReceiverName::default()).unwrap();
    store.begin(ANNOUNCED, &info).unwrap();
    store.begin(UNBEGUN, &info).unwrap();
    append(&store, ANNOUNCED, &[0, 2]);
    append(&store, UNKNOWN, &[0, 2, 5]);
    store
}

fn swept(store: &dyn Store, now: Duration, trusted: Duration) -> (Vec<u64>, Vec<u64>) {
    let swept = sweep(store, KeepConfig::default(), QUIET, at(now), trusted);
    assert!(swept.removed.is_empty() && !swept.more, "kept for ever by default");
    let closed = swept.closed.into_iter().map(|(tid, _)| tid.0).collect();
    (closed, swept.expired.into_iter().map(|tid| tid.0).collect())
}

#[test]
fn what_has_gaps_stays_open_and_they_are_named() {
    let store = store();
    let Outcome::Gaps(gaps) = inspect(&store, UNKNOWN) else { panic!() };
    assert_eq!(gaps.to_string(), "1,3-4");
    assert_eq!(store.transaction(UNKNOWN).unwrap().unwrap().state, State::Open);
    assert!(matches!(inspect(&store, UNBEGUN), Outcome::Nothing));
    assert!(matches!(inspect(&store, TransactionId(99)), Outcome::Nothing));
}

#[test]
fn what_is_whole_is_closed_once_and_again_after_a_late_chunk() {
    let store = store();
    append(&store, ANNOUNCED, &[1]);
    let Outcome::Closed(receipt) = inspect(&store, ANNOUNCED) else { panic!() };
    assert_eq!((receipt.revision, receipt.chunks, receipt.bytes), (1, 3, 30));
    assert_eq!(receipt.blake3, *blake3::hash(&b"0123456789".repeat(3)).as_bytes());
    assert!(matches!(inspect(&store, ANNOUNCED), Outcome::Nothing));
    append(&store, ANNOUNCED, &[3]);
    let Outcome::Closed(receipt) = inspect(&store, ANNOUNCED) else { panic!() };
    assert_eq!((receipt.revision, receipt.chunks), (2, 4));
}

#[test]
fn a_sweep_closes_what_is_whole_and_silent() {
    let store = store();
    append(&store, UNKNOWN, &[1, 3, 4]);
    assert_eq!(swept(&store, QUIET / 2, QUIET / 2), (vec![], vec![]));
    assert_eq!(swept(&store, QUIET, QUIET), (vec![2], vec![]));
}

#[test]
fn unfinished_transactions_are_released_after_their_time() {
    let store = store();
    assert_eq!(swept(&store, UNCLAIMED, UNCLAIMED), (vec![], vec![3]));
    assert_eq!(swept(&store, HOUR.saturating_sub(QUIET), HOUR), (vec![], vec![]));
    assert_eq!(swept(&store, HOUR, HOUR), (vec![], vec![2]));
    assert_eq!(swept(&store, (24 * HOUR).saturating_sub(QUIET), 24 * HOUR), (vec![], vec![]));
    assert_eq!(swept(&store, 24 * HOUR, 24 * HOUR), (vec![], vec![1]));
}

#[test]
fn f27_a_calendar_that_leaps_releases_nothing() {
    let store = store();
    let mut calendar = Calendar { since: at(Duration::ZERO), clock: Duration::ZERO };
    assert_eq!(calendar.trusted(at(HOUR), HOUR), HOUR);
    for year in [10, 0, 5] {
        let now = at(HOUR * 24 * 365 * year + 2 * HOUR);
        let trusted = calendar.trusted(now, 2 * HOUR);
        assert_eq!(trusted, Duration::ZERO, "{year}");
        assert_eq!(swept(&store, HOUR * 24 * 365 * year, trusted), (vec![], vec![]));
    }
    // From then on it counts again.
    let later = at(HOUR * 24 * 365 * 5 + 3 * HOUR);
    assert_eq!(calendar.trusted(later, 3 * HOUR), HOUR);
}

const CROWDED: Duration = Duration::from_secs(180);

#[test]
fn h49_a_crowd_of_gaps_hurries_those_that_have_them() {
    let store = store_with(Limits { ranges: 40, ..Limits::NONE });
    append(&store, TransactionId(4), &(0..41).map(|n| 2 * n).collect::<Vec<_>>());
    let early = CROWDED.saturating_sub(Duration::from_millis(1));
    assert_eq!(swept(&store, early, HOUR), (vec![], vec![]));
    // Not by the calendar alone.
    assert_eq!(swept(&store, 24 * HOUR, early), (vec![], vec![]));
    assert_eq!(swept(&store, CROWDED, CROWDED), (vec![], vec![4]));
    // Others have their time: few gaps take nothing away, and now there is room.
    assert_eq!(swept(&store, HOUR.saturating_sub(QUIET), HOUR), (vec![], vec![3]));
    assert_eq!(swept(&store, HOUR, HOUR), (vec![], vec![2]));
}

#[test]
fn h46_a_crowd_of_transactions_hurries_those_that_nobody_announced() {
    let store = store_with(Limits { unannounced: 2, ..Limits::NONE });
    append(&store, TransactionId(4), &[1]);
    let early = CROWDED.saturating_sub(Duration::from_millis(1));
    assert_eq!(swept(&store, early, HOUR), (vec![], vec![]));
    assert_eq!(swept(&store, CROWDED, CROWDED), (vec![], vec![2, 4]));
    assert_eq!(swept(&store, HOUR, HOUR), (vec![], vec![3]));
}

#[test]
fn patience_shrinks_as_the_store_fills_and_not_below_what_is_safe() {
    let at = |transactions, ranges| {
        hurried(HOUR, FEW_RANGES + 1, Crowding { transactions, ranges }).as_secs()
    };
    assert_eq!([at(0, 0), at(500, 500), at(500, 0)], [3600; 3]);
    assert_eq!([at(750, 0), at(0, 750)], [1890; 2]);
    assert_eq!([at(1000, 0), at(0, 1000), at(5000, 0)], [180; 3]);
    let full = Crowding { transactions: 1000, ranges: 1000 };
    assert_eq!(hurried(QUIET, 99, full), QUIET, "who asked for less gets it");
}

#[test]
fn complete_transactions_are_removed_after_their_time_some_at_once() {
    let store = store();
    let count = REMOVED as u64 + 10;
    let receipt = Receipt { revision: 1, bytes: 10, chunks: 1, ..Receipt::default() };
    for n in 0..count {
        let tid = TransactionId(100 + n);
        append(&store, tid, &[0]);
        store.close(tid, &Receipt { closed: at(Duration::from_secs(n)), ..receipt }).unwrap();
    }
    let keep = KeepConfig { complete: Some(HOUR), ..KeepConfig::default() };
    let removed = |now, trusted| {
        let swept = sweep(&store, keep, QUIET, at(now), trusted);
        (swept.removed.len(), swept.more)
    };
    assert_eq!(removed(HOUR, 9 * HOUR), (0, false));
    assert_eq!(removed(HOUR + Duration::from_secs(5), 9 * HOUR), (5, false));
    // F27: a calendar that was set to another year throws nothing away.
    assert_eq!(removed(9999 * HOUR, HOUR / 2), (0, false));
    assert_eq!(removed(2 * HOUR, HOUR), (REMOVED, true));
    assert_eq!(removed(2 * HOUR, HOUR), (count as usize - REMOVED - 5, false));
    let state = |n| store.transaction(TransactionId(100 + n)).unwrap().unwrap().state;
    assert!((0..count).all(|n| state(n) == State::Removed));
}

/// A store whose transactions another keeper closes just before this one does.
struct Contested(SegmentLog<MemDisk>);

impl mdalp_store::ChunkLog for Contested {
    fn append(&self, now: UnixMillis, batch: &[NewChunk<'_>], results: &mut Vec<AppendResult>) {
        self.0.append(now, batch, results);
    }
    fn durability(&self) -> mdalp_store::Durability {
        self.0.durability()
    }
}

impl Transactions for Contested {
    fn begin(&self, tid: TransactionId, info: &TransactionInfo) -> Result<(), StoreError> {
        self.0.begin(tid, info)
    }
    fn declare_receiver(&self, receiver: &ReceiverName) -> Result<ReceiverId, StoreError> {
        self.0.declare_receiver(receiver)
    }
    fn close(&self, tid: TransactionId, receipt: &Receipt) -> Result<(), StoreError> {
        let earlier = UnixMillis(receipt.closed.0 - 1);
        self.0.close(tid, &Receipt { closed: earlier, ..*receipt })?;
        self.0.close(tid, receipt)
    }
    fn release(&self, tid: TransactionId, why: Release) -> Result<(), StoreError> {
        self.0.release(tid, why)
    }
    fn reclaim(&self) -> Result<bool, StoreError> {
        self.0.reclaim()
    }
}

impl Query for Contested {
    fn list(&self) -> Result<Vec<TransactionSummary>, ReadError> {
        self.0.list()
    }
    fn transaction(&self, tid: TransactionId) -> Result<Option<TransactionSummary>, ReadError> {
        self.0.transaction(tid)
    }
    fn receivers(&self) -> Result<Vec<ReceiverName>, ReadError> {
        self.0.receivers()
    }
    fn read(
        &self,
        tid: TransactionId,
        from: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> std::ops::ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.0.read(tid, from, visit)
    }
}

#[test]
fn a_seal_is_answered_although_another_keeper_closed_the_transaction_meanwhile() {
    let store = Contested(store());
    append(&store, ANNOUNCED, &[1]);
    let payload = b"0123456789".repeat(3);
    let (chunks, bytes) = (3, payload.len() as u64);
    let statement = Statement { chunks, bytes, blake3: *blake3::hash(&payload).as_bytes() };
    let asked = Seal { tid: ANNOUNCED, statement, checked: false };
    let sealed = seal(&store, &asked);
    assert!(matches!(sealed, Sealed::Answer(Verdict::Complete, None)), "{sealed:?}");
}
