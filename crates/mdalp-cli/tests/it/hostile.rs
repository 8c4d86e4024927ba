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

use std::fs;

/// The most memory that a process ever had, in KiB.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// §3.4 of the limits: 64 MiB.
pub(crate) fn assert_small(pid: u32) {
    let peak = peak_memory(pid);
    assert!(peak <= 64 << 10, "{peak} KiB");
}

/// Numbers that follow from a seed alone.
pub(crate) fn choices(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    }
}

/// From the environment, for long runs.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
