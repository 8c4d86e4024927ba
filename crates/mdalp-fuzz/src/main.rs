//! Runs every fuzz target for a while and says what came of it.
//!
//! ```text
//! cargo run -p mdalp-fuzz -- [SECONDS [JOBS [SEED]]]
//! ```
//!
//! Needs a nightly compiler and `cargo install cargo-fuzz`; without them it says so and runs nothing.
//! New inputs stay in `fuzz/target/corpus`, findings in `fuzz/artifacts`. With a seed other than 0, a
//! fresh clone tries the same inputs each time. Ends with 1 if a target found something.

use mdalp_fuzz::TARGETS;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What one target came to.
struct Row {
    name: &'static str,
    executions: String,
    a_second: String,
    megabytes: String,
    slowest: String,
    /// The end of what it printed, if it found something.
    finding: Option<String>,
}

fn main() -> ExitCode {
    let numbers: Result<Vec<usize>, _> =
        std::env::args().skip(1).map(|word| word.parse()).collect();
    let (seconds, jobs, seed) = match numbers.as_deref() {
        Ok([]) => (60, 1, 0),
        Ok(&[seconds]) => (seconds, 1, 0),
        Ok(&[seconds, jobs]) => (seconds, jobs.max(1), 0),
        Ok(&[seconds, jobs, seed]) => (seconds, jobs.max(1), seed),
        _ => {
            eprintln!("usage: mdalp-fuzz [SECONDS [JOBS [SEED]]]");
            return ExitCode::from(2);
        }
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let build = fuzz(&root).arg("build").output();
    match build {
        Ok(output) if output.status.success() => {}
        Ok(output) if has_fuzzer(&root) => {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            return ExitCode::FAILURE;
        }
        _ => {
            println!("skipped: fuzzing needs a nightly compiler and `cargo install cargo-fuzz`");
            return ExitCode::SUCCESS;
        }
    }
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(&(name, _)) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = run(&root, name, seconds, seed);
                    rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_default();
    rows.sort_by_key(|row| row.name);
    println!("target         executions  a second  MiB  slowest s  findings");
    for row in &rows {
        let Row { name, executions, a_second, megabytes, slowest, finding } = row;
        let found = if finding.is_some() { "FOUND" } else { "none" };
        println!("{name:<13} {executions:>11} {a_second:>9} {megabytes:>4} {slowest:>10}  {found}");
    }
    let findings: Vec<_> = rows.iter().filter(|row| row.finding.is_some()).collect();
    for row in &findings {
        println!("\n{}:\n{}", row.name, row.finding.as_deref().unwrap_or_default());
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `cargo +nightly fuzz`; this program itself may run under another cargo.
fn fuzz(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz"]).current_dir(root).env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn has_fuzzer(root: &Path) -> bool {
    fuzz(root).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn run(root: &Path, name: &'static str, seconds: usize, seed: usize) -> Row {
    let corpus = root.join("fuzz/corpus").join(name);
    let new: PathBuf = root.join("fuzz/target/corpus").join(name);
    let made = std::fs::create_dir_all(&new);
    let output = fuzz(root)
        .args(["run", name])
        .args([&new, &corpus])
        .args(["--", "-rss_limit_mb=512", "-timeout=10", "-print_final_stats=1"])
        .args([format!("-max_total_time={seconds}"), format!("-seed={seed}")])
        .arg(format!("-dict={}", root.join("fuzz/mdalp.dict").display()))
        .output();
    let (text, good) = match (made, output) {
        (Ok(()), Ok(output)) => {
            (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.success())
        }
        (Err(error), _) | (_, Err(error)) => (error.to_string(), false),
    };
    let figure = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
        line.map_or("?".to_owned(), |value| value.trim_start_matches(':').trim().to_owned())
    };
    let lines: Vec<&str> = text.lines().collect();
    let panicked = lines.iter().position(|line| line.contains("panicked at"));
    let from = panicked.unwrap_or(lines.len().saturating_sub(20));
    let what = lines.iter().skip(from).take(20).copied();
    let input = lines.iter().copied().filter(|line| line.contains("Test unit written to"));
    let finding = what.chain(input).collect::<Vec<_>>().join("\n");
    Row {
        name,
        executions: figure("number_of_executed_units"),
        a_second: figure("average_exec_per_sec"),
        megabytes: figure("peak_rss_mb"),
        slowest: figure("slowest_unit_time_sec"),
        finding: (!good).then_some(finding),
    }
}
