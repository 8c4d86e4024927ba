//! Tests between hosts of our own, on Linux alone. A program of its own, because only so can tests be
//! reported as ignored where the system permits no network namespaces.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[cfg(target_os = "linux")]
mod hosts;
#[cfg(target_os = "linux")]
#[path = "../it/support.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod support;

#[cfg(target_os = "linux")]
fn main() {
    hosts::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {}
