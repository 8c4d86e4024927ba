//! The clients that a relay knows, each with its network. Bounded, and forgets who is silent.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use mdalp_netem::Scenario;
use mdalp_proto::wire::{Message, decode};

use super::Network;

/// Clients at most; the one silent for longest makes room.
const MAX_CLIENTS: usize = 1024;
/// Datagrams under way for one client at most: beyond, the network is full and loses them.
const MAX_IN_FLIGHT: usize = 16_384;
/// A client silent for so long is forgotten: longer than any transfer waits without an answer.
const IDLE: Duration = Duration::from_secs(600);

/// One client.
pub(super) struct Client {
    /// Its socket towards the servers.
    pub(super) back: UdpSocket,
    pub(super) network: Network,
    /// Its transfer's number, see [`super::Seen::transfer`].
    pub(super) number: u64,
    began: Duration,
    last: Duration,
    has_data: bool,
}

impl Client {
    /// How long its network has existed.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.began)
    }
}

pub(super) struct Clients {
    scenario: Scenario,
    seed: u64,
    /// Which version of IP the servers listen on; the client's may be the other.
    servers_on_v6: bool,
    /// Transfers begun so far.
    begun: u64,
    known: BTreeMap<SocketAddr, Client>,
}

impl Clients {
    pub(super) const fn new(scenario: Scenario, seed: u64, servers_on_v6: bool) -> Self {
        Self { scenario, seed, servers_on_v6, begun: 0, known: BTreeMap::new() }
    }

    /// The client at `addr`, which sends `bytes` now; `None` if its datagram must be dropped.
    ///
    /// An intent after data begins another transfer: a network from the scenario's beginning, and
    /// for the servers another client, so that they do not repeat the old assignment.
    pub(super) fn sending(
        &mut self,
        now: Duration,
        addr: SocketAddr,
        bytes: &[u8],
    ) -> Option<&mut Client> {
        let message = decode(bytes);
        let begins = matches!(message, Ok(Message::Intent));
        if self.known.get(&addr).is_none_or(|known| begins && known.has_data) {
            let client = self.begin(now).ok()?;
            self.known.insert(addr, client);
            self.make_room(addr);
        }
        let client = self.known.get_mut(&addr)?;
        client.last = now;
        client.has_data |= matches!(message, Ok(Message::Data { .. }));
        (client.network.in_flight() < MAX_IN_FLIGHT).then_some(client)
    }

    fn begin(&mut self, now: Duration) -> io::Result<Client> {
        let any: SocketAddr = if self.servers_on_v6 {
            (Ipv6Addr::LOCALHOST, 0).into()
        } else {
            (Ipv4Addr::LOCALHOST, 0).into()
        };
        let back = UdpSocket::bind(any)?;
        back.set_nonblocking(true)?;
        // Best effort: a smaller buffer only loses more of a burst.
        let _ =
            socket2::SockRef::from(&back).set_recv_buffer_size(mdalp_server::bind::RECEIVE_BUFFER);
        let number = self.begun;
        self.begun += 1;
        let network = Network::new(&self.scenario, self.seed.wrapping_add(number));
        Ok(Client { back, network, number, began: now, last: now, has_data: false })
    }

    /// Forgets the one silent for longest, other than `newest`, if there are too many.
    fn make_room(&mut self, newest: SocketAddr) {
        if self.known.len() > MAX_CLIENTS {
            let others = self.known.iter().filter(|(addr, _)| **addr != newest);
            let oldest = others.min_by_key(|(_, client)| client.last).map(|(addr, _)| *addr);
            oldest.and_then(|addr| self.known.remove(&addr));
        }
    }

    pub(super) fn forget_idle(&mut self, now: Duration) {
        self.known.retain(|_, client| now.saturating_sub(client.last) < IDLE);
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.known.values().map(|client| &client.back)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&SocketAddr, &mut Client)> {
        self.known.iter_mut()
    }

    /// When something is due next, on the relay's clock.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let due = |client: &Client| Some(client.began.saturating_add(client.network.next_due()?));
        self.known.values().filter_map(due).min()
    }
}
