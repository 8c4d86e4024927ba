//! Input that nobody should send, floods, sudden death and pauses, against the real binaries.
//!
//! The same rows as in `docs/reliability.md`. Nothing here waits for a time: that nothing is
//! answered shows in what is answered next.

mod bytes;
mod crash;
mod flood;
mod limits;
mod lists;
mod pause;

pub(crate) use crate::support::{assert_small, choices, peak_memory};

/// From the environment, for long runs.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
