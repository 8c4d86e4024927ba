//! The settings of a send, with their defaults.
//!
//! Does not parse command lines.

use crate::probe::Method;
use mdalp_proto::intent::IntentConfig;
use mdalp_proto::transfer::{Adaptive, Latency, Policy, Single, TransferConfig};
use std::time::Duration;

/// How the payload is spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Over all receivers, in proportion to 1/latency: the classic mode 1.
    #[default]
    Latency,
    /// All to the n-th listed receiver, from 1: the classic mode 2.
    Single(usize),
    /// Over all receivers, by the measured rate of their acks: mode 3.
    Adaptive,
}

impl Mode {
    pub(crate) fn policy(self) -> Box<dyn Policy> {
        match self {
            Self::Latency => Box::new(Latency),
            // Only the chosen receiver is left when the plan is made.
            Self::Single(_) => Box::new(Single { index: 0 }),
            Self::Adaptive => Box::new(Adaptive),
        }
    }

    /// The policy's name.
    pub fn name(self) -> &'static str {
        self.policy().name()
    }
}

/// The settings of a send.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// How the payload is spread. Default: by latency.
    pub mode: Mode,
    /// How latencies are measured. Default: native ICMP, else the `ping` command.
    pub probe: Method,
    /// Latencies in milliseconds, in list order, instead of measuring. Default: none.
    pub latencies: Option<Vec<f64>>,
    /// Bytes in a chunk, for receivers that take what they are given. Default 100, and nothing
    /// else is classic.
    pub chunk: u16,
    /// Whether what receivers advertise is used. Default true; false speaks the classic protocol
    /// only, but for the port.
    pub extensions: bool,
    /// Largest window used with receivers that advertise one. Default 256.
    pub window: u16,
    /// Whether a public orchestrator may list receivers on private networks. Default false.
    pub allow_private: bool,
    /// How long to ask for an assignment.
    pub intent: IntentConfig,
    /// How patient the transfer is. Its deadline is set from [`Options::deadline`].
    pub transfer: TransferConfig,
    /// The whole transfer, from the assignment on, must be done within this time. Default: none.
    pub deadline: Option<Duration>,
    /// Whether every datagram is reported as an event. Default false.
    pub datagrams: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            probe: Method::default(),
            latencies: None,
            chunk: mdalp_proto::wire::CLASSIC_CHUNK,
            extensions: true,
            window: mdalp_proto::wire::caps::MAX_WINDOW,
            allow_private: false,
            intent: IntentConfig::default(),
            transfer: TransferConfig::default(),
            deadline: None,
            datagrams: false,
        }
    }
}
