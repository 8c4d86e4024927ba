//! How close adaptive balancing comes to the ideal dynamic split, over scenarios and seeds.
//!
//! `cargo run --release -p mdalp-sim --example adaptive [SEEDS]` prints one line for each case: times
//! from the first chunk to the last ack, as multiples of the ideal's and of the static split's of the
//! same seed. The ideal knows the future: each receiver always has as many chunks in flight as its
//! window permits (three before its first ack, as the protocol wants), takes a chunk only if it will
//! have it acknowledged, and nobody waits. It costs a chunk what it costs on average; what chance adds
//! in a run is not taken out. Cases named `any` draw another network for each seed.

use mdalp_netem::scenario::ScenarioError;
use mdalp_netem::{Rng, Scenario};
use mdalp_sim::{End, Mode, Options, Program, RunReport, simulate_with};
use std::fmt::Write;

/// A receiver: milliseconds, and what befalls it at which second.
#[derive(Clone, Default)]
struct Receiver {
    rtt: f64,
    /// From a chunk's arrival to its ack, and how much that varies in either direction.
    ack: f64,
    ack_jitter: f64,
    serial: bool,
    /// What ping shows, if not the round trip.
    ping: Option<f64>,
    changes: Vec<(f64, Change)>,
}

#[derive(Clone, Copy)]
enum Change {
    Dies,
    Returns,
    /// Takes so many times as long as at first.
    Slows(f64),
}

struct Case {
    receivers: Vec<Receiver>,
    payload: u64,
    window: u16,
}

/// On every path, each way, beside what is said of the receiver.
const JITTER_MS: f64 = 5.0;
const NEVER: f64 = 1e9;

impl Case {
    fn scenario(&self) -> Result<Scenario, ScenarioError> {
        let mut text = format!("[paths]\njitter_ms = {JITTER_MS}\n[orchestrator]\nrtt_ms = 40\n");
        for (at, receiver) in self.receivers.iter().enumerate() {
            let Receiver { rtt, ack, ack_jitter, serial, .. } = receiver;
            let ping = receiver.ping.unwrap_or(*rtt);
            let _ =
                writeln!(text, "[[receiver]]\nname = \"R{at}\"\nrtt_ms = {rtt}\nping_ms = {ping}");
            let _ = writeln!(
                text,
                "acks = {{ delay_ms = {ack}, jitter_ms = {ack_jitter}, serial = {serial} }}"
            );
            for (s, change) in &receiver.changes {
                let what = match change {
                    Change::Dies => "dead = true".to_owned(),
                    Change::Returns => "dead = false".to_owned(),
                    Change::Slows(by) => {
                        format!("rtt_ms = {}\nacks = {{ delay_ms = {} }}", rtt * by, ack * by)
                    }
                };
                let _ = writeln!(text, "[[receiver.at]]\ns = {s}\n{what}");
            }
        }
        Scenario::parse(&text, "case")
    }

    /// When all chunks are acknowledged at the earliest.
    fn ideal(&self) -> f64 {
        let chunks = self.payload.div_ceil(100);
        let done = |end| self.receivers.iter().map(|r| self.done_by(r, end)).sum::<u64>();
        let (mut low, mut high) = (0.0, 1.0);
        while done(high) < chunks {
            high *= 2.0;
        }
        while high - low > 1e-4 {
            let end = f64::midpoint(low, high);
            *if done(end) >= chunks { &mut high } else { &mut low } = end;
        }
        high
    }

    /// How many chunks this receiver has acknowledged by `end`.
    fn done_by(&self, receiver: &Receiver, end: f64) -> u64 {
        let cost = (receiver.rtt + receiver.ack + JITTER_MS) / 1000.0;
        // Alive spans, each with its cost.
        let mut spans = vec![(0.0, NEVER, cost)];
        for &(at, change) in &receiver.changes {
            if let Some(last) = spans.last_mut() {
                last.1 = last.1.min(at);
            }
            match change {
                Change::Dies => {}
                Change::Returns => spans.push((at, NEVER, cost)),
                Change::Slows(by) => spans.push((at, NEVER, cost * by)),
            }
        }
        let (mut done, mut from) = (0, 0.0);
        for (index, &(start, stop, cost)) in spans.iter().enumerate() {
            // What is in flight when it slows down is acknowledged all the same.
            let slows = spans.get(index + 1).is_some_and(|next| (next.0 - stop).abs() < 1e-9);
            let mut at = start.max(from);
            while at < stop {
                let window = if done == 0 { self.window.min(3) } else { self.window };
                let each = if receiver.serial { receiver.ack / 1000.0 } else { 0.0 };
                // A round: the first ack after the cost, the others behind it if it takes turns.
                let fit = |n: u64| {
                    let last = at + cost + (n - 1) as f64 * each;
                    last <= end && (last <= stop || slows)
                };
                let round = (1..=u64::from(window)).take_while(|&n| fit(n)).count() as u64;
                done += round;
                if round == 0 {
                    break;
                }
                at += cost.max(f64::from(window) * each);
            }
            from = at;
        }
        done
    }
}

fn receiver(rtt: f64, ack: f64) -> Receiver {
    Receiver { rtt, ack, ..Receiver::default() }
}

/// The network of the published runs, with these acks and changes of the second receiver.
fn seeds_network(acks: [f64; 3], changes: &[(f64, Change)]) -> Vec<Receiver> {
    let rtts = [335.148, 162.844, 156.857];
    let mut receivers: Vec<_> =
        rtts.iter().zip(acks).map(|(rtt, ack)| receiver(*rtt, ack)).collect();
    receivers[1].changes = changes.to_vec();
    receivers
}

const ORIGINAL: [f64; 3] = [1405.0, 684.0, 681.0];

/// A network that chance makes: costs from `least` ms to `spread` times that, and what ping shows.
fn any(rng: &mut Rng, count: u64, least: f64, spread: f64) -> Vec<Receiver> {
    let mut draw = |least: f64, spread: f64| least * spread.powf(rng.up_to(1000) as f64 / 1000.0);
    let one = |_| {
        let cost = draw(least, spread);
        let rtt = cost * draw(0.1, 10.0);
        Receiver { ping: Some(draw(least, spread)), ..receiver(rtt, cost - rtt) }
    };
    (0..count).map(one).collect()
}

type Make = fn(&mut Rng) -> Case;

fn case(receivers: Vec<Receiver>, payload: u64, window: u16) -> Case {
    Case { receivers, payload, window }
}

const CASES: &[(&str, Make)] = &[
    ("seed's network", |_| case(seeds_network(ORIGINAL, &[]), 5000, 1)),
    ("ping misleads", |_| case(seeds_network([681.0, 684.0, 1405.0], &[]), 5000, 1)),
    ("5 x misleading", |_| case(seeds_network([0.0, 637.156, 1518.143], &[]), 5000, 1)),
    ("slows 10 x", |_| case(seeds_network(ORIGINAL, &[(8.0, Change::Slows(10.0))]), 5000, 1)),
    ("dies", |_| case(seeds_network(ORIGINAL, &[(5.0, Change::Dies)]), 5000, 1)),
    ("comes back", |_| {
        let changes = [(5.0, Change::Dies), (25.0, Change::Returns)];
        case(seeds_network(ORIGINAL, &changes), 20_000, 1)
    }),
    ("windows of 8", |_| case(seeds_network(ORIGINAL, &[]), 100_000, 8)),
    ("8, ping misleads", |_| case(seeds_network([0.0, 637.156, 1518.143], &[]), 100_000, 8)),
    ("8, slows 10 x", |_| case(seeds_network(ORIGINAL, &[(8.0, Change::Slows(10.0))]), 100_000, 8)),
    ("8, dies", |_| case(seeds_network(ORIGINAL, &[(5.0, Change::Dies)]), 100_000, 8)),
    ("8, acks in turn", |_| {
        let mut receivers = seeds_network([60.0, 30.0, 90.0], &[]);
        for receiver in &mut receivers {
            receiver.serial = true;
        }
        case(receivers, 20_000, 8)
    }),
    ("jitter of 50 %", |_| {
        let mut receivers = seeds_network([700.0; 3], &[]);
        for receiver in &mut receivers {
            receiver.ack_jitter = 350.0;
        }
        case(receivers, 10_000, 1)
    }),
    // As many as fit into a list.
    ("20 receivers", |rng| case(any(rng, 20, 50.0, 40.0), 100_000, 1)),
    ("any, 1 receiver", |rng| case(any(rng, 1, 20.0, 100.0), 2000, 1)),
    ("any, 2 receivers", |rng| case(any(rng, 2, 20.0, 100.0), 5000, 1)),
    ("any, 3 receivers", |rng| case(any(rng, 3, 20.0, 100.0), 5000, 1)),
    ("any, few chunks", |rng| case(any(rng, 5, 100.0, 10.0), 100 + rng.up_to(1200), 1)),
    ("any, windows", |rng| case(any(rng, 3, 50.0, 10.0), 60_000, 2 + rng.up_to(31) as u16)),
    ("any, dies", |rng| {
        let mut receivers = any(rng, 3, 100.0, 5.0);
        receivers[1].changes = vec![(1.0 + rng.up_to(3000) as f64 / 1000.0, Change::Dies)];
        case(receivers, 10_000, 1)
    }),
    ("any, slows", |rng| {
        let mut receivers = any(rng, 3, 100.0, 5.0);
        receivers[1].changes = vec![(1.0 + rng.up_to(3000) as f64 / 1000.0, Change::Slows(10.0))];
        case(receivers, 10_000, 1)
    }),
];

fn time(report: &RunReport) -> f64 {
    report.elapsed.saturating_sub(report.measuring).as_secs_f64()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seeds: u64 = std::env::args().nth(1).map_or(Ok(1000), |n| n.parse())?;
    let only = std::env::args().nth(2);
    println!("{:>51}adaptive / ideal{:>17}adaptive / static", "", "");
    println!(
        "case               ideal s    median       p95     p99   worst (seed)        p95   worst"
    );
    for (name, make) in
        CASES.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| name == only))
    {
        let mut rows = Vec::new();
        for seed in 0..seeds {
            let case = make(&mut Rng::new(seed));
            let scenario = case.scenario()?;
            let options =
                Options { payload: Some(case.payload), window: case.window, ..Options::default() };
            let run = |mode| {
                let report = simulate_with(&scenario, Program::Mdalp(mode), seed, &options);
                match report.end {
                    End::Complete => Ok(time(&report)),
                    end => Err(format!("{name}: seed {seed} ended {end:?}")),
                }
            };
            let (adaptive, fixed) = (run(Mode::Adaptive)?, run(Mode::Latency)?);
            let ideal = case.ideal();
            rows.push((adaptive / ideal, adaptive / fixed, ideal, seed));
        }
        let at = |rows: &[(f64, f64, f64, u64)], part: f64| {
            rows[((rows.len() - 1) as f64 * part).round() as usize]
        };
        rows.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (to_static, worst_static) = (at(&rows, 0.95).1, at(&rows, 1.0).1);
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let [median, p95, p99, worst] = [0.5, 0.95, 0.99, 1.0].map(|part| at(&rows, part));
        println!(
            "{name:<18} {:>7.2}   {:>7.3}   {:>7.3} {:>7.3} {:>7.3} {:<10} {to_static:>7.3} {worst_static:>7.3}",
            median.2,
            median.0,
            p95.0,
            p99.0,
            worst.0,
            format!("({})", worst.3),
        );
    }
    Ok(())
}
