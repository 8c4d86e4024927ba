//! How a payload is spread over receivers, and when chunks move between them.
//!
//! A policy sees figures and answers with figures; it sends nothing and keeps no chunk. A fourth
//! policy is one more implementation of [`Policy`].

use crate::lane::LaneState;
use crate::split::byte_shares;
use std::time::Duration;

/// What a policy sees of one receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneView {
    /// Whether it answers.
    pub state: LaneState,
    /// Whether it was ever suspect: what it had was given to others then.
    pub was_suspect: bool,
    /// Chunks assigned and not yet sent.
    pub queued: u64,
    /// Chunks sent and not acknowledged.
    pub in_flight: u64,
    /// Whether one more chunk may be in flight.
    pub has_room: bool,
    /// What one chunk costs here, from ack to ack; `None` before the first ack.
    pub service: Option<Duration>,
    /// From sending a chunk to its ack, once measured: longer than `service` with a window.
    pub rtt: Option<Duration>,
    /// For how long the ack that is due first has been awaited.
    pub oldest: Option<Duration>,
    /// For how long the chunk has been in flight that was sent longest ago of those that no other
    /// receiver is sent as well.
    pub unshared: Option<Duration>,
}

impl LaneView {
    /// Whether it would take more at once.
    fn is_idle(&self) -> bool {
        self.queued == 0 && self.has_room && self.state == LaneState::Active
    }

    /// Chunks it has, sent or not.
    fn chunks(&self) -> u64 {
        self.queued + self.in_flight
    }

    /// How long until the ack of a chunk that is sent now. Once an ack is late, at least as long as that
    /// has been awaited: the longer a silence, the longer it lasts.
    fn new_ack(&self) -> Duration {
        self.usual().max(self.oldest.unwrap_or_default())
    }

    /// How long until its next ack. Of what is in flight, once it is late, as much longer again as it is
    /// late; the same without any ack so far, where the usual is not known.
    fn next_ack(&self) -> Duration {
        match self.in_flight {
            0 => self.new_ack(),
            _ => self.usual().abs_diff(self.oldest.unwrap_or_default()),
        }
    }

    /// From sending a chunk to its ack; zero if that is not known.
    fn usual(&self) -> Duration {
        self.rtt.or(self.service).unwrap_or_default()
    }

    /// What each further chunk costs.
    fn cost(&self) -> Duration {
        let cost = self.service.or(self.oldest).unwrap_or_default();
        cost.max(Duration::from_micros(1))
    }

    /// When acks of what it has are expected, if any.
    fn pace(&self) -> Pace {
        let counts = match self.state {
            LaneState::Suspect => false,
            LaneState::Probing => self.in_flight > 0,
            LaneState::Active | LaneState::Done => true,
        };
        Pace { next: nanos(self.next_ack()), cost: nanos(self.cost()), counts }
    }
}

/// When acks are expected of a receiver: the first, and each further one after as long again, in
/// nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Pace {
    next: u64,
    cost: u64,
    /// Whether it is counted on.
    counts: bool,
}

impl Pace {
    /// When it would be through with so many chunks.
    fn finishes_in(self, chunks: u64) -> u64 {
        self.next.saturating_add(self.cost.saturating_mul(chunks.saturating_sub(1)))
    }

    /// How many chunks it would have acknowledged by `end`.
    fn done_by(self, end: u64) -> u64 {
        match end.checked_sub(self.next) {
            Some(rest) if self.counts => 1 + rest / self.cost,
            _ => 0,
        }
    }
}

/// Centuries are as good as for ever.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Chunks that go from one receiver to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// Index of the receiver that gives.
    pub from: usize,
    /// Index of the receiver that takes.
    pub to: usize,
    /// How many of the last queued chunks; 0 means the one that has been in flight longest.
    pub chunks: u64,
    /// Why.
    pub reason: MoveReason,
}

/// Why chunks moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MoveReason {
    /// Their receiver is silent.
    Suspect,
    /// The taker had nothing left to do and would finish them sooner.
    Idle,
    /// Their ack is overdue, and the taker would have it sooner.
    Overdue,
    /// The taker was silent and is back.
    Returned,
}

impl MoveReason {
    /// The name in events and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspect => "suspect",
            Self::Idle => "idle",
            Self::Overdue => "overdue",
            Self::Returned => "returned",
        }
    }
}

/// A way to balance.
pub trait Policy: Send + std::fmt::Debug {
    /// The name on the command line and in reports.
    fn name(&self) -> &'static str;

    /// The bytes that each receiver gets at the start, in list order. They must add up to
    /// `payload`, which is sent in chunks of `chunk` bytes; there is one latency (any unit) per
    /// receiver.
    fn plan(&self, payload: u64, chunk: u16, latencies: &[f64]) -> Vec<u64>;

    /// Whether a silent receiver's chunks may go to others.
    fn reassigns(&self) -> bool {
        true
    }

    /// Whether a receiver that runs idle may get what others have; `was_suspect` if it was silent
    /// before. Where none may, [`Policy::rebalance`] is not asked.
    fn feeds(&self, _was_suspect: bool) -> bool {
        true
    }

    /// One move that makes things better now, or none. Asked again after each move that is made,
    /// and whenever a receiver runs idle or time passes.
    fn rebalance(&mut self, lanes: &[LaneView]) -> Option<Move>;

    /// How long from now [`Policy::rebalance`] may have an answer although nothing happens until
    /// then; `None` if never.
    fn due_in(&self, _lanes: &[LaneView]) -> Option<Duration> {
        None
    }
}

/// Shares by latency, fixed at the start: the classic mode 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Latency;

impl Policy for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn plan(&self, payload: u64, _: u16, latencies: &[f64]) -> Vec<u64> {
        byte_shares(payload, latencies)
    }

    /// Shares stay as they are, but a receiver that comes back gets work again.
    fn feeds(&self, was_suspect: bool) -> bool {
        was_suspect
    }

    fn rebalance(&mut self, lanes: &[LaneView]) -> Option<Move> {
        let returned = |lane: &LaneView| lane.was_suspect;
        steal_queued(lanes, returned).map(|m| Move { reason: MoveReason::Returned, ..m })
    }
}

/// Everything to one receiver: the classic mode 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Single {
    /// Its index in the list, from 0.
    pub index: usize,
}

impl Policy for Single {
    fn name(&self) -> &'static str {
        "single"
    }

    fn plan(&self, payload: u64, _: u16, latencies: &[f64]) -> Vec<u64> {
        (0..latencies.len()).map(|i| if i == self.index { payload } else { 0 }).collect()
    }

    fn reassigns(&self) -> bool {
        false
    }

    fn rebalance(&mut self, _: &[LaneView]) -> Option<Move> {
        None
    }
}

/// Shares that follow the measured rate of acknowledgement: mode 3.
///
/// Starts like [`Latency`]; a receiver that runs idle takes from the tail of the one that would
/// finish last, down to the single chunk whose ack is overdue. Needs nothing from receivers but
/// acks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Adaptive;

impl Policy for Adaptive {
    fn name(&self) -> &'static str {
        "adaptive"
    }

    /// In whole chunks, for a short one takes as long as a full one; but each receiver gets some, for
    /// only those that have answered can help when a latency turns out to be misleading.
    fn plan(&self, payload: u64, chunk: u16, latencies: &[f64]) -> Vec<u64> {
        let chunk = u64::from(chunk.max(1));
        let shares = byte_shares(payload.div_ceil(chunk), latencies);
        if shares.contains(&0) {
            return byte_shares(payload, latencies);
        }
        let mut left = payload;
        let mut take = |chunks: u64| {
            let bytes = chunks.saturating_mul(chunk).min(left);
            left -= bytes;
            bytes
        };
        shares.into_iter().map(&mut take).collect()
    }

    fn rebalance(&mut self, lanes: &[LaneView]) -> Option<Move> {
        steal_queued(lanes, |_| true).or_else(|| take_overdue(lanes))
    }

    fn due_in(&self, lanes: &[LaneView]) -> Option<Duration> {
        let to = fastest_idle(lanes, |_| true)?;
        let here = lanes[to].new_ack();
        let wait = |lane: &LaneView| Some(late_after(lane, here).saturating_sub(lane.unshared?));
        // Once its own ack is late, it is expected to take longer just as fast as others are waited for.
        let late_in = |waited| lanes[to].usual().saturating_sub(waited);
        let steady = lanes[to].oldest.map_or(Duration::MAX, late_in);
        others(lanes, to).filter_map(|(_, lane)| wait(lane)).filter(|wait| *wait <= steady).min()
    }
}

/// What is still to be acknowledged, by whom, if any lane could send any chunk. Times are nanoseconds from
/// now.
#[derive(Debug)]
struct Rest {
    chunks: u64,
    paces: Vec<Pace>,
}

impl Rest {
    fn of(lanes: &[LaneView]) -> Self {
        let chunks = lanes.iter().map(LaneView::chunks).sum();
        Self { chunks, paces: lanes.iter().map(LaneView::pace).collect() }
    }

    fn is_done_by(&self, end: u64) -> bool {
        let mut left = self.chunks;
        left == 0
            || self.paces.iter().any(|pace| {
                left = left.saturating_sub(pace.done_by(end));
                left == 0
            })
    }

    /// When everything is done, to within a thousandth: at the latest by `high`.
    fn soonest(&self, mut high: u64) -> u64 {
        let mut low = 0;
        while high - low > (high / 1024).max(1000) {
            let end = low + (high - low) / 2;
            *if self.is_done_by(end) { &mut high } else { &mut low } = end;
        }
        high
    }
}

/// An idle lane (of those that `may`) takes queued chunks from the lane that would finish last: as
/// many as it will have acknowledged before everything could be.
fn steal_queued(lanes: &[LaneView], may: impl Fn(&LaneView) -> bool) -> Option<Move> {
    let to = fastest_idle(lanes, may)?;
    let queued = lanes.iter().enumerate().filter(|(_, lane)| lane.queued > 0);
    let rest = Rest::of(lanes);
    let finish = |at: usize| rest.paces[at].finishes_in(lanes[at].chunks());
    let (from, victim) = queued.max_by_key(|(at, _)| finish(*at))?;
    let taker = rest.paces[to];
    // Where nothing comes of it, mostly one look is enough: everything cannot be done before the victim
    // is through with all it has; or it is done, clearly, before the taker would have one more.
    let one_more = taker.finishes_in(lanes[to].in_flight + 1);
    if rest.paces[from].counts && !rest.is_done_by(finish(from).saturating_sub(1))
        || rest.is_done_by((one_more - one_more / 512).saturating_sub(2000))
    {
        return None;
    }
    let busy = (0..lanes.len()).filter(|&at| lanes[at].chunks() > 0);
    let end = rest.soonest(busy.map(finish).max().unwrap_or_default());
    if end < nanos(lanes[to].new_ack()) {
        return None;
    }
    let room = taker.done_by(end).saturating_sub(lanes[to].in_flight);
    let surplus = victim.chunks().saturating_sub(rest.paces[from].done_by(end));
    let chunks = room.min(surplus).min(victim.queued);
    (chunks > 0).then_some(Move { from, to, chunks, reason: MoveReason::Idle })
}

/// An idle lane sends the chunk again whose ack is expected last elsewhere, if it would have it
/// clearly sooner.
fn take_overdue(lanes: &[LaneView]) -> Option<Move> {
    let to = fastest_idle(lanes, |_| true)?;
    let here = lanes[to].new_ack();
    let late = others(lanes, to).filter(|(_, lane)| {
        lane.unshared.is_some_and(|waited| {
            waited >= late_after(lane, here) || lane.usual().saturating_sub(waited) >= here * 2
        })
    });
    let (from, _) = late.max_by_key(|(_, lane)| lane.next_ack())?;
    Some(Move { from, to, chunks: 0, reason: MoveReason::Overdue })
}

/// Lanes other than `to` with something in flight.
fn others(lanes: &[LaneView], to: usize) -> impl Iterator<Item = (usize, &LaneView)> {
    lanes.iter().enumerate().filter(move |(at, lane)| *at != to && lane.in_flight > 0)
}

/// No ack is late before this, however near the receivers are: that is a busy machine, and a copy
/// would come no sooner.
const LEAST_LATE: Duration = Duration::from_millis(10);

/// After which time in flight a chunk is late, if another lane would have it acknowledged in `here`.
/// Where nothing was acknowledged yet: when it has taken a little longer than `here`, for first acks of
/// receivers that are alike come together.
fn late_after(lane: &LaneView, here: Duration) -> Duration {
    let usual = if lane.service.is_some() { lane.usual() } else { here / 4 };
    (usual + here).max(LEAST_LATE)
}

fn fastest_idle(lanes: &[LaneView], may: impl Fn(&LaneView) -> bool) -> Option<usize> {
    let idle = lanes.iter().enumerate().filter(|(_, lane)| lane.is_idle() && may(lane));
    idle.min_by_key(|(_, lane)| lane.new_ack()).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lane() -> impl Strategy<Value = LaneView> {
        let state = prop_oneof![
            8 => Just(LaneState::Active),
            1 => Just(LaneState::Probing),
            1 => Just(LaneState::Suspect),
        ];
        let time = || proptest::option::of((0..200_000_u64).prop_map(Duration::from_micros));
        let chunks = (prop_oneof![Just(0), 0..300_u64], 0..13_u64, any::<bool>());
        (state, chunks, time(), time(), time()).prop_map(|(state, chunks, service, rtt, oldest)| {
            let (queued, in_flight, has_room) = chunks;
            let was_suspect = false;
            LaneView {
                state,
                was_suspect,
                queued,
                in_flight,
                has_room,
                service,
                rtt,
                oldest,
                unshared: oldest,
            }
        })
    }

    /// As [`steal_queued`], without the look that often spares the search.
    fn searched(lanes: &[LaneView]) -> Option<Move> {
        let to = fastest_idle(lanes, |_| true)?;
        let rest = Rest::of(lanes);
        let finish = |at: usize| rest.paces[at].finishes_in(lanes[at].chunks());
        let of = |has: fn(&LaneView) -> bool| (0..lanes.len()).filter(move |&at| has(&lanes[at]));
        let from = of(|lane| lane.queued > 0).max_by_key(|&at| finish(at))?;
        let end = rest.soonest(of(|lane| lane.chunks() > 0).map(finish).max()?);
        let room = rest.paces[to].done_by(end).saturating_sub(lanes[to].in_flight);
        let surplus = lanes[from].chunks().saturating_sub(rest.paces[from].done_by(end));
        let chunks = room.min(surplus).min(lanes[from].queued);
        let may = chunks > 0 && end >= nanos(lanes[to].new_ack());
        may.then_some(Move { from, to, chunks, reason: MoveReason::Idle })
    }

    proptest! {
        #[test]
        fn what_spares_the_search_changes_no_move(lanes in proptest::collection::vec(lane(), 1..12)) {
            prop_assert_eq!(steal_queued(&lanes, |_| true), searched(&lanes));
        }
    }
}
