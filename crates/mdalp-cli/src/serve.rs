//! `mdalp serve`: the whole server side in one process.

use crate::capture::CaptureArgs;
use crate::exit::{Exit, Outcome};
use crate::server::{self, OrchestratorArgs, ReceiverArgs};
use mdalp_capture::CaptureFile;
use mdalp_server::{ReceiverSpec, ServeConfig, bind, bind_receivers};
use std::net::SocketAddr;

/// Runs an orchestrator and receivers in one process
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address of the orchestrator
    #[arg(long, value_name = "IP[:PORT]", default_value = "127.0.0.1:4650", value_parser = server::listen)]
    listen: SocketAddr,

    /// A receiver: its name and address; repeat it for each. Classic clients know no port but 4650
    #[arg(long, value_name = "NAME=HOST[:PORT]",
        default_values = ["A=127.0.0.2:4650", "B=127.0.0.3:4650", "C=127.0.0.4:4650"])]
    receiver: Vec<server::Typed>,

    /// Log more; twice: everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(flatten)]
    receivers: ReceiverArgs,

    #[command(flatten)]
    orchestrator: OrchestratorArgs,

    #[command(flatten)]
    capture: CaptureArgs,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        server::prepare(self.verbose)?;
        let specs: Result<Vec<_>, _> = server::receivers(&self.receiver)?
            .iter()
            .map(|spec| self.receivers.spec(spec.name(), spec.addr(), true))
            .collect();
        let socket = bind(self.listen, "orchestrator").map_err(server::failure)?;
        let (sockets, specs) = bind_receivers(&specs?).map_err(server::failure)?;
        let store = self.receivers.open_store()?;
        let addr = socket.local_addr().map_err(|error| Exit::LocalIo.because(error))?;
        let mut config = ServeConfig::new(specs.clone());
        self.orchestrator.apply(&mut config.orchestrator);
        config.receivers = self.receivers.config(config.receivers.receivers);
        let capture = self.capture.open()?;
        config.receivers.observer = capture.as_ref().map(CaptureFile::observer);
        let (stats, _watch) = mdalp_server::stats::channel();
        let outcome = server::run(|shutdown| {
            server::announce("orchestrator", addr);
            for spec in &specs {
                server::announce(&format!("receiver {}", spec.name()), spec.addr());
            }
            server::announce_client(addr, specs.first().map(ReceiverSpec::addr));
            mdalp_server::serve::run(socket, sockets, store, config, stats, shutdown)
        });
        self.capture.finish(capture.as_ref());
        outcome
    }
}
