//! `mdalp demo`: servers, an emulated network, a transfer and the proof that every byte arrived, in one
//! process.
//!
//! The network is scenario `p0`: the round trips of the original's run without its slow acks, so
//! that it ends in seconds. Leaves nothing behind.

use crate::console;
use crate::exit::{Exit, Failure, Outcome};
use crate::server;
use crate::signals;
use crate::text;
use crate::view::{Progress, Views};
use mdalp::event::Report;
use mdalp::{Mode, Options, Payload};
use mdalp_lab::{Addresses, Lab, LabConfig, LabError, made_up_text};
use mdalp_netem::Scenario;
use mdalp_proto::ids::TransactionId;
use mdalp_proto::wire::caps::MAX_CHUNK;
use mdalp_proto::wire::{CLASSIC_CHUNK, Capabilities};
use mdalp_server::ServerError;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shows it all on this machine: servers, an emulated network, a transfer, a check of every byte
#[derive(clap::Args)]
pub(crate) struct Args {
    /// File to send; default: a text of 5,000 bytes that is made up
    file: Option<PathBuf>,
}

/// A transfer that the classic protocol needs longer for than this, in seconds, uses our extensions.
const CLASSIC_AT_MOST: f64 = 15.0;
/// What receivers advertise then.
const EXTENSIONS: &str = "crc window=32 chunk=1200";

impl Args {
    pub(crate) fn run(self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(
            |error| Exit::Internal.because(format_args!("starting the runtime: {error}")),
        )?;
        runtime.block_on(self.demo())
    }

    async fn demo(self) -> Outcome {
        let (payload, what) = match &self.file {
            None => {
                let text = made_up_text(5000);
                (Payload::from(text.into_bytes()), "a text of 5,000 bytes".to_owned())
            }
            Some(path) => {
                let name = path.display();
                let failed = |error| Exit::LocalIo.because(format_args!("{name}: {error}"));
                let payload = Payload::open(path).map_err(failed)?;
                let what = format!("{name}, {}", text::count(payload.len(), "byte"));
                (payload, what)
            }
        };
        let scenario = Scenario::builtin("p0")
            .ok_or_else(|| Exit::Internal.because("the built-in network p0 is broken"))?;
        let pings: Vec<f64> = scenario
            .receivers
            .iter()
            .map(|receiver| receiver.ping.unwrap_or_default().as_secs_f64())
            .collect();
        let classic = classic_seconds(payload.len(), &pings) <= CLASSIC_AT_MOST;
        let lab = start(&scenario, if classic { "" } else { EXTENSIONS })?;
        console::print(&format!(
            "Sending {what} to {} receivers over an emulated wide-area network.\n\
             Everything runs in this process: {} is the orchestrator; nothing is kept.\n\n",
            scenario.receivers.len(),
            lab.orchestrator(),
        ))?;
        let options = Options {
            mode: Mode::Latency,
            latencies: Some(pings.iter().map(|s| s * 1000.0).collect()),
            extensions: !classic,
            chunk: Some(if classic { CLASSIC_CHUNK } else { MAX_CHUNK }),
            ..Options::default()
        };
        let mut views = Views::new(0, Progress::Auto, false);
        let to = lab.orchestrator();
        let host = to.ip().to_string();
        let report = mdalp::send(&host, to.port(), &payload, &options, signals::first(), |event| {
            views.show(event);
        })
        .await;
        let arrived = report.tid.map(|tid| read_back(&lab, tid));
        lab.stop().await.map_err(failure)?;
        if report.exit_code != 0 {
            let why = report.error.unwrap_or_default();
            console::note(format_args!("mdalp: the demo's transfer did not complete: {why}"));
            return Ok(ExitCode::from(report.exit_code));
        }
        let sent = hash(&payload)?;
        // Of an empty payload there is nothing to read back.
        let same =
            payload.is_empty() || arrived.is_some_and(|hash| hash.is_ok_and(|hash| hash == sent));
        console::print(&summary(&report, classic.then_some(&pings)))?;
        if same {
            console::print(&format!(
                "Every byte arrived: BLAKE3 {} on both sides.\n",
                short(&sent)
            ))?;
            Ok(ExitCode::SUCCESS)
        } else {
            Err(Exit::Verification.because("the servers hold other bytes than were sent"))
        }
    }
}

/// A lab on addresses that are free; where there is only 127.0.0.1, on several ports of it.
fn start(scenario: &Scenario, caps: &str) -> Result<Lab, Failure> {
    let caps = Capabilities::parse(caps);
    let config = |addresses| LabConfig { addresses, caps, ..LabConfig::new(scenario.clone()) };
    match Lab::start(config(Addresses::Free), Vec::new()) {
        Err(LabError::Server(ServerError::AddressNotAvailable { .. })) => {
            Lab::start(config(Addresses::AnyPort), Vec::new())
        }
        started => started,
    }
    .map_err(failure)
}

/// What went wrong with a lab, as an exit code.
pub(crate) fn failure(error: LabError) -> Failure {
    match error {
        LabError::Server(error) => server::failure(error),
        LabError::Names(_) | LabError::Scenario(_) | LabError::UnknownScenario { .. } => {
            Exit::Usage.because(error)
        }
        _ => Exit::LocalIo.because(error),
    }
}

/// The hash of what the servers hold.
fn read_back(lab: &Lab, tid: u64) -> Result<[u8; 32], mdalp_store::AssembleError> {
    let store = lab.store().as_ref();
    mdalp_store::assemble(store, TransactionId(tid), &mut std::io::sink()).map(|done| done.blake3)
}

fn hash(payload: &Payload) -> Result<[u8; 32], Failure> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    while at < payload.len() {
        let len = buffer.len().min(usize::try_from(payload.len() - at).unwrap_or(usize::MAX));
        let part = &mut buffer[..len];
        payload
            .read_at(at, part)
            .map_err(|error| Exit::LocalIo.because(format_args!("{}: {error}", payload.name())))?;
        hasher.update(part);
        at += len as u64;
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The first eight bytes in hexadecimal.
pub(crate) fn short(hash: &[u8; 32]) -> String {
    let hex = blake3::Hash::from_bytes(*hash).to_hex();
    hex.chars().take(16).chain(['…']).collect()
}

/// What the classic protocol takes without loss: the receiver that is last with its share.
fn classic_seconds(bytes: u64, round_trips: &[f64]) -> f64 {
    let ms: Vec<f64> = round_trips.iter().map(|s| s * 1000.0).collect();
    let shares = mdalp_proto::split::byte_shares(bytes, &ms);
    let chunks = mdalp_proto::split::number_chunks(&shares, CLASSIC_CHUNK);
    let lanes = chunks.iter().zip(round_trips);
    lanes.map(|(share, rtt)| share.chunks as f64 * rtt).fold(0.0, f64::max)
}

/// What each receiver got, how long it took, and what one receiver alone would have taken;
/// `round_trips` in seconds where the transfer was a classic one.
fn summary(report: &Report, round_trips: Option<&Vec<f64>>) -> String {
    let heading = ["receiver", "round trip", "share", "", "bytes", "chunks", "resent"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for receiver in &report.receivers {
        let share = receiver.bytes as f64 / report.total_bytes.max(1) as f64;
        rows.push(vec![
            receiver.name.clone(),
            text::millis(receiver.latency_ms),
            format!("{:.1} %", share * 100.0),
            bar(share),
            receiver.bytes.to_string(),
            receiver.chunks.to_string(),
            receiver.retransmissions.to_string(),
        ]);
    }
    let mut out = text::table(&rows, 2);
    let took = text::seconds(report.elapsed_s);
    let Some(round_trips) = round_trips else {
        return out
            + &format!(
                "\nTook {took}. Classic MDALP sends 100 bytes per round trip; so large a payload used the\n\
             servers' extensions: {MAX_CHUNK} bytes in a chunk, several chunks under way.\n"
            );
    };
    let alone = report.total_bytes.div_ceil(u64::from(CLASSIC_CHUNK));
    if alone == 0 {
        return out + "\nAn empty payload: nothing had to be sent.\n";
    }
    let mut bounds: Vec<(String, f64)> = report
        .receivers
        .iter()
        .zip(round_trips)
        .map(|(receiver, rtt)| (format!("{} alone", receiver.name), alone as f64 * rtt))
        .collect();
    let best = bounds.iter().map(|(_, seconds)| *seconds).fold(f64::INFINITY, f64::min);
    let longest = bounds.iter().map(|(_, seconds)| *seconds).fold(report.elapsed_s, f64::max);
    bounds.push(("all at once, as measured".to_owned(), report.elapsed_s));
    let heading = format!(
        "\nTook {took}. One receiver alone needs {}, one for each 100 bytes:\n\n",
        text::count(alone, "round trip"),
    );
    out += &heading;
    let rows = bounds.iter().map(|(who, seconds)| {
        vec![who.clone(), text::seconds(*seconds), bar(seconds / longest.max(f64::MIN_POSITIVE))]
    });
    let heading = vec!["way".to_owned(), "time".to_owned(), String::new()];
    out += &text::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>(), 2);
    let times = best / report.elapsed_s.max(f64::MIN_POSITIVE);
    out + &format!("\n{times:.1} times as fast as the best receiver alone.\n")
}

/// A bar of at most 30 columns for a share of 1.
fn bar(share: f64) -> String {
    "█".repeat((share.clamp(0.0, 1.0) * 30.0).round() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_time_is_that_of_the_slowest_receiver() {
        let seconds = classic_seconds(5000, &[0.335_148, 0.162_844, 0.156_857]);
        assert!((seconds - 10.0 * 0.335_148).abs() < 1e-9, "{seconds}");
    }

    #[test]
    fn a_bar_is_as_long_as_the_share() {
        assert_eq!([0.0, 0.5, 1.0, 7.0].map(|share| bar(share).chars().count()), [0, 15, 30, 30]);
    }
}
