//! From an assignment to the first chunk. Which receivers are used, whether latencies are measured and who
//! gets what is what [`mdalp_proto::client`] says; here are the world's answers to it.

use super::super::checks::Truth;
use super::super::lane::LaneCheck;
use super::super::net::{Net, orchestrator_addr, v4};
use super::super::original::{LAST_ECHO, Original, Peer};
use super::{Brain, Chosen, Client, End};
use crate::journal::Note;
use crate::payload;
use crate::setup::{Mode, Program, Setup, Twin};
use mdalp_proto::client::{self, Candidate, HASHED_FIRST, Measure, Rules, Settings, judge};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::intent::Assignment;
use mdalp_proto::split::Share;
use mdalp_proto::transfer::{Target, Transfer};
use std::net::SocketAddrV4;
use std::time::Duration;

impl Client {
    /// Judges the listed receivers and keeps those that may and shall be sent to.
    pub(super) fn choose(
        &mut self,
        net: &Net,
        truth: &mut Truth,
        setup: &Setup,
        assignment: &Assignment,
    ) {
        let now = self.process.local(net.now);
        self.assigned_at = Some(net.now);
        self.tid = Some(assignment.tid);
        truth.clients[self.index].tid = Some(assignment.tid.0);
        let rules = Rules {
            orchestrator: (*orchestrator_addr().ip()).into(),
            allow_private: false,
            extensions: matches!(self.setup.program, Program::Mdalp(_)),
            mode: self.settings().mode,
        };
        let own = net.homes[self.index];
        let judged = judge(&assignment.receivers, &rules, |addr| addr == own.into());
        let Ok(used) = judged.candidates else {
            return self.finish(net.now, End::AllRefused);
        };
        for Candidate { addr, caps, place, .. } in used {
            let addr = v4(addr);
            let (latency, share) = (self.latency_of(net, setup, addr), Share::default());
            self.chosen.push(Chosen { addr, caps, place, latency, share });
        }
        let takes = match self.settings().measure(&self.candidates()) {
            Measure::Echoes => self.echoes_take(),
            _ => Duration::ZERO,
        };
        self.brain = Brain::Measuring { until: now + takes, tid: assignment.tid };
    }

    /// What its user chose.
    pub(super) fn settings(&self) -> Settings {
        let mode = match self.setup.program {
            Program::Mdalp(Mode::Latency) | Program::Original(None) => client::Mode::Latency,
            Program::Mdalp(Mode::Single(place)) | Program::Original(Some(place)) => {
                client::Mode::Single(place + 1)
            }
            Program::Mdalp(Mode::Adaptive) => client::Mode::Adaptive,
        };
        Settings {
            mode,
            given: self.setup.latencies.is_some(),
            predicts: false,
            chunk: Some(self.setup.chunk),
            window: self.setup.window,
        }
    }

    /// The receivers, as the rules take them.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let candidate = |chosen: &Chosen| Candidate {
            addr: chosen.addr.into(),
            caps: chosen.caps,
            place: chosen.place,
            latency: chosen.latency,
        };
        self.chosen.iter().map(candidate).collect()
    }

    /// Acks tell it what echoes tell others.
    fn is_adaptive(&self) -> bool {
        self.setup.program == Program::Mdalp(Mode::Adaptive)
    }

    fn latency_of(&self, net: &Net, setup: &Setup, addr: SocketAddrV4) -> Option<Duration> {
        let host = net.host(addr).filter(|&host| host < setup.receivers.len())?;
        match &self.setup.latencies {
            Some(given) => given.get(host).map(|ms| Duration::from_secs_f64(ms / 1000.0)),
            None if self.is_adaptive() => None,
            None => setup.receivers[host].ping,
        }
    }

    /// How long measuring takes: for ours until the last answer, or three times as long while one is
    /// missing.
    fn echoes_take(&self) -> Duration {
        let slowest = self.chosen.iter().filter_map(|chosen| chosen.latency).max();
        let all = self.chosen.iter().all(|chosen| chosen.latency.is_some());
        match (self.setup.program, slowest) {
            (Program::Original(_), slowest) => LAST_ECHO + slowest.unwrap_or_default(),
            (_, None) => Duration::from_millis(2900),
            (_, Some(slowest)) if all => slowest + Duration::from_millis(10),
            (_, Some(slowest)) => {
                (slowest * 3).clamp(Duration::from_millis(500), Duration::from_millis(2900))
            }
        }
    }

    /// Fixes who gets what, and starts sending.
    pub(super) fn begin(&mut self, net: &mut Net, setup: &Setup, tid: TransactionId) {
        let now = self.process.local(net.now);
        let (settings, candidates) = (self.settings(), self.candidates());
        let (targets, policy) = (settings.targets(&candidates), settings.policy(&candidates));
        let chunk = settings.chunk_bytes(&candidates, false);
        let plan = settings.plan(tid, self.setup.payload, chunk, &candidates);
        self.layout = plan.layout.clone();
        for (chosen, share) in self.chosen.iter_mut().zip(&plan.shares) {
            chosen.share = *share;
        }
        let check = |target: &Target| LaneCheck::new(tid, target.window);
        self.lanes = targets.iter().map(check).collect();
        self.sending_since = Some(net.now);
        let chunks = plan.layout.chunks();
        let (client, lanes) = (self.index as u8, targets.len() as u8);
        net.note(Note::Planned { client, lanes, chunks });
        self.brain = if let Program::Original(single) = self.setup.program {
            let peer = |chosen: &Chosen| Peer::new(chosen.addr, chosen.share);
            let peers = self.chosen.iter().map(peer).collect();
            Brain::Original(Original::new(now, tid, peers, single.is_none()))
        } else {
            let mut config = self.setup.transfer;
            let within = self.setup.deadline.zip(self.assigned_at);
            config.deadline = within.map(|(within, from)| self.process.local(from) + within);
            if setup.twin == Some(Twin::NoBackoff) {
                config.rto.initial = Duration::from_millis(400);
                config.rto.max = Duration::from_millis(400);
            }
            config.reassign &= setup.twin != Some(Twin::NoReassignment);
            let mut transfer = Transfer::new(now, config, &plan, &targets, policy);
            // The real shell always knows the hash of a short payload first. Here three in four do.
            let early = self.setup.payload <= HASHED_FIRST && !self.payload_seed.is_multiple_of(4);
            if early && targets.iter().any(|target| target.seal) {
                let digest = payload::digest(self.payload_seed, self.setup.payload);
                transfer.provide_digest(now, digest);
            }
            Brain::Sending(Box::new(transfer))
        };
    }

    /// 2: shares are disjoint, contiguous, in order and cover the payload.
    pub(super) fn check_plan(&self, truth: &mut Truth) {
        let (mut bytes, mut chunks) = (0, 0);
        let size = self.layout.chunk();
        for share in self.chosen.iter().map(|chosen| chosen.share) {
            let fits = share.chunks == share.bytes.div_ceil(size)
                && (share.chunks == 0 || share.first_seq == chunks);
            truth.check(fits, 2, || format!("{share:?} after {chunks} chunks"));
            bytes += share.bytes;
            chunks += share.chunks;
        }
        truth.check(bytes == self.setup.payload, 2, || format!("shares add up to {bytes}"));
    }
}
