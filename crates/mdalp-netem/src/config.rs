//! What one direction of a path does to datagrams.
//!
//! Only values: nothing here draws, counts or keeps time. Every default is "no fault".

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::rng::Probability;

/// One direction of a path. The default is perfect: no delay, no fault, no limit.
///
/// A datagram meets outages first (it costs a link that is down nothing), then the bottleneck, then
/// loss (what is lost has used up capacity, as on a real link), then delay, then duplication and
/// damage. Unless jitter, [`Late`] or [`Reordering`] says otherwise, datagrams stay in order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PathConfig {
    /// Time from leaving the bottleneck to arriving, without jitter.
    pub delay: Duration,
    /// Extra delay that differs from datagram to datagram.
    pub jitter: Jitter,
    /// Which datagrams are lost on the way.
    pub loss: Loss,
    /// Which datagrams arrive twice.
    pub duplication: Duplication,
    /// Which datagrams overtake others.
    pub reordering: Option<Reordering>,
    /// Which datagrams are held back.
    pub late: Late,
    /// Which datagrams arrive damaged.
    pub corruption: Corruption,
    /// The bottleneck; `None` is infinitely fast.
    pub rate: Option<Rate>,
    /// The longest packet that gets through, IPv4 and UDP headers included; longer ones vanish, and no
    /// ICMP message says so. `None` is no limit.
    pub mtu: Option<u32>,
    /// When the path is down: a datagram sent then is lost.
    pub outages: Vec<Outage>,
    /// A path that goes down again and again.
    pub flap: Option<Flap>,
    /// Cut: nothing gets through. What a schedule switches when a host dies or comes back.
    pub cut: bool,
}

impl PathConfig {
    /// Whether a datagram of `len` payload bytes is too long for the path.
    pub(crate) fn is_too_long(&self, len: usize) -> bool {
        self.mtu.is_some_and(|mtu| len as u64 + u64::from(Rate::IPV4_UDP) > u64::from(mtu))
    }

    /// Whether a datagram sent at `now` meets a path that is down.
    pub fn is_down(&self, now: Duration) -> bool {
        self.cut
            || self.outages.iter().any(|outage| outage.covers(now))
            || self.flap.is_some_and(|flap| flap.is_down(now))
    }
}

/// Extra delay, drawn evenly from zero to `max` for each datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Jitter {
    /// The largest extra delay.
    pub max: Duration,
    /// Whether a datagram may overtake an earlier one that drew more. If not, it waits for it.
    pub reorders: bool,
}

/// Which datagrams are lost. The models work side by side: a datagram is lost if any says so.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Loss {
    /// Each datagram on its own.
    pub random: Probability,
    /// In bursts.
    pub burst: Option<Burst>,
    /// Exactly these, in any order, counting from 1 all that were sent into the path.
    pub nth: Vec<u64>,
    /// At most so many in a row by chance (`random` and `burst`). Lowers the average: at 30 % and a
    /// cap of 3 it is 29.4 %. What `nth` names is lost all the same.
    pub max_run: Option<NonZeroU32>,
}

/// Loss in bursts: Gilbert's two-state model, in which the bad state loses everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Burst {
    average: Probability,
    begins: Probability,
    ends: Probability,
}

/// No such bursts: an average of 1, or bursts so short that good times would have to be shorter than
/// one datagram to reach the average.
#[derive(Clone, Copy, PartialEq, Debug, thiserror::Error)]
#[error("bursts of {mean_length} on average cannot lose a share of {average} of all datagrams")]
pub struct BadBurst {
    average: f64,
    mean_length: f64,
}

impl Burst {
    /// Bursts of `mean_length` datagrams on average, that lose `average` of all datagrams.
    ///
    /// # Errors
    ///
    /// If no two-state chain does that: it needs `mean_length` ≥ 1 and ≥ average / (1 − average).
    pub fn new(average: Probability, mean_length: f64) -> Result<Self, BadBurst> {
        let share = average.get();
        let ends = 1.0 / mean_length;
        let begins = ends * share / (1.0 - share);
        if !(mean_length.is_finite() && mean_length >= 1.0 && begins <= 1.0) {
            return Err(BadBurst { average: share, mean_length });
        }
        Ok(Self { average, begins: Probability::new(begins), ends: Probability::new(ends) })
    }

    /// Share of datagrams lost, in the long run.
    pub const fn average(self) -> Probability {
        self.average
    }

    /// That a burst begins after a datagram outside one.
    pub(crate) const fn begins(self) -> Probability {
        self.begins
    }

    /// That a burst ends after a datagram inside it.
    pub(crate) const fn ends(self) -> Probability {
        self.ends
    }
}

/// Datagrams that arrive twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Duplication {
    /// How likely a datagram is to be doubled.
    pub probability: Probability,
    /// How long after the original the copy arrives (F07: up to minutes).
    pub after: Duration,
}

/// Datagrams that overtake others in flight.
///
/// Such a datagram arrives before as many of those in flight, but never before it left the bottleneck;
/// with nothing in flight nothing happens. So no datagram passes more than `window` others whatever
/// their spacing (F08), at the price that it arrives early, not the others late.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reordering {
    /// How likely a datagram is to overtake.
    pub probability: Probability,
    /// How many it overtakes at most; how many is drawn evenly from 1 to this.
    pub window: NonZeroU32,
}

/// Datagrams held back by a fixed time while later ones pass (F09: late acknowledgements).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Late {
    /// How likely a datagram is to be late.
    pub probability: Probability,
    /// How much later than otherwise it arrives.
    pub by: Duration,
}

/// Damage to a datagram's payload. At most one kind meets a datagram, tried in the order below.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Corruption {
    /// One byte is replaced by another value.
    pub byte: Probability,
    /// The byte is one of the first so many; `None` is anywhere. The interop runner uses 50.
    pub byte_within: Option<NonZeroU32>,
    /// One bit anywhere is flipped.
    pub bit: Probability,
    /// The end is cut off; what stays is drawn evenly from nothing to all but one byte.
    pub truncate: Probability,
}

/// A bottleneck that sends one datagram after the other and drops those that find its queue full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Bits per second, headers included.
    pub bits_per_second: NonZeroU64,
    /// Header bytes that each datagram costs beyond its payload.
    pub overhead: u32,
    /// How many datagrams may wait, beside the one being sent. `None` is no limit.
    pub queue_packets: Option<u32>,
    /// How many bytes, headers included, may wait, beside the datagram being sent. `None` is no limit.
    pub queue_bytes: Option<u64>,
}

impl Rate {
    /// Bytes of an IPv4 and a UDP header.
    pub const IPV4_UDP: u32 = 28;

    /// A bottleneck with the headers of UDP over IPv4 and a queue without limit.
    pub const fn new(bits_per_second: NonZeroU64) -> Self {
        Self { bits_per_second, overhead: Self::IPV4_UDP, queue_packets: None, queue_bytes: None }
    }
}

/// A time during which the path is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outage {
    /// When it begins.
    pub start: Duration,
    /// How long it lasts; `Duration::MAX` is for ever.
    pub length: Duration,
}

impl Outage {
    fn covers(self, now: Duration) -> bool {
        now.checked_sub(self.start).is_some_and(|since| since < self.length)
    }
}

/// A path that is up for a time, then down for a time, for ever (F13).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flap {
    /// When the first up time begins; before that the path is up too.
    pub start: Duration,
    /// How long it is up each time.
    pub up: Duration,
    /// How long it is down each time; zero is never down.
    pub down: Duration,
}

impl Flap {
    fn is_down(self, now: Duration) -> bool {
        let Some(since) = now.checked_sub(self.start) else { return false };
        let period = self.up.saturating_add(self.down).as_nanos();
        period != 0 && since.as_nanos() % period >= self.up.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn an_outage_covers_its_start_and_not_its_end() {
        let config = PathConfig {
            outages: vec![Outage { start: secs(5), length: secs(2) }],
            ..PathConfig::default()
        };
        let down: Vec<_> = (0..10).filter(|&s| config.is_down(secs(s))).collect();
        assert_eq!(down, [5, 6]);
    }

    #[test]
    fn an_outage_can_last_for_ever() {
        let outage = Outage { start: secs(1), length: Duration::MAX };
        assert!(outage.covers(secs(u64::MAX)));
        assert!(!outage.covers(Duration::ZERO));
    }

    #[test]
    fn a_flapping_path_is_up_first_and_down_after() {
        let flap = Flap { start: secs(1), up: secs(5), down: secs(2) };
        let down: Vec<_> = (0..16).filter(|&s| flap.is_down(secs(s))).collect();
        assert_eq!(down, [6, 7, 13, 14]);
        let never = Flap { start: secs(0), up: secs(0), down: secs(0) };
        assert!(!never.is_down(secs(3)));
    }

    #[test]
    fn bursts_that_cannot_be_are_refused() {
        let half = Probability::new(0.5);
        assert!(Burst::new(half, 1.0).is_ok());
        assert!(Burst::new(half, 0.9).is_err());
        assert!(Burst::new(Probability::new(0.8), 3.0).is_err(), "needs bursts of 4");
        assert!(Burst::new(Probability::new(0.8), 4.01).is_ok());
        assert!(Burst::new(Probability::ONE, 10.0).is_err());
        assert!(Burst::new(half, f64::NAN).is_err());
        assert!(Burst::new(half, f64::INFINITY).is_err());
    }
}
