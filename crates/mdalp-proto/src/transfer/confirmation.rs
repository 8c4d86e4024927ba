//! Asking the servers whether the payload is whole: the last round trip of a transfer.
//!
//! Begins when every chunk is acknowledged and somebody who holds some can be asked. Where everybody
//! who holds chunks advertised `seal`, one receiver is asked for all: what it misses is sent again.
//! Otherwise the receivers have separate stores, and the whole is stated to each of them that
//! advertised `record`: each answers for itself that it has recorded it. The shell hashes the payload.
//! Without an answer the transfer ends complete, but unverified.
//!
//! Before that, one question may go right behind the last chunk, so that a transfer without loss
//! saves the round trip: only `complete` counts in answer to it, and not before the last ack.

use super::{Content, Event, Outcome, Transfer, Transmit};
use crate::ids::SequenceNumber;
use crate::lane::LaneState;
use crate::ranges::RangeSet;
use crate::time::Instant;
use crate::wire::{Refusal, Seal, Statement, Verdict, encode_seal};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often servers may find something missing that they had acknowledged before they are not
/// believed any more.
const MAX_REPAIRS: u32 = 8;
/// How often an answer that cannot be true of what was sent is asked again before it is believed: a
/// damaged question or answer looks the same.
const MAX_DOUBTS: u32 = 5;
/// Unanswered questions to one receiver before the next is asked.
const PATIENCE: u32 = 3;
/// Servers get a second more for each so many bytes: they have to read them.
const READ_IN_A_SECOND: u64 = 32 << 20;
/// Between two events about one receiver that refuses chunks for one reason.
const REFUSAL_EVERY: Duration = Duration::from_secs(10);

/// What is known of the whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Confirmation {
    digest: Option<[u8; 32]>,
    inquiry: Option<Inquiry>,
    early: Early,
    /// Who had not sent everything when that was asked last: asked first, so that the others seldom are.
    unsent: usize,
    repairs: u32,
    doubts: u32,
    /// When a refusal was told last, by receiver and reason.
    refused: BTreeMap<(usize, Refusal), Instant>,
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

/// Who is asked, once every chunk is acknowledged.
#[derive(Clone, Debug)]
struct Inquiry {
    /// Whether the receiver that is asked answers for all.
    of_the_whole: bool,
    /// Since the first question left, or since somebody answered last.
    since: Option<Instant>,
    questions: Vec<Question>,
}

/// A question to one receiver.
#[derive(Clone, Copy, Debug)]
struct Question {
    lane: usize,
    asked: u32,
    /// When to ask, or ask again; `None` until the hash is known, and once it is answered.
    next_at: Option<Instant>,
    confirmed: bool,
}

impl Question {
    fn to(lane: usize) -> Self {
        Self { lane, asked: 0, next_at: None, confirmed: false }
    }
}

impl Confirmation {
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.inquiry.as_ref()?.questions.iter().filter_map(|question| question.next_at).min()
    }

    /// Whether everything waits for the shell's hash.
    pub(super) fn owes_digest(&self) -> bool {
        self.digest.is_none() && self.inquiry.is_some()
    }
}

impl Transfer {
    /// Begins to ask, if there is anybody to ask; `false` if not.
    pub(super) fn start_confirmation(&mut self, now: Instant) -> bool {
        if self.confirmation.inquiry.is_some() {
            return true;
        }
        // A receiver that cannot be asked may keep its chunks where the others cannot see them.
        let of_the_whole = self.holders().all(|at| self.lanes[at].can_seal);
        let mut questions: Vec<Question> = if of_the_whole {
            self.first_asked().into_iter().map(Question::to).collect()
        } else {
            self.recorders()
        };
        if questions.is_empty() {
            return false;
        }
        let early = self.early_answer_due().filter(|&due| now < due);
        if let (true, [question]) = (of_the_whole, &mut questions[..]) {
            // The answer that is on its way may do.
            question.next_at = early;
        }
        let waits = questions.iter().any(|question| question.next_at.is_some());
        self.confirmation.inquiry = Some(Inquiry { of_the_whole, since: None, questions });
        if waits {
            self.confirmation.inquiry.iter_mut().for_each(|inquiry| inquiry.since = Some(now));
        } else if self.confirmation.digest.is_some() {
            self.ask_all(now);
        } else {
            self.events.push_back(Event::DigestWanted);
        }
        true
    }

    /// The receivers that hold chunks; of an empty payload, all.
    fn holders(&self) -> impl Iterator<Item = usize> {
        let empty = self.layout.is_empty();
        (0..self.lanes.len()).filter(move |&at| empty || !self.lanes[at].acked().is_empty())
    }

    fn recorders(&self) -> Vec<Question> {
        self.holders().filter(|&at| self.lanes[at].records).map(Question::to).collect()
    }

    /// Those who have answered first, and of them the fastest; after a resumption that found nothing
    /// left to send, nobody has.
    fn first_asked(&self) -> Option<usize> {
        let order = |at: &usize| {
            let lane = &self.lanes[*at];
            (lane.state != LaneState::Active, lane.rtt.srtt())
        };
        let can_answer =
            |at: &usize| self.lanes[*at].can_seal && self.lanes[*at].state != LaneState::Suspect;
        (0..self.lanes.len()).filter(can_answer).min_by_key(order)
    }

    /// Asks behind the last chunk, once, if nothing hints that a chunk will not arrive.
    pub(super) fn ask_early(&mut self, now: Instant) {
        let may = matches!(self.confirmation.early, Early::Unasked)
            && self.confirmation.digest.is_some()
            && self.confirmation.inquiry.is_none()
            && self.confirmation.repairs == 0
            && self.acked.len() == 1
            && self.outcome.is_none();
        if !may {
            return;
        }
        let (count, first) = (self.lanes.len(), self.confirmation.unsent);
        let has_sent = |at: usize| self.lanes[at].can_seal && self.lanes[at].has_sent_all_once();
        if let Some(at) = (0..count).map(|n| (first + n) % count).find(|&at| !has_sent(at)) {
            self.confirmation.unsent = at;
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
        self.confirmation.early = Early::Asked { lane, at: now };
        self.send_question(lane, 1);
    }

    /// When to stop waiting for the answer to the early question: as a chunk counts as lost, and no
    /// later than any question is repeated, for one very late ack may have distorted the estimate.
    fn early_answer_due(&self) -> Option<Instant> {
        let Early::Asked { lane, at } = self.confirmation.early else { return None };
        self.lanes[lane].rtt.srtt().map(|rtt| at + (rtt * 9 / 8).min(self.config.rto.max))
    }

    pub(super) fn has_early_receipt(&self) -> bool {
        matches!(self.confirmation.early, Early::Complete)
    }

    /// Gives the payload's BLAKE3, which [`Event::DigestWanted`] asked for; earlier is welcome.
    pub fn provide_digest(&mut self, now: Instant, blake3: [u8; 32]) {
        let owed = self.confirmation.owes_digest();
        self.confirmation.digest = Some(blake3);
        if owed && self.outcome.is_none() {
            self.last_progress = now;
            self.ask_all(now);
        }
        self.ask_early(now);
    }

    /// Asks everybody who is to be asked and was not asked yet.
    fn ask_all(&mut self, now: Instant) {
        self.ask_from(now, 0);
    }

    /// Asks those from the `first` on.
    fn ask_from(&mut self, now: Instant, first: usize) {
        let count = self.confirmation.inquiry.as_ref().map_or(0, |inquiry| inquiry.questions.len());
        (first..count).for_each(|n| self.ask(now, n));
    }

    /// Asks the `n`-th receiver that is to be asked, once more.
    fn ask(&mut self, now: Instant, n: usize) {
        let within = self.answer_within();
        let Some(inquiry) = &mut self.confirmation.inquiry else { return };
        let Some(question) = inquiry.questions.get_mut(n) else { return };
        let give_up = *inquiry.since.get_or_insert(now) + within;
        question.asked += 1;
        // Doubled from the second on; servers may need a while to read a long payload.
        let doublings = question.asked.saturating_sub(1).min(16);
        let patience = self.lanes[question.lane].rtt.rto().saturating_mul(1 << doublings);
        let next_at = now + patience.min(self.config.rto.max);
        // The last silence is not waited for beyond the end (T22).
        question.next_at = Some(if give_up > now { next_at.min(give_up) } else { next_at });
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

    /// How long answers are waited for since the last one: what the far ones need, and what reading a
    /// long payload takes.
    fn answer_within(&self) -> Duration {
        let slowest = self.lanes.iter().filter_map(|lane| lane.rtt.srtt()).max();
        let far = slowest.unwrap_or_default().saturating_mul(8).min(self.config.suspect_after);
        let reading = Duration::from_secs(self.layout.bytes() / READ_IN_A_SECOND);
        self.config.confirm_within.max(far) + reading
    }

    /// Asks again if it is time: for the whole now and then somebody else; in the end nobody.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let within = self.answer_within();
        let Some(inquiry) = &mut self.confirmation.inquiry else { return };
        let is_due = |question: &Question| question.next_at.is_some_and(|at| at <= now);
        if !inquiry.questions.iter().any(is_due) {
            return;
        }
        if inquiry.since.is_some_and(|since| now - since >= within) {
            return self.finish(Outcome::Complete { verified: false });
        }
        for n in 0..inquiry.questions.len() {
            let Some(inquiry) = &mut self.confirmation.inquiry else { return };
            let question = &mut inquiry.questions[n];
            if !is_due(question) {
                continue;
            }
            if inquiry.of_the_whole && question.asked > 0 && question.asked % PATIENCE == 0 {
                let count = self.lanes.len();
                let next = (1..=count).map(|n| (question.lane + n) % count);
                let next = next.into_iter().find(|&at| self.lanes[at].can_seal);
                question.lane = next.unwrap_or(question.lane);
            }
            self.ask(now, n);
        }
    }

    /// What is stated to one receiver; with a CRC where that is understood.
    fn seal(&self, lane: usize) -> Seal {
        let statement = Statement {
            chunks: self.layout.chunks(),
            bytes: self.layout.bytes(),
            blake3: self.confirmation.digest.unwrap_or_default(),
        };
        Seal { tid: self.tid, statement, checked: self.lanes[lane].records }
    }

    pub(super) fn encode_seal(&self, lane: usize, out: &mut Vec<u8>) {
        encode_seal(out, &self.seal(lane));
    }

    /// A Type 5 from a receiver of this transfer.
    pub(super) fn handle_verdict(&mut self, now: Instant, at: usize, verdict: Verdict) {
        if let Verdict::Refused(why) = verdict {
            return self.handle_refusal(now, at, why);
        }
        if matches!(self.confirmation.early, Early::Asked { lane, .. } if lane == at) {
            return self.handle_early_verdict(now, &verdict);
        }
        let asked = self.confirmation.inquiry.as_ref().is_some_and(|inquiry| {
            let mut asked = inquiry.questions.iter().filter(|question| question.asked > 0);
            if inquiry.of_the_whole {
                asked.next().is_some() && self.lanes[at].can_seal
            } else {
                asked.any(|question| question.lane == at && !question.confirmed)
            }
        });
        if !asked {
            self.ignored.not_an_ack += 1;
            return;
        }
        let of_the_whole = self.confirmation.inquiry.as_ref().is_some_and(|i| i.of_the_whole);
        match verdict {
            Verdict::Complete if of_the_whole => {
                self.note_answer(now);
                self.finish(Outcome::Complete { verified: true });
            }
            Verdict::Complete => self.confirm(now, at),
            Verdict::Recorded(crc) if crc == self.seal(at).crc() => {
                if of_the_whole {
                    self.part_stores(now, at);
                }
                self.confirm(now, at);
            }
            Verdict::Mismatch => self.doubt(now, at),
            Verdict::Missing(chunks) if of_the_whole => self.repair(now, at, &chunks),
            // Of what others hold, a receiver of separate stores knows nothing.
            _ => self.ignored.not_an_ack += 1,
        }
    }

    fn note_answer(&mut self, now: Instant) {
        self.last_progress = now;
        self.confirmation.inquiry.iter_mut().for_each(|inquiry| inquiry.since = Some(now));
    }

    /// Said to the user now and then; nothing else follows from it.
    fn handle_refusal(&mut self, now: Instant, lane: usize, why: Refusal) {
        let told = self.confirmation.refused.get(&(lane, why));
        if told.is_none_or(|&told| now - told >= REFUSAL_EVERY) {
            self.confirmation.refused.insert((lane, why), now);
            self.events.push_back(Event::Refused { lane, why });
        }
    }

    /// One receiver has recorded what was stated to it, or found the payload whole.
    fn confirm(&mut self, now: Instant, at: usize) {
        self.note_answer(now);
        let Some(inquiry) = &mut self.confirmation.inquiry else { return };
        for question in inquiry.questions.iter_mut().filter(|question| question.lane == at) {
            (question.confirmed, question.next_at) = (true, None);
        }
        if !inquiry.questions.iter().all(|question| question.confirmed) {
            return;
        }
        // An ack that came meanwhile may have made somebody a holder.
        let asked: Vec<usize> = inquiry.questions.iter().map(|question| question.lane).collect();
        let first = asked.len();
        let mut late = self.recorders();
        late.retain(|question| !asked.contains(&question.lane));
        if late.is_empty() {
            // Nobody compares the hash here: only the CRC in each ack says that the bytes arrived as sent.
            let is_sure = |at: usize| asked.contains(&at) && self.lanes[at].uses_crc;
            let verified = self.holders().all(is_sure);
            return self.finish(Outcome::Complete { verified });
        }
        self.confirmation
            .inquiry
            .iter_mut()
            .for_each(|inquiry| inquiry.questions.append(&mut late));
        self.ask_from(now, first);
    }

    /// Whoever was asked for all has a store of its own: each receiver answers for itself.
    fn part_stores(&mut self, now: Instant, at: usize) {
        let mut questions = self.recorders();
        if !questions.iter().any(|question| question.lane == at) {
            questions.push(Question::to(at));
        }
        for question in questions.iter_mut().filter(|question| question.lane == at) {
            question.confirmed = true;
        }
        let open: Vec<usize> = (0..questions.len()).filter(|&n| !questions[n].confirmed).collect();
        let since = Some(now);
        self.confirmation.inquiry = Some(Inquiry { of_the_whole: false, since, questions });
        for n in open {
            self.ask(now, n);
        }
    }

    /// The receivers that were asked to confirm the payload and have not; known once the transfer has
    /// ended. Those that advertise nothing of the kind were not asked.
    pub fn unconfirmed(&self) -> Vec<usize> {
        let Some(inquiry) = &self.confirmation.inquiry else { return Vec::new() };
        if self.outcome == Some(Outcome::Complete { verified: true }) {
            return Vec::new();
        }
        if inquiry.of_the_whole {
            return self.holders().filter(|&at| self.lanes[at].can_seal).collect();
        }
        inquiry.questions.iter().filter(|q| !q.confirmed).map(|question| question.lane).collect()
    }

    /// The first answer of the receiver that was asked early. Chunks may have been under way when
    /// it was given, so that only `complete` means anything.
    fn handle_early_verdict(&mut self, now: Instant, verdict: &Verdict) {
        if *verdict == Verdict::Complete {
            self.confirmation.early = Early::Complete;
            return self.finish_if_complete(now);
        }
        self.confirmation.early = Early::Over;
        let waits = |inquiry: &Inquiry| inquiry.questions.iter().all(|q| q.asked == 0);
        if self.confirmation.inquiry.as_ref().is_some_and(waits) {
            self.ask_all(now);
        }
    }

    /// An answer that cannot be true, unless what the servers hold is wrong: asked again a few times.
    fn doubt(&mut self, now: Instant, at: usize) {
        self.note_answer(now);
        self.confirmation.doubts += 1;
        if self.confirmation.doubts > MAX_DOUBTS {
            return self.finish(Outcome::Mismatch);
        }
        let Some(inquiry) = &self.confirmation.inquiry else { return };
        let of_it = |q: &Question| inquiry.of_the_whole || q.lane == at;
        if let Some(n) = inquiry.questions.iter().position(of_it) {
            self.ask(now, n);
        }
    }

    /// What the servers miss goes to the one who said so.
    fn repair(&mut self, now: Instant, at: usize, missing: &RangeSet) {
        let chunks = self.layout.chunks();
        let known = missing.last().is_some_and(|last| last < chunks);
        if !known {
            return self.doubt(now, at);
        }
        self.note_answer(now);
        self.confirmation.repairs += 1;
        if self.confirmation.repairs > MAX_REPAIRS {
            return self.finish(Outcome::Mismatch);
        }
        self.confirmation.inquiry = None;
        self.confirmation.early = Early::Over;
        self.lanes.iter_mut().for_each(|lane| lane.forget(missing));
        // With several copies, one more makes it complete again: the servers need one.
        if let Some(held) = self.acked.last_mut() {
            held.subtract(missing);
            self.acked_bytes = self.layout.bytes_of(held);
        }
        self.lanes[at].assign(missing);
        self.events.push_back(Event::Missing { chunks: missing.len() });
        self.pump(now, at);
    }
}
