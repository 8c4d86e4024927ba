//! Sending a payload to the receivers of one transaction: the client's side of Types 2 and 3.
//!
//! Owns one lane per receiver and a balancing [`Policy`]; drains the lanes in its own handlers.
//! Ends in every case: complete, or failed when nobody has acknowledged anything for a while. Does
//! not ask for the assignment ([`crate::intent`]), hold the payload or measure latencies.

mod agenda;
mod balance;
mod confirmation;
mod policy;
mod types;

pub use crate::lane::{LaneState, LaneStats};
pub use policy::{Adaptive, LaneView, Latency, Move, MoveReason, Policy, Single};
pub use types::{Content, Event, Ignored, Outcome, Plan, Target, TransferConfig, Transmit};

use crate::ids::{SequenceNumber, TransactionId};
use crate::lane::{AckOutcome, Lane, Send};
use crate::layout::Layout;
use crate::ranges::RangeSet;
use crate::time::Instant;
use crate::wire::{ChunkCrc, Message, decode, encode_data_header};
use agenda::{Agenda, Lanes};
use balance::{Asking, LaneExtra};
use confirmation::Confirmation;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Optimistic acks that make a receiver suspect (H40).
const OPTIMISTIC_LIMIT: u64 = 16;

static NOTHING: RangeSet = RangeSet::new();

/// The machine.
#[derive(Debug)]
pub struct Transfer {
    config: TransferConfig,
    tid: TransactionId,
    layout: Layout,
    lanes: Lanes,
    extras: Vec<LaneExtra>,
    agenda: Agenda,
    by_addr: BTreeMap<SocketAddr, usize>,
    policy: Box<dyn Policy>,
    /// The chunks that have at least 1, 2, … copies: one set for each copy that is wanted.
    acked: Vec<RangeSet>,
    acked_bytes: u64,
    /// Whether two lanes may have the same chunk: never, before one has moved.
    shared: bool,
    /// The chunks that two lanes may have, or that one has and another may acknowledge; with several
    /// copies, any.
    sent_twice: RangeSet,
    confirmation: Confirmation,
    last_progress: Instant,
    asking: Asking,
    outbox: VecDeque<Transmit>,
    events: VecDeque<Event>,
    outcome: Option<Outcome>,
    ignored: Ignored,
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
        Self::resume(now, config, plan, targets, policy, &[])
    }

    /// As [`Transfer::new`], after an earlier run of the same plan in which each receiver has
    /// acknowledged the chunks in `held`, in the order of the targets.
    pub fn resume(
        now: Instant,
        config: TransferConfig,
        plan: &Plan,
        targets: &[Target],
        policy: Box<dyn Policy>,
        held: &[RangeSet],
    ) -> Self {
        let copies = config.copies.clamp(1, targets.len().max(1));
        let share_of = |at: usize| {
            let share = plan.shares.get(at).copied().unwrap_or_default();
            share.chunks.checked_sub(1).map(|after| share.first_seq..=share.first_seq + after)
        };
        let mut lanes = Vec::with_capacity(targets.len());
        let mut by_addr = BTreeMap::new();
        for (at, target) in targets.iter().enumerate() {
            let mut lane = Lane::new(target, config.rto);
            // Its own share, and for further copies those of its neighbours.
            let neighbours = (0..copies).map(|n| (at + targets.len() - n) % targets.len());
            lane.assign(&neighbours.filter_map(share_of).collect());
            lanes.push(lane);
            by_addr.insert(target.addr.0, at);
        }
        let mut transfer = Self {
            config,
            tid: plan.tid,
            layout: plan.layout.clone(),
            extras: vec![LaneExtra::default(); lanes.len()],
            agenda: Agenda::new(lanes.len()),
            lanes: Lanes::new(lanes),
            by_addr,
            policy,
            acked: vec![RangeSet::new(); copies],
            acked_bytes: 0,
            shared: copies > 1,
            sent_twice: RangeSet::new(),
            confirmation: Confirmation::default(),
            last_progress: now,
            asking: Asking::new(now),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            outcome: None,
            ignored: Ignored::default(),
        };
        transfer.restore(held);
        transfer.finish_if_complete(now);
        for at in 0..transfer.lanes.len() {
            transfer.pump(now, at);
        }
        transfer.note_changes();
        transfer
    }

    /// Takes over what receivers acknowledged in an earlier run.
    fn restore(&mut self, held: &[RangeSet]) {
        for (lane, held) in self.lanes.iter_mut().zip(held) {
            lane.restore(held, self.layout.bytes_of(held));
            if let [all] = &mut self.acked[..] {
                all.union_with(held);
                continue;
            }
            for seq in held.iter().flatten() {
                self.acked.iter_mut().find_map(|copies| copies.insert(seq).then_some(()));
            }
        }
        if let Some(acked) = self.acked.last() {
            self.acked_bytes = self.layout.bytes_of(acked);
            self.lanes.iter_mut().for_each(|lane| lane.drop_queued(acked));
        }
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
            Ok(Message::Ack { tid, .. } | Message::SealReply { tid, .. }) if tid != self.tid => {
                self.ignored.wrong_tid += 1;
            }
            Ok(Message::Ack { seq, crc, .. }) => self.handle_ack(now, at, seq, crc),
            Ok(Message::SealReply { verdict, .. }) => self.handle_verdict(now, at, verdict),
            Ok(_) => self.ignored.not_an_ack += 1,
            Err(_) => self.ignored.undecodable += 1,
        }
        self.note_changes();
    }

    fn handle_ack(&mut self, now: Instant, at: usize, seq: SequenceNumber, crc: Option<ChunkCrc>) {
        let before = self.lanes[at].state;
        let optimistic = self.lanes[at].stats.optimistic_acks;
        let AckOutcome::New { rtt } = self.lanes[at].handle_ack(now, seq, crc) else {
            // Once: it may answer properly afterwards, and a mere duplicate is no further offence.
            if optimistic + 1 == OPTIMISTIC_LIMIT
                && self.lanes[at].stats.optimistic_acks == OPTIMISTIC_LIMIT
            {
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
        let level = self.acked.iter_mut().find_map(|held| held.insert(seq.0).then_some(()));
        if level.is_some() {
            let bytes = self.layout.len(seq);
            let stats = &mut self.lanes[at].stats;
            stats.chunks += 1;
            stats.bytes += bytes;
            if self.is_acked(seq.0) {
                self.acked_bytes += bytes;
            }
            self.events.push_back(Event::Acked { lane: at, seq, bytes, rtt });
        }
        self.lanes[at].cancel(seq.0);
        let elsewhere = self.acked.len() > 1 || self.sent_twice.contains(seq.0);
        if elsewhere && self.is_acked(seq.0) {
            // Whoever else has it, queued or in flight, need not send it.
            for other in 0..self.lanes.len() {
                if self.lanes[other].sends(seq.0) {
                    self.lanes[other].cancel(seq.0);
                }
            }
        }
        self.finish_if_complete(now);
        self.drain_suspects(now);
        self.asking.vain = 0;
        self.rebalance(now);
        // Where something was cancelled there is room, and perhaps no timer that would notice.
        if self.shared {
            self.pump_changed(now);
        } else {
            self.pump(now, at);
        }
    }

    /// Whether as many receivers have this chunk as are wanted.
    fn is_acked(&self, seq: u64) -> bool {
        self.acked().contains(seq)
    }

    /// Does what is due at `now`. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.outcome.is_some() {
            return;
        }
        if self.config.deadline.is_some_and(|deadline| now >= deadline) {
            return self.finish(Outcome::Deadline);
        }
        if now >= self.fails_at() {
            return self.finish(Outcome::NoProgress);
        }
        for at in self.agenda.due(now) {
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
                if let Some(send) = self.lanes[at].second_probe(now) {
                    self.transmit(at, send);
                }
                // If others get what a suspect has, this was the question whether it is back.
                self.put_off_probe(now, at);
            } else if lane.state == LaneState::Suspect && !lane.has_work() {
                self.probe_suspect(now, at);
            }
        }
        self.ask_again(now);
        self.drain_suspects(now);
        self.asking.vain = self.asking.vain.saturating_add(1);
        self.rebalance(now);
        self.pump_changed(now);
        self.note_changes();
        self.check_for_black_hole();
    }

    /// When nobody has acknowledged anything for too long; never while the shell still hashes.
    fn fails_at(&self) -> Instant {
        let owed = self.confirmation.owes_digest();
        if owed { Instant::NEVER } else { self.last_progress + self.config.fail_after }
    }

    /// Large chunks to everybody, at least three timeouts everywhere, and no ack of any but the short
    /// ones at the ends of shares: a path that drops large datagrams looks like this, and nothing
    /// will come of waiting.
    fn check_for_black_hole(&mut self) {
        let (layout, acked) = (&self.layout, &self.acked[0]);
        if layout.chunk() <= u64::from(crate::wire::CLASSIC_CHUNK)
            || acked.len() > self.lanes.len() as u64
            || !self.lanes.iter().any(|lane| lane.stats.timeouts >= 3)
        {
            return;
        }
        let full = |seq| layout.len(SequenceNumber(seq)) == layout.chunk();
        let silent = |lane: &Lane| lane.stats.timeouts >= 3 || !lane.has_work();
        if !acked.iter().flatten().any(full)
            && (0..layout.chunks()).any(full)
            && self.lanes.iter().all(silent)
        {
            self.finish(Outcome::NothingArrives);
        }
    }

    /// Sends what the lane's window allows.
    fn pump(&mut self, now: Instant, at: usize) {
        if self.outcome.is_some() {
            return;
        }
        loop {
            let bytes_of = |seq| self.layout.len(SequenceNumber(seq));
            let Some(send) = self.lanes[at].next_send(now, bytes_of) else { break };
            let transmit = self.transmission(at, send);
            self.outbox.push_back(transmit);
            self.put_off_probe(now, at);
        }
        self.lanes.pumped(at);
        self.ask_early(now);
    }

    fn transmit(&mut self, at: usize, send: Send) {
        let transmit = self.transmission(at, send);
        self.outbox.push_back(transmit);
    }

    fn transmission(&self, lane: usize, send: Send) -> Transmit {
        Transmit {
            to: self.lanes[lane].addr.0,
            lane,
            content: Content::Chunk,
            seq: send.seq,
            range: self.layout.range(send.seq),
            attempt: send.attempt,
        }
    }

    fn finish_if_complete(&mut self, now: Instant) {
        // All of them are one piece, which is cheaper to tell than how many there are.
        if self.acked().range_count() > 1 || self.acked().len() < self.layout.chunks() {
            return;
        }
        if self.has_early_receipt() {
            self.finish(Outcome::Complete { verified: true });
        } else if !self.start_confirmation(now) {
            self.finish(Outcome::Complete { verified: false });
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        if self.outcome.is_none() {
            self.outcome = Some(outcome);
            self.outbox.clear();
            self.events.push_back(Event::Finished(outcome));
        }
    }

    /// The next datagram to send. After each input, call until `None`; a shell that takes several
    /// datagrams first sends nothing that one of them acknowledges.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            let transmit = self.outbox.pop_front()?;
            if transmit.content == Content::Seal || !self.is_acked(transmit.seq.0) {
                return Some(transmit);
            }
            let send = Send { seq: transmit.seq, attempt: transmit.attempt };
            self.lanes.unnoticed(transmit.lane).not_sent(send);
        }
    }

    /// Writes the datagram of `transmit` to `out`; `data` is the payload's `transmit.range`.
    pub fn encode(&mut self, transmit: &Transmit, data: &[u8], out: &mut Vec<u8>) {
        if transmit.content == Content::Seal {
            return self.encode_seal(transmit.lane, out);
        }
        let lane = self.lanes.unnoticed(transmit.lane);
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
        let mut next = self.fails_at();
        next = next.min(self.confirmation.next_at().unwrap_or(Instant::NEVER));
        next = next.min(self.rebalance_at());
        next = next.min(self.config.deadline.unwrap_or(Instant::NEVER));
        Some(next.min(self.agenda.next()))
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

    /// Chunks that as many receivers have acknowledged as are wanted.
    pub fn acked(&self) -> &RangeSet {
        self.acked.last().unwrap_or(&NOTHING)
    }

    /// Chunks that this receiver has acknowledged.
    pub fn acked_by(&self, lane: usize) -> &RangeSet {
        self.lanes[lane].acked()
    }

    /// How many receivers there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Chunks that one receiver was sent and is expected to acknowledge.
    pub fn in_flight(&self, lane: usize) -> usize {
        self.lanes[lane].in_flight()
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
