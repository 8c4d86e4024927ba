//! The rules of MDALP, without I/O.
//!
//! Every machine here (client [`intent`] and [`transfer`], [`orchestrator`], [`receiver`]) has the
//! same verbs: it takes datagrams and the time in through `handle_*`, and gives datagrams, its next
//! deadline and events out through `poll_*`. After each input the caller drains all outputs.
//!
//! What this crate does **not** do: open sockets, read clocks, sleep, draw random numbers or hold a
//! payload. Shells do, and hand the results in as arguments, so that the same rules run over real
//! sockets, in virtual time and under a fuzzer.

pub mod address;
pub mod client;
pub mod completion;
mod counters;
pub mod ids;
pub mod intent;
mod lane;
pub mod layout;
pub mod observe;
pub mod orchestrator;
pub mod ranges;
mod rate;
pub mod receiver;
pub mod rtt;
pub mod source;
pub mod split;
pub mod tidmap;
pub mod time;
pub mod transfer;
pub mod wire;
