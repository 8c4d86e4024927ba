//! The real binary, on loopback, as users run it.
//!
//! On Linux alone: elsewhere not every address of 127.0.0.0/8 is there.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod events;
mod failures;
mod held;
mod hostile;
mod interop;
mod lab;
mod netns;
mod output;
mod probes;
mod proof;
mod restart;
mod separate;
mod support;
mod transfer;
