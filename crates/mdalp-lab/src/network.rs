//! The network of one client: the paths to every server and back, and the receivers' far ends.
//!
//! Sans-I/O: told what was sent and what time it is, it says what arrives when. Time is a
//! [`Duration`] since this network was made, so that every transfer meets the scenario from its
//! beginning. Opens no socket and keeps no statistics beyond the paths' own counters.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use mdalp_netem::{AckCounters, Counters, FarEnd, Link, Scenario};
use mdalp_proto::wire::{Message, decode};

/// One of the servers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// The orchestrator.
    Orchestrator,
    /// The receiver at this index of the scenario, from 0.
    Receiver(usize),
}

impl Place {
    /// The place at `index`, with the orchestrator at 0.
    pub(crate) const fn from_index(index: usize) -> Self {
        match index.checked_sub(1) {
            None => Self::Orchestrator,
            Some(receiver) => Self::Receiver(receiver),
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Orchestrator => 0,
            Self::Receiver(index) => index + 1,
        }
    }
}

/// Which way a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Direction {
    /// From the client to a server.
    Up,
    /// From a server to the client.
    Down,
}

/// What the network has decided about a datagram that was sent into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Fate {
    /// Why it never arrives, if so.
    pub lost: Option<&'static str>,
    /// It arrives twice.
    pub duplicated: bool,
    /// It, or its copy, arrives damaged.
    pub damaged: bool,
    /// It arrives before one that was sent earlier, or is held back.
    pub out_of_order: bool,
}

/// What comes out of the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// The server that it goes to or comes from.
    pub place: Place,
    /// Which way it goes.
    pub direction: Direction,
    /// The datagram as it arrives, damage done.
    pub bytes: Vec<u8>,
    /// Lost, and why; `None` if it arrives. Only what goes down is reported lost here: what goes up
    /// has its fate told at once.
    pub lost: Option<&'static str>,
    /// Whether it was damaged on the way.
    pub damaged: bool,
}

/// The paths between one client and all servers.
#[derive(Debug)]
pub struct Network {
    ends: Vec<End>,
    queue_delay: Duration,
}

#[derive(Debug)]
struct End {
    up: Link<Vec<u8>>,
    down: Link<Vec<u8>>,
    /// `None` for the orchestrator.
    acker: Option<FarEnd>,
    /// Answers that the server has not let go yet.
    held: BinaryHeap<Reverse<Held>>,
    /// Number of the next one, so that equal times keep their order.
    next: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Held {
    leaves: Duration,
    number: u64,
    bytes: Vec<u8>,
}

impl Network {
    /// The network of `scenario`, with all chance drawn from `seed`.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let end = |(up, down), acker| End {
            up: Link::over(up),
            down: Link::over(down),
            acker,
            held: BinaryHeap::new(),
            next: 0,
        };
        let mut ends = vec![end(scenario.orchestrator.paths(seed), None)];
        for (index, receiver) in scenario.receivers.iter().enumerate() {
            let (up, down, far_end) = receiver.parts(seed, index);
            ends.push(end((up, down), Some(far_end)));
        }
        Self { ends, queue_delay: scenario.orchestrator.queue_delay }
    }

    /// The client sends `bytes` to the server at `place`. Times must not run backwards from call to
    /// call. A place that the scenario does not have loses everything.
    pub fn send_up(&mut self, now: Duration, place: Place, bytes: Vec<u8>) -> Fate {
        self.ends.get_mut(place.index()).map_or_else(nowhere, |end| send(&mut end.up, now, bytes))
    }

    /// The server at `place` answers with `bytes`. An ack leaves when the far end lets it go, an
    /// assignment when it has queued long enough; the result says only whether it ever leaves.
    pub fn send_down(&mut self, now: Duration, place: Place, bytes: Vec<u8>) -> Fate {
        let Some(end) = self.ends.get_mut(place.index()) else { return nowhere() };
        let leaves = match (decode(&bytes), &mut end.acker) {
            (Ok(Message::Ack { tid, seq, .. }), Some(far_end)) => far_end.admit(now, tid.0, seq.0),
            (Ok(Message::Assignment { .. }), None) => Some(now.saturating_add(self.queue_delay)),
            _ => Some(now),
        };
        let Some(leaves) = leaves else {
            return Fate { lost: Some("withheld by the receiver"), ..Fate::default() };
        };
        end.held.push(Reverse(Held { leaves, number: end.next, bytes }));
        end.next += 1;
        Fate::default()
    }

    /// The next thing that has happened by `now`.
    pub fn poll(&mut self, now: Duration) -> Option<Output> {
        self.ends.iter_mut().enumerate().find_map(|(index, end)| end.poll(now, index))
    }

    /// When something happens next; `None` if nothing is on its way.
    pub fn next_due(&self) -> Option<Duration> {
        self.ends.iter().filter_map(End::next_due).min()
    }

    /// How many datagrams are on their way or held.
    pub fn in_flight(&self) -> usize {
        let of = |end: &End| end.up.in_flight() + end.down.in_flight() + end.held.len();
        self.ends.iter().map(of).sum()
    }

    /// What the paths up and down of `place` have done, and the far end with its acks.
    pub fn counters(&self, place: Place) -> (Counters, Counters, AckCounters) {
        let Some(end) = self.ends.get(place.index()) else { return Default::default() };
        let acks = end.acker.as_ref().map(|far_end| *far_end.counters()).unwrap_or_default();
        (*end.up.path().counters(), *end.down.path().counters(), acks)
    }
}

impl End {
    fn next_due(&self) -> Option<Duration> {
        let held = self.held.peek().map(|Reverse(held)| held.leaves);
        [held, self.up.next_due(), self.down.next_due()].into_iter().flatten().min()
    }

    fn poll(&mut self, now: Duration, index: usize) -> Option<Output> {
        let place = Place::from_index(index);
        while self.held.peek().is_some_and(|Reverse(held)| held.leaves <= now) {
            let Some(Reverse(held)) = self.held.pop() else { break };
            // It enters the path now: a path's time must not run backwards, and a late wake-up
            // makes a delay longer, never shorter.
            let fate = send(&mut self.down, now, held.bytes.clone());
            if fate.lost.is_some() {
                let (bytes, lost) = (held.bytes, fate.lost);
                return Some(Output {
                    place,
                    direction: Direction::Down,
                    bytes,
                    lost,
                    damaged: false,
                });
            }
        }
        let (direction, arrival) = match self.up.poll(now) {
            Some(arrival) => (Direction::Up, arrival),
            None => (Direction::Down, self.down.poll(now)?),
        };
        let damaged = arrival.mangle.is_some();
        Some(Output { place, direction, bytes: arrival.into_bytes(), lost: None, damaged })
    }
}

fn nowhere() -> Fate {
    Fate { lost: Some("no such server"), ..Fate::default() }
}

/// Sends into a link and reads what it decided from its counters.
fn send(link: &mut Link<Vec<u8>>, now: Duration, bytes: Vec<u8>) -> Fate {
    let before = *link.path().counters();
    link.enqueue(now, bytes.len(), bytes);
    let after = link.path().counters();
    let lost = [
        (before.lost_random, after.lost_random, "random loss"),
        (before.lost_burst, after.lost_burst, "loss in a burst"),
        (before.lost_nth, after.lost_nth, "loss named in the scenario"),
        (before.lost_outage, after.lost_outage, "the path was down"),
        (before.lost_mtu, after.lost_mtu, "it was too long for the path"),
        (before.lost_queue, after.lost_queue, "the queue was full"),
    ];
    Fate {
        lost: lost.into_iter().find(|(before, after, _)| before < after).map(|(.., why)| why),
        duplicated: before.duplicated < after.duplicated,
        damaged: before.corrupted + before.truncated < after.corrupted + after.truncated,
        out_of_order: before.reordered + before.late < after.reordered + after.late,
    }
}

#[cfg(test)]
mod tests;
