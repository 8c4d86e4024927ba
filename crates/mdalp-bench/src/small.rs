//! Small payloads, and classic transfers beside what stop-and-wait allows, over loopback and over an
//! emulated network: ours beside TCP, TFTP and UFTP on the same way in the same run.

use crate::peers::{self, CLASSIC, EXTENDED, UNSEALED};
use crate::rows::median;
use crate::wan::{Far, Way, unshared};
use mdalp::probe::Method;
use mdalp::{Mode, Options, Payload};
use std::error::Error;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Ways to the far end: the kernel's alone, and emulated networks with this round trip in milliseconds.
const WAYS: [&str; 3] = ["loopback", "0", "50"];
/// Chunks for each receiver of a classic transfer.
const CHUNKS: u64 = 40;
const ROUNDS: usize = 5;
/// What takes less than a millisecond is measured more often.
const MORE_ROUNDS: usize = 51;

/// Prints the tables from a namespace of their own.
pub(crate) fn print(dir: &Path) -> Result<(), Box<dyn Error>> {
    for word in WAYS {
        let status = unshared()?.args(["near", word]).arg(dir).status()?;
        if !status.success() {
            println!("\nNot measured: this takes root, `unshare`, `ip` and `/dev/net/tun`.");
        }
    }
    Ok(())
}

/// The process in that namespace.
pub(crate) fn near(word: &str, dir: &Path) -> Result<(), Box<dyn Error>> {
    let way = Way::of(word);
    let trip = match way {
        Way::Loopback => Duration::ZERO,
        Way::RoundTrip(trip) => trip,
    };
    let dir = tempfile::tempdir_in(dir)?;
    let _far = Far::start(way, dir.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = if way == Way::Loopback { "loopback" } else { "emulated network" };
    println!(
        "\n| {name}, round trip {} ms | 5 kB ms | 100 kB ms |\n|---|---|---|",
        trip.as_millis()
    );
    let mut rows: Vec<(&str, Vec<f64>)> = Vec::new();
    for len in [5_000, 100_000] {
        let payload = vec![0x5a; len];
        let file = dir.path().join(format!("payload-{len}"));
        std::fs::write(&file, &payload)?;
        let ours = |first| {
            let payload = Payload::from(payload.clone());
            let to = way.addr(first).to_string();
            let options = Options { probe: Method::None, ..Options::default() };
            let runtime = &runtime;
            move || send(runtime, &to, &payload, &options).map(|(whole, _)| whole)
        };
        let mut row =
            |at: usize,
             name: &'static str,
             mut measure: Box<dyn FnMut() -> io::Result<Duration> + '_>| {
                let often = trip.is_zero() && !name.starts_with("UFTP");
                let rounds = if often { MORE_ROUNDS } else { ROUNDS };
                let times: io::Result<Vec<_>> = (0..rounds).map(|_| measure()).collect();
                let time = times.map_or(f64::NAN, |times| {
                    median(times.iter().map(|time| time.as_secs_f64() * 1e3).collect())
                });
                match rows.get_mut(at) {
                    Some((_, times)) => times.push(time),
                    None => rows.push((name, vec![time])),
                }
            };
        let to = way.addr(EXTENDED);
        let sealed = "`mdalp send`: intent, 3 receivers with extensions, BLAKE3 confirmed";
        row(0, sealed, Box::new(ours(EXTENDED)));
        row(1, "the same without confirmation: all chunks acknowledged", Box::new(ours(UNSEALED)));
        row(2, "TCP: connection, payload, one byte back", Box::new(|| peers::tcp(to, &payload)));
        row(3, "TFTP (RFC 1350), blocks of 512 bytes", Box::new(|| peers::tftp(to, &payload)));
        let failed = || io::Error::from(io::ErrorKind::NotFound);
        row(4, "UFTP, one receiver", Box::new(|| peers::uftp(way, &file).ok_or_else(failed)));
    }
    for (name, times) in rows {
        let trips = |ms: &f64| match trip {
            Duration::ZERO => format!("{ms:.2}"),
            trip => format!("{ms:.0} ({:.1})", ms / trip.as_secs_f64() / 1e3),
        };
        println!("| {name} | {} | {} |", trips(&times[0]), trips(&times[1]));
    }
    if !trip.is_zero() {
        let options = Options {
            mode: Mode::Latency,
            latencies: Some(vec![1.0; 3]),
            probe: Method::None,
            ..Options::default()
        };
        let payload = Payload::from(vec![0x5a; 3 * CHUNKS as usize * 100]);
        let to = way.addr(CLASSIC).to_string();
        let (_, elapsed) = send(&runtime, &to, &payload, &options)?;
        let ratio = elapsed / (trip.as_secs_f64() * CHUNKS as f64);
        // What one step of TFTP takes is what the emulated network adds by itself.
        let payload = vec![0x5a; CHUNKS as usize * 512 - 512];
        let steps = peers::tftp(way.addr(EXTENDED), &payload)?.as_secs_f64() / (CHUNKS + 1) as f64;
        let step = steps / trip.as_secs_f64();
        println!(
            "| `mdalp send`, 3 classic receivers, {CHUNKS} chunks each, from the assignment to the \
             last ack: × {CHUNKS} round trips; TFTP's step, × a round trip | {ratio:.3} | {step:.3} |"
        );
    }
    Ok(())
}

/// Sends, and says how long that took: all of it, and from the assignment to the last ack in seconds.
fn send(
    runtime: &tokio::runtime::Runtime,
    to: &str,
    payload: &Payload,
    options: &Options,
) -> io::Result<(Duration, f64)> {
    let start = Instant::now();
    let never = std::future::pending();
    let port = mdalp_proto::wire::PORT;
    let report = runtime.block_on(mdalp::send(to, port, payload, options, never, |_| ()));
    match report.error {
        Some(error) => Err(io::Error::other(error)),
        None => Ok((start.elapsed(), report.elapsed_s)),
    }
}
