//! Classic transfers to many receivers through real sockets, beside what stop-and-wait allows.
//!
//! Orchestrator and receivers are one socket on loopback, in a namespace where their port is free: it
//! acknowledges each chunk exactly one round trip after the kernel had it, from the address that the
//! chunk went to. Nothing is lost, and nothing is kept.

use crate::rows::median;
use crate::store::spent;
use crate::wan::{ip, unshared};
use mdalp::probe::Method;
use mdalp::{Mode, Options, Payload};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::wire::list::{Entry, MOST_ENTRIES};
use mdalp_proto::wire::{Capabilities, Message, PORT, decode, encode_ack, encode_assignment};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Chunks for each receiver.
const CHUNKS: usize = 40;
const ROUNDS: usize = 3;
/// 127.77.0.0: the orchestrator comes first, then the receivers.
const FIRST: u32 = 0x7f4d_0001;

/// Prints the table from a namespace of its own.
pub(crate) fn print() -> Result<(), Box<dyn Error>> {
    if !unshared()?.arg("crowd").status()?.success() {
        println!("\nNot measured: this takes root, `unshare` and `ip`.");
    }
    Ok(())
}

/// The process in that namespace.
pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    crate::pin(&[0])?;
    ip("link set lo up")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!(
        "\n| `mdalp send -m 1`, {CHUNKS} chunks for each classic receiver, acks after 50 ms | from the \
         assignment to the last ack, × {CHUNKS} × 50 ms | acks late by, µs | CPU µs/chunk |\n\
         |---|---|---|---|"
    );
    for receivers in [3, 64, 1000] {
        let rounds: Result<Vec<_>, _> = (0..ROUNDS).map(|_| send(&runtime, receivers)).collect();
        let rounds = rounds?;
        let middle = |of: fn(&[f64; 3]) -> f64| median(rounds.iter().map(of).collect());
        let (ratio, late, cost) = (middle(|r| r[0]), middle(|r| r[1]), middle(|r| r[2]));
        println!("| {receivers} receivers | {ratio:.3} | {late:.0} | {cost:.1} |");
    }
    Ok(())
}

/// One transfer: how long it took beside its bound, how late acks were by the receivers' fault in
/// microseconds, and the client's processor time for each chunk in microseconds.
fn send(runtime: &tokio::runtime::Runtime, receivers: usize) -> Result<[f64; 3], Box<dyn Error>> {
    let crowd = Crowd::start(receivers)?;
    let mut options = Options {
        mode: Mode::Latency,
        latencies: Some(vec![1.0; receivers]),
        probe: Method::None,
        ..Options::default()
    };
    options.intent.max_receivers = MOST_ENTRIES;
    let chunks = receivers * CHUNKS;
    let payload = Payload::from(vec![0x5a; chunks * 100]);
    let (host, never) = (addr(0).to_string(), std::future::pending());
    let start = spent();
    let report = runtime.block_on(mdalp::send(&host, PORT, &payload, &options, never, |_| ()));
    let cost = (spent() - start) * 1e6 / chunks as f64;
    let late = crowd.stop()?;
    if let Some(error) = report.error {
        return Err(error.into());
    }
    let again: u64 = report.receivers.iter().map(|receiver| receiver.retransmissions).sum();
    if again > 0 {
        eprintln!("{receivers} receivers: {again} chunks were sent again");
    }
    Ok([report.elapsed_s / (ROUND_TRIP.as_secs_f64() * CHUNKS as f64), late, cost])
}

fn addr(n: u32) -> IpAddr {
    Ipv4Addr::from(FIRST + n).into()
}

/// An ack, and when it leaves.
struct Due {
    at: Duration,
    from: IpAddr,
    to: SocketAddr,
    ack: Vec<u8>,
}

/// The orchestrator and its receivers, on a thread of their own.
struct Crowd {
    over: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<f64>>,
}

impl Crowd {
    fn start(receivers: usize) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread = thread::spawn(move || serve(&socket, receivers, &until));
        Ok(Self { over, thread })
    }

    /// How late its acks were on average, in microseconds.
    fn stop(self) -> io::Result<f64> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the receivers panicked")))
    }
}

fn serve(socket: &UdpSocket, receivers: usize, over: &AtomicBool) -> io::Result<f64> {
    crate::pin(&[crate::SERVER_CORE])?;
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    let state = UdpSocketState::new(socket.into())?;
    let assignment = assignment(receivers);
    let mut buffers = vec![[0; 2048]; BATCH_SIZE];
    let mut meta = [RecvMeta::default(); BATCH_SIZE];
    let mut acks = VecDeque::new();
    let (mut late, mut count) = (Duration::ZERO, 0_u32);
    while !over.load(Ordering::Relaxed) {
        let mut places: Vec<_> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        let received = match state.recv(socket.into(), &mut places, &mut meta) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            received => received?,
        };
        for (meta, place) in meta[..received].iter().zip(&buffers) {
            let Some(from) = meta.dst_ip else { continue };
            match decode(&place[..meta.len]) {
                Ok(Message::Intent { .. }) => answer(&state, socket, from, meta.addr, &assignment)?,
                Ok(Message::Data { tid, seq, .. }) => {
                    let at = meta.timestamp.unwrap_or_else(now) + ROUND_TRIP;
                    let mut ack = Vec::new();
                    encode_ack(&mut ack, tid, seq, None);
                    acks.push_back(Due { at, from, to: meta.addr, ack });
                }
                _ => {}
            }
        }
        while acks.front().is_some_and(|due: &Due| due.at <= now())
            && let Some(due) = acks.pop_front()
        {
            answer(&state, socket, due.from, due.to, &due.ack)?;
            late += now().saturating_sub(due.at);
            count += 1;
        }
        if received < BATCH_SIZE {
            let next = acks.front().map_or(ROUND_TRIP, |due| due.at.saturating_sub(now()));
            let mut fds = [PollFd::new(socket, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec::try_from(next).map_err(io::Error::other)?))?;
        }
    }
    Ok(late.as_secs_f64() * 1e6 / f64::from(count.max(1)))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn assignment(receivers: usize) -> Vec<u8> {
    let entry = |n| Entry { ip: addr(n), name: format!("R{n}"), caps: Capabilities::default() };
    let list: Vec<_> = (1..=receivers as u32).map(entry).collect();
    let mut datagram = Vec::new();
    encode_assignment(&mut datagram, TransactionId(3740), None, &list);
    datagram
}

fn answer(
    state: &UdpSocketState,
    socket: &UdpSocket,
    from: IpAddr,
    to: SocketAddr,
    datagram: &[u8],
) -> io::Result<()> {
    let transmit = Transmit {
        destination: to,
        ecn: None,
        contents: datagram,
        segment_size: None,
        src_ip: Some(from),
    };
    state.try_send(socket.into(), &transmit)
}
