//! `mdalp plan`: who would get what, without a network.

use crate::console;
use crate::exit::Outcome;
use crate::settings::Millis;
use crate::text;
use mdalp_proto::split::{byte_shares, number_chunks};
use mdalp_proto::wire::{CLASSIC_CHUNK, caps::MAX_CHUNK};
use serde::Serialize;
use std::process::ExitCode;

/// Shows the shares for a payload and latencies, offline
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Length of the payload in bytes
    #[arg(long, value_name = "N")]
    bytes: u64,

    /// Latencies of the receivers in milliseconds, in list order
    #[arg(long, value_name = "MS,MS,…", value_delimiter = ',', required = true)]
    latencies: Vec<Millis>,

    /// Bytes in a chunk
    #[arg(long, value_name = "N", default_value_t = CLASSIC_CHUNK,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_CHUNK)))]
    chunk: u16,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Plan {
    shares: Vec<Share>,
}

#[derive(Serialize)]
struct Share {
    bytes: u64,
    chunks: u64,
    first_seq: u64,
}

impl Args {
    pub(crate) fn run(self) -> Outcome {
        let latencies: Vec<f64> = self.latencies.iter().map(|ms| ms.0).collect();
        let shares = number_chunks(&byte_shares(self.bytes, &latencies), self.chunk);
        if self.json {
            let share = |s: &mdalp_proto::split::Share| Share {
                bytes: s.bytes,
                chunks: s.chunks,
                first_seq: s.first_seq,
            };
            console::print_json(&Plan { shares: shares.iter().map(share).collect() })?;
            return Ok(ExitCode::SUCCESS);
        }
        let heading = ["receiver", "latency", "bytes", "share", "chunks", "first SEQ"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for (at, (share, latency)) in shares.iter().zip(&latencies).enumerate() {
            let percent = share.bytes as f64 * 100.0 / (self.bytes.max(1)) as f64;
            rows.push(vec![
                (at + 1).to_string(),
                text::millis(Some(*latency)),
                share.bytes.to_string(),
                format!("{percent:.1} %"),
                share.chunks.to_string(),
                share.first_seq.to_string(),
            ]);
        }
        console::print(&text::table(&rows, 0))?;
        Ok(ExitCode::SUCCESS)
    }
}
