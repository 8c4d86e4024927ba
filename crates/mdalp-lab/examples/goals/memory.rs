//! Memory for each queued intent and each transaction (G9): resident memory of the real servers,
//! before and after. Linux alone; elsewhere the rows are left out.

use super::Row;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const INTENTS: u32 = 50_000;
const IDLE: u64 = 4_000;
/// Transactions with as many gaps as one may have: nearly as many ranges as there may be in all.
const WORST: u64 = 200;
const RANGES: u64 = 1_024;
/// An attack of one round after the other, each with transactions that nothing is known of.
const ROUNDS: u64 = 6;
const ATTACKERS: u64 = 256;
/// After this time the rules have forgotten the ranges of a round and take the next one.
const REST: Duration = Duration::from_secs(31);
const SERVER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

pub(super) fn measure(mdalp: &Path, which: &str) -> Vec<Row> {
    if !cfg!(target_os = "linux") || !"G9".starts_with(which) {
        return Vec::new();
    }
    vec![
        row("a queued intent", 200, INTENTS.into(), intents(mdalp)),
        row("a transaction with one chunk", 2048, IDLE, chunks(mdalp, IDLE, 1)),
        row("a transaction with 1,024 ranges", 20 * 1024, WORST, chunks(mdalp, WORST, RANGES)),
        attack(mdalp),
    ]
}

/// What a receiver takes at most while strangers leave as many gaps as they can, round after round, and
/// somebody honest sends between them.
fn attack(mdalp: &Path) -> Row {
    const MIB: u64 = 1 << 20;
    let mut resident = Vec::new();
    let peak = rounds(mdalp, &mut resident);
    let resident: Vec<_> = resident.iter().map(|bytes| (bytes / MIB).to_string()).collect();
    Row {
        goal: "G9",
        what: format!("memory in {ROUNDS} rounds of {ATTACKERS} transactions with {RANGES} gaps"),
        asked: "≤ 64 MiB, honest chunks are acknowledged".to_owned(),
        met: peak.as_ref().is_ok_and(|&peak| peak <= 64 * MIB),
        measured: match peak {
            Ok(peak) => format!("peak {} MiB, after each {} MiB", peak / MIB, resident.join(", ")),
            Err(error) => error.to_string(),
        },
    }
}

fn rounds(mdalp: &Path, resident: &mut Vec<u64>) -> io::Result<u64> {
    let data = tempfile::tempdir()?;
    let path = data.path().join("data");
    let args = ["receiver", "--durability", "process", "--data", path.to_str().unwrap_or_default()];
    let (server, to) = Server::start(mdalp, &args)?;
    let (stranger, honest) = (UdpSocket::bind((SERVER, 0))?, UdpSocket::bind((SERVER, 0))?);
    honest.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut next = 0_u64;
    for round in 0..ROUNDS {
        if round > 0 {
            std::thread::sleep(REST);
        }
        for n in 0..ATTACKERS * RANGES {
            let (tid, seq) = ((1 << 62) + round * ATTACKERS + n / RANGES + 1, n % RANGES * 2);
            stranger.send_to(format!("Type:2;TID:{tid};SEQ:{seq};DATA:x").as_bytes(), to)?;
            if n % 64 == 63 {
                // Its ack says that all before it were looked at.
                let chunk = format!("Type:2;TID:{};SEQ:{next};DATA:honest", 1_u64 << 61);
                let mut tries = (0..10).map(|_| {
                    honest.send_to(chunk.as_bytes(), to)?;
                    honest.recv(&mut [0; 64])
                });
                if !tries.any(|tried| tried.is_ok()) {
                    return Err(io::Error::other(format!("honest chunk {next} has no ack")));
                }
                next += 1;
            }
        }
        resident.push(server.memory("VmRSS:")?);
    }
    server.memory("VmHWM:")
}

fn row(what: &str, most: u64, count: u64, grown: io::Result<u64>) -> Row {
    let each = grown.map(|bytes| bytes / count);
    Row {
        goal: "G9",
        what: format!("memory of {what}, mean of {count}"),
        asked: format!("≤ {most} bytes"),
        met: each.as_ref().is_ok_and(|each| (1..=most).contains(each)),
        measured: each.map_or_else(|error| error.to_string(), |each| format!("{each} bytes")),
    }
}

/// A server of the real program, killed when dropped.
struct Server(Child);

impl Server {
    fn start(mdalp: &Path, args: &[&str]) -> io::Result<(Self, SocketAddr)> {
        let listen = format!("{SERVER}:0");
        let mut command = Command::new(mdalp);
        command.args(args).args(["--listen", &listen]).stderr(Stdio::piped());
        let mut server = Self(command.spawn()?);
        let stderr = server.0.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut lines = BufReader::new(stderr).lines();
        for line in &mut lines {
            if let Some(addr) = line?.strip_prefix("listening: ") {
                let addr = addr.rsplit(' ').next().and_then(|addr| addr.parse().ok());
                std::thread::spawn(move || lines.for_each(drop));
                return Ok((server, addr.ok_or(io::ErrorKind::InvalidData)?));
            }
        }
        Err(io::Error::other("the server did not start"))
    }

    /// Resident memory in bytes: now (`VmRSS:`) or at most so far (`VmHWM:`).
    fn memory(&self, which: &str) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(which));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.ok_or(io::ErrorKind::InvalidData)? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Growth by intents of different networks that wait.
fn intents(mdalp: &Path) -> io::Result<u64> {
    let args = ["orchestrator", "--receiver", "A=127.77.0.2", "--concurrency", "1"];
    let (server, to) = Server::start(mdalp, &[&args[..], &["--queue", "60000"]].concat())?;
    // One gets the transaction.
    let first = UdpSocket::bind((SERVER, 0))?;
    first.send_to(b"Type:0;", to)?;
    first.recv(&mut [0; 2048])?;
    let before = server.memory("VmRSS:")?;
    for n in 0..INTENTS {
        let from = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + ((n + 256) << 8));
        UdpSocket::bind((from, 0))?.send_to(b"Type:0;", to)?;
        if n % 64 == 0 {
            // Nothing is answered that could be waited for.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    Ok(server.memory("VmRSS:")?.saturating_sub(before))
}

/// Growth by transactions with so many ranges each.
fn chunks(mdalp: &Path, transactions: u64, ranges: u64) -> io::Result<u64> {
    let data = tempfile::tempdir()?;
    let path = data.path().join("data");
    let args = ["receiver", "--durability", "process", "--data", path.to_str().unwrap_or_default()];
    let (server, to) = Server::start(mdalp, &args)?;
    let socket = UdpSocket::bind((SERVER, 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let send = |mut chunks: &mut dyn Iterator<Item = (u64, u64)>| -> io::Result<()> {
        loop {
            let mut sent = 0;
            for (tid, seq) in (&mut chunks).take(64) {
                let chunk = format!("Type:2;TID:{tid};SEQ:{seq};DATA:x");
                sent += socket.send_to(chunk.as_bytes(), to)?.min(1);
            }
            if sent == 0 {
                return Ok(());
            }
            for _ in 0..sent {
                socket.recv(&mut [0; 64])?;
            }
        }
    };
    send(&mut (0..64).map(|seq| (1 << 62, seq)))?;
    let before = server.memory("VmRSS:")?;
    let ids = (1..=transactions).map(|n| (1 << 62) + n * 0x9e37_79b9);
    send(&mut ids.flat_map(|tid| (0..ranges).map(move |n| (tid, 2 * n))))?;
    Ok(server.memory("VmRSS:")?.saturating_sub(before))
}
