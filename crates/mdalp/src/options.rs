//! The settings of a send, with their defaults.
//!
//! Does not parse command lines.

use crate::probe::Method;
use mdalp_proto::intent::IntentConfig;
use mdalp_proto::observe::Observer;
use mdalp_proto::transfer::TransferConfig;
use std::path::PathBuf;
use std::time::Duration;

pub use mdalp_proto::client::Mode;

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
