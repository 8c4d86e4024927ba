//! Numbers with a unit, checked as they are read so that errors point at the number.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::Deserialize;

use crate::rng::Probability;

/// Milliseconds, not negative.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(try_from = "f64")]
pub(super) struct Millis(pub(super) Duration);

/// Seconds, not negative.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(try_from = "f64")]
pub(super) struct Seconds(pub(super) Duration);

/// A share from 0 to 1.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(try_from = "f64")]
pub(super) struct Share(pub(super) Probability);

/// Megabits per second; 0 is no limit.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "f64")]
pub(super) struct Megabits(pub(super) Option<NonZeroU64>);

impl TryFrom<f64> for Millis {
    type Error = String;
    fn try_from(ms: f64) -> Result<Self, String> {
        duration(ms / 1000.0).map(Self)
    }
}

impl TryFrom<f64> for Seconds {
    type Error = String;
    fn try_from(s: f64) -> Result<Self, String> {
        duration(s).map(Self)
    }
}

impl TryFrom<f64> for Share {
    type Error = String;
    fn try_from(share: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(Probability::new(share)))
        } else {
            Err(format!("{share} is not a share from 0 to 1"))
        }
    }
}

impl TryFrom<f64> for Megabits {
    type Error = String;
    fn try_from(mbit: f64) -> Result<Self, String> {
        let bits = (mbit * 1e6).round();
        if mbit == 0.0 {
            Ok(Self(None))
        } else if (1.0..=1e15).contains(&bits) {
            Ok(Self(NonZeroU64::new(bits as u64)))
        } else {
            Err(format!("{mbit} is not a rate in Mbit/s (0 is no limit)"))
        }
    }
}

fn duration(seconds: f64) -> Result<Duration, String> {
    // Nanoseconds of a longer time would not fit in 64 bits.
    const MAX_SECONDS: f64 = 1e10;
    if (0.0..=MAX_SECONDS).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("not a duration: it must be between 0 and {MAX_SECONDS} s"))
    }
}
