//! The clients that a relay knows, each with its network. Bounded, and forgets who is silent.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use mdalp_netem::Scenario;
use mdalp_proto::wire::{Message, decode};

use super::{Network, Rebinding};

/// Clients at most; the one silent for longest makes room. Each has a socket, and many systems give a
/// process 1,024 files.
const MAX_CLIENTS: usize = 512;
/// Datagrams under way for one client at most: beyond, the network is full and loses them.
const MAX_IN_FLIGHT: usize = 4096;
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
    /// How often it was given another address.
    rebound: u32,
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
    rebinding: Option<Rebinding>,
    /// Which version of IP the servers listen on; the client's may be the other.
    servers_on_v6: bool,
    /// Transfers begun so far.
    begun: u64,
    known: BTreeMap<SocketAddr, Client>,
}

impl Clients {
    pub(super) const fn new(
        scenario: Scenario,
        seed: u64,
        rebinding: Option<Rebinding>,
        servers_on_v6: bool,
    ) -> Self {
        Self { scenario, seed, rebinding, servers_on_v6, begun: 0, known: BTreeMap::new() }
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
        let begins = matches!(message, Ok(Message::Intent { .. }));
        if self.known.get(&addr).is_none_or(|known| begins && known.has_data) {
            let client = self.begin(now).ok()?;
            self.known.insert(addr, client);
            self.make_room(addr);
        }
        let client = self.known.get_mut(&addr)?;
        client.last = now;
        client.has_data |= matches!(message, Ok(Message::Data { .. }));
        if let Some(rebinding) = self.rebinding
            && client.age(now) >= rebinding.first + rebinding.every * client.rebound
        {
            let host = if rebinding.addresses { client.rebound as u8 % 254 + 2 } else { 1 };
            // If there is none to be had, it keeps the one it has.
            if let Ok(back) = open(self.servers_on_v6, host) {
                client.back = back;
            }
            client.rebound += 1;
        }
        (client.network.in_flight() < MAX_IN_FLIGHT).then_some(client)
    }

    fn begin(&mut self, now: Duration) -> io::Result<Client> {
        let back = open(self.servers_on_v6, 1)?;
        let number = self.begun;
        self.begun += 1;
        let network = Network::new(&self.scenario, self.seed.wrapping_add(number));
        Ok(Client { back, network, number, began: now, last: now, has_data: false, rebound: 0 })
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

/// A socket towards the servers, at 127.0.0.`host` where they are on IPv4.
fn open(v6: bool, host: u8) -> io::Result<UdpSocket> {
    let any: SocketAddr = if v6 {
        (Ipv6Addr::LOCALHOST, 0).into()
    } else {
        (Ipv4Addr::new(127, 0, 0, host), 0).into()
    };
    let back = UdpSocket::bind(any)?;
    back.set_nonblocking(true)?;
    // Best effort: a smaller buffer only loses more of a burst.
    let _ = socket2::SockRef::from(&back).set_recv_buffer_size(mdalp_server::bind::RECEIVE_BUFFER);
    Ok(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn clients() -> Clients {
        let scenario = Scenario::parse("[[receiver]]\nname = 'a'\nrtt_ms = 9\n", "test");
        Clients::new(scenario.expect("a good scenario"), 1, None, false)
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn whoever_is_silent_for_long_is_forgotten() {
        let mut clients = clients();
        for (at, port) in [(SECOND, 1), (2 * SECOND, 2)] {
            assert!(clients.sending(at, addr(port), b"Type:0;").is_some());
        }
        clients.forget_idle(IDLE + SECOND);
        assert_eq!(clients.known.keys().map(SocketAddr::port).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn the_number_of_clients_is_bounded_and_the_one_silent_for_longest_goes() {
        let mut clients = clients();
        let ports = 1..=MAX_CLIENTS as u16 + 1;
        for port in ports {
            assert!(clients.sending(SECOND * port.into(), addr(port), b"x").is_some());
            clients.sending(SECOND * port.into(), addr(1), b"x");
        }
        assert_eq!(clients.known.len(), MAX_CLIENTS);
        assert!(clients.known.contains_key(&addr(1)) && !clients.known.contains_key(&addr(2)));
    }

    #[test]
    fn an_intent_after_data_is_another_transfer_and_one_before_it_is_not() {
        let mut clients = clients();
        let number = |clients: &mut Clients, bytes: &[u8]| {
            clients.sending(SECOND, addr(1), bytes).expect("known").number
        };
        assert_eq!(number(&mut clients, b"Type:0;"), 0);
        assert_eq!(number(&mut clients, b"Type:0;"), 0);
        assert_eq!(number(&mut clients, b"Type:2;TID:1;SEQ:0;DATA:x"), 0);
        assert_eq!(number(&mut clients, b"Type:0;"), 1);
    }

    #[test]
    fn f23_a_client_gets_another_address_at_each_rebinding() {
        let mut clients = clients();
        let rebinding = Rebinding { first: SECOND, every: 5 * SECOND, addresses: true };
        clients.rebinding = Some(rebinding);
        let mut back = |seconds: u32| {
            let client = clients.sending(seconds * SECOND, addr(1), b"x").expect("known");
            client.back.local_addr().expect("bound")
        };
        let seen = [0, 0, 1, 5, 6, 11].map(&mut back);
        assert_eq!((seen[0], seen[2]), (seen[1], seen[3]));
        assert!(seen[0] != seen[2] && seen[2] != seen[4] && seen[4] != seen[5]);
    }

    #[test]
    fn a_network_that_is_full_takes_no_more() {
        use crate::network::Place;
        let mut clients = clients();
        for _ in 0..MAX_IN_FLIGHT {
            let client = clients.sending(SECOND, addr(1), b"x").expect("there is room");
            client.network.send_up(Duration::ZERO, Place::Receiver(0), vec![]);
        }
        assert!(clients.sending(SECOND, addr(1), b"x").is_none());
        assert!(clients.sending(SECOND, addr(2), b"x").is_some(), "another client's is not");
    }
}
