//! From an assignment to a plan: which receivers are sent to, how far they are, who gets what.

use super::Session;
use crate::error::SendError;
use crate::event::{Event, Kind, Listed, PlannedShare, Predicted, millis, printable};
use crate::journal::SavedReceiver;
use crate::options::Mode;
use crate::probe;
use crate::sockets::Sockets;
use mdalp_proto::address::{self, Refusal};
use mdalp_proto::ids::{ReceiverAddr, TransactionId};
use mdalp_proto::intent::Assignment;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::split::Share;
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::{Plan, Target, Transfer};
use mdalp_proto::wire::{CLASSIC_CHUNK, Capabilities, PORT};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A receiver that is sent to.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) addr: SocketAddr,
    pub(super) name: String,
    caps: Capabilities,
    /// Its place in the orchestrator's list, from 0.
    place: usize,
    pub(super) latency: Option<Duration>,
    pub(super) share: Share,
}

impl<F: FnMut(&Event)> Session<'_, F> {
    /// Judges the listed receivers and keeps those that may and shall be sent to.
    pub(super) fn choose(
        &mut self,
        orchestrator: SocketAddr,
        assignment: Assignment,
        sockets: &mut Sockets,
    ) -> Result<(), SendError> {
        let Assignment { tid, receivers: entries } = assignment;
        self.tid = Some(tid);
        self.receivers.clear();
        let mut listed = Vec::new();
        let mut seen = BTreeSet::new();
        for (place, entry) in entries.into_iter().enumerate() {
            let addr = SocketAddr::new(entry.ip, entry.caps.port.unwrap_or(PORT));
            let refused =
                match address::check(entry.ip, orchestrator.ip(), self.options.allow_private) {
                    Err(refusal) => Some(refusal.to_string()),
                    Ok(()) if sockets.is_own(addr) => Some(Refusal::Own.to_string()),
                    Ok(()) if !seen.insert(addr) => Some("listed twice".to_owned()),
                    Ok(()) => None,
                };
            let name = printable(&entry.name);
            if refused.is_none() {
                let caps =
                    if self.options.extensions { entry.caps } else { Capabilities::default() };
                let (name, share) = (name.clone(), Share::default());
                self.receivers.push(Receiver { addr, name, caps, place, latency: None, share });
            }
            let (address, caps) = (addr.to_string(), entry.caps.to_string());
            listed.push(Listed { address, name, caps, refused });
        }
        let refusal = listed.iter().find_map(|l| Some((l.address.clone(), l.refused.clone()?)));
        let names: Vec<String> =
            listed.iter().enumerate().map(|(i, l)| format!("{} = {}", i + 1, l.name)).collect();
        let waited_ms = self.assigned_at.map_or(0.0, |at| millis(at - Instant::ZERO));
        self.emit(Kind::Receivers { tid: tid.0, waited_ms, receivers: listed });

        if let Mode::Single(n) = self.options.mode {
            if !(1..=names.len()).contains(&n) {
                let names = names.join(", ");
                let what = format!("-s {n}: there is no such receiver; choose one of {names}");
                return Err(SendError::Usage(what));
            }
            self.receivers.retain(|receiver| receiver.place == n - 1);
        }
        if self.receivers.is_empty() {
            let (address, why) = refusal.unwrap_or_default();
            return Err(SendError::AllRefused { addr: orchestrator, address, why });
        }
        self.receivers.iter().try_for_each(|receiver| sockets.ensure(receiver.addr))
    }

    /// Finds out how far the receivers are, as the options say; returns what the shares rest on,
    /// in one line.
    pub(super) async fn measure(&mut self) -> Result<String, SendError> {
        if let Some(given) = &self.options.latencies {
            let places = self.receivers.iter().map(|r| r.place).max().map_or(0, |last| last + 1);
            if given.len() < places {
                return Err(SendError::Usage(format!(
                    "--latencies has {} values, but the orchestrator listed {places} receivers",
                    given.len(),
                )));
            }
            for receiver in &mut self.receivers {
                receiver.latency = Some(Duration::from_secs_f64(given[receiver.place] / 1000.0));
            }
            return Ok("latencies as given".to_owned());
        }
        let adaptive = self.options.resolve(self.is_extended()) == Mode::Adaptive;
        if adaptive && !self.options.dry_run {
            // Their acks tell more than pings would, and at once.
            return Ok("equal shares to begin with, then by rate of acks".to_owned());
        }
        if matches!(self.options.mode, Mode::Single(_)) {
            return Ok("one receiver, nothing to measure".to_owned());
        }
        let hosts: Vec<IpAddr> = self.receivers.iter().map(|r| r.addr.ip()).collect();
        let whom: Vec<String> = hosts.iter().map(IpAddr::to_string).collect();
        let measuring = probe::measure(&hosts, self.options.probe);
        let measured = self.patiently("latencies", &whom, measuring).await;
        let method = measured.method;
        let mut silent = Vec::new();
        for (at, answer) in measured.answers.into_iter().enumerate() {
            let receiver = &mut self.receivers[at];
            receiver.latency = answer.as_ref().ok().copied();
            let address = receiver.addr.to_string();
            if answer.is_err() {
                silent.push(receiver.addr.ip().to_string());
            }
            let latency_ms = answer.as_ref().ok().copied().map(millis);
            self.emit(Kind::Probe { address, method, latency_ms, problem: answer.err() });
        }
        let note = measured.note.map(|note| format!(" ({note})")).unwrap_or_default();
        Ok(match (silent.len(), hosts.len()) {
            (0, _) => format!("latencies by {method}{note}"),
            (silent, all) if silent == all => format!("equal shares: no latency is known{note}"),
            _ => format!(
                "latencies by {method}{note}; silent hosts count as the slowest: {}",
                silent.join(", ")
            ),
        })
    }

    /// Whether every receiver does more than the classic protocol asks for.
    fn is_extended(&self) -> bool {
        self.receivers
            .iter()
            .all(|r| r.caps.window.is_some() || r.caps.crc || r.caps.seal || r.caps.record)
    }

    /// Whether somebody may acknowledge several chunks at once.
    pub(super) fn has_windows(&self) -> bool {
        self.receivers.iter().any(|r| r.caps.window.is_some_and(|window| window > 1))
    }

    /// Whether somebody may be asked whether the payload is whole.
    pub(super) fn can_verify(&self) -> bool {
        self.receivers.iter().any(|r| r.caps.seal || r.caps.record)
    }

    /// Fixes who gets what, and starts the transfer.
    pub(super) fn plan(
        &mut self,
        assigned_at: Instant,
        basis: &str,
        small: bool,
    ) -> Option<Transfer> {
        let targets = self.targets();
        let policy = self.options.policy(self.is_extended());
        let largest =
            if small { CLASSIC_CHUNK } else { self.options.largest_chunk(self.is_extended()) };
        // One size for all: a chunk may move to any of them.
        let sizes = self.receivers.iter().map(|r| r.caps.chunk.unwrap_or(CLASSIC_CHUNK));
        let chunk_bytes = sizes.min().unwrap_or(CLASSIC_CHUNK).min(largest);
        self.chunk_bytes = chunk_bytes;
        let tid = self.tid.unwrap_or(TransactionId(0));
        let plan = Plan::new(tid, self.payload.len(), chunk_bytes, &targets, policy.as_ref());
        if self.options.dry_run {
            self.show(basis, chunk_bytes, &plan);
            let measured = self.receivers.iter().all(|receiver| receiver.latency.is_some());
            let policies = predict(&plan, &targets, measured);
            self.emit(Kind::Prediction { policies });
            return None;
        }
        let transfer = self.begin(assigned_at, basis, chunk_bytes, &plan, &[]);
        self.start_journal(chunk_bytes);
        Some(transfer)
    }

    /// Starts the transfer of `plan`, of which `held` is acknowledged.
    pub(super) fn begin(
        &mut self,
        since: Instant,
        basis: &str,
        chunk_bytes: u16,
        plan: &Plan,
        held: &[RangeSet],
    ) -> Transfer {
        self.show(basis, chunk_bytes, plan);
        let mut config = self.options.transfer;
        config.copies = self.copies;
        config.deadline = self.options.deadline.map(|within| since + within);
        let policy = self.options.policy(self.is_extended());
        Transfer::resume(self.clock.now(), config, plan, &self.targets(), policy, held)
    }

    /// Tells who gets what.
    fn show(&mut self, basis: &str, chunk_bytes: u16, plan: &Plan) {
        let mut shares = Vec::new();
        for (receiver, share) in self.receivers.iter_mut().zip(&plan.shares) {
            receiver.share = *share;
            shares.push(PlannedShare {
                address: receiver.addr.to_string(),
                name: receiver.name.clone(),
                latency_ms: receiver.latency.map(millis),
                bytes: share.bytes,
                chunks: share.chunks,
                first_seq: share.first_seq,
            });
        }
        let copies = self.copies.min(self.receivers.len());
        let basis = match copies {
            0 | 1 => format!("{basis}; each chunk to one receiver, and lost if that one is"),
            n => format!("{basis}; each chunk to {n} receivers: {} of them may be lost", n - 1),
        };
        let policy = self.options.policy(self.is_extended());
        self.emit(Kind::Plan { mode: policy.name(), chunk_bytes, basis, shares });
    }

    fn targets(&self) -> Vec<Target> {
        let slowest = self.receivers.iter().filter_map(|r| r.latency).max();
        let fallback = slowest.unwrap_or(Duration::from_secs(1));
        let target = |receiver: &Receiver| Target {
            addr: ReceiverAddr(receiver.addr),
            // In the unit of `mdalp plan`, so that rounding cannot make the shares differ.
            latency: millis(receiver.latency.unwrap_or(fallback)),
            window: receiver.caps.window.unwrap_or(1).min(self.options.window),
            crc: receiver.caps.crc,
            seal: receiver.caps.seal,
            record: receiver.caps.record,
        };
        self.receivers.iter().map(target).collect()
    }
}

/// How long each policy would take without loss: whole windows, one round trip each.
fn predict(plan: &Plan, targets: &[Target], measured: bool) -> Vec<Predicted> {
    let chunks = plan.layout.chunks();
    let alone = |chunks: u64, target: &Target| {
        chunks.div_ceil(target.window.max(1).into()) as f64 * target.latency / 1000.0
    };
    let slowest = plan.shares.iter().zip(targets).map(|(share, t)| alone(share.chunks, t));
    let rate: f64 = targets.iter().map(|t| f64::from(t.window) * 1000.0 / t.latency).sum();
    let mut policies = vec![
        ("as planned".to_owned(), slowest.fold(0.0, f64::max)),
        ("adaptive".to_owned(), chunks as f64 / rate),
    ];
    for (place, target) in targets.iter().enumerate() {
        policies.push((format!("single {}", place + 1), alone(chunks, target)));
    }
    let predicted = |(policy, seconds)| Predicted { policy, seconds: measured.then_some(seconds) };
    policies.into_iter().map(predicted).collect()
}

impl Receiver {
    pub(super) fn saved((place, saved): (usize, &SavedReceiver)) -> Self {
        Self {
            addr: saved.address,
            name: saved.name.clone(),
            caps: Capabilities::parse(&saved.caps),
            place,
            latency: saved.latency_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()),
            share: Share::default(),
        }
    }

    pub(super) fn save(&self) -> SavedReceiver {
        SavedReceiver {
            address: self.addr,
            name: self.name.clone(),
            caps: self.caps.to_string(),
            latency_ms: self.latency.map(millis),
            bytes: self.share.bytes,
        }
    }
}
