//! Scripts of what befalls a receiver: datagrams from anywhere, a store that answers late or not at
//! all, time.
//!
//! Invariants 4, 8, 9 and 17; limits of memory; the first bytes win.

use crate::script::Script;
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::receiver::{Append, Config, Local, Receiver, SealAsked, Stored};
use mdalp_proto::time::Instant;
use mdalp_proto::wire::{ChunkCrc, Message, Seal, Statement, Verdict, decode, encode_seal};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

const TRANSACTIONS: usize = 6;
const RANGES: usize = 4;
const MAX_SEQ: u64 = 100;
const MAX_CHUNK: usize = 20;

/// Reads a receiver's life.
///
/// # Panics
/// If it says what is not durable, says too much or to the wrong one, or keeps too much.
pub fn receiver(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let flags = script.byte();
    let mut world = World {
        receiver: Receiver::new(Config {
            own: vec![client(7, 1)],
            transactions: TRANSACTIONS,
            per_source: 2,
            per_prefix: 5,
            ranges: RANGES,
            ranges_total: 20,
            max_seq: MAX_SEQ,
            max_chunk: MAX_CHUNK,
            seals: flags & 1 == 1,
            ..Config::default()
        }),
        now: Instant::from_millis(1),
        stored: BTreeMap::new(),
        waiting: Vec::new(),
        questions: BTreeSet::new(),
        asked: Vec::new(),
    };
    for _ in 0..500 {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        assert!(world.receiver.transactions() <= TRANSACTIONS, "17");
        assert!(world.receiver.ranges() <= TRANSACTIONS * RANGES, "17");
    }
}

struct World {
    receiver: Receiver,
    now: Instant,
    stored: BTreeMap<(u64, u64), Vec<u8>>,
    /// What the store has not answered yet, with the datagrams.
    waiting: Vec<(Append, Vec<u8>)>,
    /// Seals that arrived: whose, how long, and of what. They may wait for chunks to be stored.
    questions: BTreeSet<(SocketAddr, usize, TransactionId)>,
    asked: Vec<SealAsked>,
}

fn client(host: u8, port: u16) -> SocketAddr {
    let ip = if host == 0 { [127, 0, 0, 1] } else { [198, 51, 100, host] };
    (ip, port).into()
}

/// A few ids that can be guessed and a few that cannot.
fn tid(script: &mut Script<'_>) -> TransactionId {
    let n = u64::from(script.below(12));
    TransactionId(if n < 4 { 3740 + n } else { 0x1234_5678_9abc_def0 + n })
}

impl World {
    fn step(&mut self, script: &mut Script<'_>) {
        match script.below(12) {
            0..=4 => {
                let bytes = chunk(script);
                self.arrives(script, &bytes);
            }
            5 => {
                let bytes = script.short().to_vec();
                self.arrives(script, &bytes);
            }
            6 => {
                let (tid, chunks) = (tid(script), script.number());
                let seal = Seal {
                    tid,
                    statement: Statement { chunks, bytes: script.number(), blake3: [7; 32] },
                    checked: false,
                };
                let mut bytes = Vec::new();
                encode_seal(&mut bytes, &seal);
                self.arrives(script, &bytes);
            }
            7 => self.store_answers(script),
            8 => self.seals_are_answered(script),
            9 => self.wait(Duration::from_nanos(script.nanos() % 300_000_000_000)),
            _ => self.receiver.adopt(self.now, tid(script)),
        }
        while self.receiver.poll_event().is_some() {}
    }

    fn arrives(&mut self, script: &mut Script<'_>, bytes: &[u8]) {
        let local = Local(script.below(3).into());
        let from = match script.byte() {
            255 => ([224, 0, 0, 1], 9).into(),
            host => client(host % 9, u16::from(host / 9) % 3),
        };
        if let Ok(Message::Seal(seal)) = decode(bytes) {
            self.questions.insert((from, bytes.len(), seal.tid));
        }
        self.receiver.handle_datagram(self.now, local, from, bytes);
        if let Some(append) = self.receiver.poll_append() {
            let Ok(Message::Data { tid, seq, data, .. }) = decode(bytes) else {
                unreachable!("only chunks are stored")
            };
            assert_eq!(
                (append.local, append.from, append.tid, append.seq),
                (local, from, tid, seq)
            );
            assert_eq!(&bytes[append.data.clone()], data);
            assert_eq!(append.crc, ChunkCrc::of(tid, seq, data));
            assert!(seq.0 < MAX_SEQ && data.len() <= MAX_CHUNK);
            if self.waiting.len() < 64 {
                self.waiting.push((append, bytes.to_vec()));
            } else {
                self.receiver.handle_appended(self.now, &append, Stored::Failed);
            }
        }
        self.replies(from, bytes, 1);
        while let Some(asked) = self.receiver.poll_seal() {
            assert!(self.questions.contains(&(asked.from, asked.limit, asked.seal.tid)));
            assert!(self.asked.iter().all(|other| other.seal.tid != asked.seal.tid));
            self.asked.push(asked);
            assert!(self.asked.len() <= 256, "17");
        }
    }

    /// All acks that wait to be sent: to whom a chunk came from, for what is stored, and shorter.
    fn replies(&mut self, from: SocketAddr, request: &[u8], most: usize) {
        for n in 0.. {
            let Some(ack) = self.receiver.poll_transmit() else { break };
            assert!(n < most, "9: one answer to a datagram");
            assert!(matches!(decode(request), Ok(Message::Data { tid, seq, .. })
                if (tid, seq) == (ack.tid, ack.seq)));
            assert_eq!(ack.to, from, "8");
            let held = self.stored.get(&(ack.tid.0, ack.seq.0)).expect("4: acked, so durable");
            let crc = ChunkCrc::of(ack.tid, ack.seq, held);
            assert!(ack.crc.is_none_or(|said| said == crc), "the ack is of what is held");
            let mut out = Vec::new();
            ack.encode(&mut out);
            assert!(out.len() <= request.len(), "9");
        }
    }

    fn store_answers(&mut self, script: &mut Script<'_>) {
        let (count, fails) = (script.byte(), script.byte());
        let count = usize::from(count).min(self.waiting.len());
        for (n, (append, bytes)) in
            self.waiting.drain(..count).collect::<Vec<_>>().iter().enumerate()
        {
            let key = (append.tid.0, append.seq.0);
            let stored = if fails >> (n % 8) & 1 == 1 {
                Stored::Failed
            } else if let Some(held) = self.stored.get(&key) {
                Stored::Duplicate { crc: ChunkCrc::of(append.tid, append.seq, held) }
            } else {
                self.stored.insert(key, bytes[append.data.clone()].to_vec());
                Stored::New
            };
            self.receiver.handle_appended(self.now, append, stored);
            let acks = usize::from(stored != Stored::Failed);
            self.replies(append.from, bytes, acks);
        }
    }

    fn seals_are_answered(&mut self, script: &mut Script<'_>) {
        let Some(asked) = self.asked.pop() else { return };
        let gaps = (0..script.below(40)).map(|n| {
            let first = u64::from(n) * 1000 + u64::from(script.byte());
            first..=first + u64::from(script.byte())
        });
        let verdict = match gaps.collect::<mdalp_proto::ranges::RangeSet>() {
            gaps if !gaps.is_empty() => Some(Verdict::Missing(gaps)),
            _ => script.flag().then_some(Verdict::Complete),
        };
        self.receiver.handle_sealed(&asked, verdict.clone());
        let reply = self.receiver.poll_seal_reply();
        assert_eq!(reply.is_some(), verdict.is_some());
        let Some(reply) = reply else { return };
        assert_eq!((reply.to, reply.local), (asked.from, asked.local));
        let mut out = Vec::new();
        reply.encode(&mut out);
        assert!(out.len() <= asked.limit, "9");
        assert!(
            matches!(decode(&out), Ok(Message::SealReply { tid, .. }) if tid == asked.seal.tid)
        );
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..10_000 {
            let Some(due) = self.receiver.poll_timeout().filter(|&due| due <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(due);
            self.receiver.handle_timeout(self.now);
            assert!(self.receiver.poll_timeout().is_none_or(|due| due > self.now), "still due");
        }
        unreachable!("a timer that fires too often");
    }
}

fn chunk(script: &mut Script<'_>) -> Vec<u8> {
    let (tid, seq) = (tid(script), SequenceNumber(script.number()));
    let len = usize::from(script.below(24));
    let data = vec![script.below(2); len];
    let crc = match script.below(4) {
        0 | 1 => None,
        2 => Some(ChunkCrc::of(tid, seq, &data)),
        _ => Some(ChunkCrc(script.byte().into())),
    };
    let mut out = Vec::new();
    mdalp_proto::wire::encode_data_header(&mut out, tid, seq, crc);
    out.extend_from_slice(&data);
    out
}
