//! How a payload is spread over the receivers that are used: what is measured first, which policy,
//! how large the chunks are.

use crate::ids::{ReceiverAddr, TransactionId};
use crate::transfer::{Adaptive, Latency, Outcome, Plan, Policy, Single, Target};
use crate::wire::caps::{MAX_CHUNK, MAX_WINDOW};
use crate::wire::{CLASSIC_CHUNK, Capabilities};
use std::net::SocketAddr;
use std::time::Duration;

/// Payloads up to this length are hashed before the first chunk leaves: a millisecond that may save a
/// round trip.
pub const HASHED_FIRST: u64 = 1 << 20;

/// How the payload is spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Adaptive where every receiver advertises extensions, else by latency.
    #[default]
    Auto,
    /// Over all receivers, in proportion to 1/latency: the classic mode 1.
    Latency,
    /// All to the n-th listed receiver, from 1: the classic mode 2.
    Single(usize),
    /// Over all receivers, by the measured rate of their acks: mode 3.
    Adaptive,
}

impl Mode {
    /// The name in events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Latency => Latency.name(),
            Self::Single(_) => Single { index: 0 }.name(),
            Self::Adaptive => Adaptive.name(),
        }
    }

    /// Whether the receiver at this place of the list, from 0, is sent to.
    pub(super) fn uses(self, place: usize) -> bool {
        !matches!(self, Self::Single(n) if n != place + 1)
    }
}

/// A receiver that is sent to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Candidate {
    /// Where it is.
    pub addr: SocketAddr,
    /// What it advertises, as far as that is used.
    pub caps: Capabilities,
    /// Its place in the orchestrator's list, from 0.
    pub place: usize,
    /// How far it is, if that is known.
    pub latency: Option<Duration>,
}

/// Where latencies come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// They are given, in list order.
    Given,
    /// Nobody needs them: acks tell more, and at once.
    ByAcks,
    /// Nobody needs them: there is one receiver.
    One,
    /// Each host is sent echo requests.
    Echoes,
}

/// What a user may choose of the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How the payload is spread.
    pub mode: Mode,
    /// Whether latencies are given.
    pub given: bool,
    /// Whether latencies are wanted whatever the mode: to predict from.
    pub predicts: bool,
    /// Most bytes in a chunk; without it 1,200 for the adaptive mode and 100 for the classic ones, so
    /// that their plans are the published ones.
    pub chunk: Option<u16>,
    /// Largest window.
    pub window: u16,
}

impl Default for Settings {
    fn default() -> Self {
        let mode = Mode::default();
        Self { mode, given: false, predicts: false, chunk: None, window: MAX_WINDOW }
    }
}

impl Settings {
    /// What [`Mode::Auto`] means here. Who gives latencies wants them used.
    pub fn resolve(&self, receivers: &[Candidate]) -> Mode {
        let extended =
            |r: &Candidate| r.caps.window.is_some() || r.caps.crc || r.caps.seal || r.caps.record;
        match self.mode {
            Mode::Auto if !self.given && receivers.iter().all(extended) => Mode::Adaptive,
            Mode::Auto => Mode::Latency,
            mode => mode,
        }
    }

    /// Where the latencies come from.
    pub fn measure(&self, receivers: &[Candidate]) -> Measure {
        match self.resolve(receivers) {
            _ if self.given => Measure::Given,
            Mode::Adaptive if !self.predicts => Measure::ByAcks,
            Mode::Single(_) => Measure::One,
            _ => Measure::Echoes,
        }
    }

    /// The balancing policy.
    pub fn policy(&self, receivers: &[Candidate]) -> Box<dyn Policy> {
        match self.resolve(receivers) {
            Mode::Latency | Mode::Auto => Box::new(Latency),
            // Only the chosen receiver is left.
            Mode::Single(_) => Box::new(Single { index: 0 }),
            Mode::Adaptive => Box::new(Adaptive),
        }
    }

    /// Bytes in a full chunk: one size for all, for a chunk may move to any receiver. `small` where
    /// large ones did not arrive.
    pub fn chunk_bytes(&self, receivers: &[Candidate], small: bool) -> u16 {
        let adaptive = self.resolve(receivers) == Mode::Adaptive;
        let usual = if adaptive { MAX_CHUNK } else { CLASSIC_CHUNK };
        let largest = if small { CLASSIC_CHUNK } else { self.chunk.unwrap_or(usual) };
        let sizes = receivers.iter().map(|r| r.caps.chunk.unwrap_or(CLASSIC_CHUNK));
        sizes.min().unwrap_or(CLASSIC_CHUNK).min(largest)
    }

    /// The receivers as the transfer takes them. Silent hosts count as the slowest.
    pub fn targets(&self, receivers: &[Candidate]) -> Vec<Target> {
        let slowest = receivers.iter().filter_map(|receiver| receiver.latency).max();
        let fallback = slowest.unwrap_or(Duration::from_secs(1));
        let target = |receiver: &Candidate| Target {
            addr: ReceiverAddr(receiver.addr),
            // Milliseconds, as they are typed, so that rounding cannot make the shares differ.
            latency: receiver.latency.unwrap_or(fallback).as_nanos() as f64 / 1e6,
            window: receiver.caps.window.unwrap_or(1).min(self.window),
            crc: receiver.caps.crc,
            seal: receiver.caps.seal,
            record: receiver.caps.record,
        };
        receivers.iter().map(target).collect()
    }

    /// Who gets what of `payload` bytes, in chunks of `chunk`.
    pub fn plan(&self, tid: TransactionId, payload: u64, chunk: u16, to: &[Candidate]) -> Plan {
        Plan::new(tid, payload, chunk, &self.targets(to), self.policy(to).as_ref())
    }
}

/// Whether a transfer that ended like this is begun again, in another transaction and small chunks.
pub fn falls_back(outcome: Outcome) -> bool {
    outcome == Outcome::NothingArrives
}
