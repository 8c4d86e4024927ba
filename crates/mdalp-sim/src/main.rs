//! `mdalp-sim`: many seeds, or one in detail.
//!
//! ```text
//! mdalp-sim --seeds 0..500000 --jobs 2 [--minutes 10]
//! mdalp-sim --seed 7 -v
//! mdalp-sim --case crates/mdalp-sim/corpus/some.toml -v
//! mdalp-sim --twin no-backoff --seeds 0..10000
//! mdalp-sim --table 1000
//! ```
//!
//! Reads clocks only to say how fast it was and to stop after `--minutes`.

mod many;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Parser};
use mdalp_sim::{Case, Twin, Verdict, lines, run, shrink, swarm, table};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Runs that shrinking may take.
const SHRINK_TRIES: usize = 2000;

/// Whole MDALP systems in virtual time, with faults drawn from a seed. Checks the invariants after
/// each event; the first world that breaks one is shown, shrunk to what it takes.
///
/// Exit codes: 0 all held, 2 usage, 12 a violation.
#[derive(Parser)]
#[command(version, group = ArgGroup::new("what").required(true))]
struct Arguments {
    /// Runs the worlds of these seeds, the last not included
    #[arg(long, group = "what", value_name = "FROM..TO", value_parser = range)]
    seeds: Option<Range<u64>>,
    /// Runs the world of one seed
    #[arg(long, group = "what", value_name = "N")]
    seed: Option<u64>,
    /// Runs the world of a file, as in corpus/
    #[arg(long, group = "what", value_name = "FILE")]
    case: Option<PathBuf>,
    /// Measures time and datagrams against loss, with so many transfers for each line
    #[arg(long, group = "what", value_name = "TRANSFERS")]
    table: Option<u64>,
    /// Threads that share the seeds
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Takes no further seeds after this time
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Switches one rule off, to see whether anybody notices
    #[arg(long, value_name = "NAME", value_parser = twin())]
    twin: Option<Twin>,
    /// Prints the case and the whole event log
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> ExitCode {
    match act(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(12),
        Err(what) => {
            eprintln!("mdalp-sim: {what}");
            ExitCode::from(2)
        }
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let ends = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    ends.ok_or_else(|| "it is FROM..TO, as in 0..1000".to_owned())
}

fn twin() -> impl TypedValueParser<Value = Twin> {
    PossibleValuesParser::new(Twin::ALL.map(|(name, _)| name))
        .try_map(|name| Twin::named(&name).ok_or("unknown"))
}

fn act(arguments: &Arguments) -> Result<bool, String> {
    if let Some(transfers) = arguments.table {
        println!("{}", table::HEADING);
        let mut met = true;
        for (window, loss) in table::cells() {
            let Some(row) = table::measure(window, loss, transfers.max(1)) else { continue };
            let missed = if row.meets_goals(1.0) { "" } else { "  misses its goal" };
            println!("{row}{missed}");
            met &= missed.is_empty();
        }
        return Ok(met);
    }
    // A panic is a finding like any other and is reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(path) = &arguments.case {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let case = Case::parse(&text).map_err(|error| format!("{name}: {error}"))?;
        return Ok(one(&case, &format!("--case {name}"), arguments));
    }
    if let Some(seed) = arguments.seed {
        return Ok(one(&swarm::draw(seed), &format!("--seed {seed}"), arguments));
    }
    let seeds = arguments.seeds.clone().ok_or("nothing to do")?;
    let jobs = arguments.jobs.max(1);
    let limit = arguments.minutes.map(|minutes| Duration::from_secs_f64(minutes.max(0.0) * 60.0));
    let total = many::run_all(seeds, jobs, limit, arguments.twin);
    println!("{total}");
    if let Some(seed) = total.first_failure() {
        one(&swarm::draw(seed), &format!("--seed {seed}"), arguments);
    }
    println!("{} passed, {} failed", total.passed(), total.failed());
    Ok(total.failed() == 0)
}

/// Runs one case and says what came of it; a failing one is shrunk.
fn one(case: &Case, how: &str, arguments: &Arguments) -> bool {
    let verdict = run(case, arguments.twin);
    if arguments.verbose {
        println!("{}", case.to_toml());
        for line in lines(case, arguments.twin, usize::MAX) {
            println!("{line}");
        }
    }
    let Verdict { violation, ends, simulated, counts, hash } = &verdict;
    println!("{ends:?} after {simulated:?}, {} events, hash {hash:016x}", counts.events);
    let Some(violation) = violation else { return true };
    let twin = Twin::ALL.iter().find(|(_, twin)| Some(*twin) == arguments.twin);
    let twin = twin.map(|(name, _)| format!(" --twin {name}")).unwrap_or_default();
    println!("FAILED {violation}\nreproduce: cargo run --release -p mdalp-sim -- {how}{twin}");
    if !arguments.verbose {
        println!("last events:");
        for line in lines(case, arguments.twin, 30) {
            println!("  {line}");
        }
    }
    let short = shrink(case, arguments.twin, SHRINK_TRIES);
    println!(
        "shortest schedule found; with an `about`, a file for the corpus:\n{}",
        short.to_toml()
    );
    false
}
