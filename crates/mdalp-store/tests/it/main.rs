//! Tests of the store through its public interface.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod beside;
mod conformance;
mod crowd;
mod directory;
mod faults;
mod maintenance;
mod mending;
mod misplaced;
mod model;
mod reclaim;
mod remnants;
mod rules;
mod support;
mod told;
mod unreadable;
