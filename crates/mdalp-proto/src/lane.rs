//! One receiver of a transfer: what is queued for it, what is in flight, and when to send it again.
//!
//! Stop-and-wait is this same code with a window of one. A lane sends what it is given and
//! says what was acknowledged; which chunks it gets, and what becomes of them when it falls silent,
//! is decided by [`crate::transfer`].

mod recovery;
mod state;
mod window;

use crate::ids::{ReceiverAddr, SequenceNumber};
use crate::ranges::RangeSet;
use crate::rtt::{RtoConfig, RttEstimator};
use crate::time::Instant;
use crate::transfer::Target;
use crate::wire::ChunkCrc;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use window::ByteWindow;

pub use state::{LaneState, LaneStats};

/// How many chunks may be in flight before the first ack proves that the receiver wants them (H27).
const UNPROVEN_WINDOW: usize = 3;

/// A chunk that was sent and is not acknowledged.
#[derive(Clone, Copy, Debug)]
struct Flight {
    seq: u64,
    bytes: u64,
    first_sent: Instant,
    last_sent: Instant,
    /// Counts transmissions: several at the same moment are in order, too.
    order: u64,
    sends: u32,
    crc: Option<ChunkCrc>,
    /// Another lane sends it as well.
    shared: bool,
}

/// What an ack meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AckOutcome {
    /// Something that was in flight here, or had been before it was given to another lane.
    New { rtt: Option<Duration> },
    /// Nothing: duplicate, never sent, or not the chunk that was sent.
    Ignored,
}

/// One receiver's share of the work.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) addr: ReceiverAddr,
    pub(crate) state: LaneState,
    pub(crate) stats: LaneStats,
    pub(crate) rtt: RttEstimator,
    pub(crate) uses_crc: bool,
    pub(crate) can_seal: bool,
    pub(crate) records: bool,
    /// As measured before the transfer, in a unit that all lanes share.
    pub(crate) latency: f64,
    window: usize,
    /// Only a window of more than one is ever held back by it.
    bytes: ByteWindow,
    /// Until when it holds the next chunk back, if it does.
    held_until: Option<Instant>,
    /// Assigned and to be sent, first number first.
    queue: RangeSet,
    /// Sent and not acknowledged, in the order of the last transmission.
    flights: VecDeque<Flight>,
    /// Sent here and no longer in flight (lost, or another lane's now), with the CRC it was sent
    /// with: an ack from here still counts (invariant 26).
    pub(crate) given_away: BTreeMap<u64, Option<ChunkCrc>>,
    acked: RangeSet,
    /// Acknowledged once and then found missing: the next ack may be a late copy of that one.
    repeated: RangeSet,
    transmissions: u64,
    /// The newest transmission that was acknowledged: earlier ones are overtaken.
    newest_acked: u64,
    /// Retransmission timer.
    rto_at: Option<Instant>,
    /// When the oldest overtaken chunk counts as lost.
    loss_at: Option<Instant>,
    /// Since when an answer is owed.
    waiting_since: Option<Instant>,
    /// Since when an ack is awaited of a chunk that another receiver has acknowledged meanwhile; until
    /// any ack comes.
    owed_since: Option<Instant>,
    /// Smoothed time from ack to ack while there was work: what one chunk costs here.
    service: Option<Duration>,
    busy_since: Instant,
}

/// What a lane wants to send now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Send {
    pub(crate) seq: SequenceNumber,
    pub(crate) attempt: u32,
}

impl Lane {
    pub(crate) fn new(target: &Target, rto: RtoConfig) -> Self {
        Self {
            addr: target.addr,
            state: LaneState::Probing,
            stats: LaneStats::default(),
            rtt: RttEstimator::new(rto),
            uses_crc: target.crc,
            can_seal: target.seal,
            records: target.record,
            latency: target.latency,
            window: usize::from(target.window.max(1)),
            bytes: ByteWindow::new(),
            held_until: None,
            queue: RangeSet::new(),
            flights: VecDeque::new(),
            given_away: BTreeMap::new(),
            acked: RangeSet::new(),
            repeated: RangeSet::new(),
            transmissions: 0,
            newest_acked: 0,
            rto_at: None,
            loss_at: None,
            waiting_since: None,
            owed_since: None,
            service: None,
            busy_since: Instant::ZERO,
        }
    }

    /// Chunks assigned and not yet sent.
    pub(crate) fn queued(&self) -> u64 {
        self.queue.len()
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn acked(&self) -> &RangeSet {
        &self.acked
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.flights.is_empty()
    }

    pub(crate) fn assign(&mut self, chunks: &RangeSet) {
        self.queue.union_with(chunks);
        for flight in &mut self.flights {
            // On its way already; but now nobody else's.
            flight.shared &= !self.queue.remove(flight.seq);
        }
    }

    /// Whether this receiver has the chunk, or is to get it: another copy belongs elsewhere.
    pub(crate) fn has(&self, seq: u64) -> bool {
        self.acked.contains(seq) || self.sends(seq)
    }

    /// Whether the chunk is queued or in flight here.
    pub(crate) fn sends(&self, seq: u64) -> bool {
        self.queue.contains(seq) || self.flights.iter().any(|flight| flight.seq == seq)
    }

    /// Whether this receiver has the chunk, is to get it, or was sent it before.
    pub(crate) fn was_sent(&self, seq: u64) -> bool {
        self.given_away.contains_key(&seq) || self.has(seq)
    }

    /// These chunks, of so many bytes, were acknowledged in an earlier run.
    pub(crate) fn restore(&mut self, held: &RangeSet, bytes: u64) {
        self.acked = held.clone();
        self.stats.chunks = held.len();
        self.stats.bytes = bytes;
        self.queue.subtract(held);
    }

    /// These chunks need not be sent.
    pub(crate) fn drop_queued(&mut self, chunks: &RangeSet) {
        self.queue.subtract(chunks);
    }

    /// The servers say that these chunks are not there: they must be sent as if they never were.
    pub(crate) fn forget(&mut self, chunks: &RangeSet) {
        self.repeated.union_with(&self.acked);
        self.acked.subtract(chunks);
        self.repeated.subtract(&self.acked);
    }

    /// Takes up to `count` of the last queued chunks away.
    pub(crate) fn take_queued(&mut self, count: u64) -> RangeSet {
        self.queue.split_off_last(count)
    }

    /// All that is queued, or in flight and sent by no other lane.
    pub(crate) fn work(&self) -> RangeSet {
        let unshared = self.flights.iter().filter(|flight| !flight.shared);
        unshared.map(|flight| flight.seq..=flight.seq).chain(self.queue.iter()).collect()
    }

    /// Takes these away, and what another lane sends as well; what was in flight may still be
    /// acknowledged.
    pub(crate) fn take(&mut self, chunks: &RangeSet) {
        self.queue.subtract(chunks);
        let goes = |flight: &Flight| flight.shared || chunks.contains(flight.seq);
        let (taken, kept): (VecDeque<Flight>, _) = self.flights.drain(..).partition(goes);
        self.flights = kept;
        self.given_away.extend(taken.into_iter().map(|flight| (flight.seq, flight.crc)));
        self.rest_if_idle();
    }

    /// The chunk that was sent longest ago of those that only this lane sends, and when that was.
    pub(crate) fn oldest_unshared(&self) -> Option<(u64, Instant)> {
        let flight = self.flights.iter().find(|flight| !flight.shared)?;
        Some((flight.seq, flight.first_sent))
    }

    /// Another lane sends this chunk as well.
    pub(crate) fn share(&mut self, seq: u64) {
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.seq == seq) {
            flight.shared = true;
        }
    }

    /// Since when the ack is awaited that is due first.
    pub(crate) fn owing_since(&self) -> Option<Instant> {
        self.owed_since.or(self.flights.front().map(|flight| flight.first_sent))
    }

    /// Whether the window has room for one more chunk.
    pub(crate) fn has_room(&self) -> bool {
        self.flights.len() < self.window
    }

    /// Another lane's receiver has acknowledged this chunk: it need not be sent.
    pub(crate) fn cancel(&mut self, seq: u64) {
        self.queue.remove(seq);
        let at = self.flights.iter().position(|f| f.seq == seq);
        if let Some(flight) = at.and_then(|at| self.flights.remove(at)) {
            // It may still arrive, and its ack is no optimistic one.
            self.owed_since.get_or_insert(flight.first_sent);
            self.given_away.insert(seq, flight.crc);
        }
        self.rest_if_idle();
    }

    /// Nothing in flight: nothing to wait for.
    fn rest_if_idle(&mut self) {
        if self.flights.is_empty() {
            (self.rto_at, self.loss_at) = (None, None);
            self.waiting_since = None;
        }
    }

    /// How many chunks may be in flight now.
    pub(crate) fn room(&self) -> usize {
        match self.state {
            LaneState::Probing => self.window.min(UNPROVEN_WINDOW),
            LaneState::Active | LaneState::Done => self.window,
            // A suspect is asked with one chunk at a time, by its timer.
            LaneState::Suspect => 1,
        }
    }

    /// Whether all that it was given has left, once and to nobody else, and nothing hints at a loss.
    pub(crate) fn has_sent_all_once(&self) -> bool {
        self.queue.is_empty()
            && self.given_away.is_empty()
            && self.state != LaneState::Suspect
            && self.flights.iter().all(|flight| flight.sends == 1 && !flight.shared)
    }

    /// The next chunk to send, if the window has room; it counts as sent at `now`.
    pub(crate) fn next_send(
        &mut self,
        now: Instant,
        bytes_of: impl Fn(u64) -> u64,
    ) -> Option<Send> {
        self.held_until = None;
        if self.flights.len() >= self.room() {
            return None;
        }
        let seq = self.queue.first()?;
        let bytes = bytes_of(seq);
        if !self.bytes.has_room(self.flights.iter().map(|f| f.bytes).sum(), bytes) {
            return None;
        }
        self.held_until = self.bytes.held_until(now);
        if self.held_until.is_some() {
            return None;
        }
        self.bytes.note_sent(now, bytes);
        self.queue.remove(seq);
        if self.flights.is_empty() {
            self.rto_at = Some(now + self.rtt.rto());
            self.busy_since = now;
        }
        self.waiting_since.get_or_insert(now);
        // With its CRC: an ack of the earlier transmission may still come.
        let before = self.given_away.remove(&seq);
        let sent_before = before.is_some() || self.repeated.contains(seq);
        let sends = if sent_before { 2 } else { 1 };
        self.stats.datagrams += 1;
        self.transmissions += 1;
        self.flights.push_back(Flight {
            seq,
            bytes,
            first_sent: now,
            last_sent: now,
            order: self.transmissions,
            sends,
            crc: before.flatten(),
            shared: false,
        });
        self.stats.retransmissions += u64::from(sent_before);
        Some(Send { seq: SequenceNumber(seq), attempt: sends })
    }

    /// Whether an ack with `crc` can be of a chunk that was sent with `sent`.
    fn proves(&self, crc: Option<ChunkCrc>, sent: Option<ChunkCrc>) -> bool {
        !self.uses_crc || (crc.is_some() && crc == sent)
    }

    /// Notes the CRC that a chunk was sent with.
    pub(crate) fn note_crc(&mut self, seq: SequenceNumber, crc: ChunkCrc) {
        if let Some(flight) = self.flights.iter_mut().find(|f| f.seq == seq.0) {
            flight.crc = Some(crc);
        } else if let Some(sent) = self.given_away.get_mut(&seq.0) {
            *sent = Some(crc);
        }
    }

    /// A datagram that was to be sent did not leave, because there is no more need for it.
    pub(crate) fn not_sent(&mut self, send: Send) {
        self.stats.datagrams -= 1;
        self.stats.retransmissions -= u64::from(send.attempt > 1);
        if send.attempt == 1 {
            // No ack can be of it.
            self.given_away.remove(&send.seq.0);
            self.owed_since = None;
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub(crate) fn timer(&self) -> Option<Instant> {
        self.rto_at.into_iter().chain(self.loss_at).chain(self.held_until).min()
    }

    /// Since when the receiver owes an answer.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// A chunk sent to a suspect although another lane has it, to see whether it is back: one that
    /// it was sent before if `wanted` still asks for it, else `fallback`.
    pub(crate) fn probe(&mut self, wanted: impl Fn(u64) -> bool, fallback: u64) -> Send {
        let seq = self.given_away.keys().copied().find(|&seq| wanted(seq)).unwrap_or(fallback);
        self.given_away.entry(seq).or_default();
        self.stats.datagrams += 1;
        self.stats.retransmissions += 1;
        Send { seq: SequenceNumber(seq), attempt: 2 }
    }

    /// Gives the lane up for now: it is asked rarely until it answers.
    pub(crate) fn suspect(&mut self) {
        self.state = LaneState::Suspect;
    }

    /// What one more chunk costs here: the smoothed time between acks, or, if that is longer, how
    /// long the present ack is overdue; `None` before the first ack.
    pub(crate) fn service_time(&self, now: Instant) -> Option<Duration> {
        let overdue = if self.flights.is_empty() { Duration::ZERO } else { now - self.busy_since };
        let heard = !self.acked.is_empty();
        heard.then(|| self.service.unwrap_or_else(|| self.rtt.rto()).max(overdue))
    }
}

#[cfg(test)]
mod tests;
