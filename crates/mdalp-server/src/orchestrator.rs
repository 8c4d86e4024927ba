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
use crate::writer;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::orchestrator::{Config, Event, Orchestrator, Random, Transmit};
use mdalp_proto::time::Instant;
use mdalp_store::{ReceiverName, StoreError, TransactionInfo};
use std::collections::BTreeMap;
use std::net::UdpSocket;

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
    let port = Port::new(socket, "orchestrator")?;
    let side = OrchestratorSide::new(port, config.rules, false)?;
    Engine::new(Some(side), None, stats).run(shutdown).await
}

/// The orchestrator's machine with its socket.
pub(crate) struct OrchestratorSide {
    pub(crate) port: Port,
    pub(crate) machine: Orchestrator,
    names: Vec<ReceiverName>,
    /// Assignments that may not leave before their transaction is recorded. `None`: none is recorded.
    unrecorded: Option<BTreeMap<TransactionId, Option<Transmit>>>,
}

impl OrchestratorSide {
    pub(crate) fn new(port: Port, mut rules: Config, records: bool) -> Result<Self, ServerError> {
        if !rules.own.contains(&port.addr()) {
            rules.own.push(port.addr());
        }
        let names = rules
            .receivers
            .iter()
            .map(|entry| ReceiverName { address: entry.ip.to_string(), name: entry.name.clone() });
        let names = names.collect();
        let machine = Orchestrator::new(rules, random()?);
        Ok(Self { port, machine, names, unrecorded: records.then(BTreeMap::new) })
    }

    /// Sends what may be sent. Transactions to record first go to `begin`.
    pub(crate) fn drain(
        &mut self,
        now: Instant,
        log: &mut Log,
        mut begin: impl FnMut(writer::Command) -> Result<(), ServerError>,
    ) -> Result<(), ServerError> {
        while let Some(event) = self.machine.poll_event() {
            log.orchestrator(&event);
            let Event::Assigned { tid, to, receivers } = event else { continue };
            let Some(unrecorded) = &mut self.unrecorded else { continue };
            if unrecorded.len() >= MAX_UNRECORDED {
                self.machine.withdraw(now, tid);
                continue;
            }
            unrecorded.insert(tid, None);
            let receivers = receivers.iter().filter_map(|&i| self.names.get(usize::from(i)));
            let info = TransactionInfo {
                client: to.to_string(),
                begun: wall(),
                receivers: receivers.cloned().collect(),
            };
            begin(writer::Command::Begin(tid, info))?;
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            let waiting = self.unrecorded.as_mut().and_then(|map| map.get_mut(&transmit.tid));
            match waiting {
                Some(place) => *place = Some(transmit),
                None => self.port.send(transmit.to, &transmit.datagram),
            }
        }
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
        let waiting = self.unrecorded.as_mut().and_then(|map| map.remove(&tid));
        match result {
            Ok(()) => {
                if let Some(transmit) = waiting.flatten() {
                    self.port.send(transmit.to, &transmit.datagram);
                }
            }
            Err(error) => {
                log.unrecorded(tid, error);
                self.machine.withdraw(now, tid);
            }
        }
    }
}

/// The system's randomness, tried once before it is relied on.
fn random() -> Result<Random, ServerError> {
    getrandom::u64().map_err(|error| ServerError::Random(error.to_string()))?;
    Ok(Box::new(|| getrandom::u64().expect("the system's random source worked at the start")))
}
