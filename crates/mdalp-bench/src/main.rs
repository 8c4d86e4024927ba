//! Measures.
#![cfg(target_os = "linux")]

mod bare;
mod child;
mod load;
mod socket;

use child::{Running, Server};
use load::Load;
use mdalp_store::Durability;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((first, [core, rest @ ..])) if first == "child" => {
            pin(core.parse()?)?;
            Server::serve(rest)
        }
        _ => probe(&words),
    }
}

fn pin(core: usize) -> Result<(), Box<dyn Error>> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

fn probe(words: &[String]) -> Result<(), Box<dyn Error>> {
    let dir = words.first().ok_or("DIR")?;
    let num = |at: usize, default: usize| words.get(at).map_or(Ok(default), |w| w.parse());
    let sockets = num(1, 16)?;
    let transactions = num(2, 16)?;
    let in_flight = num(3, 1024)?;
    let seconds = num(4, 2)?;
    let which = words.get(5).map_or("", |w| w);
    pin(0)?;
    for offload in [false, true] {
        for server in [
            Server::Bare { offload },
            Server::Receiver(Durability::Process),
            Server::Receiver(Durability::Fsync),
        ] {
            if !format!("{server:?} {offload}").contains(which) {
                continue;
            }
            let running = Running::start(server, Path::new(dir), 1)?;
            let load = Load { sockets, transactions, in_flight, offload, first_tid: 10_000 };
            let mut before = Duration::ZERO;
            let outcome = load::run(
                load,
                running.addr,
                Duration::from_millis(500),
                Duration::from_secs(seconds as u64),
                || before = running.processor_time().unwrap_or_default(),
            )?;
            let cpu = running.processor_time()?.saturating_sub(before);
            println!(
                "{:40} {:9.0} acks/s  {:6.3} us cpu/ack  p50 {} p99 {} us  lost {} cpu {:.0}%  rss {} MiB",
                format!("{server:?} offload={offload}"),
                outcome.acks as f64 / outcome.seconds,
                cpu.as_secs_f64() * 1e6 / outcome.acks as f64,
                outcome.percentile(50.0),
                outcome.percentile(99.0),
                outcome.lost,
                cpu.as_secs_f64() / outcome.seconds * 100.0,
                running.memory()? >> 20,
            );
            let _ = running.data();
        }
    }
    Ok(())
}
