//! The orchestrator in virtual time; the ids are those of the reliability matrix.

use super::*;
use crate::wire::Capabilities;
use crate::wire::list::{Entry, parse};

mod health;
mod hostile;
mod nonces;
mod properties;

pub(super) const CLIENT: &str = "198.51.100.7:40000";

pub(super) fn entries(count: u8, name: &str, caps: &str) -> Vec<Entry> {
    let entry = |n| Entry {
        ip: [10, 0, 0, n].into(),
        name: format!("{name}{n}"),
        caps: Capabilities::parse(caps),
    };
    (1..=count).map(entry).collect()
}

/// An orchestrator with a clock, and ids 1, 2, 3 …
pub(super) struct World {
    pub(super) orchestrator: Orchestrator,
    pub(super) now: Instant,
}

impl World {
    pub(super) fn new(config: Config) -> Self {
        let mut last = 0;
        let random = move || {
            last += 1;
            last
        };
        Self { orchestrator: Orchestrator::new(config, Box::new(random)), now: Instant::ZERO }
    }

    pub(super) fn three() -> Self {
        Self::new(Config::new(entries(3, "R", "")))
    }

    pub(super) fn wait(&mut self, time: Duration) -> &mut Self {
        let until = self.now + time;
        while let Some(at) = self.orchestrator.poll_timeout().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.orchestrator.handle_timeout(self.now);
        }
        self.now = until;
        self
    }

    pub(super) fn send(&mut self, from: &str, bytes: &[u8]) -> Vec<Transmit> {
        self.orchestrator.handle_datagram(self.now, from.parse().unwrap(), bytes);
        self.sent()
    }

    pub(super) fn intent(&mut self, from: &str) -> Vec<Transmit> {
        self.send(from, b"Type:0;")
    }

    pub(super) fn sent(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.orchestrator.poll_transmit()).collect()
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.orchestrator.poll_event()).collect()
    }

    fn count(&self, name: &str) -> u64 {
        self.orchestrator.counters().iter().find(|&(n, _)| n == name).unwrap().1
    }
}

pub(super) fn padded(len: usize) -> Vec<u8> {
    let mut bytes = b"Type:0;PAD:".to_vec();
    bytes.resize(len - 1, b'x');
    bytes.push(b';');
    bytes
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_intent_gets_the_list_in_the_original_spelling() {
    let mut world = World::three();
    let sent = world.intent(CLIENT);
    let expected = "Type:1;TID:1;DATA:[{'ip_address': '10.0.0.1', 'name': 'R1'}, \
        {'ip_address': '10.0.0.2', 'name': 'R2'}, {'ip_address': '10.0.0.3', 'name': 'R3'}]";
    assert_eq!(sent.len(), 1);
    assert_eq!(String::from_utf8(sent[0].datagram.clone()).unwrap(), expected);
    let (from, tid) = (CLIENT.parse().unwrap(), TransactionId(1));
    let assigned = Event::Assigned { tid, to: from, receivers: [0, 1, 2].into() };
    assert_eq!(world.events(), [Event::Queued { from, position: 1 }, assigned]);
}

#[test]
fn f20_the_same_assignment_again_until_it_is_claimed() {
    let mut world = World::three();
    let first = world.intent(CLIENT);
    for _ in 0..3 {
        assert_eq!(world.wait(30 * SECOND).intent(CLIENT), first);
    }
    assert_eq!(world.orchestrator.live(), 1);
    world.orchestrator.transaction_claimed(world.now, TransactionId(1));
    let second = world.intent(CLIENT);
    assert_eq!(
        second[0].tid,
        Some(TransactionId(2)),
        "a client with a fixed port sends its next file"
    );
    assert_eq!(world.orchestrator.live(), 2);
}

#[test]
fn f20_a_lapsed_assignment_is_not_repeated() {
    let mut world = World::three();
    world.intent(CLIENT);
    world.events();
    let again = world.wait(120 * SECOND).intent(CLIENT);
    assert_eq!(again[0].tid, Some(TransactionId(2)));
    let lapsed = Event::Expired { tid: TransactionId(1), claimed: false };
    assert_eq!(world.events()[0], lapsed);
}

#[test]
fn f20_a_waiting_intent_has_one_place() {
    let config = Config { concurrency: Some(1), ..Config::new(entries(3, "R", "")) };
    let mut world = World::new(config);
    world.intent("198.51.100.7:1");
    for _ in 0..5 {
        assert_eq!(world.wait(3 * SECOND).intent("198.51.100.7:2"), []);
    }
    assert_eq!(world.orchestrator.queued(), 1);
    world.orchestrator.transaction_ended(world.now, TransactionId(1));
    assert_eq!(world.sent().len(), 1);
    assert_eq!(world.orchestrator.queued(), 0);
}

#[test]
fn f20_a_standalone_orchestrator_repeats_for_ten_seconds() {
    let mut world = World::new(Config::standalone(entries(3, "R", "")));
    let first = world.intent(CLIENT);
    assert_eq!(world.wait(Duration::from_millis(9_999)).intent(CLIENT), first);
    let second = world.wait(Duration::from_millis(1)).intent(CLIENT);
    assert_eq!(second[0].tid, Some(TransactionId(2)));
}

#[test]
fn intents_are_served_in_order_of_arrival() {
    let config = Config { concurrency: Some(1), ..Config::new(entries(3, "R", "")) };
    let mut world = World::new(config);
    let clients: Vec<_> = (1..=9).map(|n| format!("198.51.100.{n}:7")).collect();
    for client in &clients {
        world.intent(client);
    }
    let mut served = vec![];
    for tid in 1..9 {
        world.orchestrator.transaction_claimed(world.now, TransactionId(tid));
        world.wait(SECOND);
        world.orchestrator.transaction_ended(world.now, TransactionId(tid));
        served.extend(world.sent().into_iter().map(|t| t.to.to_string()));
    }
    assert_eq!(served, clients[1..]);
}

#[test]
fn a_slot_is_held_while_a_transaction_is_active() {
    let config =
        Config { concurrency: Some(1), hold: 60 * SECOND, ..Config::new(entries(3, "R", "")) };
    let mut world = World::new(config);
    world.intent("198.51.100.1:7");
    world.orchestrator.transaction_claimed(world.now, TransactionId(1));
    for second in 0..200 {
        if second % 30 == 0 {
            world.intent("198.51.100.2:7");
            world.orchestrator.transaction_active(world.now, TransactionId(1));
        }
        assert_eq!(world.wait(SECOND).sent(), []);
    }
    // Last heard of at 180 s.
    assert_eq!(world.wait(39 * SECOND).sent(), []);
    assert_eq!(world.wait(SECOND).sent().len(), 1);
}

#[test]
fn an_intent_that_waits_too_long_is_forgotten() {
    let config = Config { concurrency: Some(1), ..Config::new(entries(3, "R", "")) };
    let mut world = World::new(Config { hold: 1000 * SECOND, ..config });
    world.intent("198.51.100.1:7");
    world.orchestrator.transaction_claimed(world.now, TransactionId(1));
    world.wait(SECOND).intent(CLIENT);
    world.wait(100 * SECOND).intent(CLIENT);
    world.wait(119 * SECOND);
    assert_eq!(world.orchestrator.queued(), 1);
    world.wait(SECOND);
    assert_eq!(world.orchestrator.queued(), 0);
    assert!(world.events().contains(&Event::IntentExpired { from: CLIENT.parse().unwrap() }));
    assert_eq!(world.orchestrator.poll_timeout(), Some(Instant::from_millis(1_000_000)));
}

#[test]
fn the_least_loaded_receivers_are_handed_out() {
    let config = Config { hand_out: Some(2), ..Config::new(entries(5, "R", "")) };
    let mut world = World::new(config);
    let mut given = |n: u8| {
        world.intent(&format!("198.51.100.7:{n}"));
        match world.events().pop() {
            Some(Event::Assigned { receivers, .. }) => receivers,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(given(1), [0, 1].into());
    assert_eq!(given(2), [2, 3].into());
    assert_eq!(given(3), [0, 4].into(), "of the loaded ones, the least recently used");
    world.orchestrator.transaction_ended(world.now, TransactionId(2));
    world.intent("198.51.100.7:9");
    assert!(
        matches!(&world.events()[1], Event::Assigned { receivers, .. } if **receivers == [2, 3])
    );
}

#[test]
fn s8_a_list_that_is_too_long_loses_capabilities_then_entries() {
    // 10 fit with capabilities, 16 only without, 40 not at all.
    for (count, caps, fits) in [(10, true, 10), (16, false, 16), (40, false, 21)] {
        let config = Config::new(entries(count, "R", "crc seal window=32 chunk=1200"));
        let mut world = World::new(config);
        let mut seen = std::collections::BTreeSet::new();
        for client in 1..=4 {
            let sent = world.intent(&format!("198.51.100.7:{client}"));
            let datagram = &sent[0].datagram;
            assert!(datagram.len() <= 1024, "{}", datagram.len());
            let Ok(Message::Assignment { list, .. }) = decode(datagram) else { panic!() };
            let list = parse(list).unwrap();
            assert!(list.len() >= fits, "as many as fit");
            assert!(list.iter().all(|entry| entry.caps.is_classic() != caps));
            seen.extend(list.into_iter().map(|entry| entry.ip));
        }
        assert_eq!(seen.len(), usize::from(count), "not always the same ones are left out");
    }
}

#[test]
fn at_the_limit_the_oldest_unclaimed_transaction_is_forgotten() {
    let mut world = World::new(Config { live: 2, ..Config::new(entries(1, "R", "")) });
    world.intent("198.51.100.7:1");
    world.intent("198.51.100.7:2");
    world.orchestrator.transaction_claimed(world.now, TransactionId(1));
    assert_eq!(world.intent("198.51.100.7:3").len(), 1);
    assert_eq!((world.orchestrator.live(), world.count("evicted")), (2, 1));
    let to = "198.51.100.7:2".parse().unwrap();
    assert!(world.events().contains(&Event::Evicted { tid: TransactionId(2), to }));
    world.orchestrator.transaction_claimed(world.now, TransactionId(3));
    assert_eq!(world.intent("198.51.100.7:4"), [], "all are in use");
    world.orchestrator.transaction_ended(world.now, TransactionId(1));
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn an_early_timeout_does_nothing() {
    let mut world = World::new(Config { concurrency: Some(1), ..Config::new(entries(1, "R", "")) });
    world.intent("198.51.100.1:7");
    world.intent("198.51.100.2:7");
    let at = world.orchestrator.poll_timeout();
    world.events();
    world.orchestrator.handle_timeout(world.now);
    assert_eq!((world.orchestrator.poll_timeout(), world.events()), (at, vec![]));
}
