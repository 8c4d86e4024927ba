//! The goals of the reliability matrix that need time, sockets and processes, measured.
//!
//! `cargo build --release -p mdalp-cli && cargo run --release -p mdalp-lab --example goals [WHICH]`
//! prints a Markdown table with the goal beside each figure and ends with exit code 12 if one was missed.
//! WHICH is the beginning of a goal, such as `G6`. About ten minutes; nearly all of it is waiting, so
//! everything runs side by side. The client is the `mdalp` command beside this program or in
//! `MDALP`; the servers run inside labs, as in `mdalp lab`; G9 starts the real servers.

mod memory;
mod run;
mod stranger;
mod transfers;

use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;

/// One line of the table.
struct Row {
    goal: &'static str,
    what: String,
    asked: String,
    measured: String,
    met: bool,
}

type Check = Pin<Box<dyn Future<Output = Row>>>;

fn mdalp() -> PathBuf {
    let beside = || {
        let here = std::env::current_exe().ok()?;
        Some(here.parent()?.parent()?.join("mdalp"))
    };
    std::env::var_os("MDALP").map(PathBuf::from).or_else(beside).unwrap_or_else(|| "mdalp".into())
}

fn main() -> ExitCode {
    let mdalp = mdalp();
    if !mdalp.is_file() {
        eprintln!("{} is not there: cargo build --release -p mdalp-cli", mdalp.display());
        return ExitCode::from(2);
    }
    let which = std::env::args().nth(1).unwrap_or_default();
    // First and alone: they keep a processor busy.
    let mut rows = memory::measure(&mdalp, &which);
    let mut checks: Vec<(&'static str, Check)> = transfers::all(&mdalp);
    checks.extend(stranger::all(&mdalp));
    checks.retain(|(goal, _)| goal.starts_with(&which));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    rows.extend(runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        let running: Vec<_> =
            checks.into_iter().map(|(_, check)| tokio::task::spawn_local(check)).collect();
        let mut rows = Vec::new();
        for check in running {
            rows.extend(check.await);
        }
        rows
    })));
    println!("| goal | what | asked | measured | |\n|---|---|---|---|---|");
    for Row { goal, what, asked, measured, met } in &rows {
        let verdict = if *met { "met" } else { "**missed**" };
        println!("| {goal} | {what} | {asked} | {measured} | {verdict} |");
    }
    if rows.iter().all(|row| row.met) { ExitCode::SUCCESS } else { ExitCode::from(12) }
}
