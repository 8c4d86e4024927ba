//! MDALP servers over real sockets: [`orchestrator`], [`receiver`], and [`serve`], which is both in one
//! process with one store.
//!
//! A server is a `run(socket, config, shutdown)` that returns when `shutdown` completes or the
//! server cannot go on. Here are sockets, threads and clocks; every rule of the protocol is in
//! [`mdalp_proto`], and keeping things is [`mdalp_store`]'s work. Not here: command lines, signals,
//! status pages.

mod assignments;
pub mod bind;
mod clock;
pub mod config;
mod engine;
pub mod error;
mod helper;
mod inbox;
mod keeper;
#[cfg(target_os = "linux")]
mod kernel;
mod log;
mod open;
pub mod orchestrator;
mod outbox;
mod port;
pub mod receiver;
pub mod serve;
mod shard;
pub mod stats;
mod worker;
mod writer;

pub use bind::{bind, bind_receivers};
pub use config::{OrchestratorConfig, ReceiverConfig, ReceiverSpec, ServeConfig};
pub use error::{ConfigError, ServerError};
pub use open::open_store;
pub use stats::{Stats, Summary};
