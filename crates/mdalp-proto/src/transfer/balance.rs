//! Who has which chunks: what becomes of a silent receiver's, and when a policy moves some.
//!
//! Moves chunks between lanes and sends what they then allow. Whether a move is wise is the policy's
//! business; that no chunk is lost or sent where it is already, is this module's.

use super::{Event, LaneState, LaneView, Move, MoveReason, Transfer};
use crate::ranges::RangeSet;
use crate::split::byte_shares;
use crate::time::Instant;
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

/// The policy looks at all lanes at once. Each input pays for so many, so that it costs no more among a
/// thousand receivers than among these: with more, the policy is asked less often.
const PAID: usize = 32;
/// How long it waits at most until it is asked again when an input did not pay for all.
const PATIENCE: Duration = Duration::from_millis(1);

/// Refusals that make a receiver suspect, and over how long they must come (F25).
const REFUSALS: (u32, Duration) = (3, Duration::from_secs(2));

/// What the transfer keeps about a lane that is no lane's business.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LaneExtra {
    pub(super) was_suspect: bool,
    pub(super) active_since: Instant,
    pub(super) next_probe: Instant,
    pub(super) refusals: u32,
    first_refusal: Instant,
}

/// When the policy was asked last, and when it is asked again.
#[derive(Debug, Default)]
pub(super) struct Asking {
    at: Instant,
    /// Lanes that were paid for since.
    paid: usize,
    /// It was not asked since although something happened.
    postponed: bool,
    /// The policy wanted a move that could not be made.
    stuck: bool,
    /// Timers since the last ack or move: the more, the longer it is not asked without reason.
    pub(super) vain: u32,
    /// What the policy said about when to ask it again, if it need not say so each time.
    due: Cell<Option<Instant>>,
}

impl Asking {
    pub(super) fn new(now: Instant) -> Self {
        Self { at: now, ..Self::default() }
    }
}

impl Transfer {
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
            self.note_changes();
        }
    }

    pub(super) fn probe_suspect(&mut self, now: Instant, at: usize) {
        if now < self.extras[at].next_probe {
            return;
        }
        self.extras[at].next_probe = now + self.probe_interval();
        let Some(acked) = self.acked.last() else { return };
        // Not what it has: its ack would be no second copy.
        let mut missing = acked.missing_below(self.layout.chunks());
        missing.subtract(self.lanes[at].acked());
        let Some(last) = missing.last() else { return };
        let send = self.lanes[at].probe(|seq| !acked.contains(seq), last);
        self.shared = true;
        self.sent_twice.insert(send.seq.0);
        self.transmit(at, send);
    }

    /// Something was sent to it: if it is a suspect, that is question enough for now.
    pub(super) fn put_off_probe(&mut self, now: Instant, at: usize) {
        if self.lanes[at].state == LaneState::Suspect {
            self.extras[at].next_probe = now + self.probe_interval();
        }
    }

    /// Rarely while others answer; as often as the protocol allows when nobody does.
    pub(super) fn probe_interval(&self) -> Duration {
        let somebody = self.lanes.iter().any(|lane| lane.state == LaneState::Active);
        if somebody { self.config.suspect_probe } else { self.config.rto.max }
    }

    fn may_move(&self) -> bool {
        self.config.reassign && self.policy.reassigns()
    }

    pub(super) fn suspect(&mut self, now: Instant, at: usize) {
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
    pub(super) fn drain_suspects(&mut self, now: Instant) {
        self.note_changes();
        if !self.agenda.anybody_gives() || !self.may_move() {
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
            let mut chunks = self.lanes[from].work();
            if self.acked.len() > 1 {
                // What everybody else has stays, and goes out again when its time comes.
                let lacks = |seq: &u64| takers.iter().any(|&to| !self.lanes[to].has(*seq));
                chunks = chunks.iter().flatten().filter(lacks).map(|seq| seq..=seq).collect();
            }
            self.lanes[from].take(&chunks);
            if chunks.is_empty() && self.lanes[from].has_work() {
                continue;
            }
            self.extras[from].next_probe = now + self.probe_interval();
            let parts = if self.acked.len() > 1 {
                self.parts_with_copies(from, &takers, &chunks)
            } else {
                self.parts_by_cost(now, &takers, &mut chunks)
            };
            for (&to, part) in takers.iter().zip(parts) {
                let what = Move { from, to, chunks: part.len(), reason: MoveReason::Suspect };
                self.hand_over(now, what, &part);
            }
        }
    }

    /// Divides `chunks` by what one more costs each taker.
    fn parts_by_cost(
        &self,
        now: Instant,
        takers: &[usize],
        chunks: &mut RangeSet,
    ) -> Vec<RangeSet> {
        let cost = |&to: &usize| self.lanes[to].service_time(now).map_or(1.0, |c| c.as_secs_f64());
        let costs: Vec<f64> = takers.iter().map(cost).collect();
        let portions = byte_shares(chunks.len(), &costs);
        portions.into_iter().map(|portion| chunks.split_off_last(portion)).collect()
    }

    /// Divides `chunks` among takers that do not have them yet; what everybody has stays where it
    /// was.
    fn parts_with_copies(
        &mut self,
        from: usize,
        takers: &[usize],
        chunks: &RangeSet,
    ) -> Vec<RangeSet> {
        let mut parts = vec![RangeSet::new(); takers.len()];
        let mut stays = RangeSet::new();
        for seq in chunks.iter().flatten() {
            let lacks = |n: &usize| !self.lanes[takers[*n]].has(seq);
            let least = (0..takers.len()).filter(lacks).min_by_key(|&n| parts[n].len());
            least.map_or(&mut stays, |n| &mut parts[n]).insert(seq);
        }
        self.lanes[from].assign(&stays);
        parts
    }

    pub(super) fn hand_over(&mut self, now: Instant, what: Move, chunks: &RangeSet) {
        if !chunks.is_empty() {
            if matches!(what.reason, MoveReason::Idle | MoveReason::Returned) {
                // Of what was queued only that was ever sent which counts as lost.
                let lost = self.lanes[what.from].given_away.keys();
                let lost = lost.filter(|seq| chunks.contains(**seq)).map(|&seq| seq..=seq);
                self.sent_twice.union_with(&lost.collect());
            } else {
                self.sent_twice.union_with(chunks);
            }
            self.lanes[what.to].assign(chunks);
            self.shared = true;
            self.events.push_back(Event::Moved { what });
            self.pump(now, what.to);
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

    fn may_rebalance(&self) -> bool {
        self.outcome.is_none() && self.may_move() && self.agenda.anybody_idle()
    }

    /// Lets the policy move chunks, as long as it finds something to improve.
    pub(super) fn rebalance(&mut self, now: Instant) {
        self.note_changes();
        let lanes = self.lanes.len();
        let paid = lanes.min(self.asking.paid + PAID);
        if !self.may_rebalance() {
            self.asking = Asking { paid, vain: self.asking.vain, ..Asking::new(now) };
            return;
        }
        if paid < lanes && now < self.rebalance_at() {
            (self.asking.paid, self.asking.postponed) = (paid, true);
            return;
        }
        self.asking = Asking { vain: self.asking.vain, ..Asking::new(now) };
        let mut view = self.views(now);
        // Each round gives an idle lane work, so that there are at most as many rounds as lanes.
        for _ in 0..lanes {
            let Some(what) = self.policy.rebalance(&view) else {
                if lanes > PAID {
                    self.asking.due.set(Some(self.due(&view)));
                }
                return;
            };
            let copies = self.acked.len() > 1;
            let chunks = if what.chunks == 0 {
                // To each receiver once: passed around, a chunk would be sent again and again in an
                // outage without the timeouts ever backing off.
                let oldest = self.lanes[what.from].oldest_unshared().map(|(seq, _)| seq);
                let new = oldest.filter(|&seq| !self.lanes[what.to].was_sent(seq));
                if let Some(seq) = new {
                    self.lanes[what.from].share(seq);
                }
                new.into_iter().map(|seq| seq..=seq).collect()
            } else {
                let chunks = self.lanes[what.from].take_queued(what.chunks);
                if copies {
                    let parts = self.parts_with_copies(what.from, &[what.to], &chunks);
                    parts.into_iter().next().unwrap_or_default()
                } else {
                    chunks
                }
            };
            if chunks.is_empty() {
                self.asking.stuck = true;
                return;
            }
            let what = Move { chunks: chunks.len(), ..what };
            self.asking.vain = 0;
            self.hand_over(now, what, &chunks);
            for at in [what.from, what.to] {
                view[at] = self.view(now, at);
            }
        }
    }

    fn views(&self, now: Instant) -> Vec<LaneView> {
        (0..self.lanes.len()).map(|at| self.view(now, at)).collect()
    }

    fn view(&self, now: Instant, at: usize) -> LaneView {
        let lane = &self.lanes[at];
        LaneView {
            state: lane.state,
            was_suspect: self.extras[at].was_suspect,
            queued: lane.queued(),
            in_flight: lane.in_flight() as u64,
            has_room: lane.has_room(),
            service: lane.service_time(now),
            rtt: lane.rtt.srtt(),
            oldest: lane.owing_since().map(|sent| now - sent),
            unshared: lane.oldest_unshared().map(|(_, sent)| now - sent),
        }
    }

    /// When the policy might find something to improve although nothing else happens.
    pub(super) fn rebalance_at(&self) -> Instant {
        if !self.may_rebalance() {
            return Instant::NEVER;
        }
        let known = self.asking.due.get();
        let due = known.unwrap_or_else(|| self.due(&self.views(self.asking.at)));
        if self.lanes.len() > PAID {
            self.asking.due.set(Some(due));
        }
        if self.asking.postponed { due.min(self.asking.at + PATIENCE) } else { due }
    }

    fn due(&self, view: &[LaneView]) -> Instant {
        // Never at once: a move that cannot be made must not keep the timer due.
        let rto = &self.config.rto;
        let patient = rto.min.saturating_mul(1 << (self.asking.vain / 16).min(16)).min(rto.max);
        let least = if self.asking.stuck { rto.max } else { patient };
        let wait = self.policy.due_in(view);
        wait.map_or(Instant::NEVER, |wait| self.asking.at + wait.max(least))
    }
}
