//! A transfer, and a model of what its receivers were sent and what they may honestly say.

use crate::script::Script;
use mdalp_proto::ids::{ReceiverAddr, SequenceNumber, TransactionId};
use mdalp_proto::layout::Layout;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::{
    Adaptive, Content, Event, LaneState, Latency, Outcome, Plan, Policy, Single, Target, Transfer,
    TransferConfig, Transmit,
};
use mdalp_proto::wire::{ChunkCrc, Verdict, encode_ack, encode_seal_reply};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

const TID: TransactionId = TransactionId(0x1234_5678_9abc_def0);
const SECOND: Duration = Duration::from_secs(1);
/// The longest backed-off timeout, with what it is spread by.
const LONGEST_RTO: Duration = Duration::from_millis(3_200);

/// What the model knows of one receiver.
#[derive(Default)]
struct Peer {
    crc: bool,
    window: usize,
    sent: BTreeSet<u64>,
    /// When data was sent to it before it had acknowledged any.
    unproven: Vec<Instant>,
    proven: bool,
}

pub(super) struct World {
    now: Instant,
    transfer: Transfer,
    layout: Layout,
    peers: Vec<Peer>,
    copies: usize,
    fail_after: Duration,
    payload: Vec<u8>,
    asked: BTreeSet<usize>,
    last_progress: Instant,
    outcome: Option<Outcome>,
}

/// What must not change when something is ignored.
#[derive(PartialEq, Debug)]
struct Visible {
    sent: usize,
    acked: RangeSet,
    bytes: u64,
    timer: Option<Instant>,
    events: usize,
}

fn addr(at: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, at as u8 + 1], 4650))
}

impl World {
    pub(super) fn new(script: &mut Script<'_>) -> Self {
        let count = usize::from(script.below(4)) + 1;
        let flags = script.byte();
        let chunk = if flags & 1 == 0 { 100 } else { 100 + u16::from(script.byte()) * 4 };
        let payload = u64::from(script.u16()) % 6000;
        let copies = if flags & 2 == 0 { 1 } else { 2.min(count) };
        let mut peers = Vec::new();
        let mut targets = Vec::new();
        for at in 0..count {
            let caps = script.byte();
            let window = if caps & 4 == 0 { 1 } else { u16::from(caps >> 3) + 1 };
            targets.push(Target {
                addr: ReceiverAddr(addr(at)),
                latency: f64::from(script.byte()) + 0.5,
                window,
                crc: caps & 1 == 1,
                seal: caps & 2 == 2,
                record: caps & 64 == 64,
            });
            peers.push(Peer { crc: caps & 1 == 1, window: window.into(), ..Peer::default() });
        }
        let policy: Box<dyn Policy> = match script.below(3) {
            0 => Box::new(Latency),
            1 => Box::new(Adaptive),
            _ => Box::new(Single { index: 0 }),
        };
        let now = Instant::from_millis(5);
        let config = TransferConfig {
            reassign: flags & 4 == 0,
            copies,
            deadline: (flags & 8 == 8).then(|| now + SECOND * 600),
            ..TransferConfig::default()
        };
        let plan = Plan::new(TID, payload, chunk, &targets, policy.as_ref());
        let layout = plan.layout.clone();
        let mut world = Self {
            now,
            transfer: Transfer::new(now, config, &plan, &targets, policy),
            layout,
            peers,
            copies,
            fail_after: config.fail_after,
            payload: (0..payload).map(|n| n as u8).collect(),
            asked: BTreeSet::new(),
            last_progress: now,
            outcome: None,
        };
        if flags & 16 == 16 {
            // The question may leave before everything is acknowledged.
            world.transfer.provide_digest(now, [7; 32]);
        }
        world.drain();
        world
    }

    pub(super) fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    pub(super) fn step(&mut self, script: &mut Script<'_>) {
        let at = usize::from(script.below(4)) % self.peers.len();
        match script.below(12) {
            0..=3 => self.acknowledge(at, script.byte()),
            4 | 5 => {
                self.pass(Duration::from_nanos(script.nanos() % 40_000_000_000));
            }
            6 => {
                let due = self.transfer.poll_timeout().unwrap_or(self.now);
                self.pass(due - self.now);
            }
            7 => self.forge(at, script),
            8 => {
                let junk = script.short();
                // Junk that happens to be an ack would be a genuine one.
                if !junk.starts_with(b"Type:3") && !junk.starts_with(b"Type:5") {
                    self.ignored(at, addr(at), junk);
                }
            }
            9 => {
                self.transfer.handle_unreachable(self.now, addr(at));
                self.drain();
            }
            10 => self.say_verdict(at, script),
            _ => {
                // A stall: no timer is served in time (F27, F33).
                self.now = self.now + Duration::from_nanos(script.nanos() % 40_000_000_000);
                self.transfer.handle_timeout(self.now);
                self.drain();
            }
        }
    }

    /// The receiver acknowledges something that it was sent.
    fn acknowledge(&mut self, at: usize, which: u8) {
        let peer = &self.peers[at];
        let Some(&seq) = peer.sent.iter().rev().nth(usize::from(which) % peer.sent.len().max(1))
        else {
            return;
        };
        let datagram = self.ack(at, seq);
        let repeated = self.transfer.acked_by(at).contains(seq);
        if repeated {
            self.ignored(at, addr(at), &datagram);
            return;
        }
        self.peers[at].proven = true;
        let was_acked = self.transfer.acked().contains(seq);
        self.transfer.handle_datagram(self.now, addr(at), &datagram);
        self.last_progress = self.now;
        if self.copies == 1 {
            assert!(self.transfer.acked().contains(seq), "3: an honest ack counts");
        } else {
            assert!(was_acked || self.transfer.acked_by(at).contains(seq), "3");
        }
        self.drain();
    }

    fn ack(&self, at: usize, seq: u64) -> Vec<u8> {
        let number = SequenceNumber(seq);
        let range = self.layout.range(number);
        let data = &self.payload[range.start as usize..range.end as usize];
        let crc = self.peers[at].crc.then(|| ChunkCrc::of(TID, number, data));
        let mut out = Vec::new();
        encode_ack(&mut out, TID, number, crc);
        out
    }

    /// Acks that nobody should believe (H40).
    fn forge(&mut self, at: usize, script: &mut Script<'_>) {
        let seq = script.number();
        let tid = TID.0;
        let plain = format!("Type:3;TID:{tid};SEQ:{seq};").into_bytes();
        match script.below(5) {
            0 => {
                let port = script.u16();
                if port != 4650 {
                    self.ignored(at, SocketAddr::new(addr(at).ip(), port), &plain);
                }
            }
            1 => self.ignored(at, SocketAddr::from(([203, 0, 113, 9], 4650)), &plain),
            2 => {
                let wrong = script.u64();
                if wrong != tid {
                    let text = format!("Type:3;TID:{wrong};SEQ:{seq};");
                    self.ignored(at, addr(at), text.as_bytes());
                }
            }
            3 if !self.peers[at].sent.contains(&seq) => self.ignored(at, addr(at), &plain),
            4 if self.peers[at].crc => {
                let genuine = if seq < self.layout.chunks() { self.ack(at, seq) } else { vec![] };
                let crc = script.u64() as u32;
                let text = format!("Type:3;TID:{tid};SEQ:{seq};CRC:{crc:08x};").into_bytes();
                if text != genuine {
                    self.ignored(at, addr(at), &text);
                }
            }
            _ => {}
        }
    }

    /// What a datagram that does not count must not change (invariant 11).
    fn ignored(&mut self, at: usize, from: SocketAddr, datagram: &[u8]) {
        let before = self.visible();
        let optimistic = self.transfer.stats(at).optimistic_acks;
        self.transfer.handle_datagram(self.now, from, datagram);
        let now_suspect = self.transfer.stats(at).optimistic_acks == 16 && optimistic == 15;
        if now_suspect {
            // So many acks of what was never sent make a receiver suspect, and that moves chunks.
            let (acked, bytes) = (self.transfer.acked().clone(), self.transfer.acked_bytes());
            assert_eq!((acked, bytes), (before.acked, before.bytes));
            self.drain();
            return;
        }
        let after = self.visible();
        assert_eq!(before, after, "11: {} changes nothing", datagram.escape_ascii());
    }

    fn visible(&mut self) -> Visible {
        let (sent, events) = self.drain();
        Visible {
            sent,
            acked: self.transfer.acked().clone(),
            bytes: self.transfer.acked_bytes(),
            timer: self.transfer.poll_timeout(),
            events,
        }
    }

    /// Somebody answers a seal, asked or not.
    fn say_verdict(&mut self, at: usize, script: &mut Script<'_>) {
        let verdict = match script.below(4) {
            0 => Verdict::Complete,
            1 => Verdict::Mismatch,
            _ => {
                let first = script.number();
                let last = first.saturating_add(script.below(8).into());
                Verdict::Missing(std::iter::once(first..=last).collect())
            }
        };
        let mut out = Vec::new();
        encode_seal_reply(&mut out, TID, &verdict, 1200);
        if self.asked.is_empty() {
            return self.ignored(at, addr(at), &out);
        }
        let before = self.transfer.acked().clone();
        self.transfer.handle_datagram(self.now, addr(at), &out);
        self.last_progress = self.now;
        // What is said to be missing must be sent again before an ack of it is honest.
        let gone = |seq: &u64| before.contains(*seq) && !self.transfer.acked().contains(*seq);
        for peer in &mut self.peers {
            peer.sent.retain(|seq| !gone(seq));
        }
        self.drain();
    }

    /// Lets time pass, serving each timer when it is due; says how many there were.
    fn pass(&mut self, time: Duration) -> usize {
        let until = self.now + time;
        for wakeups in 0..100_000 {
            let Some(due) = self.transfer.poll_timeout().filter(|&due| due <= until) else {
                self.now = self.now.max(until);
                return wakeups;
            };
            self.now = self.now.max(due);
            self.transfer.handle_timeout(self.now);
            let next = self.transfer.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a timer that stays due");
            self.drain();
        }
        unreachable!("a timer that fires too often");
    }

    /// Takes everything out; says how much was sent and how much happened.
    fn drain(&mut self) -> (usize, usize) {
        let (mut sent, mut events) = (0, 0);
        loop {
            let before = sent + events;
            while let Some(transmit) = self.transfer.poll_transmit() {
                sent += 1;
                self.take(&transmit);
            }
            while let Some(event) = self.transfer.poll_event() {
                events += 1;
                assert_eq!(self.outcome, None, "nothing follows the end");
                match event {
                    Event::DigestWanted => self.transfer.provide_digest(self.now, [7; 32]),
                    Event::Finished(outcome) => self.outcome = Some(outcome),
                    _ => {}
                }
            }
            if sent + events == before {
                break;
            }
        }
        self.check();
        (sent, events)
    }

    fn take(&mut self, transmit: &Transmit) {
        assert_eq!(transmit.to, addr(transmit.lane), "8: to listed receivers alone");
        let mut out = Vec::new();
        if transmit.content == Content::Seal {
            self.asked.insert(transmit.lane);
            self.count_unproven(transmit.lane);
            self.transfer.encode(transmit, &[], &mut out);
            return;
        }
        assert_eq!(transmit.range, self.layout.range(transmit.seq), "numbers keep their bytes");
        assert!(!transmit.range.is_empty());
        let (start, end) = (transmit.range.start as usize, transmit.range.end as usize);
        self.transfer.encode(transmit, &self.payload[start..end], &mut out);
        self.peers[transmit.lane].sent.insert(transmit.seq.0);
        self.count_unproven(transmit.lane);
    }

    fn count_unproven(&mut self, at: usize) {
        let now = self.now;
        let peer = &mut self.peers[at];
        if peer.proven {
            return;
        }
        peer.unproven.push(now);
        // 9 and H27: what a listed stranger may get.
        let first = peer.unproven[0];
        let within = |time| peer.unproven.iter().filter(|at| **at - first < time).count();
        assert!(within(SECOND * 30) <= 16, "{} in 30 s", within(SECOND * 30));
        assert!(within(SECOND * 120) <= 50);
    }

    fn check(&self) {
        let transfer = &self.transfer;
        assert_eq!(transfer.outcome(), self.outcome);
        // 12.
        assert_eq!(transfer.acked_bytes(), self.layout.bytes_of(transfer.acked()));
        assert!(transfer.acked_bytes() <= self.layout.bytes());
        for (at, peer) in self.peers.iter().enumerate() {
            // 3.
            assert!(transfer.acked_by(at).iter().flatten().all(|seq| peer.sent.contains(&seq)));
            // 10.
            let window = if peer.proven { peer.window } else { peer.window.min(3) };
            assert!(transfer.in_flight(at) <= window, "{} in flight", transfer.in_flight(at));
        }
        let Some(timer) = transfer.poll_timeout() else {
            assert!(self.outcome.is_some(), "21: a timer is armed");
            return;
        };
        let somebody_probes = (0..self.peers.len())
            .any(|at| transfer.in_flight(at) > 0 && transfer.state(at) != LaneState::Suspect);
        let longest = if somebody_probes { LONGEST_RTO } else { SECOND * 31 };
        assert!(timer <= self.now + longest, "21: next wake-up at {timer:?}, now {:?}", self.now);
    }

    /// From now on everybody answers: the transfer completes (19).
    pub(super) fn heal(&mut self) {
        for _ in 0..20_000 {
            if self.is_over() {
                break;
            }
            self.pass(Duration::from_millis(10));
            for at in 0..self.peers.len() {
                let sent = self.peers[at].sent.clone();
                for seq in sent {
                    if !self.is_over() && !self.transfer.acked_by(at).contains(seq) {
                        let datagram = self.ack(at, seq);
                        self.peers[at].proven = true;
                        self.transfer.handle_datagram(self.now, addr(at), &datagram);
                        self.drain();
                    }
                }
            }
            if let Some(&at) = self.asked.first() {
                let mut out = Vec::new();
                encode_seal_reply(&mut out, TID, &Verdict::Complete, 1200);
                self.transfer.handle_datagram(self.now, addr(at), &out);
                self.drain();
            }
        }
        match self.outcome {
            Some(Outcome::Complete { .. }) => {
                assert_eq!(self.transfer.acked_bytes(), self.layout.bytes(), "12");
            }
            Some(_) => {}
            None => unreachable!("19: healed and not complete: {:?}", self.transfer.acked()),
        }
    }

    /// From now on nobody answers: the transfer ends by its own limits (20).
    pub(super) fn fall_silent(&mut self) {
        let limit = self.last_progress.max(self.now) + self.fail_after + SECOND * 5;
        let wakeups = self.pass(limit - self.now);
        // 22: backing off, each receiver is asked about every three seconds.
        assert!(wakeups <= 150 * self.peers.len(), "{wakeups} wake-ups in silence");
        assert!(self.is_over(), "20: still going {:?} after the last progress", self.fail_after);
    }
}
