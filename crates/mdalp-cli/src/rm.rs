//! `mdalp rm`: removes transactions from data directories that no server uses.
//!
//! A running server has its directory for itself; it removes by itself what is old enough
//! (`--expire-complete`).

use crate::console;
use crate::exit::{Exit, Outcome};
use crate::held::DataArgs;
use crate::server;
use crate::show;
use crate::text;
use mdalp_proto::ids::TransactionId;
use mdalp_store::{Durability, Release, State, StoreError};
use std::process::ExitCode;

/// Removes transactions from a data directory that no server uses
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The transactions
    #[arg(required = true, value_name = "TID")]
    tids: Vec<u64>,

    #[command(flatten)]
    data: DataArgs,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        // All of them are there, or none is removed.
        let held = self.data.open()?;
        for &tid in &self.tids {
            let summary = show::find(&held, TransactionId(tid), &self.data)?;
            if matches!(summary.state, State::Expired | State::Removed) {
                return Err(
                    Exit::Usage.because(format_args!("transaction {tid} is removed already"))
                );
            }
        }
        drop(held);
        for dir in self.data.dirs() {
            let store =
                mdalp_server::open_store(dir, Durability::Fsync).map_err(server::failure)?;
            let failed = |error: StoreError| {
                Exit::LocalIo.because(format_args!("data directory {}: {error}", dir.display()))
            };
            for &tid in &self.tids {
                match store.release(TransactionId(tid), Release::Removed) {
                    // Another directory has it.
                    Err(StoreError::UnknownTransaction) => {}
                    released => released.map_err(failed)?,
                }
            }
            while store.reclaim().map_err(failed)? {}
        }
        let count = text::count(self.tids.len() as u64, "transaction");
        console::note(format_args!("{count} removed"));
        Ok(ExitCode::SUCCESS)
    }
}
