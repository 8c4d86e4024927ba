//! Everything between the nodes: paths, datagrams on their way, and the queue of what comes next.
//!
//! Knows addresses and moments; what a datagram means is the nodes' business.

use crate::journal::{Journal, Node, Note};
use crate::setup::Setup;
use mdalp_netem::{Delivery, FarEnd, Path, Rng, derive_seed};
use mdalp_proto::time::Instant;
use mdalp_proto::wire::PORT;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

/// A datagram held in a [`Net`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Buffer(u32);

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Due {
    /// A datagram arrives.
    Arrive { from: SocketAddrV4, to: SocketAddrV4, bytes: Buffer },
    /// A receiver's ack, or an assignment, leaves after it was held back.
    Leave { host: u8, to: SocketAddrV4, bytes: Buffer },
    /// An intent has waited in front of the orchestrator.
    Queued { from: SocketAddrV4, bytes: Buffer },
    /// The disk has done what a server asked for, in its life number so-and-so.
    Committed { server: u8, life: u32 },
    /// Nobody listens there, says the host (ICMP).
    Refused { client: u8, at: SocketAddrV4 },
    /// An action of the setup.
    Act(u16),
    /// An attacker sends again.
    Attack(u16),
    /// A process that ended by itself is started again.
    Restart { server: u8, life: u32 },
}

/// The way between a client and a host.
#[derive(Debug)]
struct Way {
    up: Path,
    down: Path,
}

#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) journal: Journal,
    pub(crate) rng: Rng,
    queue: BinaryHeap<Reverse<(Instant, u64, Due)>>,
    serial: u64,
    buffers: Vec<Vec<u8>>,
    free: Vec<u32>,
    /// By client, then host: receivers in their order, the orchestrator last.
    ways: Vec<Way>,
    far_ends: Vec<FarEnd>,
    hosts: usize,
    /// Where each client is now.
    pub(crate) homes: Vec<SocketAddrV4>,
    pub(crate) datagrams: u64,
}

/// Since the world began.
fn age(now: Instant) -> Duration {
    now - Instant::ZERO
}

pub(crate) fn at(age: Duration) -> Instant {
    Instant::ZERO + age
}

pub(crate) fn receiver_addr(index: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, index as u8 + 1), PORT)
}

pub(crate) fn orchestrator_addr() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), PORT)
}

/// The machines speak of addresses of both families; this world is IPv4.
pub(crate) fn v4(addr: SocketAddr) -> SocketAddrV4 {
    match addr {
        SocketAddr::V4(addr) => addr,
        SocketAddr::V6(_) => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
    }
}

/// Type and number in a datagram's header, for the log; 255 if it has none.
pub(crate) fn glance(bytes: &[u8]) -> (u8, u64) {
    let kind = match bytes.strip_prefix(b"Type:") {
        Some([digit @ b'0'..=b'9', b';', ..]) => digit - b'0',
        _ => return (255, 0),
    };
    let head = &bytes[7..bytes.len().min(60)];
    let mut seq = 0;
    // Behind the transaction's number, if anywhere.
    let fields = head.splitn(2, |byte| *byte == b';').nth(1);
    if let Some(from) = fields.and_then(|fields| fields.strip_prefix(b"SEQ:")) {
        let digits = from.iter().take_while(|b| b.is_ascii_digit());
        seq = digits.fold(0u64, |n, &d| n.wrapping_mul(10).wrapping_add(u64::from(d - b'0')));
    }
    (kind, seq)
}

impl Net {
    pub(crate) fn new(setup: &Setup) -> Self {
        let mut ways = Vec::new();
        for client in 0..setup.clients.len() {
            let seed = derive_seed(setup.seed, 1000 + client as u64);
            for (index, end) in setup.receivers.iter().enumerate() {
                let (up, down, _) = end.parts(seed, index);
                ways.push(Way { up, down });
            }
            let (up, down) = setup.orchestrator.paths(seed);
            ways.push(Way { up, down });
        }
        let far_end = |(index, end): (usize, &mdalp_netem::scenario::ReceiverEnd)| {
            end.parts(derive_seed(setup.seed, 1000), index).2
        };
        let home = |client| SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, client as u8 + 1), 40_000);
        Self {
            now: Instant::ZERO,
            journal: Journal::new(setup.keep_lines),
            rng: Rng::new(derive_seed(setup.seed, 1)),
            queue: BinaryHeap::new(),
            serial: 0,
            buffers: Vec::new(),
            free: Vec::new(),
            ways,
            far_ends: setup.receivers.iter().enumerate().map(far_end).collect(),
            hosts: setup.receivers.len() + 1,
            homes: (0..setup.clients.len()).map(home).collect(),
            datagrams: 0,
        }
    }

    pub(crate) fn receivers(&self) -> usize {
        self.hosts - 1
    }

    pub(crate) fn note(&mut self, note: Note) {
        self.journal.note(self.now, note);
    }

    pub(crate) fn at(&mut self, when: Instant, due: Due) {
        self.serial += 1;
        self.queue.push(Reverse((when, self.serial, due)));
    }

    pub(crate) fn next_due(&self) -> Instant {
        self.queue.peek().map_or(Instant::NEVER, |Reverse((at, ..))| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<Due> {
        let Reverse((at, _, due)) = self.queue.pop()?;
        self.now = self.now.max(at);
        Some(due)
    }

    /// Keeps a copy of `bytes`.
    pub(crate) fn hold(&mut self, bytes: &[u8]) -> Buffer {
        let index = self.free.pop().unwrap_or_else(|| {
            self.buffers.push(Vec::with_capacity(256));
            self.buffers.len() as u32 - 1
        });
        let buffer = &mut self.buffers[index as usize];
        buffer.clear();
        buffer.extend_from_slice(bytes);
        Buffer(index)
    }

    pub(crate) fn bytes(&self, buffer: Buffer) -> &[u8] {
        &self.buffers[buffer.0 as usize]
    }

    /// Takes the bytes out for as long as they are needed; give them back with [`Self::put`].
    pub(crate) fn take(&mut self, buffer: Buffer) -> Vec<u8> {
        std::mem::take(&mut self.buffers[buffer.0 as usize])
    }

    /// Gives taken bytes back; they are not needed any more.
    pub(crate) fn put(&mut self, buffer: Buffer, bytes: Vec<u8>) {
        self.put_back(buffer, bytes);
        self.release(buffer);
    }

    /// Gives taken bytes back; they are needed later.
    pub(crate) fn put_back(&mut self, buffer: Buffer, bytes: Vec<u8>) {
        self.buffers[buffer.0 as usize] = bytes;
    }

    pub(crate) fn release(&mut self, buffer: Buffer) {
        self.free.push(buffer.0);
    }

    /// Which receiver (or, after them, the orchestrator) has this address.
    pub(crate) fn host(&self, addr: SocketAddrV4) -> Option<usize> {
        if addr == orchestrator_addr() {
            return Some(self.receivers());
        }
        (0..self.receivers()).find(|&index| receiver_addr(index) == addr)
    }

    pub(crate) fn host_addr(&self, host: usize) -> SocketAddrV4 {
        if host == self.receivers() { orchestrator_addr() } else { receiver_addr(host) }
    }

    pub(crate) fn client(&self, addr: SocketAddrV4) -> Option<usize> {
        self.homes.iter().position(|&home| home == addr)
    }

    pub(crate) fn node(&self, host: usize) -> Node {
        if host == self.receivers() { Node::Orchestrator } else { Node::Receiver(host as u8) }
    }

    /// A client sends to a host; to an address that is none, nothing arrives.
    pub(crate) fn send_up(&mut self, client: usize, to: SocketAddrV4, bytes: &[u8]) {
        self.datagrams += 1;
        let host = self.host(to);
        let (kind, seq) = glance(bytes);
        let node = host.map_or(Node::Attacker, |host| self.node(host));
        let (from, len) = (Node::Client(client as u8), bytes.len() as u16);
        self.note(Note::Send { from, to: node, kind, seq, len });
        let Some(host) = host else { return };
        let path = &mut self.ways[client * self.hosts + host].up;
        let deliveries = path.admit(age(self.now), bytes.len());
        for delivery in deliveries {
            self.arrive(delivery, self.homes[client], to, bytes);
        }
    }

    /// A host sends to an address; only clients can be reached.
    pub(crate) fn send_down(&mut self, host: usize, to: SocketAddrV4, bytes: &[u8]) {
        self.datagrams += 1;
        let client = self.client(to);
        let (kind, seq) = glance(bytes);
        let node = client.map_or(Node::Attacker, |client| Node::Client(client as u8));
        let (from, len) = (self.node(host), bytes.len() as u16);
        self.note(Note::Send { from, to: node, kind, seq, len });
        let Some(client) = client else { return };
        let path = &mut self.ways[client * self.hosts + host].down;
        let deliveries = path.admit(age(self.now), bytes.len());
        for delivery in deliveries {
            self.arrive(delivery, self.host_addr(host), to, bytes);
        }
    }

    fn arrive(&mut self, how: Delivery, from: SocketAddrV4, to: SocketAddrV4, bytes: &[u8]) {
        let buffer = self.hold(bytes);
        if let Some(mangle) = how.mangle {
            mangle.apply(&mut self.buffers[buffer.0 as usize]);
        }
        self.at(at(how.at), Due::Arrive { from, to, bytes: buffer });
    }

    /// A datagram from nowhere in particular, there at once.
    pub(crate) fn inject(&mut self, bytes: &[u8]) -> Buffer {
        self.datagrams += 1;
        self.hold(bytes)
    }

    /// When the ack of a receiver leaves it; never, if the scenario withholds it.
    pub(crate) fn ack_leaves(&mut self, receiver: usize, tid: u64, seq: u64) -> Option<Instant> {
        self.far_ends[receiver].admit(age(self.now), tid, seq).map(at)
    }

    /// Counts of what all paths did: sent, lost, duplicated, reordered, corrupted.
    pub(crate) fn path_counts(&self) -> [u64; 5] {
        let mut sum = [0; 5];
        for way in &self.ways {
            for path in [&way.up, &way.down] {
                let c = path.counters();
                let counts = [c.sent, c.lost(), c.duplicated, c.reordered, c.corrupted];
                sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
        }
        sum
    }

    /// Paths without faults from now on.
    pub(crate) fn heal(&mut self, setup: &Setup) {
        for (index, way) in self.ways.iter_mut().enumerate() {
            if let Some((up, down)) = setup.healthy.get(index % self.hosts) {
                way.up.set_config(up.clone());
                way.down.set_config(down.clone());
            } else {
                let clean = |delay| mdalp_netem::PathConfig { delay, ..Default::default() };
                way.up.set_config(clean(setup.orchestrator.up.delay));
                way.down.set_config(clean(setup.orchestrator.down.delay));
            }
        }
        for far_end in &mut self.far_ends {
            *far_end = FarEnd::new(mdalp_netem::FarEndConfig::default(), 0);
        }
    }
}
