//! `mdalp ls`: the transactions that servers hold.

use crate::console;
use crate::exit::{Exit, Outcome};
use crate::held::DataArgs;
use crate::show::Description;
use crate::text;
use mdalp_store::Query;
use std::process::ExitCode;

/// Lists the transactions that servers hold
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataArgs,

    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        let held = self.data.open()?;
        let heading = ["TID", "state", "bytes", "chunks", "missing", "client", "last chunk"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for summary in held.list().map_err(|error| Exit::LocalIo.because(error))? {
            let description = Description::of(&held, &summary)?;
            if self.json {
                console::print_json(&description)?;
                continue;
            }
            rows.push(vec![
                description.tid.to_string(),
                description.state.to_owned(),
                description.bytes.to_string(),
                description.chunks.to_string(),
                description.missing_text(),
                description.client.unwrap_or_else(|| "-".to_owned()),
                description.last_append.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        if !self.json {
            console::print(&text::table(&rows, 0))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
