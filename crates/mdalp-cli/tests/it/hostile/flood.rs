//! A hundred workers that send junk while an honest client sends a file (F32, H43, G9).
//!
//! `MDALP_FLOOD_BYTES=3000000 MDALP_FLOOD_RATE=50000 cargo test -p mdalp-cli --release flood --
//! --nocapture` prints figures worth reading; the default is short and asserts no time.

use super::{assert_small, choices, peak_memory, setting};
use crate::support::{Net, Watched, json_lines, payload, run, text};
use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Workers in four threads, for a machine has few cores.
const THREADS: u64 = 4;
const WORKERS: u64 = 100;

struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    /// `rate` datagrams a second to all targets together.
    fn start(net: &Net, targets: &[SocketAddr], rate: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, answers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut threads = Vec::new();
        for thread in 0..THREADS {
            let sockets: Vec<_> = (0..WORKERS / THREADS)
                .map(|n| {
                    let ip = net.ip((100 + thread * WORKERS / THREADS + n) as u8);
                    let socket = UdpSocket::bind((ip, 0)).unwrap();
                    socket.set_nonblocking(true).unwrap();
                    socket
                })
                .collect();
            let (targets, stop) = (targets.to_vec(), Arc::clone(&stop));
            let (sent, answers) = (Arc::clone(&sent), Arc::clone(&answers));
            threads.push(thread::spawn(move || {
                let mut choose = choices(thread);
                let mut due = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    for socket in &sockets {
                        let count = burst(socket, &targets, &mut choose);
                        // The attackers' speed; nobody waits for it.
                        due += Duration::from_secs(count * THREADS) / rate as u32;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        sent.fetch_add(count, Ordering::Relaxed);
                        while socket.recv_from(&mut [0; 64]).is_ok() {
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }));
        }
        Self { stop, sent, answers, threads }
    }

    /// How many datagrams were sent, and how many were answered.
    fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        (self.sent.load(Ordering::Relaxed), self.answers.load(Ordering::Relaxed))
    }
}

/// 1 to 99 datagrams to one target: noise, or what begins like a message. None is one.
fn burst(socket: &UdpSocket, targets: &[SocketAddr], choose: &mut impl FnMut() -> u64) -> u64 {
    let target = targets[choose() as usize % targets.len()];
    let count = 1 + choose() % 99;
    for _ in 0..count {
        let mut bytes = vec![0; (choose() % 1500) as usize];
        bytes.iter_mut().step_by(7).for_each(|byte| *byte = choose() as u8);
        let header: &[u8] = match choose() % 4 {
            0 => b"Type:2;TID:;",
            1 => b"Type:3;TID:9;SEQ:",
            2 => b"Type:9;",
            _ => b"",
        };
        let len = header.len().min(bytes.len());
        bytes[..len].copy_from_slice(&header[..len]);
        let _ = socket.send_to(&bytes, target);
    }
    count
}

/// The ports of a process's UDP sockets.
fn ports_of(pid: u32) -> Vec<u16> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let inodes: BTreeSet<String> = links
        .filter_map(|link| {
            fs::read_link(link.ok()?.path()).ok()?.into_os_string().into_string().ok()
        })
        .filter_map(|to| Some(to.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/udp")).unwrap();
    let port = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let port = fields.get(1)?.split(':').nth(1)?;
        inodes.contains(*fields.get(9)?).then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().filter_map(port).collect()
}

#[test]
fn h43_f32_an_honest_client_completes_in_a_flood_and_memory_stays_small() {
    let net = Net::new();
    let server = net.serve(&["--classic"]);
    let bytes = payload(setting("MDALP_FLOOD_BYTES", 60_000) as usize);
    let file = net.file("payload", &bytes);
    let options = ["--latencies", "1,1,1"];
    let quiet = run(net.client(&file, &options).arg("--json"));
    assert!(quiet.status.success(), "{}", text(&quiet.stderr));
    let alone = json_lines(&quiet.stdout).pop().unwrap()["elapsed_s"].as_f64().unwrap();

    let mut targets: Vec<SocketAddr> =
        (1..5).map(|host| format!("{}:4650", net.ip(host)).parse().unwrap()).collect();
    let mut client = Watched::start(&mut net.client(&file, &options));
    client.wait_for(|event| event["type"] == "plan");
    let ports = ports_of(client.child.id());
    assert!(!ports.is_empty(), "the client has a socket");
    targets.extend(ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))));
    let flood = Flood::start(&net, &targets, setting("MDALP_FLOOD_RATE", 20_000));
    // Its memory is known as long as it lives.
    client.wait_for(|event| event["type"] == "progress" && event["bytes"].as_u64() > Some(0));
    let client_peak = peak_memory(client.child.id());
    let (status, events, stderr) = client.finish();
    let (sent, answers) = flood.stop();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let end = events.last().unwrap();
    let flooded = end["elapsed_s"].as_f64().unwrap();
    println!(
        "{sent} junk datagrams, {answers} answers; honest goodput {:.0} % ({alone:.2} s alone, \
         {flooded:.2} s in the flood); peak memory: servers {} KiB, client {client_peak} KiB",
        100.0 * alone / flooded,
        peak_memory(server.id()),
    );
    assert_eq!(answers, 0, "junk is not answered");
    assert_small(server.id());
    assert!(client_peak <= 64 << 10);
    assert_eq!(net.get(end["tid"].as_u64().unwrap()), bytes);
}
