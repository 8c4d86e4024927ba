//! How close adaptive balancing comes to the ideal dynamic split, over scenarios and seeds.
//!
//! `cargo run --release -p mdalp-sim --example adaptive [SEEDS]` prints one line for each scenario. The
//! ideal knows the future: every receiver always takes the next chunk if it will have it
//! acknowledged before the end, and none waits.

use mdalp_netem::Scenario;
use mdalp_sim::{End, Mode, Options, Program, RunReport, simulate_with};

/// What one chunk costs each receiver, in seconds, from the moment on that is given.
type Costs = &'static [&'static [(f64, f64)]];

const NEVER: f64 = 1e9;

struct Case {
    name: &'static str,
    /// Ack delays in seconds.
    acks: [f64; 3],
    /// What happens to the second receiver.
    more: &'static str,
    costs: Costs,
    payload: u64,
}

const ORIGINAL: [f64; 3] = [1.405, 0.684, 0.681];

fn scenario(case: &Case) -> String {
    let mut text =
        "name = \"evaluation\"\n[paths]\njitter_ms = 5\n[orchestrator]\nrtt_ms = 40\n".to_owned();
    for (at, (rtt, ack)) in [335.148, 162.844, 156.857].iter().zip(case.acks).enumerate() {
        let delay = ack * 1000.0;
        text = format!(
            "{text}[[receiver]]\nname = \"R{at}\"\nrtt_ms = {rtt}\nacks = {{ delay_ms = {delay} }}\n"
        );
        if at == 1 {
            text += case.more;
        }
    }
    text
}

/// When `chunks` are acknowledged at the earliest.
fn ideal(costs: Costs, chunks: u64) -> f64 {
    let (mut low, mut high) = (0.0, 1e6);
    while high - low > 1e-4 {
        let end = f64::midpoint(low, high);
        let done: u64 = costs.iter().map(|receiver| done_by(receiver, end)).sum();
        if done >= chunks { high = end } else { low = end }
    }
    high
}

fn done_by(receiver: &[(f64, f64)], end: f64) -> u64 {
    let (mut now, mut done) = (0.0, 0);
    loop {
        let cost = receiver.iter().rev().find(|(from, _)| *from <= now).map_or(NEVER, |c| c.1);
        if cost >= NEVER {
            // Dead: it goes on when it is back, if ever.
            match receiver.iter().find(|(from, cost)| *from > now && *cost < NEVER) {
                Some((from, _)) => now = *from,
                None => return done,
            }
            continue;
        }
        now += cost;
        if now > end {
            return done;
        }
        done += 1;
    }
}

/// Situations in the network of the published runs.
const CASES: [Case; 6] = [
    Case {
        name: "seed's network",
        acks: ORIGINAL,
        more: "",
        costs: &[&[(0.0, 1.740)], &[(0.0, 0.847)], &[(0.0, 0.838)]],
        payload: 5000,
    },
    Case {
        name: "ping misleads",
        acks: [0.681, 0.684, 1.405],
        more: "",
        costs: &[&[(0.0, 1.016)], &[(0.0, 0.847)], &[(0.0, 1.562)]],
        payload: 5000,
    },
    Case {
        name: "5 x misleading",
        acks: [0.0, 0.637_156, 1.518_143],
        more: "",
        costs: &[&[(0.0, 0.335)], &[(0.0, 0.8)], &[(0.0, 1.675)]],
        payload: 5000,
    },
    Case {
        name: "slows 10 x",
        acks: ORIGINAL,
        more: "[[receiver.at]]\ns = 8\nrtt_ms = 1628.44\nacks = { delay_ms = 6840 }\n",
        costs: &[&[(0.0, 1.740)], &[(0.0, 0.847), (8.0, 8.47)], &[(0.0, 0.838)]],
        payload: 5000,
    },
    Case {
        name: "dies",
        acks: ORIGINAL,
        more: "[[receiver.at]]\ns = 5\ndead = true\n",
        costs: &[&[(0.0, 1.740)], &[(0.0, 0.847), (5.0, NEVER)], &[(0.0, 0.838)]],
        payload: 5000,
    },
    Case {
        name: "comes back",
        acks: ORIGINAL,
        more: "[[receiver.at]]\ns = 5\ndead = true\n[[receiver.at]]\ns = 25\ndead = false\n",
        costs: &[&[(0.0, 1.740)], &[(0.0, 0.847), (5.0, NEVER), (25.0, 0.847)], &[(0.0, 0.838)]],
        payload: 20_000,
    },
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seeds: u64 = std::env::args().nth(1).map_or(Ok(1000), |n| n.parse())?;
    println!("seconds; ratio = median of adaptive / ideal");
    println!("case               ideal   median    worst    ratio   static  datagrams");
    for case in CASES {
        let scenario = Scenario::parse(&scenario(&case), case.name)?;
        let options = Options { payload: Some(case.payload), ..Options::default() };
        let run = |mode, seed| simulate_with(&scenario, Program::Mdalp(mode), seed, &options);
        let time =
            |report: &RunReport| report.elapsed.saturating_sub(report.measuring).as_secs_f64();
        let reports: Vec<RunReport> = (0..seeds).map(|seed| run(Mode::Adaptive, seed)).collect();
        if let Some(failed) = reports.iter().find(|report| report.end != End::Complete) {
            return Err(format!("{}: a run ended {:?}", case.name, failed.end).into());
        }
        let mut times: Vec<f64> = reports.iter().map(time).collect();
        times.sort_by(f64::total_cmp);
        let datagrams = reports.iter().map(|report| report.datagrams).sum::<u64>() as f64;
        let best = ideal(case.costs, case.payload.div_ceil(100));
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        println!(
            "{:<16} {best:>7.2} {median:>8.2} {worst:>8.2} {:>8.3} {:>8.2} {:>10.1}",
            case.name,
            median / best,
            time(&run(Mode::Latency, 0)),
            datagrams / seeds as f64,
        );
    }
    Ok(())
}
