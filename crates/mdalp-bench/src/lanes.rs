//! The machines alone, in virtual time and without sockets: how close a transfer over many receivers
//! comes to what stop-and-wait allows, and what each of many things takes in memory.

use mdalp_proto::ids::{ReceiverAddr, TransactionId};
use mdalp_proto::orchestrator::{Config, Orchestrator};
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::{Adaptive, Latency, Outcome, Plan, Target, Transfer, TransferConfig};
use mdalp_proto::wire::encode_ack;
use mdalp_sim::{run, swarm};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

const TID: TransactionId = TransactionId(3740);
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Chunks for each receiver.
const CHUNKS: u64 = 50;
const CHUNK: u64 = 100;
/// Chunks for receivers with windows, as many of which may be in flight as TCP's first window has room
/// for.
const LARGE: u64 = 1200;
const WINDOW: u16 = 256;
const IN_FLIGHT: f64 = 12.0;

pub(crate) fn print() -> Result<(), Box<dyn Error>> {
    println!("\n| client | |\n|---|---|");
    for lanes in [3, 64, 1000] {
        let start = crate::store::spent();
        let elapsed = transfer(&mut machine(lanes), |_| ROUND_TRIP)?;
        let cost = (crate::store::spent() - start) * 1e6 / (lanes * CHUNKS) as f64;
        let ratio = elapsed.as_secs_f64() / (ROUND_TRIP * CHUNKS as u32).as_secs_f64();
        println!(
            "| {lanes} classic receivers at 50 ms in virtual time: elapsed, × stop-and-wait; CPU \
             µs/chunk | {ratio:.3}; {cost:.2} |"
        );
    }
    for lanes in [3, 64, 1000] {
        extended(lanes)?;
    }
    // What this process has freed by now would be used again, and not count.
    let anew = |what| -> Result<String, Box<dyn Error>> {
        let output = Command::new(std::env::current_exe()?).args(["held", what]).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    println!("| memory for each receiver of a transfer, bytes | {} |", anew("receivers")?);
    println!("| memory for each of {QUEUED} queued intents, bytes | {} |", anew("intents")?);
    let (start, count) = (crate::store::spent(), 300);
    let failed = (0..count).filter(|&seed| run(&swarm::draw(seed), None).violation.is_some());
    assert_eq!(failed.count(), 0, "the simulator found a fault");
    let rate = count as f64 / (crate::store::spent() - start);
    println!("| simulated transfers with faults, checked: runs/CPU s | {rate:.0} |");
    Ok(())
}

/// Receivers with windows at ten distances between 20 and 110 ms, shares that follow the acks.
fn extended(lanes: u64) -> Result<(), Box<dyn Error>> {
    let trip = |lane: u64| Duration::from_millis(20 + 10 * (lane % 10));
    let targets: Vec<_> = (0..lanes).map(|lane| target(lane, WINDOW)).collect();
    let chunks = lanes * CHUNKS * 10;
    let plan = Plan::new(TID, chunks * LARGE, LARGE as u16, &targets, &Adaptive);
    let config = TransferConfig::default();
    let mut machine = Transfer::new(Instant::ZERO, config, &plan, &targets, Box::new(Adaptive));
    let start = crate::store::spent();
    let elapsed = transfer(&mut machine, trip)?;
    let cost = (crate::store::spent() - start) * 1e6 / chunks as f64;
    // Full windows from the second round trip on, three chunks in the first.
    let rate: f64 = (0..lanes).map(|lane| IN_FLIGHT / trip(lane).as_secs_f64()).sum();
    let first = lanes as f64 * (IN_FLIGHT - 3.0);
    let ideal = (chunks as f64 + first) / rate;
    println!(
        "| {lanes} extended receivers at 20 to 110 ms in virtual time, mode 3: elapsed, × the ideal \
         dynamic split; CPU µs/chunk | {:.3}; {cost:.2} |",
        elapsed.as_secs_f64() / ideal
    );
    Ok(())
}

fn addr(lane: u64) -> SocketAddr {
    (Ipv4Addr::from(0x0a00_0001 + lane as u32), 4650).into()
}

fn target(lane: u64, window: u16) -> Target {
    Target {
        addr: ReceiverAddr(addr(lane)),
        latency: 1.0,
        window,
        crc: false,
        seal: false,
        record: false,
    }
}

fn machine(lanes: u64) -> Transfer {
    let targets: Vec<_> = (0..lanes).map(|lane| target(lane, 1)).collect();
    let plan = Plan::new(TID, lanes * CHUNKS * CHUNK, CHUNK as u16, &targets, &Latency);
    Transfer::new(Instant::ZERO, TransferConfig::default(), &plan, &targets, Box::new(Latency))
}

/// Runs it over paths that lose nothing.
fn transfer(
    machine: &mut Transfer,
    trip: impl Fn(u64) -> Duration,
) -> Result<Duration, Box<dyn Error>> {
    let mut now = Instant::ZERO;
    let mut flying = BTreeMap::new();
    let mut serial = 0_u64;
    loop {
        while let Some(transmit) = machine.poll_transmit() {
            let mut ack = Vec::new();
            encode_ack(&mut ack, TID, transmit.seq, None);
            serial += 1;
            let arrives = now + trip(transmit.lane as u64);
            flying.insert((arrives, serial), (transmit.to, ack));
        }
        while machine.poll_event().is_some() {}
        match machine.outcome() {
            Some(Outcome::Complete { .. }) => return Ok(now - Instant::ZERO),
            Some(other) => return Err(format!("{other:?}").into()),
            None => {}
        }
        let arrives = flying.first_key_value().map_or(Instant::NEVER, |(&(at, _), _)| at);
        now = arrives.min(machine.poll_timeout().unwrap_or(Instant::NEVER));
        if now == arrives
            && let Some((_, (from, ack))) = flying.pop_first()
        {
            machine.handle_datagram(now, from, &ack);
        } else {
            machine.handle_timeout(now);
        }
    }
}

const QUEUED: usize = 100_000;

/// An orchestrator with so many intents waiting, each from an address of its own.
fn queue(count: usize) -> Orchestrator {
    let entry = mdalp_proto::wire::list::Entry {
        ip: Ipv4Addr::new(192, 0, 2, 1).into(),
        name: "R".to_owned(),
        caps: mdalp_proto::wire::Capabilities::default(),
    };
    let config = Config { concurrency: Some(1), queue: count, ..Config::new(vec![entry]) };
    let mut seed = 1_u64;
    let random = Box::new(move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed
    });
    let mut machine = Orchestrator::new(config, random);
    for client in 0..=count {
        // One in each prefix, so that no quota is met.
        let ip = Ipv4Addr::from(0x0100_0000 + ((client as u32) << 8));
        machine.handle_datagram(Instant::ZERO, (ip, 4650).into(), b"Type:0;");
        while machine.poll_transmit().is_some() {}
        while machine.poll_event().is_some() {}
    }
    machine
}

/// What each takes in memory, of `receivers` in transfers or of queued `intents`.
pub(crate) fn print_held(what: &str) -> Result<(), Box<dyn Error>> {
    let each = match what {
        "receivers" => held(1000 * 20, || (0..20).map(|_| machine(1000)).collect::<Vec<_>>()),
        _ => held(QUEUED, || queue(QUEUED)),
    };
    println!("{:.0}", each?);
    Ok(())
}

/// Resident bytes for each of `count` things that `make` makes.
fn held<T>(count: usize, make: impl FnOnce() -> T) -> Result<f64, Box<dyn Error>> {
    let before = crate::child::memory_of("self", "VmRSS:")?;
    let things = make();
    let after = crate::child::memory_of("self", "VmRSS:")?;
    drop(things);
    Ok(after.saturating_sub(before) as f64 / count as f64)
}
