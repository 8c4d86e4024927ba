//! Any bytes as what a store finds on its disk, and scripts of operations and crashes.
//!
//! Invariants 4, 5, 6, 7 and 30: what was acknowledged is there, what is there is what was written,
//! and opening twice is opening once.

mod found;
mod model;

use crate::script::Script;

/// Reads a disk or a store's life.
///
/// # Panics
/// If an acknowledged chunk is missing, or a chunk has bytes that nobody wrote.
pub fn store(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    if script.flag() { model::run(&mut script) } else { found::run(&mut script) }
}
