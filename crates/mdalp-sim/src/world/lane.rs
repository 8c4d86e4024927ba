//! What the checks remember of one receiver of one transfer.
//!
//! A second book beside the lane's own: what was sent, what timed out, whether an ack is news.

use super::checks::Truth;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::{LaneState, LaneStats, Transfer, TransferConfig, Transmit};
use mdalp_proto::wire::{Message, decode};
use std::time::Duration;

/// Transmissions without an ack, after which it is no accident that nobody became suspect.
const MANY: u32 = 16;

#[derive(Debug)]
pub(crate) struct LaneCheck {
    tid: TransactionId,
    window: usize,
    sent: RangeSet,
    first_sent: Option<Instant>,
    unproven: u32,
    /// The last timeout without an ack since: when, how long the next, acked chunks then.
    timeout: Option<(Instant, Duration, u64)>,
    /// The servers missed chunks: what is known of acks before that counts no more.
    repaired: bool,
    /// Counts at the last look.
    mismatches: u64,
    optimistic: u64,
    /// In the client's own time: the last transmission, the last change of state.
    last_sent: Option<Instant>,
    changed: Instant,
    /// Chunks acked at the last look, and since when the number has been the same with something in
    /// flight, and transmissions since.
    acked: u64,
    silent: Option<(Instant, u32)>,
    /// Refusals without an ack in between: since when, acked chunks then, how many.
    hints: Option<(Instant, u64, u32)>,
    /// Since when it has been suspect and kept what somebody else could send.
    keeps: Option<Instant>,
}

/// What a datagram says that was not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    Nothing,
    /// That this chunk has arrived.
    Ack(u64),
    /// What the servers think of the whole.
    Verdict,
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
            repaired: false,
            mismatches: 0,
            optimistic: 0,
            last_sent: None,
            changed: Instant::ZERO,
            acked: 0,
            silent: None,
            hints: None,
            keeps: None,
        }
    }

    /// The book of a send that goes on at `now`, after this was acknowledged.
    pub(crate) fn after(mut self, held: &RangeSet, now: Instant) -> Self {
        self.sent.union_with(held);
        (self.acked, self.changed) = (held.len(), now);
        self
    }

    pub(crate) fn was_sent(&self, seq: u64) -> bool {
        self.sent.contains(seq)
    }

    pub(crate) fn note_sent(&mut self, seq: u64) -> bool {
        self.sent.insert(seq)
    }

    pub(crate) fn has_forgotten(&self) -> bool {
        self.repaired
    }

    pub(crate) fn forget(&mut self) {
        self.repaired = true;
    }

    /// The host says that nobody listens: a hint, that must come three times over two seconds before
    /// the receiver is `suspected` for it (F25).
    pub(crate) fn refused(
        &mut self,
        truth: &mut Truth,
        local: Instant,
        acked: u64,
        suspected: bool,
    ) {
        let fresh = (local, acked, 0);
        let hints = self.hints.get_or_insert(fresh);
        if hints.1 != acked {
            *hints = fresh;
        }
        hints.2 += 1;
        let enough = hints.2 >= 3 && local - hints.0 >= Duration::from_secs(2);
        truth.f25_refusals_are_hints(enough || !suspected);
    }

    /// Its state has changed.
    pub(crate) fn changed(&mut self, local: Instant) {
        self.changed = local;
    }

    /// What a datagram from this receiver says.
    pub(crate) fn news(&self, transfer: &Transfer, lane: usize, bytes: &[u8]) -> News {
        match decode(bytes) {
            Ok(Message::Ack { tid, seq, .. }) if tid == self.tid => {
                let news = self.sent.contains(seq.0) && !transfer.acked_by(lane).contains(seq.0);
                if news { News::Ack(seq.0) } else { News::Nothing }
            }
            Ok(Message::SealReply { tid, .. }) if tid == self.tid => News::Verdict,
            _ => News::Nothing,
        }
    }

    /// After a datagram from this receiver: an honest ack counts, however late (3, 26), and sixteen
    /// that cannot be true make it suspect (H40).
    pub(crate) fn check_heard(
        &mut self,
        truth: &mut Truth,
        transfer: &Transfer,
        lane: usize,
        news: Option<News>,
    ) {
        let stats = transfer.stats(lane);
        if let Some(News::Ack(seq)) = news {
            let damaged = stats.crc_mismatches > self.mismatches;
            let counts = damaged || self.repaired || transfer.acked_by(lane).contains(seq);
            truth.i03_ack_counts(counts || transfer.outcome().is_some(), seq);
        }
        if (self.optimistic..stats.optimistic_acks).contains(&15) {
            truth.h40_liar_is_suspect(transfer.state(lane) == LaneState::Suspect);
        }
        (self.mismatches, self.optimistic) = (stats.crc_mismatches, stats.optimistic_acks);
    }

    /// A transmission: budgets towards strangers (9) and the window (10), and suspects are asked
    /// rarely (22). Returns whether the chunk had been sent here before. `now` is the world's time,
    /// `local` the client's.
    pub(crate) fn sends(
        &mut self,
        truth: &mut Truth,
        transfer: &Transfer,
        transmit: &Transmit,
        (now, local): (Instant, Instant),
        pause: Duration,
    ) -> bool {
        let lane = transmit.lane;
        let again = !self.sent.insert(transmit.seq.0);
        let in_flight = transfer.in_flight(lane);
        truth.i10_window(in_flight, self.window);
        self.count_unproven(truth, transfer, lane, in_flight, now);
        // With nothing in flight it is a question to a suspect; but what waited to be sent when it
        // became one still leaves.
        let asks = transmit.attempt > 1 && in_flight == 0 && self.changed < local;
        if let Some(last) = self.last_sent.replace(local)
            && asks
            && transfer.state(lane) == LaneState::Suspect
        {
            truth.i22_suspect_is_asked_rarely(local - last, pause);
        }
        if let Some((_, sent)) = &mut self.silent {
            *sent += 1;
        }
        again
    }

    /// A question whether all is there: no chunk, but it counts towards strangers (9).
    pub(crate) fn asks(
        &mut self,
        truth: &mut Truth,
        transfer: &Transfer,
        lane: usize,
        now: Instant,
    ) {
        self.count_unproven(truth, transfer, lane, transfer.in_flight(lane) + 1, now);
    }

    fn count_unproven(
        &mut self,
        truth: &mut Truth,
        transfer: &Transfer,
        lane: usize,
        in_flight: usize,
        now: Instant,
    ) {
        let first = *self.first_sent.get_or_insert(now);
        if transfer.acked_by(lane).is_empty() {
            self.unproven += 1;
            truth.i09_unproven(self.unproven, in_flight, now - first);
        }
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

/// 18: complete means that as many receivers have each chunk as were wanted.
pub(crate) fn check_holders(truth: &mut Truth, transfer: &Transfer, copies: usize, chunks: u64) {
    let copies = copies.clamp(1, transfer.lanes().max(1));
    for seq in 0..chunks {
        let lanes = 0..transfer.lanes();
        let holders = lanes.filter(|&lane| transfer.acked_by(lane).contains(seq)).count();
        truth.check(holders >= copies, 18, || format!("{holders} have chunk {seq}, not {copies}"));
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

/// 26 and 27, after each input, from what the lanes did and not from what they say: who stays silent
/// becomes suspect, and what a suspect has goes to those who answer.
pub(crate) fn check_silence(
    truth: &mut Truth,
    transfer: &Transfer,
    lanes: &mut [LaneCheck],
    config: &TransferConfig,
    now: Instant,
    moves: bool,
) {
    if transfer.outcome().is_some() {
        return;
    }
    let answers = |at: usize, lane: &LaneCheck| {
        matches!(transfer.state(at), LaneState::Active | LaneState::Done)
            && now - lane.changed > config.rto.max
            && lane.silent.is_none_or(|(since, _)| now - since < config.suspect_after / 4)
    };
    let taker = moves && lanes.iter().enumerate().any(|(at, lane)| answers(at, lane));
    for (at, lane) in lanes.iter_mut().enumerate() {
        let (acked, in_flight) = (transfer.acked_by(at).len(), transfer.in_flight(at));
        let suspect = transfer.state(at) == LaneState::Suspect;
        if acked != lane.acked || in_flight == 0 || suspect {
            (lane.acked, lane.silent) = (acked, None);
        }
        if in_flight > 0 && !suspect {
            let (since, sent) = *lane.silent.get_or_insert((now, 0));
            // Chunks that others got acknowledged begin a new wait; few are sent more than once then.
            let late = now - since > config.suspect_after * 2 && sent >= MANY;
            truth.i27_silence_is_suspect(
                if late { now - since } else { Duration::ZERO },
                config.suspect_after,
            );
        }
        if suspect && in_flight > 0 && taker {
            let since = *lane.keeps.get_or_insert(now);
            truth.i26_suspect_keeps_nothing(now - since, config.rto.max * 2);
        } else {
            lane.keeps = None;
        }
    }
}
