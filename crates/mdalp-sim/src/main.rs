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
//! Reads the clock only to say how fast it was and to stop after `--minutes`.

mod many;

use mdalp_sim::{Case, Twin, Verdict, lines, run, shrink, swarm, table};
use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: mdalp-sim --seeds FROM..TO [--jobs N] [--minutes M] [--twin NAME]
       mdalp-sim --seed N [-v] [--twin NAME]
       mdalp-sim --case FILE [-v] [--twin NAME]
       mdalp-sim --table TRANSFERS
twins: no-retransmission no-deduplication answers-duplicate-acks ack-before-commit no-backoff no-limits";

/// Runs that shrinking may take.
const SHRINK_TRIES: usize = 2000;

#[derive(Default)]
struct Arguments {
    seeds: Option<Range<u64>>,
    seed: Option<u64>,
    case: Option<String>,
    table: Option<u64>,
    jobs: Option<usize>,
    minutes: Option<f64>,
    twin: Option<Twin>,
    verbose: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|arguments| act(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(12),
        Err(what) => {
            eprintln!("mdalp-sim: {what}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "-v" | "--verbose" => arguments.verbose = true,
            "--seed" => arguments.seed = Some(number(&value()?)?),
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or("--seeds takes FROM..TO")?;
                arguments.seeds = Some(number(from)?..number(to)?);
            }
            "--case" => arguments.case = Some(value()?),
            "--table" => arguments.table = Some(number(&value()?)?),
            "--jobs" => arguments.jobs = Some(number(&value()?)?),
            "--minutes" => arguments.minutes = Some(number(&value()?)?),
            "--twin" => {
                let name = value()?;
                let twin = Twin::ALL.into_iter().find(|(known, _)| *known == name);
                arguments.twin = Some(twin.ok_or(format!("no twin is called {name}"))?.1);
            }
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok(arguments)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
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
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let case = Case::parse(&text).map_err(|error| format!("{path}: {error}"))?;
        return Ok(one(&case, &format!("--case {path}"), arguments));
    }
    if let Some(seed) = arguments.seed {
        return Ok(one(&swarm::draw(seed), &format!("--seed {seed}"), arguments));
    }
    let seeds = arguments.seeds.clone().ok_or("nothing to do")?;
    let jobs = arguments.jobs.unwrap_or(1).max(1);
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
    println!("FAILED {violation}\nreproduce: mdalp-sim {how}{twin}");
    if !arguments.verbose {
        println!("last events:");
        for line in lines(case, arguments.twin, 30) {
            println!("  {line}");
        }
    }
    let short = shrink(case, arguments.twin, SHRINK_TRIES);
    println!("shortest schedule found, for the corpus:\n{}", short.to_toml());
    false
}
