//! A model of one direction of a network path, seeded and replayable, and scenario files.
//!
//! The model does no I/O and reads no clock: the caller says what time it is, as a [`Duration`]
//! since the path was made (so nothing is lost in conversions and any epoch will do), and learns
//! when, how often and how damaged each datagram arrives. A simulator runs it in virtual time, a
//! relay between real sockets in real time. The same seed, configuration and calls give the same
//! fates, on every machine and in every later version: the generator is part of this crate.
//!
//! - [`Path`] decides the fate of each datagram and counts all that it does, by cause.
//! - [`Link`] is a path with the datagrams that are on their way.
//! - [`FarEnd`] decides when, and whether, a receiver's acknowledgement leaves it.
//! - [`scenario`] reads `scenarios/*.toml`; the shipped ones are built in.
//!
//! It knows nothing of MDALP's messages beyond the numbers `TID` and `SEQ` that [`FarEnd`] is told,
//! does not share one bottleneck between several paths, and does not fragment.
//!
//! ```
//! use std::time::Duration;
//! use mdalp_netem::{Link, Loss, PathConfig, Probability};
//!
//! let config = PathConfig {
//!     delay: Duration::from_millis(15),
//!     loss: Loss { random: Probability::new(0.02), ..Loss::default() },
//!     ..PathConfig::default()
//! };
//! let mut link = Link::new(config, 7);
//! let mut now = Duration::ZERO;
//! link.enqueue(now, 5, b"hello".to_vec());
//! while let Some(due) = link.next_due() {
//!     now = due;
//!     while let Some(arrival) = link.poll(now) {
//!         assert_eq!(arrival.into_bytes(), b"hello");
//!     }
//! }
//! ```
//!
//! [`Duration`]: std::time::Duration

mod bottleneck;
mod config;
mod counters;
mod far_end;
mod link;
mod loss;
mod mangle;
mod path;
mod preset;
mod rng;
pub mod scenario;
mod schedule;

pub use config::{
    BadBurst, Burst, Corruption, Duplication, Flap, Jitter, Late, Loss, Outage, PathConfig, Rate,
    Reordering,
};
pub use counters::{AckCounters, Counters};
pub use far_end::{FarEnd, FarEndConfig};
pub use link::{Arrival, Link};
pub use mangle::Mangle;
pub use path::{Deliveries, Delivery, Path};
pub use preset::P0_ROUND_TRIPS;
pub use rng::{Probability, Rng, derive_seed};
pub use scenario::{Scenario, ScenarioError};
pub use schedule::Schedule;
