//! Values on the command line, checked once: nothing behind this module checks again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A time in seconds, such as `0.5` or `120`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seconds(pub(crate) Duration);

/// No time is longer: a year.
const LONGEST: f64 = 365.0 * 86_400.0;

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(seconds) if (0.001..=LONGEST).contains(&seconds) => {
                Ok(Self(Duration::from_secs_f64(seconds)))
            }
            _ => Err("give seconds, from 0.001 up, such as 0.5 or 120".to_owned()),
        }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs_f64())
    }
}

/// A latency in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Millis(pub(crate) f64);

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse::<f64>() {
            // Below a nanosecond it would not be a time; more than an hour is a typing error.
            Ok(ms) if (1e-6..=3_600_000.0).contains(&ms) => Ok(Self(ms)),
            _ => Err("give milliseconds, more than 0, such as 335.148".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_none_are_refused() {
        assert_eq!("0.5".parse(), Ok(Seconds(Duration::from_millis(500))));
        for text in ["", "0", "-1", "inf", "nan", "1e300", "1s", "0.0001"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }

    #[test]
    fn latencies_are_positive_and_below_an_hour() {
        assert_eq!("335.148".parse(), Ok(Millis(335.148)));
        for text in ["", "0", "-0", "-3", "inf", "NaN", "1e-300", "1e9", "a"] {
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
    }
}
