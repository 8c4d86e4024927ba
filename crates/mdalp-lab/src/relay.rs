//! The emulated network between real sockets.
//!
//! One thread, because a timer of the runtime is a millisecond coarse. A client is an address and a
//! port; each has a socket of its own towards the servers, so that they can tell clients apart, and
//! a [`Network`] of its own, so that each transfer meets the scenario from its beginning. Knows
//! nothing of what the servers do.

mod clients;
mod wait;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use mdalp_netem::Scenario;

use crate::network::{Direction, Fate, Network, Place};
use clients::Clients;

/// How long the thread sleeps at most before it looks whether it shall end.
const LOOK_UP: Duration = Duration::from_millis(20);
/// Datagrams read from one socket before the next has its turn.
const BURST: usize = 256;
/// Large enough for any datagram.
const MAX_DATAGRAM: usize = 65_536;

/// Something that was seen at the client's side of the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen<'a> {
    /// Since the relay began.
    pub at: Duration,
    /// Number of the transfer: how many clients, or intents of known clients, came before.
    pub transfer: u64,
    /// The client.
    pub client: SocketAddr,
    /// The address that the client knows the server by.
    pub front: SocketAddr,
    /// The server.
    pub place: Place,
    /// Which way the datagram goes.
    pub direction: Direction,
    /// The datagram, at the client's side.
    pub bytes: &'a [u8],
    /// Up: what the network will do to it. Down: lost and never seen by the client, or damaged.
    pub fate: Fate,
}

/// Is shown everything, in order. Runs in the relay's thread: it must be quick.
pub type Observer = Box<dyn FnMut(&Seen<'_>) + Send>;

/// What a relay stands between.
#[derive(Debug)]
pub struct RelayConfig {
    /// The sockets that clients send to: the orchestrator's, then each receiver's.
    pub fronts: Vec<UdpSocket>,
    /// The servers behind, in the same order.
    pub servers: Vec<SocketAddr>,
    /// The network.
    pub scenario: Scenario,
    /// The first transfer draws its chance from this seed, the n-th from `seed + n − 1`.
    pub seed: u64,
    /// Whether servers see a client's address change.
    pub rebinding: Option<Rebinding>,
}

/// A NAT that forgets a client now and then and gives it another port (F23). Answers to the old one
/// are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rebinding {
    /// After the client's first datagram.
    pub first: Duration,
    /// Between two of them.
    pub every: Duration,
    /// Whether it is another IP address each time, too; on IPv4 alone.
    pub addresses: bool,
}

/// A running relay. Ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    began: SystemTime,
}

impl Relay {
    /// Starts the relay's thread.
    ///
    /// # Errors
    /// If the sockets cannot be made non-blocking, or the thread cannot be started.
    pub fn start(config: RelayConfig, observers: Vec<Observer>) -> io::Result<Self> {
        let mut fronts = Vec::new();
        for socket in config.fronts {
            socket.set_nonblocking(true)?;
            let addr = socket.local_addr()?;
            fronts.push(Front { socket, addr });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let servers_on_v6 = config.servers.iter().any(SocketAddr::is_ipv6);
        let mut worker = Worker {
            fronts,
            servers: config.servers,
            clients: Clients::new(config.scenario, config.seed, config.rebinding, servers_on_v6),
            observers,
            began: Instant::now(),
            buffer: vec![0; MAX_DATAGRAM],
        };
        let began = SystemTime::now();
        let told = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("mdalp-relay".to_owned()).spawn(move || {
                while !told.load(Ordering::Relaxed) {
                    worker.turn();
                }
            })?;
        Ok(Self { stop, thread: Some(thread), began })
    }

    /// The time of day at which [`Seen::at`] begins.
    pub const fn began(&self) -> SystemTime {
        self.began
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It can only have failed if an observer did, and then there is nothing to add.
            let _ = thread.join();
        }
    }
}

struct Front {
    socket: UdpSocket,
    addr: SocketAddr,
}

struct Worker {
    fronts: Vec<Front>,
    servers: Vec<SocketAddr>,
    clients: Clients,
    observers: Vec<Observer>,
    began: Instant,
    buffer: Vec<u8>,
}

impl Worker {
    /// Waits for whatever comes first, then handles all that has come.
    fn turn(&mut self) {
        let now = self.began.elapsed();
        let due = self.clients.next_due().map(|due| due.saturating_sub(now));
        let sockets = self.fronts.iter().map(|front| &front.socket);
        let sockets: Vec<_> = sockets.chain(self.clients.sockets()).collect();
        wait::readable(&sockets, due.unwrap_or(LOOK_UP).min(LOOK_UP));
        self.read_fronts();
        self.read_servers();
        self.deliver();
        self.clients.forget_idle(self.began.elapsed());
    }

    /// What clients have sent.
    fn read_fronts(&mut self) {
        for (index, front) in self.fronts.iter().enumerate() {
            for _ in 0..BURST {
                let Ok((len, from)) = front.socket.recv_from(&mut self.buffer) else { break };
                let bytes = self.buffer.get(..len).unwrap_or_default();
                if self.fronts.iter().any(|front| front.addr == from) {
                    // A client on the wildcard address and our port: answers would come to us.
                    continue;
                }
                let now = self.began.elapsed();
                let Some(client) = self.clients.sending(now, from, bytes) else { continue };
                let place = Place::from_index(index);
                let since = client.age(now);
                let fate = client.network.send_up(since, place, bytes.to_vec());
                let seen = Seen {
                    at: now,
                    transfer: client.number,
                    client: from,
                    front: front.addr,
                    place,
                    direction: Direction::Up,
                    bytes,
                    fate,
                };
                self.observers.iter_mut().for_each(|observer| observer(&seen));
            }
        }
    }

    /// What servers have answered.
    fn read_servers(&mut self) {
        for (&addr, client) in self.clients.iter_mut() {
            for _ in 0..BURST {
                let Ok((len, from)) = client.back.recv_from(&mut self.buffer) else { break };
                let server = self.servers.iter().position(|server| *server == from);
                let Some(index) = server else { continue };
                let Some(front) = self.fronts.get(index) else { continue };
                let bytes = self.buffer.get(..len).unwrap_or_default();
                let now = self.began.elapsed();
                let place = Place::from_index(index);
                let since = client.age(now);
                let fate = client.network.send_down(since, place, bytes.to_vec());
                if fate.lost.is_some() {
                    let seen = Seen {
                        at: now,
                        transfer: client.number,
                        client: addr,
                        front: front.addr,
                        place,
                        direction: Direction::Down,
                        bytes,
                        fate,
                    };
                    self.observers.iter_mut().for_each(|observer| observer(&seen));
                }
            }
        }
    }

    /// What has come through the network.
    fn deliver(&mut self) {
        for (&addr, client) in self.clients.iter_mut() {
            loop {
                let now = self.began.elapsed();
                let since = client.age(now);
                let Some(output) = client.network.poll(since) else { break };
                let index = output.place.index();
                let (Some(front), Some(server)) = (self.fronts.get(index), self.servers.get(index))
                else {
                    continue;
                };
                if output.direction == Direction::Up {
                    // A datagram that cannot be sent is a lost one, as on any network.
                    let _ = client.back.send_to(&output.bytes, server);
                    continue;
                }
                let seen = Seen {
                    at: now,
                    transfer: client.number,
                    client: addr,
                    front: front.addr,
                    place: output.place,
                    direction: Direction::Down,
                    bytes: &output.bytes,
                    fate: Fate { lost: output.lost, damaged: output.damaged, ..Fate::default() },
                };
                self.observers.iter_mut().for_each(|observer| observer(&seen));
                // Last: who gets it may end at once, and ask what was seen.
                if output.lost.is_none() {
                    let _ = front.socket.send_to(&output.bytes, addr);
                }
            }
        }
    }
}
