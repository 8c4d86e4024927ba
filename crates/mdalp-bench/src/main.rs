//! Measures the servers beside the least that the machine could do, and prints the tables of
//! `docs/benchmarks.md`.
//!
//! `cargo run --release -p mdalp-bench -- [all|receiver|shards|store|client] [DIR [SECONDS [ROUNDS [ROWS]]]]`;
//! the data goes to new directories in `DIR`, default `.`, and is removed. Linux alone; servers run on
//! one processor, the load on another.

#[cfg(target_os = "linux")]
mod bare;
#[cfg(target_os = "linux")]
mod bulk;
#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod crowd;
#[cfg(target_os = "linux")]
mod lanes;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod peers;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod small;
#[cfg(target_os = "linux")]
mod socket;
#[cfg(target_os = "linux")]
mod store;
#[cfg(target_os = "linux")]
mod wan;

/// The processor that servers run on.
#[cfg(target_os = "linux")]
const SERVER_CORE: usize = 1;

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // This program is also all the processes that it starts.
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child", cores, ..] => {
            let cores: Result<Vec<_>, _> = cores.split(',').map(str::parse).collect();
            pin(&cores?)?;
            return child::Server::serve(&words[2..]);
        }
        ["send", ..] => return bulk::send(&words[1..]),
        ["near", way, dir] => {
            pin(&[0, SERVER_CORE])?;
            return small::near(way, dir.as_ref());
        }
        ["crowd"] => return crowd::run(),
        ["held", what] => return lanes::print_held(what),
        ["far", way, dir] => return peers::serve_all(wan::Way::of(way), dir.as_ref()),
        _ => {}
    }
    let word = |at: usize, default| words.get(at).map_or(default, String::as_str);
    let setup = rows::Setup {
        dir: std::path::Path::new(word(1, ".")),
        time: std::time::Duration::from_secs_f64(word(2, "3").parse()?),
        rounds: word(3, "3").parse()?,
        only: word(4, ""),
        processors: std::thread::available_parallelism()?.get(),
    };
    pin(&[0])?;
    let what = word(0, "all");
    if matches!(what, "all" | "receiver") {
        rows::print(setup)?;
    }
    if matches!(what, "all" | "shards") {
        rows::print_shards(setup)?;
    }
    if matches!(what, "all" | "store") {
        println!("\n| store | |\n|---|---|");
        rows::print_flush(setup)?;
        rows::print_memory(setup)?;
        store::print(setup)?;
    }
    if matches!(what, "all" | "client") {
        lanes::print()?;
        bulk::print(setup)?;
        crowd::print()?;
        small::print(setup.dir)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn pin(cores: &[usize]) -> std::io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("measures on Linux alone");
}
