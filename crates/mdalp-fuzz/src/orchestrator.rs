//! Scripts of what befalls an orchestrator: intents and junk from many sources, news of
//! transactions, time.
//!
//! Invariants 8, 9, 13, 14 and 17; nothing longer than classic clients can read.

use crate::script::Script;
use mdalp_proto::ids::{Nonce, TransactionId};
use mdalp_proto::orchestrator::{Config, Event, Orchestrator};
use mdalp_proto::time::Instant;
use mdalp_proto::wire::list::{Entry, parse};
use mdalp_proto::wire::{
    Capabilities, MAX_CLASSIC_ASSIGNMENT, Message, decode, encode_nonced_intent,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// Reads an orchestrator's life.
///
/// # Panics
/// If it gives an id twice, changes an answer, answers whom it must not, or keeps too much.
pub fn orchestrator(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let config = config(&mut script);
    let mut draws = script.u64();
    let coarse = script.flag();
    let random = Box::new(move || {
        draws = draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // A bad source of chance must not break a promise either.
        if coarse { draws >> 61 } else { draws }
    });
    let mut world = World {
        orchestrator: Orchestrator::new(config.clone(), random),
        now: Instant::from_millis(1),
        started: Instant::from_millis(1),
        config,
        longest: BTreeMap::new(),
        told: BTreeMap::new(),
        assigned: Vec::new(),
        live: BTreeSet::new(),
        ended: BTreeMap::new(),
        unlimited: 0,
    };
    for _ in 0..400 {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.check();
    }
}

/// An address, and the nonce if the intent had one.
type Asker = (SocketAddr, Option<Nonce>);

struct World {
    orchestrator: Orchestrator,
    now: Instant,
    started: Instant,
    config: Config,
    /// By asker: its longest intent.
    longest: BTreeMap<Asker, usize>,
    /// By asker: what it was told, until when that must stay the same.
    told: BTreeMap<Asker, (TransactionId, Vec<u8>, Instant)>,
    assigned: Vec<TransactionId>,
    live: BTreeSet<TransactionId>,
    /// When a transaction ended: its id is not drawn again for ten minutes.
    ended: BTreeMap<TransactionId, Instant>,
    /// Answers that are much longer than their questions.
    unlimited: u32,
}

fn config(script: &mut Script<'_>) -> Config {
    let count = script.below(40) + 1;
    let caps =
        Capabilities::parse(["", "crc seal window=32 chunk=1200"][usize::from(script.flag())]);
    let name = "N".repeat(usize::from(script.below(65)));
    let entry = |n: u8| Entry { ip: [192, 0, 2, n].into(), name: name.clone(), caps };
    let few = |n: u8| (n > 0).then_some(usize::from(n));
    let mut config = Config::new((0..count).map(entry).collect());
    config.own = vec![([198, 51, 100, 1], 4650).into()];
    config.concurrency = few(script.below(5));
    config.hand_out = few(script.below(5));
    config.queue = usize::from(script.below(20)) + 1;
    config.queue_per_source = usize::from(script.below(9)) + 1;
    config.queue_per_prefix = usize::from(script.below(20)) + 1;
    // With all room, nothing is evicted, and more is promised.
    config.live = if script.flag() { 1000 } else { usize::from(script.below(64)) + 1 };
    config
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        let now = self.now;
        match script.below(10) {
            0..=3 => {
                let host = script.byte();
                let from: SocketAddr = ([198, 51, 100, host % 6], u16::from(host >> 5) * 4).into();
                let (nonce, len) = (host & 16 == 16, 7 + usize::from(script.byte()) * 4);
                let nonce = nonce.then(|| Nonce(u64::from(script.below(2))));
                let mut intent = b"Type:0;".to_vec();
                match nonce {
                    Some(nonce) => {
                        intent.clear();
                        encode_nonced_intent(&mut intent, nonce, len);
                    }
                    None => intent.resize(len, b'0'),
                }
                let longest = self.longest.entry((from, nonce)).or_default();
                *longest = intent.len().max(*longest);
                self.orchestrator.handle_datagram(now, from, &intent);
            }
            4 => {
                let junk = script.short();
                if !matches!(decode(junk), Ok(Message::Intent { .. })) {
                    let before = (self.orchestrator.queued(), self.orchestrator.live());
                    self.orchestrator.handle_datagram(now, ([203, 0, 113, 9], 9).into(), junk);
                    assert_eq!(self.orchestrator.poll_transmit(), None, "junk is not answered");
                    assert_eq!(before, (self.orchestrator.queued(), self.orchestrator.live()));
                }
            }
            5 => self.wait(Duration::from_nanos(script.nanos() % 300_000_000_000)),
            what => {
                let pick = usize::from(script.byte());
                let tid = self.assigned.iter().rev().nth(pick % self.assigned.len().max(1));
                let tid = tid.copied().unwrap_or(TransactionId(77));
                // Its client's next intent is for another transaction.
                self.told.retain(|_, (told, ..)| *told != tid || what == 9);
                match what {
                    7 => self.orchestrator.transaction_claimed(now, tid),
                    8 => {
                        self.end(tid);
                        self.orchestrator.transaction_ended(now, tid);
                    }
                    _ => self.orchestrator.transaction_active(now, tid),
                }
            }
        }
    }

    fn check(&mut self) {
        while let Some(event) = self.orchestrator.poll_event() {
            match event {
                Event::Assigned { tid, receivers, .. } => {
                    assert!(tid.0 > 0 && tid.0 < 1 << 63);
                    assert!(self.live.insert(tid) || !self.has_room(), "13: live ids are unique");
                    let ended = self.ended.get(&tid);
                    let rested = |at: &Instant| self.now.since(*at) >= Duration::from_secs(600);
                    let rested = ended.is_none_or(rested) || !self.has_room();
                    assert!(rested, "13: nor is a recent one given again");
                    assert!(!receivers.is_empty());
                    self.assigned.push(tid);
                }
                Event::Expired { tid, .. } => {
                    self.end(tid);
                    self.told.retain(|_, (told, ..)| *told != tid);
                }
                _ => {}
            }
        }
        while let Some(transmit) = self.orchestrator.poll_transmit() {
            let (to, datagram) = (transmit.to, transmit.datagram);
            let (nonce, list) = match decode(&datagram) {
                Ok(Message::Assignment { tid, nonce, list }) => (nonce, Some((tid, list))),
                Ok(Message::Queued { nonce, .. }) => (Some(nonce), None),
                other => unreachable!("nothing else is sent: {other:?}"),
            };
            let whom = (to, nonce);
            let asked = *self.longest.get(&whom).expect("8: only to who has asked");
            assert!(!self.config.own.contains(&to) && to.port() != 0, "H13");
            assert!(datagram.len() <= MAX_CLASSIC_ASSIGNMENT);
            assert_eq!(list.map(|(tid, _)| tid), transmit.tid);
            let Some((tid, list)) = list else {
                assert!(datagram.len() <= 3 * asked, "never limited, so never much longer");
                continue;
            };
            assert!(parse(list).is_ok_and(|list| !list.is_empty()));
            self.unlimited += u32::from(datagram.len() > 3 * asked);
            if let Some((told, bytes, until)) = self.told.get(&whom)
                && self.now < *until
                && self.has_room()
            {
                assert_eq!((tid, &datagram), (*told, bytes), "14: the same again");
            } else {
                self.told.insert(whom, (tid, datagram, self.now + self.config.repeat_window));
            }
        }
        assert!(self.orchestrator.queued() <= self.config.queue, "17");
        assert!(self.orchestrator.live() <= self.config.live, "17");
        assert!(self.config.concurrency.is_none_or(|most| self.orchestrator.live() <= most));
        // 9: all hosts are of one prefix: ten at once, five a second.
        let elapsed = self.now.since(self.started).as_secs_f64();
        assert!(f64::from(self.unlimited) <= 11.0 + 5.0 * elapsed, "9: {}", self.unlimited);
    }

    /// Whether no transaction is ever forgotten to make room.
    fn has_room(&self) -> bool {
        self.config.live == 1000
    }

    fn end(&mut self, tid: TransactionId) {
        if self.live.remove(&tid) {
            self.ended.insert(tid, self.now);
        }
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..10_000 {
            let Some(due) = self.orchestrator.poll_timeout().filter(|&due| due <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(due);
            self.orchestrator.handle_timeout(self.now);
            assert!(self.orchestrator.poll_timeout().is_none_or(|due| due > self.now), "still due");
            self.check();
        }
        unreachable!("a timer that fires too often");
    }
}
