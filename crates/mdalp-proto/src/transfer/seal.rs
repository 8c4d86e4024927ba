//! Asking the servers whether the payload is whole: the last round trip of a transfer.
//!
//! Begins when every chunk is acknowledged and everybody who holds some can be asked. The shell
//! hashes the payload; here it is asked, asked again, and what is missing is sent again. Without
//! an answer the transfer ends complete, but unverified.
//!
//! Before that, one question may go right behind the last chunk, so that a transfer without loss
//! saves the round trip: only `complete` counts in answer to it, and not before the last ack.

use super::{Content, Event, Outcome, Transfer, Transmit};
use crate::ids::SequenceNumber;
use crate::lane::LaneState;
use crate::ranges::RangeSet;
use crate::time::Instant;
use crate::wire::{Seal, Statement, Verdict, encode_seal};

/// How often servers may find something missing that they had acknowledged before they are not
/// believed any more.
const MAX_REPAIRS: u32 = 8;
/// How often an answer that cannot be true of what was sent is asked again before it is believed: a
/// damaged question or answer looks the same.
const MAX_DOUBTS: u32 = 5;
/// Unanswered questions to one receiver before the next is asked.
const PATIENCE: u32 = 3;

/// What is known of the seal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sealing {
    digest: Option<[u8; 32]>,
    question: Option<Question>,
    early: Early,
    /// Who had not sent everything when that was asked last: asked first, so that the others seldom are.
    unsent: usize,
    repairs: u32,
    doubts: u32,
}

/// The question behind the last chunk.
#[derive(Clone, Copy, Debug, Default)]
enum Early {
    /// It may still be asked.
    #[default]
    Unasked,
    Asked {
        lane: usize,
        at: Instant,
    },
    /// It was answered: the servers have everything.
    Complete,
    /// It says nothing, or is too late.
    Over,
}

/// A question that is open.
#[derive(Clone, Copy, Debug)]
struct Question {
    since: Instant,
    lane: usize,
    asked: u32,
    /// When to ask, or ask again; `None` until the hash is known.
    next_at: Option<Instant>,
}

impl Sealing {
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.question.and_then(|question| question.next_at)
    }
}

impl Transfer {
    /// Begins to ask, if there is anybody to ask; `false` if not.
    pub(super) fn start_sealing(&mut self, now: Instant) -> bool {
        if self.sealing.question.is_some() {
            return true;
        }
        // A receiver that cannot be asked may keep its chunks where the others cannot see them.
        let empty = self.layout.is_empty();
        if !self.lanes.iter().all(|lane| lane.can_seal || (!empty && lane.acked().is_empty())) {
            return false;
        }
        // Those who have answered first, and of them the fastest; after a resumption that found
        // nothing left to send, nobody has.
        let order = |at: &usize| {
            let lane = &self.lanes[*at];
            (lane.state != LaneState::Active, lane.rtt.srtt())
        };
        let can_answer = |at: &usize| self.lanes[*at].state != LaneState::Suspect;
        let Some(lane) = (0..self.lanes.len()).filter(can_answer).min_by_key(order) else {
            return false;
        };
        let next_at = self.early_answer_due().filter(|&due| now < due);
        self.sealing.question = Some(Question { since: now, lane, asked: 0, next_at });
        if next_at.is_some() {
            // The answer that is on its way may do.
        } else if self.sealing.digest.is_some() {
            self.ask(now);
        } else {
            self.events.push_back(Event::DigestWanted);
        }
        true
    }

    /// Asks behind the last chunk, once, if nothing hints that a chunk will not arrive.
    pub(super) fn ask_early(&mut self, now: Instant) {
        let may = matches!(self.sealing.early, Early::Unasked)
            && self.sealing.digest.is_some()
            && self.sealing.question.is_none()
            && self.sealing.repairs == 0
            && self.acked.len() == 1
            && self.outcome.is_none();
        if !may {
            return;
        }
        let (count, first) = (self.lanes.len(), self.sealing.unsent);
        let has_sent = |at: usize| self.lanes[at].can_seal && self.lanes[at].has_sent_all_once();
        if let Some(at) = (0..count).map(|n| (first + n) % count).find(|&at| !has_sent(at)) {
            self.sealing.unsent = at;
            return;
        }
        // The farthest, so that the question arrives last; the last of several that are as far.
        let under_way = || (0..self.lanes.len()).filter(|&at| self.lanes[at].in_flight() > 0);
        let rtt = |at: usize| self.lanes[at].rtt.srtt();
        let measured = under_way().all(|at| rtt(at).is_some());
        let farthest = under_way().max_by(|&a, &b| {
            let planned = || self.lanes[a].latency.total_cmp(&self.lanes[b].latency);
            if measured { rtt(a).cmp(&rtt(b)) } else { planned() }
        });
        // It takes a chunk's place in the window, and in what may be sent to a stranger (H27).
        let Some(lane) = farthest.filter(|&at| self.lanes[at].in_flight() < self.lanes[at].room())
        else {
            return;
        };
        self.sealing.early = Early::Asked { lane, at: now };
        self.send_question(lane, 1);
    }

    /// When to stop waiting for the answer to the early question: as a chunk counts as lost, and no
    /// later than any question is repeated, for one very late ack may have distorted the estimate.
    fn early_answer_due(&self) -> Option<Instant> {
        let Early::Asked { lane, at } = self.sealing.early else { return None };
        self.lanes[lane].rtt.srtt().map(|rtt| at + (rtt * 9 / 8).min(self.config.rto.max))
    }

    pub(super) fn has_early_receipt(&self) -> bool {
        matches!(self.sealing.early, Early::Complete)
    }

    /// Gives the payload's BLAKE3, which [`Event::DigestWanted`] asked for; earlier is welcome.
    pub fn provide_digest(&mut self, now: Instant, blake3: [u8; 32]) {
        self.sealing.digest = Some(blake3);
        if self.outcome.is_none() && self.sealing.question.is_some_and(|q| q.next_at.is_none()) {
            self.last_progress = now;
            self.ask(now);
        }
        self.ask_early(now);
    }

    fn ask(&mut self, now: Instant) {
        let Some(question) = &mut self.sealing.question else { return };
        question.asked += 1;
        // Doubled from the second on; servers may need a while to read a long payload.
        let doublings = question.asked.saturating_sub(1).min(16);
        let patience = self.lanes[question.lane].rtt.rto().saturating_mul(1 << doublings);
        question.next_at = Some(now + patience.min(self.config.rto.max));
        let (lane, attempt) = (question.lane, question.asked);
        self.send_question(lane, attempt);
    }

    fn send_question(&mut self, lane: usize, attempt: u32) {
        self.outbox.push_back(Transmit {
            to: self.lanes[lane].addr.0,
            lane,
            content: Content::Seal,
            seq: SequenceNumber(self.layout.chunks()),
            range: 0..0,
            attempt,
        });
    }

    /// Asks again if it is time: now and then somebody else; in the end nobody.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let Some(question) = &mut self.sealing.question else { return };
        if question.next_at.is_none_or(|at| now < at) {
            return;
        }
        if now - question.since >= self.config.suspect_after {
            return self.finish(Outcome::Complete { verified: false });
        }
        if question.asked > 0 && question.asked % PATIENCE == 0 {
            let count = self.lanes.len();
            let next = (1..=count).map(|n| (question.lane + n) % count);
            let next = next.into_iter().find(|&at| self.lanes[at].can_seal);
            question.lane = next.unwrap_or(question.lane);
        }
        self.ask(now);
    }

    pub(super) fn encode_seal(&self, out: &mut Vec<u8>) {
        let statement = Statement {
            chunks: self.layout.chunks(),
            bytes: self.layout.bytes(),
            blake3: self.sealing.digest.unwrap_or_default(),
        };
        encode_seal(out, &Seal { tid: self.tid, statement, checked: false });
    }

    /// A Type 5 from a receiver of this transfer.
    pub(super) fn handle_verdict(&mut self, now: Instant, at: usize, verdict: Verdict) {
        if matches!(self.sealing.early, Early::Asked { lane, .. } if lane == at) {
            return self.handle_early_verdict(now, &verdict);
        }
        let asked = self.sealing.question.is_some_and(|question| question.asked > 0);
        if !asked || !self.lanes[at].can_seal {
            self.ignored.not_an_ack += 1;
            return;
        }
        self.last_progress = now;
        match verdict {
            Verdict::Complete => self.finish(Outcome::Complete { verified: true }),
            Verdict::Mismatch => self.doubt(now),
            Verdict::Missing(chunks) => self.repair(now, at, &chunks),
            Verdict::Recorded(_) | Verdict::Refused(_) => self.ignored.not_an_ack += 1,
        }
    }

    /// The first answer of the receiver that was asked early. Chunks may have been under way when
    /// it was given, so that only `complete` means anything.
    fn handle_early_verdict(&mut self, now: Instant, verdict: &Verdict) {
        if *verdict == Verdict::Complete {
            self.sealing.early = Early::Complete;
            return self.finish_if_complete(now);
        }
        self.sealing.early = Early::Over;
        if self.sealing.question.is_some_and(|question| question.asked == 0) {
            self.ask(now);
        }
    }

    /// An answer that cannot be true, unless what the servers hold is wrong: asked again a few times.
    fn doubt(&mut self, now: Instant) {
        self.sealing.doubts += 1;
        if self.sealing.doubts > MAX_DOUBTS {
            self.finish(Outcome::Mismatch);
        } else {
            self.ask(now);
        }
    }

    /// What the servers miss goes to the one who said so.
    fn repair(&mut self, now: Instant, at: usize, missing: &RangeSet) {
        let chunks = self.layout.chunks();
        let known = missing.last().is_some_and(|last| last < chunks);
        if !known {
            return self.doubt(now);
        }
        self.sealing.repairs += 1;
        if self.sealing.repairs > MAX_REPAIRS {
            return self.finish(Outcome::Mismatch);
        }
        self.sealing.question = None;
        self.sealing.early = Early::Over;
        for seq in missing.iter().flatten() {
            self.lanes.iter_mut().for_each(|lane| lane.forget(seq));
            if self.is_acked(seq) {
                self.acked_bytes -= self.layout.len(SequenceNumber(seq));
            }
            // With several copies, one more makes it complete again: the servers need one.
            if let Some(held) = self.acked.last_mut() {
                held.remove(seq);
            }
        }
        self.lanes[at].assign(missing);
        self.events.push_back(Event::Missing { chunks: missing.len() });
        self.pump(now, at);
    }
}
