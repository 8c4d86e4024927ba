//! MDALP in virtual time: client, orchestrator, receivers, store and network, one clock, one seed.
//!
//! The machines of [`mdalp_proto`] are joined by the paths of [`mdalp_netem`]; servers keep what they
//! take in [`mdalp_store`]'s segment log on a simulated disk. Nothing here reads a clock or draws
//! chance from anywhere but the seed: the same seed gives the same run, to the nanosecond.
//!
//! - [`simulate`] runs one transfer through a scenario: for comparisons.
//! - [`run`] runs a [`Case`]: a world with faults, whose invariants are checked as it goes.
//! - [`swarm`] draws cases from seeds; [`shrink()`] makes failing ones short.
//! - [`table`] measures time and datagrams against loss.
//!
//! Not modelled: several threads in one process, real sockets, IPv6, and resuming after the
//! client's death.

mod case;
mod fault;
mod journal;
mod payload;
mod report;
mod run;
mod setup;
mod shrink;
mod simulate;
pub mod swarm;
pub mod table;
mod world;

pub use case::{Case, Spread};
pub use fault::{DiskFailure, Fault, Hostile, Way};
pub use report::{ReceiverRun, RunReport, Sample, SampleKind};
pub use run::{Verdict, lines, run};
pub use setup::{Action, Attack, ClientSetup, Disk, Mode, Program, ServerSetup, Setup, Twin, Who};
pub use shrink::shrink;
pub use simulate::{Options, simulate, simulate_with};
pub use world::{Counts, End, Violation, World};
