//! Scripts of what befalls a client: first the intent, then the transfer.
//!
//! Invariants 3, 8, 10, 11, 12, 20 and 21 after each step, 19 at the end.

mod intent;
mod world;

use crate::script::Script;
use world::World;

/// Most steps of one script.
const STEPS: usize = 300;

/// Reads a client's life.
///
/// # Panics
/// If a client believes what it must not, sends where it must not, stops or never ends.
pub fn client(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    if script.below(4) == 0 {
        return intent::run(&mut script);
    }
    let mut world = World::new(&mut script);
    for _ in 0..STEPS {
        if script.is_over() || world.is_over() {
            break;
        }
        world.step(&mut script);
    }
    if bytes.len().is_multiple_of(2) { world.heal() } else { world.fall_silent() }
}
