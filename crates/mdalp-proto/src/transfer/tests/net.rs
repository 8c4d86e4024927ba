//! A transfer and its receivers in memory: queues, one clock that jumps to the next event.

use super::*;
use crate::wire::encode_ack;

pub(super) const TID: TransactionId = TransactionId(3740);

/// What a receiver does with the n-th datagram that reaches it: after how long each ack leaves.
pub(super) type Script = Box<dyn FnMut(u64, SequenceNumber) -> Vec<Duration>>;

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) fn addr(at: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(at).unwrap() + 1], 4650))
}

/// Acks everything after `rtt`.
pub(super) fn steady(rtt: u64) -> Script {
    Box::new(move |_, _| vec![ms(rtt)])
}

/// Never acks.
pub(super) fn dead() -> Script {
    Box::new(|_, _| vec![])
}

pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) transfer: Transfer,
    scripts: Vec<Script>,
    counts: Vec<u64>,
    /// Acks on their way: when, from whom, what.
    flying: BTreeMap<(Instant, u64), (SocketAddr, Vec<u8>)>,
    serial: u64,
    /// Every datagram sent: when, to whom, which chunk.
    pub(super) sent: Vec<(Instant, usize, u64)>,
    pub(super) events: Vec<(Instant, Event)>,
    /// Chunks each receiver got.
    pub(super) got: Vec<RangeSet>,
    in_flight_limit: Vec<usize>,
}

impl Net {
    pub(super) fn new(payload: u64, scripts: Vec<Script>) -> Self {
        Self::with(payload, scripts, Box::new(Latency), TransferConfig::default(), 1)
    }

    pub(super) fn with(
        payload: u64,
        scripts: Vec<Script>,
        policy: Box<dyn Policy>,
        config: TransferConfig,
        window: u16,
    ) -> Self {
        let target = |at| Target {
            addr: ReceiverAddr(addr(at)),
            latency: 1.0,
            window,
            crc: false,
            seal: false,
            record: false,
        };
        let targets: Vec<Target> = (0..scripts.len()).map(target).collect();
        let plan = Plan::new(TID, payload, 100, &targets, policy.as_ref());
        let now = Instant::from_millis(1000);
        Self {
            now,
            transfer: Transfer::new(now, config, &plan, &targets, policy),
            counts: vec![0; scripts.len()],
            got: vec![RangeSet::new(); scripts.len()],
            in_flight_limit: vec![usize::from(window); scripts.len()],
            scripts,
            flying: BTreeMap::new(),
            serial: 0,
            sent: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Starts anew, as after an earlier run of the same plan.
    pub(super) fn resume(&mut self, held: &[RangeSet]) {
        let target = |at| Target {
            addr: ReceiverAddr(addr(at)),
            latency: 1.0,
            window: 1,
            crc: false,
            seal: false,
            record: false,
        };
        let targets: Vec<Target> = (0..self.scripts.len()).map(target).collect();
        let (payload, policy) = (self.transfer.layout.bytes(), Box::new(Adaptive));
        let plan = Plan::new(TID, payload, 100, &targets, policy.as_ref());
        let config = TransferConfig::default();
        self.transfer = Transfer::resume(self.now, config, &plan, &targets, policy, held);
    }

    /// Puts a datagram on its way to the client.
    pub(super) fn inject(&mut self, after: Duration, from: SocketAddr, datagram: &[u8]) {
        self.serial += 1;
        self.flying.insert((self.now + after, self.serial), (from, datagram.to_vec()));
    }

    pub(super) fn drain(&mut self) {
        while let Some(transmit) = self.transfer.poll_transmit() {
            let (lane, seq) = (transmit.lane, transmit.seq);
            assert_eq!(transmit.to, addr(lane), "invariant 8: only listed receivers are sent to");
            assert!(transmit.range.end > transmit.range.start);
            self.sent.push((self.now, lane, seq.0));
            self.got[lane].insert(seq.0);
            let count = self.counts[lane];
            self.counts[lane] += 1;
            for after in (self.scripts[lane])(count, seq) {
                let mut ack = Vec::new();
                encode_ack(&mut ack, TID, seq, None);
                self.inject(after, addr(lane), &ack);
            }
            // Invariant 10.
            assert!(self.transfer.lanes[lane].in_flight() <= self.in_flight_limit[lane]);
        }
        while let Some(event) = self.transfer.poll_event() {
            self.events.push((self.now, event));
        }
        assert!(self.transfer.notes_are_true(), "a change was not noted");
        // Invariant 12.
        assert!(self.transfer.acked_bytes() <= self.transfer.layout.bytes());
    }

    /// Runs to the end; a transfer that does not end is a failure (invariant 20).
    pub(super) fn run(&mut self) -> Outcome {
        for _ in 0..1_000_000 {
            if let Some(outcome) = self.step() {
                return outcome;
            }
        }
        panic!("livelock");
    }

    /// Drains all outputs, then lets the next thing happen; `Some` at the end.
    pub(super) fn step(&mut self) -> Option<Outcome> {
        self.drain();
        if let Some(outcome) = self.transfer.outcome() {
            assert_eq!(self.transfer.poll_timeout(), None);
            return Some(outcome);
        }
        let timer = self.transfer.poll_timeout().expect("invariant 21: a timer is armed");
        match self.flying.first_key_value() {
            Some((&(at, _), _)) if at <= timer => {
                let (_, (from, datagram)) = self.flying.pop_first().unwrap();
                self.now = self.now.max(at);
                self.transfer.handle_datagram(self.now, from, &datagram);
            }
            _ => {
                self.now = self.now.max(timer);
                self.transfer.handle_timeout(self.now);
                let next = self.transfer.poll_timeout();
                assert!(next.is_none_or(|next| next > self.now), "a timer that stays due");
            }
        }
        None
    }

    /// Runs to the end and checks that every byte is where an ack says it is.
    pub(super) fn run_complete(&mut self) {
        assert_eq!(self.run(), Outcome::Complete { verified: false });
        let transfer = &self.transfer;
        assert_eq!(transfer.acked_bytes(), transfer.layout.bytes());
        let mut all = RangeSet::new();
        for (lane, got) in self.got.iter().enumerate() {
            for range in transfer.acked_by(lane).iter() {
                assert!(range.clone().all(|seq| got.contains(seq)), "acked but never sent");
                all.insert_range(range);
            }
        }
        assert_eq!(all.contiguous_from_zero(), Some(transfer.layout.chunks()));
        let bytes: u64 = (0..self.got.len()).map(|lane| transfer.stats(lane).bytes).sum();
        assert_eq!(bytes, transfer.layout.bytes());
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - Instant::from_millis(1000)
    }

    pub(super) fn sent_to(&self, lane: usize) -> usize {
        self.sent.iter().filter(|(_, to, _)| *to == lane).count()
    }
}

/// A small generator for tests that need chance: the n-th draw from a seed.
pub(super) fn chance(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}
