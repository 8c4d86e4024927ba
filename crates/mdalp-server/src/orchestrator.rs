//! The orchestrator alone, and its part of a server that is more.
//!
//! Keeps nothing on disk. Together with receivers it notes what it assigns, and the receivers' writer
//! records that when the first chunk comes.

use crate::assignments::Assignments;
use crate::clock::wall;
use crate::config::OrchestratorConfig;
use crate::engine::Engine;
use crate::error::ServerError;
use crate::log::Log;
use crate::port::Port;
use crate::stats::{StatsSender, Summary};
use mdalp_proto::orchestrator::{Config, Event, Orchestrator, Random};
use mdalp_proto::wire::list::Entry;
use mdalp_store::ReceiverName;
use std::net::UdpSocket;
use std::sync::Arc;

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
    /// Where assignments are noted for the receivers in the same process.
    assigned: Option<Arc<Assignments>>,
}

/// What assignments call their receivers, by number.
pub(crate) fn names(rules: &Config) -> Vec<ReceiverName> {
    let name =
        |entry: &Entry| ReceiverName { address: entry.ip.to_string(), name: entry.name.clone() };
    rules.receivers.iter().map(name).collect()
}

impl OrchestratorSide {
    /// Notes in `assigned` what it assigns.
    pub(crate) fn new(
        port: Port,
        mut rules: Config,
        assigned: Option<Arc<Assignments>>,
    ) -> Result<Self, ServerError> {
        if !rules.own.contains(&port.addr()) {
            rules.own.push(port.addr());
        }
        let names = names(&rules);
        let machine = Orchestrator::new(rules, random()?);
        Ok(Self { port, machine, names, assigned })
    }

    /// Sends what is to be sent, after it is noted.
    pub(crate) fn drain(&mut self, log: &mut Log) {
        while let Some(event) = self.machine.poll_event() {
            log.orchestrator(&event, &self.names);
            if let (Some(assigned), Event::Assigned { tid, to, receivers }) =
                (&self.assigned, event)
            {
                assigned.add(tid, to, wall(), receivers);
            }
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            self.port.send(transmit.to, |out| out.extend_from_slice(&transmit.datagram));
        }
        while let Some(probe) = self.machine.poll_probe() {
            self.port.send(probe.to, |out| out.extend_from_slice(&probe.datagram));
        }
        self.port.flush();
    }
}

/// The system's randomness, tried once before it is relied on.
fn random() -> Result<Random, ServerError> {
    getrandom::u64().map_err(|error| ServerError::Random(error.to_string()))?;
    Ok(Box::new(|| getrandom::u64().expect("the system's random source worked at the start")))
}
