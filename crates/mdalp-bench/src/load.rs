//! The load: chunks of many transactions, a fixed number in flight, each ack answered by the next
//! chunk of its transaction.
//!
//! What is not acknowledged for [`PATIENCE`] counts as lost, and other chunks take its place.

use crate::socket::{Fast, wait};
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::wire::{Message, decode, encode_data_header};
use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(3);
/// Classic chunks: with the numbers used here a datagram has 131 bytes or one more or less.
const DATA: [u8; 100] = [0x5a; 100];
const FIRST_SEQ: u64 = 1000;
/// Latencies from here on count as this.
const SLOWEST: usize = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) sockets: usize,
    pub(crate) transactions: usize,
    pub(crate) in_flight: usize,
    /// Whether the chunks leave in large pieces (GSO).
    pub(crate) offload: bool,
    /// Distinguishes the transactions of one run from those of another, for one server.
    pub(crate) first_tid: u64,
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) acks: u64,
    pub(crate) lost: u64,
    pub(crate) seconds: f64,
    /// Ack latencies, by microsecond.
    histogram: Vec<u32>,
}

impl Outcome {
    /// The latency in microseconds that this share of all acks does not exceed.
    pub(crate) fn percentile(&self, percent: f64) -> usize {
        let mut left = (self.acks as f64 * percent / 100.0) as u64;
        for (at, &count) in self.histogram.iter().enumerate() {
            if left < u64::from(count) {
                return at;
            }
            left -= u64::from(count);
        }
        SLOWEST
    }
}

/// One socket with its share of the transactions and of what is in flight.
struct Client {
    load: Load,
    to: SocketAddr,
    /// By transaction: the next chunk's number.
    next: Vec<u64>,
    base: u64,
    /// When each chunk in flight was sent, by its number modulo the length.
    sent: Vec<Vec<Instant>>,
    in_flight: usize,
    heard: Instant,
}

impl Client {
    fn chunk(&mut self, at: usize, now: Instant, out: &mut Fast) {
        let seq = self.next[at];
        self.next[at] += 1;
        let places = self.sent[at].len() as u64;
        self.sent[at][(seq % places) as usize] = now;
        self.in_flight += 1;
        out.push(self.to, |bytes| {
            let tid = TransactionId(self.base + at as u64);
            encode_data_header(bytes, tid, SequenceNumber(seq), None);
            bytes.extend_from_slice(&DATA);
        });
    }

    fn fill(&mut self, now: Instant, out: &mut Fast) {
        let wanted = self.load.in_flight / self.load.sockets;
        let mut at = 0;
        while self.in_flight < wanted {
            self.chunk(at % self.next.len(), now, out);
            at += 1;
        }
        self.heard = now;
    }
}

/// So many chunks of each transaction, from one address, until all are acknowledged.
pub(crate) fn run_once(load: Load, to: SocketAddr, chunks: u64) -> io::Result<()> {
    let mut socket = Fast::new(UdpSocket::bind("127.0.0.1:0")?, load.offload)?;
    let tids = (0..load.transactions as u64).map(|at| load.first_tid + at);
    let mut left: BTreeSet<_> =
        (0..chunks).flat_map(|seq| tids.clone().map(move |tid| (seq, tid))).collect();
    while !left.is_empty() {
        for &(seq, tid) in left.iter().take(256) {
            socket.push(to, |bytes| {
                encode_data_header(bytes, TransactionId(tid), SequenceNumber(seq), None);
                bytes.extend_from_slice(&DATA);
            });
        }
        socket.flush()?;
        while wait(std::slice::from_ref(&socket), Duration::from_millis(100))? {
            socket.receive(|_, datagram, _| {
                if let Ok(Message::Ack { tid, seq, .. }) = decode(datagram) {
                    left.remove(&(seq.0, tid.0));
                }
            })?;
        }
    }
    Ok(())
}

/// Sends to `to` for `time`. `started` is called after `warm_up`, and only from then on acks count.
pub(crate) fn run(
    load: Load,
    to: SocketAddr,
    warm_up: Duration,
    time: Duration,
    mut started: impl FnMut(),
) -> io::Result<Outcome> {
    let mut outcome = Outcome { histogram: vec![0; SLOWEST + 1], ..Outcome::default() };
    let (mut sockets, mut clients) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    let each = load.transactions / load.sockets;
    for at in 0..load.sockets {
        sockets.push(Fast::new(UdpSocket::bind("127.0.0.1:0")?, load.offload)?);
        let mut client = Client {
            load,
            to,
            next: vec![FIRST_SEQ; each],
            base: load.first_tid + (at * each) as u64,
            sent: vec![vec![begin; (2 * load.in_flight / load.transactions).max(64)]; each],
            in_flight: 0,
            heard: begin,
        };
        client.fill(begin, &mut sockets[at]);
        sockets[at].flush()?;
        clients.push(client);
    }
    let mut start = None;
    let mut due = Vec::new();
    loop {
        let mut count = 0;
        for (socket, client) in sockets.iter_mut().zip(&mut clients) {
            let mut now = None;
            count += socket.receive(|_, datagram, _| {
                let now = *now.get_or_insert_with(Instant::now);
                let Ok(Message::Ack { tid, seq, .. }) = decode(datagram) else { return };
                let at = (tid.0 - client.base) as usize;
                let sent = &client.sent[at];
                let took = now - sent[(seq.0 % sent.len() as u64) as usize];
                if start.is_some() {
                    outcome.histogram[(took.as_micros() as usize).min(SLOWEST)] += 1;
                    outcome.acks += 1;
                }
                // One that was given up is in nobody's count any more.
                if client.in_flight > 0 {
                    client.in_flight -= 1;
                    due.push(at);
                }
            })?;
            let Some(now) = now else { continue };
            client.heard = now;
            for at in due.drain(..) {
                client.chunk(at, now, socket);
            }
            socket.flush()?;
        }
        let now = Instant::now();
        if start.is_none() && now - begin >= warm_up {
            start = Some(now);
            started();
        }
        if let Some(start) = start
            && now - start >= time
        {
            outcome.seconds = (now - start).as_secs_f64();
            return Ok(outcome);
        }
        if count == 0 && !wait(&sockets, Duration::from_millis(100))? {
            for (socket, client) in sockets.iter_mut().zip(&mut clients) {
                if now - client.heard >= PATIENCE {
                    outcome.lost += client.in_flight as u64;
                    client.in_flight = 0;
                    client.fill(now, socket);
                    socket.flush()?;
                }
            }
        }
    }
}
