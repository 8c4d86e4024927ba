//! Settings of the servers, with their defaults.
//!
//! Raw text from a command line becomes a checked value here, once; nothing below checks again.

use crate::error::ConfigError;
use mdalp_proto::completion::Retention;
use mdalp_proto::observe::Observer;
use mdalp_proto::wire::list::{Entry, is_classic_name};
use mdalp_proto::wire::{Capabilities, PORT};
use mdalp_proto::{orchestrator, receiver};
use std::net::SocketAddr;
use std::str::FromStr;

/// One receiver: what people call it, where it listens, what it can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiverSpec {
    name: String,
    addr: SocketAddr,
    caps: Capabilities,
}

impl ReceiverSpec {
    /// A receiver with the capabilities of this implementation where it runs alone: `crc record window=32
    /// chunk=1200`, and `port=` if it does not listen on 4650.
    ///
    /// # Errors
    /// [`ConfigError::Name`] if classic clients cannot read the name, [`ConfigError::Wildcard`] if
    /// the address is none that a client could send to, [`ConfigError::Port`] if clients would not
    /// believe the port.
    pub fn new(name: impl Into<String>, addr: SocketAddr) -> Result<Self, ConfigError> {
        let caps = Capabilities {
            crc: true,
            record: true,
            window: Some(32),
            chunk: Some(1200),
            ..Default::default()
        };
        Self::with_caps(name, addr, caps)
    }

    /// A receiver that advertises `caps`; its `port` is set from `addr`.
    ///
    /// # Errors
    /// As [`ReceiverSpec::new`].
    pub fn with_caps(
        name: impl Into<String>,
        addr: SocketAddr,
        caps: Capabilities,
    ) -> Result<Self, ConfigError> {
        let name = name.into();
        if name.is_empty() || !is_classic_name(&name) {
            return Err(ConfigError::Name(name));
        }
        if addr.ip().is_unspecified() {
            return Err(ConfigError::Wildcard(name));
        }
        // Port 0 is bound first and known later, see `bind_receivers`.
        if (1..1024).contains(&addr.port()) {
            return Err(ConfigError::Port(addr.port()));
        }
        let port = (addr.port() != PORT && addr.port() != 0).then_some(addr.port());
        Ok(Self { name, addr, caps: Capabilities { port, ..caps } })
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same receiver at the port that the system chose.
    #[must_use]
    pub fn at(&self, addr: SocketAddr) -> Self {
        let port = (addr.port() != PORT).then_some(addr.port());
        Self { name: self.name.clone(), addr, caps: Capabilities { port, ..self.caps } }
    }

    /// Its entry in assignments.
    pub fn entry(&self) -> Entry {
        Entry { ip: self.addr.ip(), name: self.name.clone(), caps: self.caps }
    }
}

/// `NAME=IP` or `NAME=IP:PORT`.
impl FromStr for ReceiverSpec {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let syntax = || ConfigError::Syntax(text.to_owned());
        let (name, addr) = text.split_once('=').ok_or_else(syntax)?;
        let addr = addr
            .parse()
            .or_else(|_| addr.parse().map(|ip| SocketAddr::new(ip, PORT)))
            .map_err(|_| syntax())?;
        Self::new(name, addr)
    }
}

/// What [`orchestrator::run`](crate::orchestrator::run) needs to know.
#[derive(Clone, Debug)]
pub struct OrchestratorConfig {
    /// The rules, with the receivers to hand out.
    pub rules: orchestrator::Config,
    /// Who is shown every datagram, for captures. Default: nobody.
    pub observer: Option<Observer>,
}

impl OrchestratorConfig {
    /// The defaults for an orchestrator on its own, see
    /// [`STANDALONE_REPEAT`](orchestrator::Config::STANDALONE_REPEAT): it asks its receivers if they
    /// are there.
    pub fn standalone(receivers: &[ReceiverSpec]) -> Self {
        let entries = receivers.iter().map(ReceiverSpec::entry).collect();
        let rules =
            orchestrator::Config { probe: true, ..orchestrator::Config::standalone(entries) };
        Self { rules, observer: None }
    }
}

/// What [`receiver::run`](crate::receiver::run) needs to know.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// The receivers, one for each socket, in the same order.
    pub receivers: Vec<ReceiverSpec>,
    /// The rules.
    pub rules: receiver::Config,
    /// How long transactions are kept. Nothing is deleted before the server itself has run that long:
    /// calendars can be set, so their word alone is not enough to throw something away.
    pub keep: Retention,
    /// Who is shown every datagram, in [`ServeConfig`] the orchestrator's too. Default: nobody.
    pub observer: Option<Observer>,
    /// Network loops, each in a thread of its own with a part of the transactions; store and writer are
    /// shared. Quotas of one source count in each loop for itself. More than one takes Linux. Default 1.
    pub shards: usize,
}

impl ReceiverConfig {
    /// The defaults, for these receivers.
    pub fn new(receivers: Vec<ReceiverSpec>) -> Self {
        Self {
            receivers,
            rules: receiver::Config::default(),
            keep: Retention::default(),
            observer: None,
            shards: 1,
        }
    }

    /// Whether a server can start with this and so many sockets.
    pub(crate) fn check(&self, sockets: usize) -> Result<(), ConfigError> {
        let (receivers, shards) = (self.receivers.len(), self.shards);
        if receivers == 0 {
            return Err(ConfigError::NoReceivers);
        }
        if receivers != sockets {
            return Err(ConfigError::Sockets { sockets, receivers });
        }
        let most = if cfg!(target_os = "linux") { Self::MOST_SHARDS } else { 1 };
        if (1..=most).contains(&shards) { Ok(()) } else { Err(ConfigError::Shards(shards)) }
    }

    /// So many [`shards`](Self::shards) at most.
    pub const MOST_SHARDS: usize = 64;
}

/// What [`serve::run`](crate::serve::run) needs to know: the whole server side in one process.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// The orchestrator's rules.
    pub orchestrator: orchestrator::Config,
    /// The receivers.
    pub receivers: ReceiverConfig,
}

impl ServeConfig {
    /// The defaults, for these receivers.
    pub fn new(receivers: Vec<ReceiverSpec>) -> Self {
        let entries = receivers.iter().map(ReceiverSpec::entry).collect();
        Self {
            orchestrator: orchestrator::Config::new(entries),
            receivers: ReceiverConfig::new(receivers),
        }
    }
}
