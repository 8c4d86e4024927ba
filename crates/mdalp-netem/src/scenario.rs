//! Scenario files: a whole network and what befalls it, in TOML.
//!
//! One format for the simulator, the lab and `mdalp compare`. Unknown keys are refused, and every
//! error says where in the file. Reads text only: opening files is the caller's part.
//!
//! ```toml
//! name = "example"
//! description = "what this network shows"
//! seed = 1                  # default 1
//! payload_bytes = 5000      # default 5000
//!
//! [paths]                   # defaults for every path, in both directions
//! jitter_ms = 5             # 0 to this, evenly, kept in order ...
//! jitter_reorders = false   # ... unless this is true
//! loss = 0.02               # shares run from 0 to 1
//! rate_mbit = 10            # 0 is no limit
//! overhead_bytes = 28
//! queue_packets = 25
//! queue_bytes = 32768
//!
//! [orchestrator]
//! rtt_ms = 40               # half each way
//! queue_delay_ms = 0        # how long an intent waits for its assignment
//!
//! [[receiver]]              # in the order of the assignment
//! name = "far"
//! rtt_ms = 300
//! ping_ms = 300             # what ping shows; default: both delays and their mean jitter
//! answers_ping = true
//! acks = { delay_ms = 1400, jitter_ms = 20, drop = [5, 8], stop_at_seq = 42 }
//! dead = false              # nothing reaches it or leaves it
//! up = { delay_ms = 150, lose = [1] }     # client to receiver: the n-th datagram, from 1
//! down = { burst_loss = 0.1, mean_burst = 3, max_loss_run = 10 }
//!
//! [[receiver.at]]           # from 10 s on; what is not named stays as it is
//! s = 10
//! dead = true
//! ```
//!
//! More keys of a path: `duplicate`, `duplicate_after_ms`; `reorder`, `reorder_window`; `late`,
//! `late_by_ms`; `corrupt_byte`, `corrupt_within`, `corrupt_bit`, `truncate`;
//! `outages = [{ at_s = 5, for_s = 2 }]` (without `for_s`: for ever);
//! `flap = { up_s = 5, down_s = 2, from_s = 0 }`; `cut`. [`PathConfig`] says what they do.
//!
//! Keys of `acks`: `delay_ms` from a chunk's arrival to its acknowledgement, `jitter_ms` more or less,
//! `serial` for one chunk at a time, `loss` for a share withheld by chance, `drop` for SEQ whose first
//! acknowledgement is withheld in each transaction, `stop_at_seq` for the first SEQ of those never
//! acknowledged. [`FarEndConfig`] is the same in Rust.

use std::time::Duration;

use crate::config::PathConfig;
use crate::far_end::{FarEnd, FarEndConfig};
use crate::path::Path;
use crate::rng::derive_seed;
use crate::schedule::Schedule;

mod builtin;
mod table;

/// A network and what befalls it.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// Short name, as on the command line.
    pub name: String,
    /// What it shows, in a sentence or two.
    pub description: String,
    /// Seed of all chance, unless the caller brings another.
    pub seed: u64,
    /// Size of the payload, unless the caller brings one.
    pub payload_bytes: u64,
    /// The orchestrator.
    pub orchestrator: OrchestratorEnd,
    /// The receivers in the order of the assignment; at least one, each name once.
    pub receivers: Vec<ReceiverEnd>,
}

/// The orchestrator and the way to it.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct OrchestratorEnd {
    /// From the client.
    pub up: PathConfig,
    /// To the client.
    pub down: PathConfig,
    /// How long an intent waits for its assignment.
    pub queue_delay: Duration,
}

/// A receiver and the way to it.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct ReceiverEnd {
    /// Its name in the assignment.
    pub name: String,
    /// What ping shows, which need not be what the paths do; `None` if it shows no answer.
    pub ping: Option<Duration>,
    /// From the client.
    pub up: Schedule<PathConfig>,
    /// To the client.
    pub down: Schedule<PathConfig>,
    /// How it acknowledges.
    pub far_end: Schedule<FarEndConfig>,
}

impl OrchestratorEnd {
    /// The paths up and down, with chance drawn from `seed`.
    pub fn paths(&self, seed: u64) -> (Path, Path) {
        (
            Path::new(self.up.clone(), derive_seed(seed, 0)),
            Path::new(self.down.clone(), derive_seed(seed, 1)),
        )
    }
}

impl ReceiverEnd {
    /// The paths up and down and the far end, with chance drawn from `seed` for the receiver at
    /// `index` in the scenario: no two receivers share their luck.
    pub fn parts(&self, seed: u64, index: usize) -> (Path, Path, FarEnd) {
        let stream = |part: u64| derive_seed(seed, 4 * (index as u64 + 1) + part);
        (
            Path::new(self.up.clone(), stream(0)),
            Path::new(self.down.clone(), stream(1)),
            FarEnd::new(self.far_end.clone(), stream(2)),
        )
    }
}

impl Scenario {
    /// Reads a scenario; `source` is named in errors, and is the scenario's name if the text does
    /// not say one.
    ///
    /// # Errors
    ///
    /// If the text is not TOML, has an unknown key or a value out of range, or describes something
    /// that cannot be (such as an average loss that no bursts of that length give).
    pub fn parse(text: &str, source: &str) -> Result<Self, ScenarioError> {
        table::read(text, source)
    }

    /// The shipped scenario of that name.
    pub fn builtin(name: &str) -> Option<Self> {
        // That none of them is refused is tested.
        Self::parse(builtin::text(name)?, name).ok()
    }

    /// The names of the shipped scenarios, in alphabetical order.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        builtin::ALL.iter().map(|(name, _)| *name)
    }

    /// The text of the shipped scenario of that name, to show or to start a file from.
    pub fn builtin_text(name: &str) -> Option<&'static str> {
        builtin::text(name)
    }
}

/// What is wrong with a scenario, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
#[non_exhaustive]
pub struct ScenarioError {
    /// The file, or whatever the reader called it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

#[cfg(test)]
mod tests;
