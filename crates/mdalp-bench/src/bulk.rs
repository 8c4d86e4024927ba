//! Large payloads and many transfers, from a client process of its own, so that its memory can be told.

use crate::child::{Running, Server, memory_of};
use crate::rows::Setup;
use mdalp::probe::Method;
use mdalp::{Options, Payload};
use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const LARGE: u64 = 1 << 30;
const MANY: usize = 200;
const MANY_BYTES: u64 = 100_000;

/// Rows of the client's table.
pub(crate) fn print(setup: Setup<'_>) -> Result<(), Box<dyn Error>> {
    for (count, bytes) in [(1, LARGE), (MANY, MANY_BYTES)] {
        let server = Running::start(Server::Whole, setup.dir, &[crate::SERVER_CORE])?;
        let file = tempfile::NamedTempFile::new_in(setup.dir)?;
        // Zeros without a place on the disk: they are read, sent and hashed like others.
        file.as_file().set_len(bytes)?;
        let status = Command::new(std::env::current_exe()?)
            .args(["send", &server.addr.to_string(), &count.to_string()])
            .arg(file.path())
            .status()?;
        if !status.success() {
            return Err("a send failed".into());
        }
    }
    Ok(())
}

/// The client's process: sends the file so many times at once, through one thread.
pub(crate) fn send(words: &[String]) -> Result<(), Box<dyn Error>> {
    let [to, count, file] = words else { return Err("expected three words".into()) };
    let to: std::net::SocketAddr = to.parse()?;
    let bytes = File::open(file)?.metadata()?.len();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Hashing is the only thing that blocks.
        .max_blocking_threads(1)
        .build()?;
    let count: usize = count.parse()?;
    let start = Instant::now();
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        let mut sends = Vec::new();
        for _ in 0..count {
            let payload = Payload::open(Path::new(file))?;
            sends.push(tokio::task::spawn_local(async move {
                let options = Options { probe: Method::None, ..Options::default() };
                let never = std::future::pending();
                let host = to.ip().to_string();
                mdalp::send(&host, to.port(), &payload, &options, never, |_| ()).await
            }));
        }
        for send in sends {
            let report = send.await?;
            if let Some(error) = report.error {
                return Err(error.into());
            }
            if !report.verified {
                return Err("not verified".into());
            }
        }
        Ok::<_, Box<dyn Error>>(())
    }))?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = memory_of("self", "VmHWM:")? as f64 / f64::from(1 << 20);
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    let megabytes = (count as u64 * bytes) as f64 / 1e6;
    let rate = megabytes / seconds;
    // A chunk has 1,200 bytes; hashing is in it.
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cost = (spent.tv_sec as f64 * 1e6 + spent.tv_nsec as f64 / 1e3) * 1200e-6 / megabytes;
    println!(
        "| {count} × {bytes} bytes at once from one process, loopback, 3 receivers, all confirmed: \
         MB/s; CPU µs/chunk; peak memory MiB; threads | {rate:.1}; {cost:.2}; {peak:.1}; {threads} |"
    );
    Ok(())
}
