//! The receivers in virtual time, over a store that is a map; the ids are those of the reliability
//! matrix.

use super::*;
use crate::wire::Statement;
use std::collections::BTreeMap;

mod hostile;
mod probe;
mod properties;
mod quotas;

/// A random id, as our orchestrator gives out.
const TID: u64 = 0x1234_5678_9abc_def0;
const CLIENT: &str = "198.51.100.7:40000";
const SECOND: Duration = Duration::from_secs(1);

/// Receivers with a clock and a store that answers at once.
struct World {
    receiver: Receiver,
    now: Instant,
    stored: BTreeMap<(u64, u64), Vec<u8>>,
    refusal: Option<Stored>,
    appends: usize,
}

impl World {
    fn new(config: Config) -> Self {
        Self {
            receiver: Receiver::new(config),
            now: Instant::ZERO,
            stored: BTreeMap::new(),
            refusal: None,
            appends: 0,
        }
    }

    fn store(&mut self, append: &Append, datagram: &[u8]) -> Stored {
        let data = &datagram[append.data.clone()];
        assert_eq!(append.crc, ChunkCrc::of(append.tid, append.seq, data));
        self.appends += 1;
        if let Some(refusal) = self.refusal {
            return refusal;
        }
        if let Some(held) = self.stored.get(&(append.tid.0, append.seq.0)) {
            return Stored::Duplicate { crc: ChunkCrc::of(append.tid, append.seq, held) };
        }
        self.stored.insert((append.tid.0, append.seq.0), data.to_vec());
        Stored::New
    }

    /// Sends one datagram to a receiver and returns its ack.
    fn send_to(&mut self, local: u16, from: &str, datagram: &[u8]) -> Option<Ack> {
        let from = from.parse().unwrap();
        self.receiver.handle_datagram(self.now, Local(local), from, datagram);
        if let Some(append) = self.receiver.poll_append() {
            let stored = self.store(&append, datagram);
            self.receiver.handle_appended(self.now, &append, stored);
        }
        let ack = self.receiver.poll_transmit();
        assert_eq!(self.receiver.poll_transmit(), None, "at most one ack for a datagram");
        ack
    }

    fn send(&mut self, from: &str, datagram: &[u8]) -> Option<Ack> {
        self.send_to(0, from, datagram)
    }

    fn chunk(&mut self, from: &str, tid: u64, seq: u64) -> Option<Ack> {
        self.send(from, &data(tid, seq, b"abc"))
    }

    fn wait(&mut self, time: Duration) -> Vec<Event> {
        let until = self.now + time;
        let mut looks = 0;
        while let Some(at) = self.receiver.poll_timeout().filter(|&at| at <= until) {
            assert!(at > self.now || looks == 0, "a timer that has fired does not fire again");
            self.now = self.now.max(at);
            self.receiver.handle_timeout(self.now);
            looks += 1;
        }
        self.now = until;
        self.events()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.receiver.poll_event()).collect()
    }

    fn count(&self, name: &str) -> u64 {
        self.receiver.counters().iter().find(|&(n, _)| n == name).unwrap().1
    }
}

fn data(tid: u64, seq: u64, data: &[u8]) -> Vec<u8> {
    [format!("Type:2;TID:{tid};SEQ:{seq};DATA:").as_bytes(), data].concat()
}

fn data_with_crc(tid: u64, seq: u64, data: &[u8]) -> Vec<u8> {
    let crc = ChunkCrc::of(TransactionId(tid), SequenceNumber(seq), data).0;
    [format!("Type:2;TID:{tid};SEQ:{seq};CRC:{crc:08x};DATA:").as_bytes(), data].concat()
}

fn text(ack: Option<Ack>) -> String {
    let mut out = vec![];
    ack.inspect(|ack| ack.encode(&mut out));
    String::from_utf8(out).unwrap()
}

fn quiet(tid: u64) -> Event {
    Event::Quiet { tid: TransactionId(tid) }
}

fn idle(tid: u64) -> Event {
    Event::Idle { tid: TransactionId(tid) }
}

#[test]
fn a_chunk_is_acknowledged_when_it_is_stored() {
    let mut world = World::new(Config::default());
    let from = CLIENT.parse().unwrap();
    let datagram = data(3740, 31, b"a;b\n\0\xff");
    world.receiver.handle_datagram(world.now, Local(2), from, &datagram);
    assert_eq!(world.receiver.poll_transmit(), None, "not yet");
    let append = world.receiver.poll_append().unwrap();
    assert_eq!(&datagram[append.data.clone()], b"a;b\n\0\xff");
    world.receiver.handle_appended(world.now, &append, Stored::New);
    let ack = world.receiver.poll_transmit().unwrap();
    assert_eq!((ack.local, ack.to), (Local(2), from));
    assert_eq!(text(Some(ack)), "Type:3;TID:3740;SEQ:31;");
    assert_eq!(world.events(), [Event::Claimed { tid: TransactionId(3740) }]);
}

#[test]
fn f06_f07_duplicates_are_acknowledged_again() {
    let mut world = World::new(Config::default());
    for _ in 0..3 {
        assert!(world.chunk(CLIENT, TID, 0).is_some());
    }
    assert_eq!((world.count("stored"), world.count("duplicates")), (1, 2));
    world.wait(600 * SECOND);
    assert!(world.chunk(CLIENT, TID, 0).is_some(), "forgotten here, not in the store");
    assert_eq!((world.count("stored"), world.count("duplicates")), (1, 3));
}

#[test]
fn b2_what_the_store_has_lost_is_not_acknowledged_from_memory() {
    let mut world = World::new(Config::default());
    for seq in 0..3 {
        world.chunk(CLIENT, TID, seq);
    }
    world.stored.remove(&(TID, 1));
    world.refusal = Some(Stored::Failed);
    assert_eq!(world.chunk(CLIENT, TID, 1), None);
    world.refusal = None;
    assert!(world.chunk(CLIENT, TID, 1).is_some() && world.stored.contains_key(&(TID, 1)));
    assert!(world.chunk(CLIENT, TID, 0).is_some(), "what is still held is acknowledged, too");
}

#[test]
fn f16_nothing_is_lost_by_forgetting_everything() {
    let mut world = World::new(Config::default());
    for seq in 0..10 {
        world.chunk(CLIENT, TID, seq);
    }
    world.receiver = Receiver::new(Config::default());
    world.receiver.adopt(world.now, TransactionId(TID));
    assert_eq!(world.events(), []);
    for seq in 0..12 {
        assert!(world.chunk(CLIENT, TID, seq).is_some());
    }
    assert_eq!((world.count("stored"), world.count("duplicates")), (2, 10));
    assert_eq!(world.events(), [], "an adopted transaction is known");
}

#[test]
fn f28_f30_what_the_store_refuses_is_not_acknowledged_and_can_be_sent_again() {
    let mut world = World::new(Config::default());
    for (refusal, counter) in
        [(Stored::Failed, "drop_not_stored"), (Stored::Crowded, "drop_crowded")]
    {
        world.refusal = Some(refusal);
        assert_eq!(world.chunk(CLIENT, TID, 0), None);
        assert_eq!(world.count(counter), 1);
    }
    world.refusal = None;
    assert!(world.chunk(CLIENT, TID, 0).is_some());
}

#[test]
fn f29_duplicates_of_a_chunk_that_is_being_stored_ask_the_store() {
    let mut world = World::new(Config::default());
    let datagram = data(TID, 0, b"x");
    let from = CLIENT.parse().unwrap();
    let mut waiting = vec![];
    for _ in 0..3 {
        world.receiver.handle_datagram(world.now, Local(0), from, &datagram);
        waiting.extend(world.receiver.poll_append());
    }
    assert_eq!((waiting.len(), world.receiver.poll_transmit()), (3, None));
    // A minute later the disk wakes up.
    assert_eq!(world.wait(60 * SECOND), [Event::Claimed { tid: TransactionId(TID) }]);
    for append in waiting {
        let stored = world.store(&append, &datagram);
        world.receiver.handle_appended(world.now, &append, stored);
        assert!(world.receiver.poll_transmit().is_some());
    }
    assert_eq!((world.count("stored"), world.count("duplicates")), (1, 2));
    assert_eq!(world.wait(20 * SECOND), [Event::Active { tid: TransactionId(TID) }, quiet(TID)]);
}

#[test]
fn a_crc_is_checked_and_that_of_what_is_held_is_returned() {
    let mut world = World::new(Config::default());
    let chunk = data_with_crc(TID, 7, b"first");
    let crc = ChunkCrc::of(TransactionId(TID), SequenceNumber(7), b"first").0;
    let expected = format!("Type:3;TID:{TID};SEQ:7;CRC:{crc:08x};");
    assert_eq!(text(world.send(CLIENT, &chunk)), expected);
    assert_eq!(text(world.send(CLIENT, &chunk)), expected, "also when it is a duplicate");
    // H48: the first bytes win, and the ack says so.
    assert_eq!(text(world.send(CLIENT, &data_with_crc(TID, 7, b"other"))), expected);
    assert_eq!((world.count("conflicts"), world.count("duplicates")), (1, 2));
    // Whoever sends no CRC gets none.
    let plain = format!("Type:3;TID:{TID};SEQ:7;");
    assert_eq!(text(world.send(CLIENT, &data(TID, 7, b"first"))), plain);
    for at in chunk.len() - 5..chunk.len() {
        let mut damaged = chunk.clone();
        damaged[at] ^= 1;
        assert_eq!(world.send(CLIENT, &damaged), None);
    }
    // F10: a digit of the number is covered too.
    let mut damaged = data_with_crc(TID, 8, b"first");
    let at = format!("Type:2;TID:{TID};SEQ:").len();
    damaged[at] = b'9';
    assert_eq!((world.send(CLIENT, &damaged), world.count("drop_crc")), (None, 6));
}

#[test]
fn silence_is_reported_once_until_something_new_comes() {
    let mut world = World::new(Config::default());
    world.chunk(CLIENT, TID, 0);
    world.events();
    assert_eq!(world.wait(9 * SECOND), []);
    world.chunk(CLIENT, TID, 1);
    assert_eq!(world.wait(9 * SECOND), []);
    assert_eq!(world.wait(SECOND), [quiet(TID)]);
    assert_eq!(world.wait(50 * SECOND), []);
    world.chunk(CLIENT, TID, 1);
    assert_eq!(world.wait(50 * SECOND), [], "a duplicate is nothing new");
    world.chunk(CLIENT, TID, 2);
    assert_eq!(world.events(), [Event::Active { tid: TransactionId(TID) }]);
    assert_eq!(world.wait(10 * SECOND), [quiet(TID)]);
    assert_eq!(world.wait(109 * SECOND), []);
    assert_eq!(world.wait(SECOND), [idle(TID)]);
    assert_eq!((world.receiver.transactions(), world.receiver.poll_timeout()), (0, None));
}

#[test]
fn an_early_timeout_does_nothing() {
    let mut world = World::new(Config::default());
    world.chunk(CLIENT, TID, 0);
    world.events();
    let at = world.receiver.poll_timeout();
    world.receiver.handle_timeout(world.now);
    assert_eq!((world.receiver.poll_timeout(), world.events()), (at, vec![]));
}

#[test]
fn a_seal_waits_for_the_chunks_that_it_came_behind() {
    let mut world = World::new(Config { seals: true, ..Config::default() });
    let from = CLIENT.parse().unwrap();
    let mut question = Vec::new();
    let seal = Seal {
        tid: TransactionId(TID),
        statement: Statement { chunks: 1, bytes: 5, blake3: [7; 32] },
        checked: false,
    };
    crate::wire::encode_seal(&mut question, &seal);
    world.receiver.handle_datagram(world.now, Local(0), from, &data(TID, 0, b"first"));
    let append = world.receiver.poll_append().unwrap();
    world.receiver.handle_datagram(world.now, Local(1), from, &question);
    assert_eq!(world.receiver.poll_seal(), None);
    // Nobody else waits for it.
    question.clear();
    crate::wire::encode_seal(&mut question, &Seal { tid: TransactionId(TID + 1), ..seal });
    world.receiver.handle_datagram(world.now, Local(1), from, &question);
    let asked = world.receiver.poll_seal().unwrap();
    assert_eq!(asked.seal.tid, TransactionId(TID + 1));
    world.receiver.handle_appended(world.now, &append, Stored::Failed);
    assert_eq!(world.receiver.poll_seal().map(|asked| asked.seal), Some(seal));
    assert_eq!(world.receiver.poll_seal(), None);
}
