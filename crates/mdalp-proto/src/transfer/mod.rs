//! Sending a payload to the receivers of one transaction: the client's side of Types 2 and 3.
//!
//! Owns one lane per receiver and a balancing [`Policy`]; drains the lanes in its own handlers.
//! Ends in every case: complete, or failed when nobody has acknowledged anything for a while. Does
//! not ask for the assignment ([`crate::intent`]), hold the payload or measure latencies.

mod policy;
mod types;

pub use crate::lane::{LaneState, LaneStats};
pub use policy::{Adaptive, LaneView, Latency, Move, MoveReason, Policy, Single};
pub use types::{Event, Ignored, Outcome, Plan, Target, TransferConfig, Transmit};

use crate::ids::{SequenceNumber, TransactionId};
use crate::lane::{AckOutcome, Lane, Send};
use crate::layout::Layout;
use crate::ranges::RangeSet;
use crate::time::Instant;
use crate::wire::{ChunkCrc, Message, decode, encode_data_header};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Optimistic acks that make a receiver suspect (H40).
const OPTIMISTIC_LIMIT: u64 = 16;
/// Refusals that make a receiver suspect, and over how long they must come (F25).
const REFUSALS: (u32, Duration) = (3, Duration::from_secs(2));

/// The machine.
#[derive(Debug)]
pub struct Transfer {
    config: TransferConfig,
    tid: TransactionId,
    layout: Layout,
    lanes: Vec<Lane>,
    extras: Vec<LaneExtra>,
    by_addr: BTreeMap<SocketAddr, usize>,
    policy: Box<dyn Policy>,
    acked: RangeSet,
    acked_bytes: u64,
    /// Whether any chunk ever moved: only then can two lanes have the same one.
    moved: bool,
    last_progress: Instant,
    outbox: VecDeque<Transmit>,
    events: VecDeque<Event>,
    outcome: Option<Outcome>,
    ignored: Ignored,
}

/// What the transfer keeps about a lane that is no lane's business.
#[derive(Clone, Copy, Debug, Default)]
struct LaneExtra {
    was_suspect: bool,
    active_since: Instant,
    next_probe: Instant,
    refusals: u32,
    first_refusal: Instant,
}

impl Transfer {
    /// Starts sending at `now`. `plan` was made for the same `targets` and `policy`.
    pub fn new(
        now: Instant,
        config: TransferConfig,
        plan: &Plan,
        targets: &[Target],
        policy: Box<dyn Policy>,
    ) -> Self {
        let mut lanes = Vec::with_capacity(targets.len());
        let mut by_addr = BTreeMap::new();
        for (at, (target, share)) in targets.iter().zip(&plan.shares).enumerate() {
            let mut lane = Lane::new(target.addr, target.window, target.crc, config.rto);
            if let Some(after) = share.chunks.checked_sub(1) {
                let chunks = std::iter::once(share.first_seq..=share.first_seq + after).collect();
                lane.assign(&chunks);
            }
            lanes.push(lane);
            by_addr.insert(target.addr.0, at);
        }
        let mut transfer = Self {
            config,
            tid: plan.tid,
            layout: plan.layout.clone(),
            extras: vec![LaneExtra::default(); lanes.len()],
            lanes,
            by_addr,
            policy,
            acked: RangeSet::new(),
            acked_bytes: 0,
            moved: false,
            last_progress: now,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            outcome: None,
            ignored: Ignored::default(),
        };
        transfer.finish_if_complete();
        for at in 0..transfer.lanes.len() {
            transfer.pump(now, at);
        }
        transfer
    }

    /// Takes a datagram. Only the ack of a chunk that its sender was sent changes anything;
    /// everything else is counted and ignored.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if self.outcome.is_some() {
            return;
        }
        let Some(&at) = self.by_addr.get(&from) else {
            self.ignored.strangers += 1;
            return;
        };
        match decode(datagram) {
            Ok(Message::Ack { tid, .. }) if tid != self.tid => self.ignored.wrong_tid += 1,
            Ok(Message::Ack { seq, crc, .. }) => self.handle_ack(now, at, seq, crc),
            Ok(_) => self.ignored.not_an_ack += 1,
            Err(_) => self.ignored.undecodable += 1,
        }
    }

    fn handle_ack(&mut self, now: Instant, at: usize, seq: SequenceNumber, crc: Option<ChunkCrc>) {
        let before = self.lanes[at].state;
        let AckOutcome::New { rtt } = self.lanes[at].handle_ack(now, seq, crc) else {
            if self.lanes[at].stats.optimistic_acks == OPTIMISTIC_LIMIT {
                self.suspect(now, at);
            }
            return;
        };
        self.last_progress = now;
        let extra = &mut self.extras[at];
        extra.refusals = 0;
        if before != LaneState::Active {
            extra.active_since = now;
            self.events.push_back(Event::State { lane: at, state: LaneState::Active });
        }
        if self.acked.insert(seq.0) {
            let bytes = self.layout.len(seq);
            let stats = &mut self.lanes[at].stats;
            stats.chunks += 1;
            stats.bytes += bytes;
            self.acked_bytes += bytes;
            self.events.push_back(Event::Acked { lane: at, seq, bytes, rtt });
        }
        // Whoever else has it, queued or in flight, need not send it.
        self.lanes[at].cancel(seq.0);
        if self.moved {
            self.lanes.iter_mut().for_each(|lane| lane.cancel(seq.0));
        }
        self.finish_if_complete();
        self.drain_suspects(now);
        self.rebalance(now);
        self.pump(now, at);
    }

    /// The operating system reports that nothing listens at `addr`. A hint only, for it can be
    /// forged: the next retransmission still happens, and only several over some time make the
    /// receiver suspect (F25).
    pub fn handle_unreachable(&mut self, now: Instant, addr: SocketAddr) {
        let Some(&at) = self.by_addr.get(&addr) else { return };
        let extra = &mut self.extras[at];
        if extra.refusals == 0 {
            extra.first_refusal = now;
        }
        extra.refusals += 1;
        let refused = extra.refusals >= REFUSALS.0 && now - extra.first_refusal >= REFUSALS.1;
        if refused && self.outcome.is_none() {
            self.suspect(now, at);
        }
    }

    /// Does what is due at `now`. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.outcome.is_some() {
            return;
        }
        if self.config.deadline.is_some_and(|deadline| now >= deadline) {
            return self.finish(Outcome::Deadline);
        }
        if now - self.last_progress >= self.config.fail_after {
            return self.finish(Outcome::NoProgress);
        }
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            let overdue =
                lane.waiting_since().is_some_and(|s| now - s >= self.config.suspect_after);
            if overdue && lane.state != LaneState::Suspect {
                self.suspect(now, at);
            }
            let lane = &mut self.lanes[at];
            if let Some(send) = lane.handle_timeout(now) {
                let next = lane.rtt.rto();
                self.events.push_back(Event::TimedOut { lane: at, seq: send.seq, next });
                self.transmit(at, send);
            } else if lane.state == LaneState::Suspect && !lane.has_work() {
                self.probe_suspect(now, at);
            }
        }
        self.drain_suspects(now);
        self.rebalance(now);
        for at in 0..self.lanes.len() {
            self.pump(now, at);
        }
    }

    fn probe_suspect(&mut self, now: Instant, at: usize) {
        if now < self.extras[at].next_probe {
            return;
        }
        self.extras[at].next_probe = now + self.probe_interval();
        let acked = &self.acked;
        let Some(last) = acked.missing_below(self.layout.chunks()).last() else { return };
        let send = self.lanes[at].probe(|seq| !acked.contains(seq), last);
        self.moved = true;
        self.transmit(at, send);
    }

    /// Rarely while others answer; as often as the protocol allows when nobody does.
    fn probe_interval(&self) -> Duration {
        let somebody = self.lanes.iter().any(|lane| lane.state == LaneState::Active);
        if somebody { self.config.suspect_probe } else { self.config.rto.max }
    }

    fn may_move(&self) -> bool {
        self.config.reassign && self.policy.reassigns()
    }

    fn suspect(&mut self, now: Instant, at: usize) {
        if self.lanes[at].state == LaneState::Suspect {
            return;
        }
        self.lanes[at].suspect();
        self.extras[at].was_suspect = true;
        self.extras[at].next_probe = now + self.probe_interval();
        self.events.push_back(Event::State { lane: at, state: LaneState::Suspect });
        self.drain_suspects(now);
    }

    /// Gives what suspects have to receivers that answer. If none does, everything stays where it
    /// is: in an outage of the whole network every receiver is as good as any other.
    fn drain_suspects(&mut self, now: Instant) {
        if !self.may_move() {
            return;
        }
        for from in 0..self.lanes.len() {
            if self.lanes[from].state != LaneState::Suspect || !self.lanes[from].has_work() {
                continue;
            }
            let takers: Vec<usize> =
                (0..self.lanes.len()).filter(|&to| self.can_take(now, to)).collect();
            if takers.is_empty() {
                return;
            }
            let mut chunks = self.lanes[from].take_all();
            self.extras[from].next_probe = now + self.probe_interval();
            let costs: Vec<f64> = takers
                .iter()
                .map(|&to| self.lanes[to].service_time(now).map_or(1.0, |cost| cost.as_secs_f64()))
                .collect();
            let portions = crate::split::byte_shares(chunks.len(), &costs);
            for (&to, portion) in takers.iter().zip(portions) {
                let part = chunks.split_off_last(portion);
                if part.is_empty() {
                    continue;
                }
                self.lanes[to].assign(&part);
                self.moved = true;
                let what = Move { from, to, chunks: portion, reason: MoveReason::Suspect };
                self.events.push_back(Event::Moved { what });
                self.pump(now, to);
            }
        }
    }

    /// Whether a suspect's chunks are in better hands here. An answer that has been owed for long
    /// is no sign of life; and right after an outage of everything, the others deserve the time of
    /// one retransmission to come back too.
    fn can_take(&self, now: Instant, at: usize) -> bool {
        let (lane, extra) = (&self.lanes[at], &self.extras[at]);
        lane.state == LaneState::Active
            && lane.waiting_since().is_none_or(|since| now - since < self.config.suspect_after / 4)
            && !(extra.was_suspect && now - extra.active_since <= self.config.rto.max)
    }

    /// Lets the policy move chunks, as long as it finds something to improve.
    fn rebalance(&mut self, now: Instant) {
        let idle = |lane: &Lane| lane.state == LaneState::Active && !lane.has_work();
        if self.outcome.is_some() || !self.may_move() || !self.lanes.iter().any(idle) {
            return;
        }
        // Each round gives an idle lane work, so that there are at most as many rounds as lanes.
        for _ in 0..self.lanes.len() {
            let view: Vec<LaneView> = (0..self.lanes.len()).map(|at| self.view(now, at)).collect();
            let Some(what) = self.policy.rebalance(&view) else { return };
            let chunks = if what.chunks > 0 {
                self.lanes[what.from].take_queued(what.chunks)
            } else {
                let oldest = self.lanes[what.from].give_away_oldest();
                oldest.into_iter().map(|seq| seq..=seq).collect()
            };
            self.lanes[what.to].assign(&chunks);
            self.moved = true;
            self.events.push_back(Event::Moved { what });
            self.pump(now, what.to);
            self.pump(now, what.from);
        }
    }

    fn view(&self, now: Instant, at: usize) -> LaneView {
        let lane = &self.lanes[at];
        LaneView {
            state: lane.state,
            was_suspect: self.extras[at].was_suspect,
            queued: lane.queued(),
            in_flight: lane.in_flight() as u64,
            service: lane.service_time(now),
            oldest: lane.oldest_sent().map(|sent| now - sent),
        }
    }

    /// Sends what the lane's window allows.
    fn pump(&mut self, now: Instant, at: usize) {
        if self.outcome.is_some() {
            return;
        }
        let layout = &self.layout;
        while let Some(send) = self.lanes[at].next_send(now, |seq| layout.len(SequenceNumber(seq)))
        {
            let transmit = self.transmission(at, send);
            self.outbox.push_back(transmit);
        }
    }

    fn transmit(&mut self, at: usize, send: Send) {
        let transmit = self.transmission(at, send);
        self.outbox.push_back(transmit);
    }

    fn transmission(&self, lane: usize, send: Send) -> Transmit {
        Transmit {
            to: self.lanes[lane].addr.0,
            lane,
            seq: send.seq,
            range: self.layout.range(send.seq),
            attempt: send.attempt,
        }
    }

    fn finish_if_complete(&mut self) {
        if self.acked.len() == self.layout.chunks() {
            self.finish(Outcome::Complete);
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
            self.outbox.clear();
            self.events.push_back(Event::Finished(outcome));
        }
    }

    /// The next chunk to send. After each input, call until `None`.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outbox.pop_front()
    }

    /// Writes the datagram of `transmit` to `out`; `data` is the payload's `transmit.range`.
    pub fn encode(&mut self, transmit: &Transmit, data: &[u8], out: &mut Vec<u8>) {
        let lane = &mut self.lanes[transmit.lane];
        let crc = lane.uses_crc.then(|| ChunkCrc::of(self.tid, transmit.seq, data));
        if let Some(crc) = crc {
            lane.note_crc(transmit.seq, crc);
        }
        encode_data_header(out, self.tid, transmit.seq, crc);
        out.extend_from_slice(data);
    }

    /// When to call [`Self::handle_timeout`] next; `None` once the transfer has ended.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.outcome.is_some() {
            return None;
        }
        let mut next = self.last_progress + self.config.fail_after;
        next = next.min(self.config.deadline.unwrap_or(Instant::NEVER));
        for (lane, extra) in self.lanes.iter().zip(&self.extras) {
            next = next.min(lane.rto_at().unwrap_or(Instant::NEVER));
            if lane.state == LaneState::Suspect {
                if !lane.has_work() {
                    next = next.min(extra.next_probe);
                }
            } else if let Some(since) = lane.waiting_since() {
                next = next.min(since + self.config.suspect_after);
            }
        }
        Some(next)
    }

    /// The next thing that happened. After each input, call until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The transaction.
    pub fn tid(&self) -> TransactionId {
        self.tid
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Bytes of the payload that are acknowledged: never more than its length, each once.
    pub fn acked_bytes(&self) -> u64 {
        self.acked_bytes
    }

    /// Chunks that are acknowledged, by anyone.
    pub fn acked(&self) -> &RangeSet {
        &self.acked
    }

    /// Chunks that this receiver has acknowledged.
    pub fn acked_by(&self, lane: usize) -> &RangeSet {
        self.lanes[lane].acked()
    }

    /// What one receiver did.
    pub fn stats(&self, lane: usize) -> LaneStats {
        self.lanes[lane].stats
    }

    /// Whether one receiver answers.
    pub fn state(&self, lane: usize) -> LaneState {
        match self.lanes[lane].state {
            LaneState::Active if !self.lanes[lane].has_work() => LaneState::Done,
            state => state,
        }
    }

    /// Smoothed round-trip time of one receiver, once measured.
    pub fn srtt(&self, lane: usize) -> Option<Duration> {
        self.lanes[lane].rtt.srtt()
    }

    /// Since when a receiver has owed an answer.
    pub fn waiting_since(&self, lane: usize) -> Option<Instant> {
        self.lanes[lane].waiting_since()
    }

    /// What was received and did not count.
    pub fn ignored(&self) -> Ignored {
        self.ignored
    }
}

#[cfg(test)]
mod tests;
