//! The bridge between the system's monotonic clock and the core's [`Instant`].
//!
//! Wall-clock time plays no part: it may jump (F27).

use mdalp_proto::time::Instant;
use std::time::Duration;

/// A clock whose epoch is its creation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    epoch: std::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { epoch: std::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::ZERO + self.epoch.elapsed()
    }

    /// How long this clock has run.
    pub(crate) fn elapsed(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The moment to sleep until; deadlines beyond a day are cut to one.
    pub(crate) fn to_tokio(self, at: Instant) -> tokio::time::Instant {
        let ahead = at.since(Instant::ZERO).min(self.elapsed() + Duration::from_secs(86_400));
        tokio::time::Instant::from_std(self.epoch + ahead)
    }
}
