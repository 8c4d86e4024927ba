//! The one place that reads clocks.

use mdalp_proto::time::Instant;
use mdalp_store::UnixMillis;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Maps the system's monotonic clock to the machines' time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(std::time::Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn now(self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }

    /// When to wake up for `at`; in a day at the latest.
    pub(crate) fn wake_at(self, at: Option<Instant>) -> tokio::time::Instant {
        let day = self.0.elapsed() + Duration::from_secs(86_400);
        let at = at.map_or(day, |at| at.since(Instant::ZERO).min(day));
        (self.0 + at).into()
    }
}

/// The calendar's time, for records that outlive the process. A clock before 1970 counts as 1970.
pub(crate) fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
