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
//! Where the invariants of the reliability matrix (§4) are checked:
//!
//! | invariants | where |
//! | --- | --- |
//! | 3, 4, 7–14, 17, 18, 21, 22, 26, 27 | after each event, in `world/` |
//! | 5, 6, 30 | at each restart and after each append of a log; and what a power cut would leave, at the end |
//! | 1, 16, 19, 20, 23, 25 | of each run, in `run` |
//! | 2 | when a client has planned |
//! | 31, 32, 34, 35 | after each look of a server at its store, each answer to a question, each refusal |
//! | 31, 32, 33 | when all is over: after damage, after every retention, by reading all directories |
//! | 24 | over many seeds: `tests/it/goals.rs` |
//! | 28, 29 | `tests/it/cases.rs` |
//! | 15 | the codec's tests and the fuzz targets |
//!
//! What is checked is what was seen to happen, wherever a machine could be wrong about itself.
//!
//! 31: acknowledged means kept. 32: what is on record of the whole is what its sender states. 33: all
//! directories together are the payload, or it is plain what is missing. 34: a share is not called
//! unfinished. 35: crowding deletes nothing.
//!
//! Not modelled: several threads in one process, real sockets, IPv6; `docs/reliability.md` says which
//! parts of the product are not run.

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
