//! Faults: what can be wrong, in words that a file can hold, and how each weakens.
//!
//! Only values; [`crate::case`] puts them into a world.

use mdalp_netem::{
    Burst, Corruption, Duplication, Flap, Jitter, Late, Outage, PathConfig, Probability, Reordering,
};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::time::Duration;

/// Which direction of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From the client.
    Up,
    /// To the client.
    Down,
    /// Both.
    #[default]
    Both,
}

/// What an attacker sends; see [`crate::Attack`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hostile {
    /// Broken and misplaced messages.
    Junk,
    /// Forged acks.
    Acks,
    /// Forged assignments.
    Lists,
    /// Many intents.
    Intents,
    /// Many transactions.
    Tids,
    /// Many ranges.
    Seqs,
}

/// How a disk fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFailure {
    /// EIO on a write.
    Write,
    /// EIO on a flush.
    Sync,
    /// EIO on a flush of the directory.
    Directory,
    /// A write that stops half-way.
    Short,
    /// ENOSPC on any operation.
    NoSpace,
    /// The power goes during any operation.
    PowerCut,
}

/// One thing that is wrong. Times in milliseconds from the start of the world; `lane` is the receiver,
/// all of them if it is missing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Fault {
    /// Datagrams vanish one by one (F01).
    Loss {
        lane: Option<u8>,
        #[serde(default)]
        way: Way,
        rate: f64,
    },
    /// The same, with at most `run` in a row (F02, F03).
    CappedLoss { rate: f64, run: u32 },
    /// Datagrams vanish in bursts (F04).
    Bursts { rate: f64, length: f64 },
    /// Exactly these vanish, counted from 1 (F05).
    Nth { lane: u8, way: Way, n: Vec<u64> },
    /// Datagrams arrive twice (F06, F07).
    Duplicate {
        #[serde(default)]
        way: Way,
        rate: f64,
        after_ms: u64,
    },
    /// Datagrams overtake others (F08).
    Reorder { rate: f64, window: u32 },
    /// Delays differ (F08).
    Jitter { ms: u64 },
    /// Acks come late (F09).
    LateAcks { rate: f64, by_ms: u64 },
    /// One byte of the first so many is replaced (F10).
    Corrupt { rate: f64, within: u32 },
    /// One bit anywhere is flipped (F10).
    FlipBit { rate: f64 },
    /// The end is cut off (F26).
    Truncate { rate: f64 },
    /// Nothing gets through for a while; for ever, if `for_ms` is missing (F12, F14, F15).
    Outage {
        lane: Option<u8>,
        #[serde(default)]
        way: Way,
        at_ms: u64,
        for_ms: Option<u64>,
    },
    /// Up and down again and again (F13).
    Flap { up_ms: u64, down_ms: u64 },
    /// Intents and assignments vanish (F20).
    OrchestratorLoss { rate: f64 },
    /// The client's address changes (F23).
    Rebind { at_ms: u64, every_ms: u64, times: u32 },
    /// A server dies and is started again (F16, F19, F25); stays dead until all heals, if `down_ms` is
    /// missing.
    Kill { server: u8, power: bool, at_ms: u64, down_ms: Option<u64> },
    /// A client stands still; with `clock`, its clock too (F18, F27).
    PauseClient { clock: bool, at_ms: u64, for_ms: u64 },
    /// A server stands still (F18).
    PauseServer { server: u8, at_ms: u64, for_ms: u64 },
    /// A client dies and goes on by its journal, which has lost so many acks (F21).
    CrashClient { at_ms: u64, down_ms: u64, lost: u64 },
    /// Packets longer than this vanish (F26).
    SmallPackets { bytes: u32 },
    /// The client's timers are late by up to this (F33).
    LateTimers { ms: u64 },
    /// Commits take from this to that (F29).
    SlowDisk { from_ms: u64, to_ms: u64 },
    /// A disk has room for no more than this (F28).
    FullDisk { server: u8, bytes: u64, at_ms: u64, for_ms: u64 },
    /// The `nth` next operation of a disk fails (F30).
    BadDisk { server: u8, what: DiskFailure, at_ms: u64, nth: u64 },
    /// Somebody sends what nobody asked for (H-rows).
    Attack { what: Hostile, every_ms: f64 },
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Fault {
    /// Its name, for statistics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Loss { .. } => "loss",
            Self::CappedLoss { .. } => "capped-loss",
            Self::Bursts { .. } => "bursts",
            Self::Nth { .. } => "nth",
            Self::Duplicate { .. } => "duplicate",
            Self::Reorder { .. } => "reorder",
            Self::Jitter { .. } => "jitter",
            Self::LateAcks { .. } => "late-acks",
            Self::Corrupt { .. } => "corrupt",
            Self::FlipBit { .. } => "flip-bit",
            Self::Truncate { .. } => "truncate",
            Self::Outage { .. } => "outage",
            Self::Flap { .. } => "flap",
            Self::OrchestratorLoss { .. } => "orchestrator-loss",
            Self::Rebind { .. } => "rebind",
            Self::Kill { .. } => "kill",
            Self::PauseClient { .. } => "pause-client",
            Self::PauseServer { .. } => "pause-server",
            Self::CrashClient { .. } => "crash-client",
            Self::SmallPackets { .. } => "small-packets",
            Self::LateTimers { .. } => "late-timers",
            Self::SlowDisk { .. } => "slow-disk",
            Self::FullDisk { .. } => "full-disk",
            Self::BadDisk { .. } => "bad-disk",
            Self::Attack { .. } => "attack",
        }
    }

    /// Changes the path of receiver `at` in one direction, if this is a fault of that path.
    pub(crate) fn apply(&self, path: &mut PathConfig, at: u8, up: bool) {
        let here = |lane: &Option<u8>, way: Way| {
            lane.is_none_or(|lane| lane == at) && way != if up { Way::Down } else { Way::Up }
        };
        match *self {
            Self::Loss { ref lane, way, rate } if here(lane, way) => {
                path.loss.random = path.loss.random.max(Probability::new(rate));
            }
            Self::CappedLoss { rate, run } => {
                path.loss.random = path.loss.random.max(Probability::new(rate));
                path.loss.max_run = NonZeroU32::new(run);
            }
            Self::Bursts { rate, length } => {
                path.loss.burst = Burst::new(Probability::new(rate), length).ok();
            }
            Self::Nth { lane, way, ref n } if here(&Some(lane), way) => {
                path.loss.nth.extend(n);
            }
            Self::Duplicate { way, rate, after_ms } if here(&None, way) => {
                let probability = Probability::new(rate);
                path.duplication = Duplication { probability, after: ms(after_ms) };
            }
            Self::Reorder { rate, window } => {
                let (probability, window) = (Probability::new(rate), NonZeroU32::new(window));
                path.reordering = window.map(|window| Reordering { probability, window });
            }
            Self::Jitter { ms: jitter } => {
                path.jitter = Jitter { max: ms(jitter), reorders: true };
            }
            Self::LateAcks { rate, by_ms } if !up => {
                path.late = Late { probability: Probability::new(rate), by: ms(by_ms) };
            }
            Self::Corrupt { rate, within } => {
                let byte_within = NonZeroU32::new(within);
                let byte = Probability::new(rate);
                path.corruption = Corruption { byte, byte_within, ..path.corruption };
            }
            Self::SmallPackets { bytes } => path.mtu = Some(bytes),
            Self::FlipBit { rate } => path.corruption.bit = Probability::new(rate),
            Self::Truncate { rate } => path.corruption.truncate = Probability::new(rate),
            Self::Outage { ref lane, way, at_ms, for_ms } if here(lane, way) => {
                let length = for_ms.map_or(Duration::MAX, ms);
                path.outages.push(Outage { start: ms(at_ms), length });
            }
            Self::Flap { up_ms, down_ms } => {
                let (start, up, down) = (Duration::ZERO, ms(up_ms), ms(down_ms));
                path.flap = Some(Flap { start, up, down });
            }
            _ => {}
        }
    }

    /// The same with half as much of it, for shrinking; `None` if there is nothing to halve.
    pub(crate) fn halved(&self) -> Option<Self> {
        let mut half = self.clone();
        match &mut half {
            Self::Loss { rate, .. }
            | Self::CappedLoss { rate, .. }
            | Self::Bursts { rate, .. }
            | Self::Duplicate { rate, .. }
            | Self::Reorder { rate, .. }
            | Self::LateAcks { rate, .. }
            | Self::Corrupt { rate, .. }
            | Self::FlipBit { rate }
            | Self::Truncate { rate }
            | Self::OrchestratorLoss { rate } => {
                if *rate < 0.01 {
                    return None;
                }
                *rate /= 2.0;
            }
            Self::Nth { n, .. } => {
                n.pop().filter(|_| !n.is_empty())?;
            }
            Self::Jitter { ms } | Self::LateTimers { ms } => halve(ms)?,
            Self::Outage { for_ms, .. } => halve(for_ms.as_mut()?)?,
            Self::Flap { down_ms, .. } | Self::CrashClient { down_ms, .. } => halve(down_ms)?,
            Self::SmallPackets { .. } => return None,
            Self::Rebind { times, .. } => {
                *times = (*times > 1).then_some(*times / 2)?;
            }
            Self::Kill { down_ms, .. } => halve(down_ms.as_mut()?)?,
            Self::PauseClient { for_ms, .. }
            | Self::PauseServer { for_ms, .. }
            | Self::FullDisk { for_ms, .. } => halve(for_ms)?,
            Self::SlowDisk { from_ms, to_ms } => {
                *from_ms /= 2;
                halve(to_ms)?;
            }
            Self::BadDisk { nth, .. } => {
                *nth = nth.checked_sub(1)?;
            }
            Self::Attack { every_ms, .. } => {
                if *every_ms > 1000.0 {
                    return None;
                }
                *every_ms *= 2.0;
            }
        }
        Some(half)
    }

    /// Whether it can neither lose nor delay anything by more than an eighth of `round_trip` (23).
    pub(crate) fn is_lossless(&self, round_trip: Duration) -> bool {
        match *self {
            Self::Duplicate { .. } => true,
            Self::Jitter { ms: jitter } => ms(2 * jitter) <= round_trip / 8,
            _ => false,
        }
    }
}

fn halve(n: &mut u64) -> Option<()> {
    *n = (*n > 1).then_some(*n / 2)?;
    Some(())
}
