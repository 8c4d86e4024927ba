//! The servers over real sockets on loopback, with clients that are a few lines of plain UDP.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod alone;
mod classic;
mod intents;
mod restart;
mod seal;
#[cfg(target_os = "linux")]
mod shards;
mod sockets;
mod support;
