//! `mdalp receiver`: one receiver; the orchestrator that hands it out runs elsewhere.

use crate::exit::Outcome;
use crate::server::{self, ReceiverArgs};
use mdalp_server::bind_receivers;
use std::net::SocketAddr;

/// Runs one receiver alone
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address to listen on
    #[arg(long, value_name = "IP[:PORT]", value_parser = server::listen)]
    listen: SocketAddr,

    /// What people call it
    #[arg(long, default_value = "receiver")]
    name: String,

    /// Log more; twice: everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(flatten)]
    receiver: ReceiverArgs,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        server::prepare(self.verbose)?;
        let spec = self.receiver.spec(&self.name, self.listen, false)?;
        let (sockets, specs) = bind_receivers(&[spec]).map_err(server::failure)?;
        let store = self.receiver.open_store()?;
        let config = self.receiver.config(specs.clone());
        let (stats, _watch) = mdalp_server::stats::channel();
        server::run(|shutdown| {
            for spec in &specs {
                server::announce(&format!("receiver {}", spec.name()), spec.addr());
            }
            mdalp_server::receiver::run(sockets, store, config, stats, shutdown)
        })
    }
}
