//! Receivers beside bare ones: rate, processor time and latency of acks, in turns within one run.

use crate::child::{Running, Server};
use crate::load::{self, Load};
use mdalp_store::Durability::{Fsync, Process};
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where to measure and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    /// Only rows of receivers that begin like this, such as `GSO 1008`.
    pub(crate) only: &'a str,
    /// As many as the machine has.
    pub(crate) processors: usize,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Figures {
    rate: f64,
    /// Processor time for each ack, in microseconds.
    cost: f64,
    p50: f64,
    p99: f64,
    lost: f64,
}

const WARM_UP: Duration = Duration::from_millis(300);
/// Room for all that can be in flight; as many clients as a small site has, or fewer if the
/// transactions cannot be dealt out evenly.
const SOCKETS: usize = 16;

fn measure(
    setup: Setup<'_>,
    server: Server,
    cores: &[usize],
    load: Load,
) -> Result<Figures, Box<dyn Error>> {
    let running = Running::start(server, setup.dir, cores)?;
    let mut before = Ok(Duration::ZERO);
    let outcome = load::run(load, running.addr, WARM_UP, setup.time, || {
        before = running.processor_time();
    })?;
    let spent = running.processor_time()?.saturating_sub(before?);
    let acks = outcome.acks.max(1) as f64;
    Ok(Figures {
        rate: acks / outcome.seconds,
        cost: spent.as_secs_f64() * 1e6 / acks,
        p50: outcome.percentile(50.0) as f64,
        p99: outcome.percentile(99.0) as f64,
        lost: outcome.lost as f64,
    })
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A table of all loads.
pub(crate) fn print(setup: Setup<'_>) -> Result<(), Box<dyn Error>> {
    println!(
        "| sender | transactions | in flight | receiver | acks/s | × bare | CPU µs/ack | × bare \
         | p50 µs | p99 µs | × bare | lost |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let loads =
        [(1, 1), (16, 16), (16, 1024), (100, 1000), (1008, 1024), (4096, 4096), (10_000, 10_000)];
    for offload in [false, true] {
        let servers = [
            ("bare", Server::Bare { offload }),
            ("process", Server::Receiver { durability: Process, shards: 1 }),
            ("fsync", Server::Receiver { durability: Fsync, shards: 1 }),
        ];
        for (transactions, in_flight) in loads {
            rows(setup, &servers, &[crate::SERVER_CORE], offload, transactions, in_flight)?;
        }
    }
    Ok(())
}

/// A table of receivers with one network loop and with several, on one core and on all, of which one is
/// the load's too.
pub(crate) fn print_shards(setup: Setup<'_>) -> Result<(), Box<dyn Error>> {
    println!(
        "\n| sender | transactions | in flight | shards | acks/s | × one | CPU µs/ack | × one \
         | p50 µs | p99 µs | × one | lost |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let all: Vec<usize> = (0..setup.processors).collect();
    let shards = |shards| Server::Receiver { durability: Process, shards };
    for cores in [&[crate::SERVER_CORE][..], &all] {
        let names = [1, 2, 4].map(|n| format!("{n} (processors: {})", cores.len()));
        let servers = [(&*names[0], shards(1)), (&*names[1], shards(2)), (&*names[2], shards(4))];
        for offload in [false, true] {
            rows(setup, &servers, cores, offload, 1008, 1024)?;
        }
    }
    Ok(())
}

/// One load on each of `servers`, in turns; ratios are to the first of them.
fn rows(
    setup: Setup<'_>,
    servers: &[(&str, Server)],
    cores: &[usize],
    offload: bool,
    transactions: usize,
    in_flight: usize,
) -> Result<(), Box<dyn Error>> {
    let sender = if offload { "GSO" } else { "sendmmsg" };
    if !format!("{sender} {transactions} {in_flight}").starts_with(setup.only) {
        return Ok(());
    }
    let even = |sockets: &usize| transactions.is_multiple_of(*sockets);
    let sockets = (1..=SOCKETS).rev().find(even).unwrap_or(1);
    let load = Load { sockets, transactions, in_flight, offload, first_tid: 10_000 };
    let mut rounds = Vec::new();
    for _ in 0..setup.rounds {
        let mut round = Vec::new();
        for (_, server) in servers {
            round.push(measure(setup, *server, cores, load)?);
        }
        rounds.push(round);
    }
    for (at, (name, _)) in servers.iter().enumerate() {
        let value =
            |of: fn(&Figures) -> f64| median(rounds.iter().map(|round| of(&round[at])).collect());
        let ratio = |of: fn(&Figures) -> f64| {
            median(rounds.iter().map(|round| of(&round[at]) / of(&round[0])).collect())
        };
        println!(
            "| {sender} | {transactions} | {in_flight} | {name} | {:.0} | {:.2} | {:.3} | {:.2} | {:.0} \
             | {:.0} | {:.2} | {:.0} |",
            value(|f| f.rate),
            ratio(|f| f.rate),
            value(|f| f.cost),
            ratio(|f| f.cost),
            value(|f| f.p50),
            value(|f| f.p99),
            ratio(|f| f.p99),
            value(|f| f.lost),
        );
    }
    Ok(())
}

/// What each of many transactions costs in memory once it is quiet.
pub(crate) fn print_memory(setup: Setup<'_>) -> Result<(), Box<dyn Error>> {
    const COUNT: usize = 4096;
    // More than the store leaves uncounted.
    const CHUNKS: u64 = 5;
    let server = Server::Receiver { durability: Process, shards: 1 };
    let running = Running::start(server, setup.dir, &[crate::SERVER_CORE])?;
    let load = |count, first_tid| Load {
        sockets: 1,
        transactions: count,
        in_flight: count,
        offload: false,
        first_tid,
    };
    // What is allocated once is there before.
    let brief = Duration::from_millis(50);
    load::run(load(64, 100), running.addr, Duration::ZERO, 4 * brief, || ())?;
    std::thread::sleep(brief);
    let before = running.memory()?;
    load::run_once(load(COUNT - 64, 10_000), running.addr, CHUNKS)?;
    let after = running.memory()?;
    let each = after.saturating_sub(before) as f64 / (COUNT - 64) as f64;
    println!("| memory for each of 4,032 transactions with five chunks, bytes | {each:.0} |");
    Ok(())
}

/// The least that an acknowledged chunk waits with `fsync`: a short write and its flush.
pub(crate) fn print_flush(setup: Setup<'_>) -> Result<(), Box<dyn Error>> {
    use std::os::unix::fs::FileExt;
    let file = tempfile::tempfile_in(setup.dir)?;
    file.write_all_at(&vec![0; 8 << 20], 0)?;
    file.sync_all()?;
    let mut took = Vec::new();
    let start = Instant::now();
    let mut at = 0;
    while start.elapsed() < setup.time {
        let before = Instant::now();
        file.write_all_at(&[1; 132 * 16], at)?;
        file.sync_data()?;
        took.push(before.elapsed().as_secs_f64() * 1e6);
        at = (at + 132 * 16) % (7 << 20);
    }
    took.sort_by(f64::total_cmp);
    let of = |percent: usize| took[(took.len() - 1) * percent / 100];
    println!(
        "| raw write of 16 chunks and fdatasync, p50 / p99 µs | {:.0} / {:.0} |",
        of(50),
        of(99)
    );
    Ok(())
}
