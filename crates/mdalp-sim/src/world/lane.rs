//! What the checks remember of one receiver of one transfer.
//!
//! A second book beside the lane's own: what was sent, what timed out, whether an ack is news.

use super::checks::Truth;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::{LaneState, LaneStats, Transfer, TransferConfig};
use mdalp_proto::wire::{Message, decode};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct LaneCheck {
    tid: TransactionId,
    window: usize,
    sent: RangeSet,
    first_sent: Option<Instant>,
    unproven: u32,
    /// The last timeout without an ack since: when, how long the next, acked chunks then.
    timeout: Option<(Instant, Duration, u64)>,
}

/// Sums over all lanes; `bytes` are those that count as acknowledged.
pub(crate) fn totals(transfer: &Transfer) -> LaneStats {
    let mut sum = LaneStats { bytes: transfer.acked_bytes(), ..LaneStats::default() };
    for lane in 0..transfer.lanes() {
        let stats = transfer.stats(lane);
        sum.datagrams += stats.datagrams;
        sum.optimistic_acks += stats.optimistic_acks;
        sum.duplicate_acks += stats.duplicate_acks;
    }
    sum
}

impl LaneCheck {
    pub(crate) fn new(tid: TransactionId, window: u16) -> Self {
        Self {
            tid,
            window: usize::from(window.max(1)),
            sent: RangeSet::new(),
            first_sent: None,
            unproven: 0,
            timeout: None,
        }
    }

    pub(crate) fn was_sent(&self, seq: u64) -> bool {
        self.sent.contains(seq)
    }

    pub(crate) fn note_sent(&mut self, seq: u64) -> bool {
        self.sent.insert(seq)
    }

    /// Whether a datagram from this receiver says anything new: the first ack of a chunk, or what
    /// the servers think of the whole.
    pub(crate) fn is_news(&self, transfer: &Transfer, lane: usize, bytes: &[u8]) -> bool {
        match decode(bytes) {
            Ok(Message::Ack { tid, seq, .. }) if tid == self.tid => {
                self.sent.contains(seq.0) && !transfer.acked_by(lane).contains(seq.0)
            }
            Ok(Message::SealReply { tid, .. }) => tid == self.tid,
            _ => false,
        }
    }

    /// A transmission: budgets towards strangers (9) and the window (10). Returns whether the chunk
    /// had been sent here before.
    pub(crate) fn sends(
        &mut self,
        truth: &mut Truth,
        transfer: &Transfer,
        lane: usize,
        seq: u64,
        now: Instant,
    ) -> bool {
        let again = !self.sent.insert(seq);
        let in_flight = transfer.in_flight(lane);
        truth.i10_window(in_flight, self.window);
        let first = *self.first_sent.get_or_insert(now);
        if transfer.acked_by(lane).is_empty() {
            self.unproven += 1;
            truth.i09_unproven(self.unproven, in_flight, now - first);
        }
        again
    }

    /// A timeout at `now`, in the client's own time.
    pub(crate) fn timed_out(
        &mut self,
        truth: &mut Truth,
        transfer: &Transfer,
        lane: usize,
        now: Instant,
        next: Duration,
    ) {
        let acked = transfer.acked_by(lane).len();
        if let Some((at, before, acked_then)) = self.timeout
            && acked_then == acked
            && transfer.in_flight(lane) > 0
        {
            truth.i22_backoff(before, now - at, next);
        }
        self.timeout = Some((now, next, acked));
    }
}

/// 21 and 27, after each input.
pub(crate) fn check_timers(
    truth: &mut Truth,
    transfer: &Transfer,
    config: &TransferConfig,
    now: Instant,
    next: Option<Instant>,
) {
    if transfer.outcome().is_some() {
        return;
    }
    let mut limit = config.suspect_probe;
    for lane in 0..transfer.lanes() {
        let suspect = transfer.state(lane) == LaneState::Suspect;
        if !suspect && transfer.in_flight(lane) > 0 {
            // Backed-off timeouts are spread by up to 5 %.
            limit = config.rto.max * 21 / 20;
        }
        if !suspect && let Some(since) = transfer.waiting_since(lane) {
            truth.i27_silence_is_suspect(now - since, config.suspect_after);
        }
    }
    truth.i21_timer_is_armed(next.map(|next| next - now), limit);
}
