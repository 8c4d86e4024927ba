//! The whole server side in one process: an orchestrator and its receivers, one store.

use crate::assignments::Assignments;
use crate::config::ServeConfig;
use crate::engine::Engine;
use crate::error::ServerError;
use crate::orchestrator::{OrchestratorSide, names};
use crate::port::Port;
use crate::receiver::ReceiverSide;
use crate::stats::{StatsSender, Summary};
use mdalp_store::Store;
use std::net::UdpSocket;
use std::sync::Arc;

/// Runs an orchestrator on `socket` and a receiver on each of `receivers` until `shutdown` completes;
/// then what was read is committed and acknowledged.
///
/// # Errors
/// [`ServerError`] if a socket, the store or the system's random source fails.
pub async fn run(
    socket: UdpSocket,
    receivers: Vec<UdpSocket>,
    store: Arc<dyn Store>,
    config: ServeConfig,
    stats: StatsSender,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, ServerError> {
    let ServeConfig { orchestrator: mut rules, receivers: config } = config;
    let port = Port::new(socket, "orchestrator", config.observer.clone())?;
    let assigned = Arc::new(Assignments::of(names(&rules)));
    let own = [port.addr()];
    let receivers = ReceiverSide::start(receivers, store, config, assigned.clone(), &own).await?;
    rules.own.extend(receivers.ports.iter().map(Port::addr));
    let orchestrator = OrchestratorSide::new(port, rules, Some(assigned))?;
    Engine::new(Some(orchestrator), Some(receivers), stats).run(shutdown).await
}
