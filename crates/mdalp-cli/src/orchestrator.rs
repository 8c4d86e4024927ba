//! `mdalp orchestrator`: an orchestrator whose receivers run elsewhere.

use crate::exit::{Exit, Outcome};
use crate::server::{self, OrchestratorArgs};
use mdalp_server::{OrchestratorConfig, ReceiverSpec, bind};
use std::net::SocketAddr;

/// Runs an orchestrator alone
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address to listen on
    #[arg(long, value_name = "IP[:PORT]", default_value = "127.0.0.1:4650", value_parser = server::listen)]
    listen: SocketAddr,

    /// A receiver: its name and address; repeat it for each. Classic clients know no port but 4650
    #[arg(long, value_name = "NAME=HOST[:PORT]", required = true)]
    receiver: Vec<server::Typed>,

    /// What the receivers advertise beyond the classic protocol, at most, such as "crc window=32"; with
    /// it also those are handed out that never answered [default: what each says that it speaks]
    #[arg(long, value_name = "LIST", value_parser = server::caps)]
    caps: Option<mdalp_proto::wire::Capabilities>,

    /// Log more; twice: everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(flatten)]
    orchestrator: OrchestratorArgs,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        server::prepare(self.verbose)?;
        let specs: Result<Vec<_>, _> = server::receivers(&self.receiver)?
            .iter()
            .map(|spec| server::spec(spec.name(), spec.addr(), self.caps.unwrap_or_default()))
            .collect();
        let specs = specs?;
        let first = specs.first().map(ReceiverSpec::addr);
        let mut config = OrchestratorConfig::standalone(&specs);
        config.rules.typed = self.caps.is_some();
        self.orchestrator.apply(&mut config.rules);
        let socket = bind(self.listen, "orchestrator").map_err(server::failure)?;
        let addr = socket.local_addr().map_err(|error| Exit::LocalIo.because(error))?;
        let (stats, _watch) = mdalp_server::stats::channel();
        server::run(|shutdown| {
            server::announce("orchestrator", addr);
            server::announce_client(addr, first);
            mdalp_server::orchestrator::run(socket, config, stats, shutdown)
        })
    }
}
