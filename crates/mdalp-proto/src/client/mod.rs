//! What a client decides between the orchestrator's answer and its first chunk: which listed receivers
//! it uses, whether it measures how far they are, who gets what, and when it begins again in small
//! chunks.
//!
//! Functions of what they are given; [`crate::intent`] is the machine before them and
//! [`crate::transfer`] the one after. Does not send, measure, or read a clock.

mod judge;
mod plan;

pub use judge::{Judged, Listed, Problem, Rules, Unused, judge};
pub use plan::{Candidate, HASHED_FIRST, Measure, Mode, Settings, falls_back};

#[cfg(test)]
mod tests;
