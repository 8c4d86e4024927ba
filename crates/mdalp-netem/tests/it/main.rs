//! What the crate promises over many datagrams: statistics, invariants, replay, the original's run.

mod original;
mod properties;
mod replay;
mod statistics;
