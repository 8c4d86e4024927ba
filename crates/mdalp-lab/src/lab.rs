//! A lab: the servers, and the emulated network in front of them.
//!
//! Everything in this process: the servers on ports that the system chooses, the relay on the
//! addresses that clients know. Does not run clients and prints nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use mdalp_netem::Scenario;
use mdalp_proto::wire::Capabilities;
use mdalp_server::{
    ConfigError, ReceiverSpec, ServeConfig, ServerError, bind, open_store, serve, stats,
};
use mdalp_store::{Durability, Store};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::addresses::Addresses;
use crate::flow::Ledger;
use crate::relay::{Observer, Rebinding, Relay, RelayConfig};

/// What a lab is made of.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// The network.
    pub scenario: Scenario,
    /// Seed of all chance; `None` is the scenario's.
    pub seed: Option<u64>,
    /// Where clients find the servers.
    pub addresses: Addresses,
    /// Where the servers keep what they receive; `None` is a temporary directory that goes with
    /// the lab.
    pub data: Option<PathBuf>,
    /// What receivers advertise beyond the classic protocol; their port is set where it must be.
    pub caps: Capabilities,
    /// Whether the servers see a client's address change.
    pub rebinding: Option<Rebinding>,
}

impl LabConfig {
    /// The defaults for `scenario`: 127.0.0.1 and up, nothing kept, nothing advertised.
    pub fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            seed: None,
            addresses: Addresses::default(),
            data: None,
            caps: Capabilities::default(),
            rebinding: None,
        }
    }
}

/// Why a lab could not be set up, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A server or an address.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The scenario has a receiver that classic clients cannot be told of.
    #[error("the scenario cannot be served: {0}")]
    Names(#[from] ConfigError),
    /// No shipped scenario has that name.
    #[error("no scenario is called {name:?}; name a file, or one of {known}")]
    UnknownScenario {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The scenario's file cannot be read.
    #[error("scenario {name}: {source}")]
    ScenarioFile {
        /// Its path.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no scenario.
    #[error(transparent)]
    Scenario(#[from] mdalp_netem::ScenarioError),
    /// The machine.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl LabError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// A running lab. Dropping it ends everything at once; [`Lab::stop`] lets the servers finish.
pub struct Lab {
    relay: Relay,
    stop: oneshot::Sender<()>,
    servers: JoinHandle<Result<mdalp_server::Summary, ServerError>>,
    store: Arc<dyn Store>,
    ledger: Ledger,
    fronts: Vec<SocketAddr>,
    scenario: Scenario,
    /// Removed last.
    _temporary: Option<tempfile::TempDir>,
}

impl Lab {
    /// Binds everything and starts servers and relay. Must run inside a tokio runtime with I/O and
    /// time enabled. `observers` see every datagram.
    ///
    /// # Errors
    /// If an address is taken, the store cannot be opened, or a receiver's name is impossible.
    pub fn start(config: LabConfig, mut observers: Vec<Observer>) -> Result<Self, LabError> {
        let scenario = config.scenario;
        let fronts = config.addresses.bind(1 + scenario.receivers.len())?;
        let addr_of = |socket: &std::net::UdpSocket| socket.local_addr();
        let addrs: Vec<SocketAddr> = fronts
            .iter()
            .map(addr_of)
            .collect::<Result<_, _>>()
            .map_err(LabError::io("sockets"))?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut behind = Vec::new();
        for _ in &fronts {
            behind.push(bind(any, "server of the lab")?);
        }
        let servers: Vec<SocketAddr> = behind
            .iter()
            .map(addr_of)
            .collect::<Result<_, _>>()
            .map_err(LabError::io("sockets"))?;
        let named = scenario.receivers.iter().zip(addrs.iter().skip(1));
        let specs = named
            .map(|(receiver, addr)| ReceiverSpec::with_caps(&receiver.name, *addr, config.caps));
        let serve_config = ServeConfig::new(specs.collect::<Result<_, _>>()?);

        let temporary = config.data.is_none().then(tempfile::tempdir).transpose();
        let temporary = temporary.map_err(LabError::io("making a temporary directory"))?;
        let kept = config.data.or_else(|| Some(temporary.as_ref()?.path().to_owned()));
        // A lab is not there to survive a power cut.
        let store = open_store(&kept.unwrap_or_default(), Durability::Process)?;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            // The other end being gone means the same.
            let _ = stopped.await;
        };
        let orchestrator = behind.remove(0);
        let (publish, _) = stats::channel();
        let run =
            serve::run(orchestrator, behind, Arc::clone(&store), serve_config, publish, shutdown);
        let task = tokio::spawn(run);
        let ledger = Ledger::default();
        observers.insert(0, ledger.observer());
        let seed = config.seed.unwrap_or(scenario.seed);
        let relay = Relay::start(
            RelayConfig {
                fronts,
                servers,
                scenario: scenario.clone(),
                seed,
                rebinding: config.rebinding,
            },
            observers,
        )
        .map_err(LabError::io("starting the relay"))?;
        Ok(Self {
            relay,
            stop,
            servers: task,
            store,
            ledger,
            fronts: addrs,
            scenario,
            _temporary: temporary,
        })
    }

    /// Where clients find the orchestrator.
    pub fn orchestrator(&self) -> SocketAddr {
        self.fronts.first().copied().unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Where clients find the receivers, in the scenario's order.
    pub fn receivers(&self) -> &[SocketAddr] {
        self.fronts.get(1..).unwrap_or_default()
    }

    /// The network.
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What each transfer did.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What has arrived.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The time of day at which the relay began.
    pub const fn began(&self) -> SystemTime {
        self.relay.began()
    }

    /// Ends the network, then the servers, and waits for them.
    ///
    /// # Errors
    /// If a server failed while the lab ran.
    pub async fn stop(self) -> Result<(), LabError> {
        drop(self.relay);
        drop(self.stop);
        match self.servers.await {
            Ok(summary) => summary.map(|_| ()).map_err(LabError::from),
            Err(_) => Err(LabError::Server(ServerError::Thread("server"))),
        }
    }
}
