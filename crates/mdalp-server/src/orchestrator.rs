//! The orchestrator alone, and its part of a server that is more.
//!
//! Alone it keeps nothing. Together with receivers each transaction is recorded in the store before
//! its assignment leaves.

use crate::clock::wall;
use crate::config::OrchestratorConfig;
use crate::engine::Engine;
use crate::error::ServerError;
use crate::log::Log;
use crate::port::Port;
use crate::stats::{StatsSender, Summary};
use crate::writer::{Recorder, spawn_recorder};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::orchestrator::{Config, Event, Orchestrator, Random, Transmit};
use mdalp_proto::time::Instant;
use mdalp_store::{ReceiverName, Store, StoreError, TransactionInfo};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;

/// Transactions that wait to be recorded, at most; more are not assigned (their clients ask again).
const MAX_UNRECORDED: usize = 1024;

/// Runs an orchestrator on `socket` (see [`bind`](crate::bind())) until `shutdown` completes.
///
/// # Errors
/// [`ServerError`] if the socket or the system's random source fails.
pub async fn run(
    socket: UdpSocket,
    config: OrchestratorConfig,
    stats: StatsSender,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, ServerError> {
    let port = Port::new(socket, "orchestrator", config.observer)?;
    let side = OrchestratorSide::new(port, config.rules, None)?;
    Engine::new(Some(side), None, stats).run(shutdown).await
}

/// The orchestrator's machine with its socket.
pub(crate) struct OrchestratorSide {
    pub(crate) port: Port,
    pub(crate) machine: Orchestrator,
    names: Vec<ReceiverName>,
    /// The thread that records transactions, if they are recorded.
    pub(crate) recorder: Option<Recorder>,
    /// Assignments that may not leave before their transaction is recorded.
    unrecorded: BTreeMap<TransactionId, Option<Transmit>>,
}

impl OrchestratorSide {
    /// With a `store`, transactions are recorded in it.
    pub(crate) fn new(
        port: Port,
        mut rules: Config,
        store: Option<Arc<dyn Store>>,
    ) -> Result<Self, ServerError> {
        if !rules.own.contains(&port.addr()) {
            rules.own.push(port.addr());
        }
        let names = rules
            .receivers
            .iter()
            .map(|entry| ReceiverName { address: entry.ip.to_string(), name: entry.name.clone() });
        let names = names.collect();
        let machine = Orchestrator::new(rules, random()?);
        let recorder = store.map(spawn_recorder).transpose()?;
        Ok(Self { port, machine, names, recorder, unrecorded: BTreeMap::new() })
    }

    /// Sends what may be sent, and has recorded what must be first.
    pub(crate) fn drain(&mut self, now: Instant, log: &mut Log) -> Result<(), ServerError> {
        while let Some(event) = self.machine.poll_event() {
            log.orchestrator(&event, &self.names);
            let Event::Assigned { tid, to, receivers } = event else { continue };
            let Some(recorder) = &self.recorder else { continue };
            if self.unrecorded.len() >= MAX_UNRECORDED {
                self.machine.withdraw(now, tid);
                continue;
            }
            self.unrecorded.insert(tid, None);
            let receivers = receivers.iter().filter_map(|&i| self.names.get(usize::from(i)));
            let info = TransactionInfo {
                client: to.to_string(),
                begun: wall(),
                receivers: receivers.cloned().collect(),
            };
            recorder.send((tid, info))?;
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            match self.unrecorded.get_mut(&transmit.tid) {
                Some(place) => *place = Some(transmit),
                None => self.send(&transmit),
            }
        }
        while let Some(probe) = self.machine.poll_probe() {
            self.port.send(probe.to, |out| out.extend_from_slice(&probe.datagram));
        }
        self.port.flush();
        Ok(())
    }

    /// A transaction is on record, or could not be recorded.
    pub(crate) fn begun(
        &mut self,
        now: Instant,
        tid: TransactionId,
        result: Result<(), StoreError>,
        log: &mut Log,
    ) {
        let waiting = self.unrecorded.remove(&tid).flatten();
        if let Err(error) = result {
            log.unrecorded(tid, error);
            self.machine.withdraw(now, tid);
        } else if let Some(transmit) = waiting {
            self.send(&transmit);
        }
    }

    fn send(&mut self, transmit: &Transmit) {
        self.port.send(transmit.to, |out| out.extend_from_slice(&transmit.datagram));
    }
}

/// The system's randomness, tried once before it is relied on.
fn random() -> Result<Random, ServerError> {
    getrandom::u64().map_err(|error| ServerError::Random(error.to_string()))?;
    Ok(Box::new(|| getrandom::u64().expect("the system's random source worked at the start")))
}
