//! What each transfer did, as the relay saw it: the same measure for every client, whoever wrote it.
//!
//! Reads datagrams at the client's side and counts. Judges nothing, and does not look at a client's
//! own logs.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mdalp_proto::wire::{Message, decode};

use crate::network::{Direction, Place};
use crate::relay::{Observer, Seen};

/// Transfers kept; the oldest go first.
const MAX_FLOWS: usize = 1024;
/// Chunks remembered per receiver and transfer; beyond, the lowest SEQ are forgotten.
const MAX_CHUNKS: usize = 65_536;
/// Points kept for a time–sequence diagram, per transfer.
const MAX_POINTS: usize = 20_000;

/// One transfer.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Flow {
    /// Its number, see [`Seen::transfer`].
    pub number: u64,
    /// The client's address; `None` only for a flow that nothing was seen of.
    pub client: Option<SocketAddr>,
    /// Its transaction, once it was assigned.
    pub tid: Option<u64>,
    /// When its first datagram left the client, since the relay began.
    pub began: Duration,
    /// When the assignment arrived at the client.
    pub assigned: Option<Duration>,
    /// When the last ack of a new chunk arrived at the client.
    pub last_ack: Option<Duration>,
    /// Each receiver, in the scenario's order.
    pub lanes: Vec<LaneFlow>,
    /// What happened when, for a time–sequence diagram; not more than 20,000 points.
    pub points: Vec<Point>,
}

/// What went between a client and one receiver.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LaneFlow {
    /// Chunks sent to it, each once.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Chunks sent again.
    pub retransmissions: u64,
    /// Chunks acknowledged, each once, and only if it was sent there.
    pub acked: u64,
    /// Acks that said nothing new.
    pub duplicate_acks: u64,
    /// Datagrams lost on the way to it.
    pub lost_up: u64,
    /// Datagrams lost on the way back, or withheld.
    pub lost_down: u64,
    /// Time from sending the latest chunk that was sent only once to its ack.
    pub rtt: Option<Duration>,
    chunks_sent: BTreeMap<u64, Chunk>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Chunk {
    last_sent: Duration,
    times: u32,
    acked: bool,
}

/// A point of a time–sequence diagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Point {
    /// Since the relay began.
    pub at: Duration,
    /// Index of the receiver.
    pub lane: usize,
    /// The chunk.
    pub seq: u64,
    /// What happened.
    pub kind: PointKind,
}

/// What happened to a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PointKind {
    /// Sent for the first time.
    Sent,
    /// Sent again.
    Resent,
    /// Acknowledged for the first time.
    Acked,
}

impl Flow {
    /// From the assignment to the last ack: what the original calls elapsed time.
    pub fn elapsed(&self) -> Option<Duration> {
        Some(self.last_ack?.saturating_sub(self.assigned?))
    }

    /// Chunks acknowledged by all receivers.
    pub fn acked(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.acked).sum()
    }

    /// Retransmissions to all receivers.
    pub fn retransmissions(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.retransmissions).sum()
    }

    fn see(&mut self, seen: &Seen<'_>) {
        let message = decode(seen.bytes);
        let arrives = seen.direction == Direction::Down && seen.fate.lost.is_none();
        let Place::Receiver(lane) = seen.place else {
            if let (Ok(Message::Assignment { tid, .. }), true) = (message, arrives) {
                self.tid.get_or_insert(tid.0);
                self.assigned.get_or_insert(seen.at);
            }
            return;
        };
        if self.lanes.len() <= lane {
            self.lanes.resize_with(lane + 1, LaneFlow::default);
        }
        let Some(flow) = self.lanes.get_mut(lane) else { return };
        if seen.fate.lost.is_some() {
            match seen.direction {
                Direction::Up => flow.lost_up += 1,
                Direction::Down => flow.lost_down += 1,
            }
        }
        let point = match message {
            Ok(Message::Data { seq, data, .. }) if seen.direction == Direction::Up => {
                Some((seq.0, flow.sent(seen.at, seq.0, data.len() as u64)))
            }
            Ok(Message::Ack { seq, .. }) if arrives => {
                let new = flow.acknowledged(seen.at, seq.0);
                new.then_some((seq.0, PointKind::Acked))
            }
            _ => None,
        };
        if let Some((seq, kind)) = point {
            if kind == PointKind::Acked {
                self.last_ack = Some(seen.at);
            }
            if self.points.len() < MAX_POINTS {
                self.points.push(Point { at: seen.at, lane, seq, kind });
            }
        }
    }
}

impl LaneFlow {
    fn sent(&mut self, at: Duration, seq: u64, bytes: u64) -> PointKind {
        let new = Chunk { last_sent: at, times: 0, acked: false };
        let chunk = self.chunks_sent.entry(seq).or_insert(new);
        chunk.last_sent = at;
        chunk.times = chunk.times.saturating_add(1);
        let kind = if chunk.times == 1 {
            self.chunks += 1;
            self.bytes += bytes;
            PointKind::Sent
        } else {
            self.retransmissions += 1;
            PointKind::Resent
        };
        if self.chunks_sent.len() > MAX_CHUNKS {
            self.chunks_sent.pop_first();
        }
        kind
    }

    /// Whether the ack says something new.
    fn acknowledged(&mut self, at: Duration, seq: u64) -> bool {
        let chunk = self.chunks_sent.get_mut(&seq);
        let Some(chunk) = chunk.filter(|chunk| !chunk.acked) else {
            self.duplicate_acks += 1;
            return false;
        };
        chunk.acked = true;
        self.acked += 1;
        if chunk.times == 1 {
            self.rtt = Some(at.saturating_sub(chunk.last_sent));
        }
        true
    }
}

/// All transfers that a relay has seen. Cheap to clone; all clones share the same content.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<VecDeque<Flow>>>);

impl Ledger {
    /// What to hand to the relay.
    pub fn observer(&self) -> Observer {
        let ledger = self.clone();
        Box::new(move |seen| ledger.see(seen))
    }

    /// All transfers so far, in the order in which they began. At most 1,024, the latest.
    pub fn flows(&self) -> Vec<Flow> {
        self.lock().iter().cloned().collect()
    }

    /// Shows each transfer to `look`, in the order in which they began, without copying.
    pub fn for_each(&self, look: impl FnMut(&Flow)) {
        self.lock().iter().for_each(look);
    }

    fn see(&self, seen: &Seen<'_>) {
        let mut flows = self.lock();
        // Numbers ascend, and the one looked for is mostly the last or near it.
        let known = flows.iter().rposition(|flow| flow.number == seen.transfer);
        let index = known.unwrap_or_else(|| {
            if flows.len() == MAX_FLOWS {
                flows.pop_front();
            }
            let (number, client) = (seen.transfer, Some(seen.client));
            flows.push_back(Flow { number, client, began: seen.at, ..Flow::default() });
            flows.len() - 1
        });
        if let Some(flow) = flows.get_mut(index) {
            flow.see(seen);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Flow>> {
        // Counters have no state in between that a panic elsewhere could leave broken.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::PointKind::{Acked, Resent, Sent};
    use super::*;
    use crate::network::Fate;

    const MS: Duration = Duration::from_millis(1);

    /// At `ms`, to or from receiver 0 (`None`: the orchestrator).
    fn see(ledger: &Ledger, transfer: u64, ms: u32, direction: Direction, bytes: &[u8]) {
        let place = if bytes.starts_with(b"Type:0") || bytes.starts_with(b"Type:1") {
            Place::Orchestrator
        } else {
            Place::Receiver(0)
        };
        let addr = SocketAddr::from(([127, 0, 0, 1], 4650));
        let fate = Fate { lost: bytes.is_empty().then_some("test"), ..Fate::default() };
        let at = ms * MS;
        let seen = Seen { at, transfer, client: addr, front: addr, place, direction, bytes, fate };
        ledger.observer()(&seen);
    }

    #[test]
    fn a_transfer_is_measured_from_its_assignment_to_its_last_new_ack() {
        use Direction::{Down, Up};
        let ledger = Ledger::default();
        see(&ledger, 0, 10, Up, b"Type:0;");
        see(&ledger, 0, 50, Down, b"Type:1;TID:7;DATA:[]");
        see(&ledger, 0, 60, Down, b"Type:1;TID:7;DATA:[]");
        see(&ledger, 0, 100, Up, b"Type:2;TID:7;SEQ:0;DATA:abc");
        see(&ledger, 0, 300, Up, b"Type:2;TID:7;SEQ:0;DATA:abc");
        see(&ledger, 0, 400, Down, b"Type:3;TID:7;SEQ:0");
        see(&ledger, 0, 410, Down, b"Type:3;TID:7;SEQ:0");
        see(&ledger, 0, 500, Up, b"Type:2;TID:7;SEQ:1;DATA:d");
        see(&ledger, 0, 570, Down, b"Type:3;TID:7;SEQ:1");
        see(&ledger, 0, 900, Down, b"Type:3;TID:7;SEQ:1");
        see(&ledger, 0, 901, Down, b"Type:3;TID:7;SEQ:9");
        see(&ledger, 0, 950, Down, b"");
        let flow = ledger.flows().remove(0);
        assert_eq!((flow.tid, flow.assigned), (Some(7), Some(50 * MS)));
        assert_eq!(flow.elapsed(), Some(520 * MS));
        let lane = &flow.lanes[0];
        assert_eq!((lane.chunks, lane.bytes, lane.retransmissions), (2, 4, 1));
        assert_eq!((lane.acked, lane.duplicate_acks, lane.lost_down), (2, 3, 1));
        assert_eq!(lane.rtt, Some(70 * MS));
        let kinds: Vec<_> = flow.points.iter().map(|point| point.kind).collect();
        assert_eq!(kinds, [Sent, Resent, Acked, Sent, Acked]);
    }

    #[test]
    fn transfers_are_kept_apart_and_only_the_latest_are_kept() {
        let ledger = Ledger::default();
        for transfer in 0..=MAX_FLOWS as u64 {
            see(&ledger, transfer, 1, Direction::Up, b"Type:0;");
        }
        see(&ledger, 1, 2, Direction::Up, b"Type:2;TID:7;SEQ:0;DATA:a");
        let flows = ledger.flows();
        assert_eq!(flows.len(), MAX_FLOWS);
        assert_eq!((flows[0].number, flows[0].lanes[0].chunks), (1, 1));
        assert!(flows[1].lanes.is_empty());
    }
}
