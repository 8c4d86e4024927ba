//! Measures the servers beside the least that the machine could do, and prints the tables of
//! `docs/benchmarks.md`.
//!
//! `cargo run --release -p mdalp-bench -- [all|receiver|rest] [DIR [SECONDS [ROUNDS [ROWS]]]]`;
//! the data goes to new directories in `DIR`, default `.`, and is removed. Linux alone; servers run on
//! one processor, the load on another.

#[cfg(target_os = "linux")]
mod bare;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod socket;
#[cfg(target_os = "linux")]
mod store;

/// The processor that servers run on.
#[cfg(target_os = "linux")]
const SERVER_CORE: usize = 1;

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, [core, rest @ ..])) = words.split_first()
        && first == "child"
    {
        pin(core.parse()?)?;
        return child::Server::serve(rest);
    }
    let word = |at: usize, default| words.get(at).map_or(default, String::as_str);
    let setup = rows::Setup {
        dir: std::path::Path::new(word(1, ".")),
        time: std::time::Duration::from_secs_f64(word(2, "3").parse()?),
        rounds: word(3, "3").parse()?,
        only: word(4, ""),
    };
    pin(0)?;
    let what = word(0, "all");
    if matches!(what, "all" | "receiver") {
        rows::print(setup)?;
    }
    if what == "store" {
        store::print(setup)?;
    }
    if matches!(what, "all" | "rest") {
        println!("\n| | |\n|---|---|");
        rows::print_flush(setup)?;
        rows::print_memory(setup)?;
        store::print(setup)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn pin(core: usize) -> std::io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("measures on Linux alone");
}
