//! A client in the world: asks, chooses, measures, sends, as the real shell does.
//!
//! Carries datagrams and deadlines between network and machines and checks what it sees on the way.

mod plan;

use super::checks::Truth;
use super::lane::{LaneCheck, News};
use super::net::{Net, orchestrator_addr, v4};
use super::original::Original;
use super::process::Process;
use crate::journal::Note;
use crate::payload;
use crate::report::{Sample, SampleKind};
use crate::setup::{ClientSetup, Mode, Program, Setup, Twin};
use mdalp_netem::PathConfig;
use mdalp_proto::ids::{Nonce, OrchestratorAddr, TransactionId};
use mdalp_proto::intent::{Assignment, Intent, IntentError};
use mdalp_proto::layout::Layout;
use mdalp_proto::split::Share;
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::{Content, Event, Outcome, Transfer};
use mdalp_proto::wire::{Capabilities, Message, decode, encode_data_header, encode_intent};
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

/// How a client ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum End {
    /// Every chunk is acknowledged, or so it says.
    Complete,
    /// Nobody acknowledged anything for 120 s.
    NoProgress,
    /// Its deadline came.
    Deadline,
    /// The servers have something else than was sent.
    Mismatch,
    /// Large chunks, and not one ack.
    NothingArrives,
    /// The orchestrator did not answer.
    NoAnswer,
    /// The orchestrator's answer could not be read, or named no receivers.
    BadAnswer,
    /// No receiver may be sent to.
    AllRefused,
    /// It raised an exception (the original only).
    Crashed,
    /// It still ran at the horizon.
    Running,
}

#[derive(Debug)]
enum Brain {
    Waiting,
    Asking(Box<Intent>),
    /// The original asks once.
    AskingOnce,
    Measuring {
        until: Instant,
        tid: TransactionId,
    },
    Sending(Box<Transfer>),
    Original(Original),
    Over,
}

/// A receiver that is sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    pub(crate) addr: SocketAddrV4,
    caps: Capabilities,
    place: usize,
    pub(crate) latency: Option<Duration>,
    pub(crate) share: Share,
}

impl Chosen {
    /// The least time that the network needs to it and back: none, where datagrams overtake others.
    fn round_trip(&self, setup: &Setup) -> Duration {
        let end = &setup.receivers[self.place];
        let least = |path: &PathConfig| path.reordering.map_or(path.delay, |_| Duration::ZERO);
        least(end.up.current()) + least(end.down.current())
    }
}

/// Machines are woken when they asked for it, and not before: nothing may depend on more.
fn is_due(timer: Option<Instant>, now: Instant) -> bool {
    timer.is_some_and(|at| at <= now)
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) index: usize,
    pub(crate) setup: ClientSetup,
    pub(crate) process: Process,
    brain: Brain,
    payload_seed: u64,
    layout: Layout,
    pub(crate) chosen: Vec<Chosen>,
    pub(crate) lanes: Vec<LaneCheck>,
    pub(crate) end: Option<End>,
    pub(crate) tid: Option<TransactionId>,
    pub(crate) assigned_at: Option<Instant>,
    pub(crate) sending_since: Option<Instant>,
    pub(crate) last_ack_at: Option<Instant>,
    pub(crate) ended_at: Option<Instant>,
    pub(crate) intents: u64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) transfer: Option<Box<Transfer>>,
    pub(crate) original: Option<Original>,
    reported: u64,
    data: Vec<u8>,
    out: Vec<u8>,
    draws: mdalp_netem::Rng,
}

impl Client {
    pub(crate) fn new(setup: &Setup, index: usize) -> Self {
        let mut process = Process::new();
        let client = setup.clients[index].clone();
        process.set_timer(Some(client.start), Duration::ZERO);
        Self {
            index,
            setup: client,
            process,
            brain: Brain::Waiting,
            payload_seed: setup.seed ^ index as u64,
            layout: Layout::new(&[], 1),
            chosen: Vec::new(),
            lanes: Vec::new(),
            end: None,
            tid: None,
            assigned_at: None,
            sending_since: None,
            last_ack_at: None,
            ended_at: None,
            intents: 0,
            samples: Vec::new(),
            transfer: None,
            original: None,
            reported: 0,
            data: Vec::new(),
            out: Vec::new(),
            draws: mdalp_netem::Rng::new(mdalp_netem::derive_seed(setup.seed, 2)),
        }
    }

    /// Datagrams first, then the timers: one turn of the shell's loop.
    pub(crate) fn turn(
        &mut self,
        net: &mut Net,
        truth: &mut Truth,
        setup: &Setup,
        arrived: &mut dyn Iterator<Item = super::process::Waiting>,
    ) {
        for (from, _, buffer) in arrived {
            let bytes = net.take(buffer);
            self.take(net, truth, setup, from, &bytes);
            net.put(buffer, bytes);
        }
        self.run_timers(net, setup);
        self.drain(net, truth, setup);
        self.arm(net, truth);
    }

    fn take(
        &mut self,
        net: &mut Net,
        truth: &mut Truth,
        setup: &Setup,
        from: SocketAddrV4,
        bytes: &[u8],
    ) {
        let now = self.process.local(net.now);
        match &mut self.brain {
            Brain::Asking(intent) => intent.handle_datagram(now, from.into(), bytes),
            Brain::AskingOnce if from == orchestrator_addr() => {
                if let Ok(Message::Assignment { tid, list, .. }) = decode(bytes)
                    && let Ok(receivers) = mdalp_proto::wire::list::parse(list)
                {
                    self.choose(net, truth, setup, &Assignment { tid, receivers });
                }
            }
            Brain::Sending(transfer) => {
                let lane = self.chosen.iter().position(|chosen| chosen.addr == from);
                let news = lane.map(|lane| self.lanes[lane].news(transfer, lane, bytes));
                let (before, left) = (super::lane::totals(transfer), net.datagrams);
                transfer.handle_datagram(now, from.into(), bytes);
                let after = super::lane::totals(transfer);
                if let Some(lane) = lane {
                    self.lanes[lane].check_heard(truth, transfer, lane, news);
                }
                let answers = setup.twin == Some(Twin::AnswersDuplicateAcks);
                if answers && before.duplicate_acks < after.duplicate_acks {
                    // As the original does (S3): anything unexpected, and the chunk goes out again.
                    net.send_up(self.index, from, &self.out);
                }
                // The sixteenth ack of something never sent makes its receiver suspect (H40): its
                // chunks go to others, which is meant.
                let news = news.is_some_and(|news| news != News::Nothing);
                if !news && before.optimistic_acks == after.optimistic_acks {
                    let sent = after.datagrams - before.datagrams + net.datagrams - left;
                    truth.i11_no_news_no_effect(sent, after.bytes - before.bytes);
                }
            }
            Brain::Original(original) => {
                if let Some((peer, seq)) = original.handle_datagram(now, from, bytes) {
                    self.last_ack_at = Some(net.now);
                    self.sample(net.now, setup, peer, seq, SampleKind::Acked);
                }
            }
            _ => {}
        }
    }

    fn run_timers(&mut self, net: &mut Net, setup: &Setup) {
        let now = self.process.local(net.now);
        match &mut self.brain {
            Brain::Waiting if now >= self.setup.start => {
                let orchestrator = OrchestratorAddr(SocketAddr::V4(orchestrator_addr()));
                self.brain = match self.setup.program {
                    Program::Mdalp(_) => {
                        let mut config = self.setup.intent;
                        let seed = setup.seed ^ self.index as u64;
                        config.nonce = Some(Nonce(mdalp_netem::derive_seed(seed, 3)));
                        Brain::Asking(Box::new(Intent::new(now, config, orchestrator)))
                    }
                    Program::Original(_) => {
                        self.out.clear();
                        encode_intent(&mut self.out);
                        self.intents += 1;
                        net.send_up(self.index, orchestrator_addr(), &self.out);
                        Brain::AskingOnce
                    }
                };
            }
            Brain::Asking(intent) if is_due(intent.poll_timeout(), now) => {
                intent.handle_timeout(now);
            }
            Brain::Measuring { until, tid } if now >= *until => {
                let tid = *tid;
                self.begin(net, setup, tid);
            }
            Brain::Sending(transfer) if is_due(transfer.poll_timeout(), now) => {
                transfer.handle_timeout(now);
            }
            Brain::Original(original) => original.handle_timeout(now),
            _ => {}
        }
    }

    /// Drains all outputs, over changes of what the client is doing.
    fn drain(&mut self, net: &mut Net, truth: &mut Truth, setup: &Setup) {
        match &mut self.brain {
            Brain::Asking(intent) => {
                self.out.clear();
                if let Some(to) = intent.poll_transmit(&mut self.out) {
                    self.intents += 1;
                    truth.i08_known_destination(v4(to) == orchestrator_addr(), v4(to));
                    net.send_up(self.index, v4(to), &self.out);
                }
                match intent.poll_event() {
                    Some(Ok(assignment)) => {
                        let (client, tid) = (self.index as u8, assignment.tid.0);
                        net.note(Note::Assigned { client, tid });
                        self.choose(net, truth, setup, &assignment);
                    }
                    Some(Err(IntentError::NoAnswer)) => self.finish(net.now, End::NoAnswer),
                    Some(Err(_)) => self.finish(net.now, End::BadAnswer),
                    None => {}
                }
            }
            Brain::Sending(_) => self.drain_transfer(net, truth, setup),
            Brain::Original(_) => self.drain_original(net, setup),
            _ => {}
        }
        // Nothing to measure, or sending begins: go on at once.
        if let Brain::Measuring { until, tid } = self.brain
            && until <= self.process.local(net.now)
        {
            self.begin(net, setup, tid);
        }
        if truth.clients[self.index].layout.is_none() && self.sending_since.is_some() {
            truth.clients[self.index].layout = Some(self.layout.clone());
            self.check_plan(truth);
            self.drain(net, truth, setup);
        }
    }

    fn drain_transfer(&mut self, net: &mut Net, truth: &mut Truth, setup: &Setup) {
        let Brain::Sending(transfer) = &mut self.brain else { return };
        let client = self.index as u8;
        let mut outcome = None;
        while let Some(event) = transfer.poll_event() {
            match event {
                Event::Acked { lane, seq, rtt, .. } => {
                    let sent = self.lanes[lane].was_sent(seq.0);
                    truth.i03_done_only_by_ack(self.index, seq.0, sent);
                    let measured = rtt.filter(|_| !self.process.has_stood_still());
                    truth.i22_clean_sample(measured, self.chosen[lane].round_trip(setup));
                    self.last_ack_at = Some(net.now);
                    net.note(Note::Acked { client, lane: lane as u8, seq: seq.0 });
                    if setup.samples {
                        let (receiver, kind) = (lane, SampleKind::Acked);
                        self.samples.push(Sample { at: net.now, receiver, seq: seq.0, kind });
                    }
                }
                Event::TimedOut { lane, seq, next } => {
                    let local = self.process.local(net.now);
                    self.lanes[lane].timed_out(truth, transfer, lane, local, next);
                    let next_ms = next.as_millis() as u64;
                    net.note(Note::TimedOut { client, lane: lane as u8, seq: seq.0, next_ms });
                }
                Event::Missing { .. } => {
                    self.lanes.iter_mut().for_each(LaneCheck::forget);
                    // What was acknowledged and is not there does not count any more (12).
                    self.reported = self.reported.min(transfer.acked_bytes());
                }
                Event::State { lane, state } => {
                    self.lanes[lane].changed(self.process.local(net.now));
                    net.note(Note::State { client, lane: lane as u8, state: state as u8 });
                }
                Event::Moved { what } => {
                    let (from, to) = (what.from as u8, what.to as u8);
                    net.note(Note::Moved { client, from, to, chunks: what.chunks });
                }
                Event::DigestWanted => {
                    let digest = payload::digest(self.payload_seed, self.setup.payload);
                    transfer.provide_digest(self.process.local(net.now), digest);
                }
                Event::Finished(how) => outcome = Some(how),
                _ => {}
            }
        }
        let acked = transfer.acked_bytes();
        truth.i12_bytes(self.reported, acked, self.setup.payload);
        self.reported = acked;
        while let Some(transmit) = transfer.poll_transmit() {
            if setup.twin == Some(Twin::NoRetransmission) && transmit.attempt > 1 {
                continue;
            }
            let (to, seq, lane) = (v4(transmit.to), transmit.seq.0, transmit.lane);
            truth.i08_known_destination(self.chosen.get(lane).is_some_and(|c| c.addr == to), to);
            if transmit.content == Content::Seal {
                self.out.clear();
                transfer.encode(&transmit, &[], &mut self.out);
                self.lanes[lane].asks(truth, transfer, lane, net.now);
                net.send_up(self.index, to, &self.out);
                continue;
            }
            truth.i26_acked_is_not_resent(transfer.acked().contains(seq), seq);
            let local = self.process.local(net.now);
            // A timeout that has not yet grown to its maximum may have been the last transmission.
            let pause = self.setup.transfer.rto.max / 2;
            let again = self.lanes[lane].sends(truth, transfer, &transmit, (net.now, local), pause);
            self.data.resize((transmit.range.end - transmit.range.start) as usize, 0);
            payload::fill(self.payload_seed, transmit.range.start, &mut self.data);
            self.out.clear();
            transfer.encode(&transmit, &self.data, &mut self.out);
            net.send_up(self.index, to, &self.out);
            if setup.samples {
                let kind = if again { SampleKind::Resent } else { SampleKind::Sent };
                self.samples.push(Sample { at: net.now, receiver: lane, seq, kind });
            }
        }
        if let Some(outcome) = outcome {
            let chunks = self.layout.chunks();
            let complete = matches!(outcome, Outcome::Complete { .. });
            truth.i18_no_mismatch(outcome == Outcome::Mismatch);
            truth.i18_status_is_true(
                complete || outcome == Outcome::Mismatch,
                transfer.acked().len(),
                chunks,
            );
            if complete && !self.lanes.iter().any(LaneCheck::has_forgotten) {
                super::lane::check_holders(truth, transfer, self.setup.transfer.copies, chunks);
            }
            truth.clients[self.index].complete = complete;
            truth.clients[self.index].verified = outcome == Outcome::Complete { verified: true };
            let end = match outcome {
                Outcome::Complete { .. } => End::Complete,
                Outcome::Deadline => End::Deadline,
                Outcome::Mismatch => End::Mismatch,
                Outcome::NothingArrives => End::NothingArrives,
                _ => End::NoProgress,
            };
            self.finish(net.now, end);
        }
    }

    fn drain_original(&mut self, net: &mut Net, setup: &Setup) {
        let Brain::Original(original) = &mut self.brain else { return };
        let mut sent = Vec::new();
        while let Some((peer, seq)) = original.outbox.pop_front() {
            sent.push((peer, seq));
        }
        let tid = self.tid.unwrap_or(TransactionId(0));
        for (peer, seq) in sent {
            let seq = mdalp_proto::ids::SequenceNumber(seq);
            let range = self.layout.range(seq);
            self.data.resize((range.end - range.start) as usize, 0);
            payload::fill(self.payload_seed, range.start, &mut self.data);
            self.out.clear();
            encode_data_header(&mut self.out, tid, seq, None);
            self.out.extend_from_slice(&self.data);
            net.send_up(self.index, self.chosen[peer].addr, &self.out);
            let again = !self.lanes[peer].note_sent(seq.0);
            let kind = if again { SampleKind::Resent } else { SampleKind::Sent };
            self.sample(net.now, setup, peer, seq.0, kind);
        }
        let Brain::Original(original) = &self.brain else { return };
        if original.is_done() {
            let end = if original.crashed { End::Crashed } else { End::Complete };
            self.finish(net.now, end);
        }
    }

    fn sample(&mut self, at: Instant, setup: &Setup, receiver: usize, seq: u64, kind: SampleKind) {
        if setup.samples {
            self.samples.push(Sample { at, receiver, seq, kind });
        }
    }

    pub(crate) fn finish(&mut self, now: Instant, end: End) {
        if self.end.is_some() {
            return;
        }
        self.end = Some(end);
        self.ended_at = Some(now);
        match std::mem::replace(&mut self.brain, Brain::Over) {
            Brain::Sending(transfer) => self.transfer = Some(transfer),
            Brain::Original(original) => self.original = Some(original),
            _ => {}
        }
    }

    /// Sets the timer, and checks that it is set (21) and that no silence goes unnoticed (27).
    fn arm(&mut self, net: &mut Net, truth: &mut Truth) {
        let now = self.process.local(net.now);
        let wake = match &self.brain {
            Brain::Waiting => Some(self.setup.start),
            Brain::Asking(intent) => intent.poll_timeout(),
            Brain::Measuring { until, .. } => Some(*until),
            Brain::Sending(transfer) => {
                let wake = transfer.poll_timeout();
                super::lane::check_timers(truth, transfer, &self.setup.transfer, now, wake);
                // With several copies a suspect may keep what all others have.
                let moves = !matches!(self.setup.program, Program::Mdalp(Mode::Single(_)))
                    && self.setup.transfer.copies == 1;
                super::lane::check_silence(
                    truth,
                    transfer,
                    &mut self.lanes,
                    &self.setup.transfer,
                    now,
                    moves,
                );
                wake
            }
            Brain::Original(original) => original.poll_timeout(),
            Brain::AskingOnce | Brain::Over => None,
        };
        let late = self.draws.duration_up_to(self.setup.late_timers);
        self.process.set_timer(wake, late);
    }

    /// The host of `at` says that nobody listens there.
    pub(crate) fn refused(
        &mut self,
        net: &mut Net,
        truth: &mut Truth,
        setup: &Setup,
        at: SocketAddrV4,
    ) {
        if let Brain::Sending(transfer) = &mut self.brain {
            let local = self.process.local(net.now);
            let lane = self.chosen.iter().position(|chosen| chosen.addr == at);
            let was = lane.map(|lane| transfer.state(lane));
            transfer.handle_unreachable(local, at.into());
            if let (Some(lane), Some(was)) = (lane, was) {
                let suspected = was != transfer.state(lane);
                self.lanes[lane].refused(truth, local, transfer.acked_by(lane).len(), suspected);
            }
        }
        self.turn(net, truth, setup, &mut std::iter::empty());
    }

    /// What the client knows that an eavesdropper might: for attackers.
    pub(crate) fn secrets(&self) -> (u64, u64, Option<SocketAddrV4>) {
        let tid = self.tid.map_or(0, |tid| tid.0);
        (tid, self.layout.chunks(), self.chosen.first().map(|chosen| chosen.addr))
    }
}
