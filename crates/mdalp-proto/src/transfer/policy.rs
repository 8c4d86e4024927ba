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
    /// What one chunk costs here, from ack to ack; `None` before the first ack.
    pub service: Option<Duration>,
    /// For how long the chunk that was sent longest ago has been in flight.
    pub oldest: Option<Duration>,
}

impl LaneView {
    /// Whether it has nothing to do and would do it.
    fn is_idle(&self) -> bool {
        self.queued == 0 && self.in_flight == 0 && self.state == LaneState::Active
    }

    /// When it would be through with what it has, if that is known.
    fn finishes_in(&self) -> Option<Duration> {
        let chunks = u32::try_from(self.queued + self.in_flight).unwrap_or(u32::MAX);
        Some(self.service?.saturating_mul(chunks))
    }
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
    /// `payload`; there is one latency (any unit) per receiver.
    fn plan(&self, payload: u64, latencies: &[f64]) -> Vec<u64>;

    /// Whether a silent receiver's chunks may go to others.
    fn reassigns(&self) -> bool {
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

    fn plan(&self, payload: u64, latencies: &[f64]) -> Vec<u64> {
        byte_shares(payload, latencies)
    }

    /// Shares stay as they are, but a receiver that comes back gets work again.
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

    fn plan(&self, payload: u64, latencies: &[f64]) -> Vec<u64> {
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

    fn plan(&self, payload: u64, latencies: &[f64]) -> Vec<u64> {
        byte_shares(payload, latencies)
    }

    fn rebalance(&mut self, lanes: &[LaneView]) -> Option<Move> {
        steal_queued(lanes, |_| true).or_else(|| take_overdue(lanes))
    }

    fn due_in(&self, lanes: &[LaneView]) -> Option<Duration> {
        let cost = lanes[fastest_idle(lanes, |_| true)?].service?;
        let busy = lanes.iter().filter(|lane| lane.in_flight > 0);
        let wait = |lane: &LaneView| overdue_after(lane, cost).saturating_sub(lane.oldest?).into();
        busy.filter_map(wait).min()
    }
}

/// An idle lane (of those that `may`) takes queued chunks from the lane that would finish last, so
/// many that both would finish together.
fn steal_queued(lanes: &[LaneView], may: impl Fn(&LaneView) -> bool) -> Option<Move> {
    let to = fastest_idle(lanes, may)?;
    let cost = lanes[to].service?;
    let (from, victim) = lanes
        .iter()
        .enumerate()
        .filter(|(_, lane)| lane.queued > 0)
        .max_by_key(|(_, lane)| lane.finishes_in().unwrap_or(Duration::MAX))?;
    // Before its first ack a lane's cost is unknown: as slow as what it has shown so far.
    let theirs = victim.service.or(victim.oldest).unwrap_or(cost).max(Duration::from_nanos(1));
    let backlog = victim.queued + victim.in_flight;
    let total = cost.as_secs_f64() + theirs.as_secs_f64();
    let fair = (backlog as f64 * theirs.as_secs_f64() / total) as u64;
    let chunks = fair.clamp(1, victim.queued);
    // The last one is worth a move only if it would be acknowledged sooner here than there.
    let sooner = cost < theirs.saturating_mul(u32::try_from(backlog).unwrap_or(u32::MAX));
    sooner.then_some(Move { from, to, chunks, reason: MoveReason::Idle })
}

/// An idle lane sends the chunk again whose ack has been overdue longest elsewhere.
fn take_overdue(lanes: &[LaneView]) -> Option<Move> {
    let to = fastest_idle(lanes, |_| true)?;
    let cost = lanes[to].service?;
    let overdue =
        |lane: &LaneView| lane.oldest.filter(|waited| *waited >= overdue_after(lane, cost));
    let late = lanes.iter().enumerate().filter(|(at, lane)| *at != to && lane.in_flight > 0);
    let (from, _) = late
        .filter_map(|(at, lane)| Some((at, overdue(lane)?)))
        .max_by_key(|(_, waited)| *waited)?;
    Some(Move { from, to, chunks: 0, reason: MoveReason::Overdue })
}

/// No ack is late before this, however near the receivers are: that is a busy machine, and a copy
/// would come no sooner.
const LEAST_OVERDUE: Duration = Duration::from_millis(10);

/// After which time in flight a chunk is late, if another lane would have it acknowledged in `cost`:
/// twice the usual is late, and what is late here must be quick there.
fn overdue_after(lane: &LaneView, cost: Duration) -> Duration {
    let usual = lane.service.unwrap_or(cost);
    (usual.min(cost) * 2).max(cost).max(LEAST_OVERDUE)
}

fn fastest_idle(lanes: &[LaneView], may: impl Fn(&LaneView) -> bool) -> Option<usize> {
    let idle = lanes.iter().enumerate().filter(|(_, lane)| lane.is_idle() && may(lane));
    idle.min_by_key(|(_, lane)| lane.service.unwrap_or(Duration::MAX)).map(|(at, _)| at)
}
