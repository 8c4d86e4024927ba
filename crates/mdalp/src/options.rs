//! The settings of a send, with their defaults.
//!
//! Does not parse command lines.

use crate::probe::Method;
use mdalp_proto::intent::IntentConfig;
use mdalp_proto::observe::Observer;
use mdalp_proto::transfer::{Adaptive, Latency, Policy, Single, TransferConfig};
use mdalp_proto::wire::{CLASSIC_CHUNK, caps::MAX_CHUNK};
use std::path::PathBuf;
use std::time::Duration;

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
}

/// The settings of a send.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a command line")]
pub struct Options {
    /// How the payload is spread. Default: [`Mode::Auto`].
    pub mode: Mode,
    /// How latencies are measured. Default: native ICMP, else the `ping` command.
    pub probe: Method,
    /// Latencies in milliseconds, in list order, instead of measuring. Default: none.
    pub latencies: Option<Vec<f64>>,
    /// Most bytes in a chunk, where every receiver advertises larger ones than 100; between 100 and
    /// 1,200. Default: 1,200 in mode 3, and 100 in the classic modes 1 and 2, so that their plans are
    /// the published ones.
    pub chunk: Option<u16>,
    /// Whether what receivers advertise is used. Default true; false speaks the classic protocol
    /// only, but for the port.
    pub extensions: bool,
    /// Largest window used with receivers that advertise one. Default 256.
    pub window: u16,
    /// Whether a public orchestrator may list receivers on private networks. Default false.
    pub allow_private: bool,
    /// How long to ask for an assignment, how many receivers it may have, and whether it must echo the
    /// intent's nonce. The nonce is drawn anew for each intent where [`Options::extensions`] are used.
    pub intent: IntentConfig,
    /// The file of orchestrators that are known to echo nonces: those are believed only with an echo
    /// and others are added when they echo. Default: none, nothing is remembered.
    pub orchestrators: Option<PathBuf>,
    /// How patient the transfer is. Its deadline is set from [`Options::deadline`].
    pub transfer: TransferConfig,
    /// The whole transfer, from the assignment on, must be done within this time. Default: none.
    pub deadline: Option<Duration>,
    /// Whether a payload that the servers did not confirm counts as failed. Default false.
    pub require_verified: bool,
    /// Where to keep a journal, so that the send can go on after it was cut off. Default: nowhere;
    /// [`journal_beside`](crate::journal_beside) is a good place.
    pub journal: Option<PathBuf>,
    /// Whether to go on with what the journal says, if there is one. Default false.
    pub resume: bool,
    /// Whether to stop before the first chunk: who would get what, and how long it would take.
    /// Default false.
    pub dry_run: bool,
    /// Whether every datagram is reported as an event. Default false.
    pub datagrams: bool,
    /// Who is shown every datagram, for captures. Default: nobody.
    pub observer: Option<Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            probe: Method::default(),
            latencies: None,
            chunk: None,
            extensions: true,
            window: mdalp_proto::wire::caps::MAX_WINDOW,
            allow_private: false,
            intent: IntentConfig::default(),
            orchestrators: None,
            transfer: TransferConfig::default(),
            deadline: None,
            require_verified: false,
            journal: None,
            resume: false,
            dry_run: false,
            datagrams: false,
            observer: None,
        }
    }
}

impl Options {
    /// The policy; `extended` is whether every receiver advertises extensions.
    pub(crate) fn policy(&self, extended: bool) -> Box<dyn Policy> {
        match self.resolve(extended) {
            Mode::Latency | Mode::Auto => Box::new(Latency),
            // Only the chosen receiver is left when the plan is made.
            Mode::Single(_) => Box::new(Single { index: 0 }),
            Mode::Adaptive => Box::new(Adaptive),
        }
    }

    /// What [`Mode::Auto`] means here. Who gives latencies wants them used.
    pub(crate) fn resolve(&self, extended: bool) -> Mode {
        match self.mode {
            Mode::Auto if extended && self.latencies.is_none() => Mode::Adaptive,
            Mode::Auto => Mode::Latency,
            mode => mode,
        }
    }

    /// The largest chunk, if receivers take it.
    pub(crate) fn largest_chunk(&self, extended: bool) -> u16 {
        let classic = self.resolve(extended) != Mode::Adaptive;
        self.chunk.unwrap_or(if classic { CLASSIC_CHUNK } else { MAX_CHUNK })
    }
}
