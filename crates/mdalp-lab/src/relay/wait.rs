//! Waiting for sockets with the precision of the system's timers.

use std::net::UdpSocket;
use std::time::Duration;

/// Returns when one of `sockets` can be read or `timeout` has passed, whichever is first.
#[cfg(unix)]
pub(super) fn readable(sockets: &[&UdpSocket], timeout: Duration) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut watched: Vec<_> =
        sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::IN)).collect();
    // An error (a signal, too many files) ends the wait early, and the next turn waits again.
    let _ = Timespec::try_from(timeout).map(|timeout| poll(&mut watched, Some(&timeout)));
}

/// Looks again after half a millisecond: there is no precise wait without system calls of its own.
#[cfg(not(unix))]
pub(super) fn readable(_: &[&UdpSocket], timeout: Duration) {
    std::thread::sleep(timeout.min(Duration::from_micros(500)));
}
