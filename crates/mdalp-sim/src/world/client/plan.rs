//! From an assignment to the first chunk: which receivers, how far they are, who gets what.

use super::super::checks::Truth;
use super::super::lane::LaneCheck;
use super::super::net::{Net, orchestrator_addr, v4};
use super::super::original::{LAST_ECHO, Original, Peer};
use super::{Brain, Chosen, Client, End};
use crate::journal::Note;
use crate::payload;
use crate::setup::{Mode, Program, Setup, Twin};
use mdalp_proto::address;
use mdalp_proto::ids::{ReceiverAddr, TransactionId};
use mdalp_proto::intent::Assignment;
use mdalp_proto::split::Share;
use mdalp_proto::transfer::{Adaptive, Latency, Plan, Policy, Single, Target, Transfer};
use mdalp_proto::wire::PORT;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

/// Up to this length the real shell knows the hash before it sends. Here three in four do.
const HASHED_FIRST: u64 = 1 << 20;

impl Client {
    /// Judges the listed receivers and keeps those that may and shall be sent to.
    pub(super) fn choose(
        &mut self,
        net: &Net,
        truth: &mut Truth,
        setup: &Setup,
        assignment: Assignment,
    ) {
        let now = self.process.local(net.now);
        self.assigned_at = Some(net.now);
        self.tid = Some(assignment.tid);
        truth.clients[self.index].tid = Some(assignment.tid.0);
        let orchestrator = (*orchestrator_addr().ip()).into();
        for (place, entry) in assignment.receivers.into_iter().enumerate() {
            let addr = v4(SocketAddr::new(entry.ip, entry.caps.port.unwrap_or(PORT)));
            let own = net.homes[self.index] == addr;
            let known = self.chosen.iter().any(|chosen| chosen.addr == addr);
            if address::check(entry.ip, orchestrator, false).is_err() || own || known {
                continue;
            }
            let (latency, share) = (self.latency_of(net, setup, addr), Share::default());
            self.chosen.push(Chosen { addr, caps: entry.caps, place, latency, share });
        }
        let single = match self.setup.program {
            Program::Mdalp(Mode::Single(place)) | Program::Original(Some(place)) => Some(place),
            _ => None,
        };
        if let Some(place) = single {
            self.chosen.retain(|chosen| chosen.place == place);
        }
        if self.chosen.is_empty() {
            return self.finish(net.now, End::AllRefused);
        }
        let given = self.setup.latencies.is_some();
        let takes = if single.is_some() || given || self.is_adaptive() {
            Duration::ZERO
        } else {
            self.echoes_take()
        };
        self.brain = Brain::Measuring { until: now + takes, tid: assignment.tid };
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
        let slowest = self.chosen.iter().filter_map(|chosen| chosen.latency).max();
        let fallback = slowest.unwrap_or(Duration::from_secs(1));
        let target = |chosen: &Chosen| Target {
            addr: ReceiverAddr(chosen.addr.into()),
            latency: chosen.latency.unwrap_or(fallback).as_secs_f64(),
            window: chosen.caps.window.unwrap_or(1).min(self.setup.window),
            crc: chosen.caps.crc,
            seal: chosen.caps.seal,
            record: chosen.caps.record,
        };
        let targets: Vec<Target> = self.chosen.iter().map(target).collect();
        let policy: Box<dyn Policy> = match self.setup.program {
            Program::Mdalp(Mode::Latency) | Program::Original(None) => Box::new(Latency),
            Program::Mdalp(Mode::Single(_)) | Program::Original(Some(_)) => {
                Box::new(Single { index: 0 })
            }
            Program::Mdalp(Mode::Adaptive) => Box::new(Adaptive),
        };
        let client = &self.setup;
        let plan = Plan::new(tid, client.payload, client.chunk, &targets, policy.as_ref());
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
        let size = u64::from(self.setup.chunk);
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
