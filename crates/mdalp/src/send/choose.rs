//! From an assignment to a plan: which receivers are sent to, how far they are, who gets what.
//!
//! Measures and tells; the rules are those of [`mdalp_proto::client`].

use super::Session;
use crate::error::SendError;
use crate::event::{Event, Kind, Listed, PlannedShare, Predicted, millis, printable};
use crate::journal::SavedReceiver;
use crate::options::Mode;
use crate::probe;
use crate::sockets::Sockets;
use mdalp_proto::client::{Candidate, Measure, Problem, Rules, Settings, judge};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::intent::Assignment;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::split::Share;
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::{Plan, Target, Transfer};
use mdalp_proto::wire::Capabilities;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A receiver that is sent to.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) addr: SocketAddr,
    pub(super) name: String,
    pub(super) latency: Option<Duration>,
    pub(super) share: Share,
    caps: Capabilities,
    /// Its place in the orchestrator's list, from 0.
    place: usize,
}

impl Receiver {
    /// Whether it compares a whole payload with what its sender states.
    pub(super) fn compares_the_whole(&self) -> bool {
        self.caps.seal
    }
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
        let rules = Rules {
            orchestrator: orchestrator.ip(),
            allow_private: self.options.allow_private,
            extensions: self.options.extensions,
            mode: self.options.mode,
        };
        let judged = judge(&entries, &rules, |addr| sockets.is_own(addr));
        let names: Vec<String> = entries.iter().map(|entry| printable(&entry.name)).collect();
        let receivers = judged.listed.iter().zip(&entries).zip(&names);
        let receivers = receivers.map(|((listed, entry), name)| Listed {
            address: listed.addr.to_string(),
            name: name.clone(),
            caps: entry.caps.to_string(),
            refused: listed.unused.map(|why| why.to_string()),
        });
        let receivers = receivers.collect();
        let waited_ms = self.assigned_at.map_or(0.0, |at| millis(at - Instant::ZERO));
        self.emit(Kind::Receivers { tid: tid.0, waited_ms, receivers });
        let used = judged.candidates.map_err(|problem| match problem {
            Problem::AllUnused { first, why } => SendError::AllRefused {
                addr: orchestrator,
                address: judged.listed[first].addr.to_string(),
                why: why.to_string(),
            },
            Problem::NoSuchPlace => {
                let names = names.iter().enumerate().map(|(i, name)| format!("{} = {name}", i + 1));
                let names = names.collect::<Vec<_>>().join(", ");
                let n = if let Mode::Single(n) = self.options.mode { n } else { 0 };
                let what = format!("-s {n}: there is no such receiver; choose one of {names}");
                SendError::Usage(what)
            }
        })?;
        let receiver = |used: Candidate| Receiver {
            addr: used.addr,
            name: names[used.place].clone(),
            latency: used.latency,
            share: Share::default(),
            caps: used.caps,
            place: used.place,
        };
        self.receivers = used.into_iter().map(receiver).collect();
        self.receivers.iter().try_for_each(|receiver| sockets.ensure(receiver.addr))
    }

    /// Finds out how far the receivers are, as the options say; returns what the shares rest on,
    /// in one line.
    pub(super) async fn measure(&mut self) -> Result<String, SendError> {
        match self.settings().measure(&self.candidates()) {
            Measure::Given => return self.take_given().map(|()| "latencies as given".to_owned()),
            Measure::ByAcks => {
                return Ok("equal shares to begin with, then by rate of acks".to_owned());
            }
            Measure::One => return Ok("one receiver, nothing to measure".to_owned()),
            Measure::Echoes => {}
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

    /// The latencies that the options give, by place in the list.
    fn take_given(&mut self) -> Result<(), SendError> {
        let given = self.options.latencies.as_deref().unwrap_or_default();
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
        Ok(())
    }

    /// The receivers, as the rules take them.
    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |r: &Receiver| Candidate {
            addr: r.addr,
            caps: r.caps,
            place: r.place,
            latency: r.latency,
        };
        self.receivers.iter().map(candidate).collect()
    }

    fn settings(&self) -> Settings {
        Settings {
            mode: self.options.mode,
            given: self.options.latencies.is_some(),
            predicts: self.options.dry_run,
            chunk: self.options.chunk,
            window: self.options.window,
        }
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
        let (settings, candidates) = (self.settings(), self.candidates());
        let chunk_bytes = settings.chunk_bytes(&candidates, small);
        self.chunk_bytes = chunk_bytes;
        let tid = self.tid.unwrap_or(TransactionId(0));
        let plan = settings.plan(tid, self.payload.len(), chunk_bytes, &candidates);
        if self.options.dry_run {
            self.show(basis, chunk_bytes, &plan);
            let measured = self.receivers.iter().all(|receiver| receiver.latency.is_some());
            let policies = predict(&plan, &settings.targets(&candidates), measured);
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
        let (settings, candidates) = (self.settings(), self.candidates());
        let (targets, policy) = (settings.targets(&candidates), settings.policy(&candidates));
        Transfer::resume(self.clock.now(), config, plan, &targets, policy, held)
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
        let policy = self.settings().policy(&self.candidates());
        self.emit(Kind::Plan { mode: policy.name(), chunk_bytes, basis, shares });
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
