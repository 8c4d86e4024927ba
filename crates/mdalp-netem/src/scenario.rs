//! Scenario files: a whole network and what befalls it, in TOML.
//!
//! One format for the simulator, the lab and `mdalp compare`. Unknown keys are refused, and every
//! error says where in the file. Reads text only: opening files is the caller's part.
//!
#![doc = concat!("```toml\n", include_str!("scenario/example.toml"), "```")]
//!
//! More keys of a path: `duplicate`, `duplicate_after_ms`; `reorder`, `reorder_window`; `late`,
//! `late_by_ms`; `corrupt_byte`, `corrupt_within`, `corrupt_bit`, `truncate`; `mtu_bytes`;
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
#[derive(Clone, PartialEq, Debug, Default)]
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
