//! The world: nodes, network, one clock. Steps from one event to the next until all is over.
//!
//! Does not decide what happens in it ([`crate::setup`]) or what a run means ([`crate::run`]).

mod afterwards;
mod attack;
mod checks;
mod churn;
mod client;
mod keeping;
mod kept;
mod lane;
mod looking;
mod net;
mod original;
mod outcome;
mod process;
mod server;
mod store;
mod unsure;
mod watched;

pub use checks::Violation;
pub use client::End;

use crate::journal::{Node, Note};
use crate::setup::{Action, Setup, Who};
use attack::Attacker;
use checks::Truth;
use client::Client;
use mdalp_proto::time::Instant;
use net::{Due, Net, orchestrator_addr};
use server::Server;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

/// What a run counted, over all its nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Steps of the world.
    pub steps: u64,
    /// Entries in the event log.
    pub events: u64,
    /// Datagrams sent by anybody.
    pub datagrams: u64,
    /// Datagrams sent into paths.
    pub path_sent: u64,
    /// Datagrams that paths lost.
    pub lost: u64,
    /// Datagrams that paths doubled.
    pub duplicated: u64,
    /// Datagrams that overtook others.
    pub reordered: u64,
    /// Datagrams that were damaged.
    pub corrupted: u64,
    /// Times that a server process went down.
    pub crashes: u64,
    /// Datagrams that found a socket buffer full.
    pub overflows: u64,
    /// Bits that flipped on disks.
    pub rotted: u64,
    /// Chunks that scrubbing struck out.
    pub struck: u64,
    /// Transactions that were let go.
    pub released: u64,
    /// Chunks that were refused because a store was crowded.
    pub crowded: u64,
    /// Sends that went on by their journal.
    pub resumed: u64,
    /// Sends that were begun again with small chunks.
    pub fallbacks: u64,
}

/// A world in motion.
pub struct World {
    setup: Setup,
    net: Net,
    truth: Truth,
    clients: Vec<Client>,
    servers: Vec<Server>,
    attackers: Vec<Attacker>,
    healed_at: Option<Instant>,
    steps: u64,
    crashes: u64,
    overflows: u64,
    rotted: u64,
    /// All transfers are over.
    is_afterwards: bool,
    /// Steps after which a run counts as a live-lock (25).
    max_steps: u64,
}

impl World {
    /// A world before its first event.
    pub fn new(setup: Setup) -> Self {
        let mut net = Net::new(&setup);
        let mut truth = Truth::new(&setup);
        let processes = if setup.servers.together { 1 } else { setup.receivers.len() + 1 };
        let mut servers: Vec<_> = (0..processes).map(|n| Server::new(&setup, n)).collect();
        for server in &mut servers {
            server.start(&mut net, &mut truth, &setup);
        }
        for (at, (when, _)) in setup.actions.iter().enumerate() {
            net.at(*when, Due::Act(at as u16));
        }
        let clients = (0..setup.clients.len()).map(|n| Client::new(&setup, n)).collect();
        Self {
            net,
            truth,
            clients,
            servers,
            attackers: Vec::new(),
            healed_at: None,
            steps: 0,
            crashes: 0,
            overflows: 0,
            rotted: 0,
            is_afterwards: false,
            max_steps: u64::MAX,
            setup,
        }
    }

    /// Bounds the number of steps (25).
    pub fn limit_steps(&mut self, most: u64) {
        self.max_steps = most;
    }

    /// Runs to the end: all clients have ended and the world has lingered, or the horizon, or a
    /// violation.
    pub fn run(&mut self) {
        while self.step() {}
        for client in &mut self.clients {
            client.finish(self.net.now, End::Running);
        }
    }

    /// Does what comes next; `false` at the end.
    pub fn step(&mut self) -> bool {
        if self.truth.violation.is_some() {
            return false;
        }
        let (mut due_at, mut node) = (self.net.next_due(), None);
        let clients = self.clients.iter().map(|client| client.process.timer());
        for (at, timer) in clients.enumerate() {
            if timer < due_at {
                (due_at, node) = (timer, Some(Who::Client(at)));
            }
        }
        for (at, server) in self.servers.iter().enumerate() {
            if server.process.timer() < due_at {
                (due_at, node) = (server.process.timer(), Some(Who::Server(at)));
            }
        }
        let last = |last: Option<Instant>, c: &Client| Some(last?.max(c.ended_at?));
        let over = self.clients.iter().fold(Some(Instant::ZERO), last);
        let end = over.map(|at| at + self.setup.linger);
        let end = end.unwrap_or(self.setup.horizon).min(self.setup.horizon);
        if due_at > end || due_at == Instant::NEVER {
            self.net.now = self.net.now.max(end.min(due_at));
            return false;
        }
        self.steps += 1;
        self.net.now = self.net.now.max(due_at);
        self.truth.now = self.net.now;
        let steps = self.steps;
        self.truth.check(steps <= self.max_steps, 25, || format!("{steps} steps"));
        let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
        match node {
            Some(Who::Client(at)) => {
                self.clients[at].turn(net, truth, setup, &mut std::iter::empty());
            }
            Some(Who::Server(at)) => self.servers[at].wake(net, truth, setup),
            None => {
                if let Some(due) = net.pop() {
                    self.happen(due);
                }
            }
        }
        true
    }

    fn happen(&mut self, due: Due) {
        let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
        match due {
            Due::Arrive { from, to, bytes } => self.arrive(from, to, bytes),
            Due::Queued { from, bytes } => {
                self.hand_to_server(0, (from, orchestrator_addr(), bytes));
            }
            Due::Leave { host, to, bytes } => {
                let datagram = net.take(bytes);
                net.send_down(usize::from(host), to, &datagram);
                net.put(bytes, datagram);
            }
            Due::Committed { server, life } => {
                let server = &mut self.servers[usize::from(server)];
                if server.up && server.life == life {
                    let life = server.life;
                    server.finish_commit(net, truth, setup);
                    self.crashes += u64::from(server.life != life);
                }
            }
            Due::Refused { client, at } => {
                let client = &mut self.clients[usize::from(client)];
                if !client.process.is_paused() {
                    client.refused(net, truth, setup, at);
                }
            }
            Due::Restart { server, life } => {
                let server = &mut self.servers[usize::from(server)];
                if !server.up && server.life == life {
                    server.start(net, truth, setup);
                }
            }
            // What was still to happen has no place any more.
            Due::Act(_) if self.is_afterwards => {}
            Due::Act(at) => {
                net.note(Note::Fault { action: at });
                let action = self.setup.actions[usize::from(at)].1.clone();
                self.act(&action);
            }
            Due::Attack(at) => self.attack(at),
        }
    }

    fn arrive(&mut self, from: SocketAddrV4, to: SocketAddrV4, bytes: net::Buffer) {
        let net = &mut self.net;
        let (kind, seq) = net::glance(net.bytes(bytes));
        if let Some(at) = net.client(to) {
            net.note(Note::Arrive { to: Node::Client(at as u8), kind, seq });
            let client = &mut self.clients[at];
            if client.process.is_paused() {
                if !client.process.queue((from, to, bytes)) {
                    self.overflows += 1;
                    net.release(bytes);
                }
                return;
            }
            let mut one = std::iter::once((from, to, bytes));
            return client.turn(net, &mut self.truth, &self.setup, &mut one);
        }
        let Some(host) = net.host(to) else {
            net.note(Note::Nobody { to: Node::Attacker });
            return net.release(bytes);
        };
        net.note(Note::Arrive { to: net.node(host), kind, seq });
        let delay = self.setup.orchestrator.queue_delay;
        if host == net.receivers() && !delay.is_zero() {
            return net.at(net.now + delay, Due::Queued { from, bytes });
        }
        let one_process = self.setup.servers.together || host == net.receivers();
        let server = if one_process { 0 } else { host + 1 };
        self.hand_to_server(server, (from, to, bytes));
    }

    fn hand_to_server(&mut self, at: usize, waiting: process::Waiting) {
        let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
        let server = &mut self.servers[at];
        let (from, to, bytes) = waiting;
        if !server.up {
            net.note(Note::Nobody { to: Node::Server(at as u8) });
            net.release(bytes);
            if let (true, Some(client)) = (setup.servers.icmp, net.client(from)) {
                let back = setup.receivers.first().and_then(|end| end.ping).unwrap_or_default() / 2;
                net.at(net.now + back, Due::Refused { client: client as u8, at: to });
            }
        } else if server.process.is_paused() {
            if !server.process.queue(waiting) {
                self.overflows += 1;
                net.release(bytes);
            }
        } else {
            server.receive(net, truth, setup, waiting);
        }
    }

    fn act(&mut self, action: &Action) {
        let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
        match *action {
            Action::Rebind(client) => {
                let home = &mut net.homes[client];
                *home = SocketAddrV4::new(*home.ip(), home.port().wrapping_add(1).max(1024));
            }
            Action::CrashClient { client, lost } => self.clients[client].die(net, lost),
            Action::StartClient(client) => self.clients[client].come_back(net, truth, setup),
            Action::Kill { server, power } => {
                if self.servers[server].up {
                    self.crashes += 1;
                    self.servers[server].stop(net, power);
                }
            }
            Action::Start(server) => self.servers[server].start(net, truth, setup),
            Action::Pause { who, clock } => {
                let now = net.now;
                // A process that is gone cannot stand still.
                if !matches!(who, Who::Client(at) if self.clients[at].is_dead()) {
                    self.process(who).pause(now, clock);
                }
            }
            Action::Resume(who) => self.resume(who),
            Action::DiskFails { server, op, nth, failure } => {
                self.servers[server].store.disk.inject(op, nth, failure);
            }
            Action::Capacity(server, bytes) => self.servers[server].store.disk.set_capacity(bytes),
            Action::Commit(least, most) => {
                self.servers.iter_mut().for_each(|server| server.commit = (least, most));
            }
            Action::Attack(kind, every) => {
                let at = self.attackers.len() as u16;
                self.attackers.push(Attacker::new(setup, kind, every, at));
                net.at(net.now, Due::Attack(at));
            }
            Action::Look => self.look(Duration::ZERO),
            Action::Heal => self.heal(),
        }
    }

    fn process(&mut self, who: Who) -> &mut process::Process {
        match who {
            Who::Client(at) => &mut self.clients[at].process,
            Who::Server(at) => &mut self.servers[at].process,
        }
    }

    fn resume(&mut self, who: Who) {
        let now = self.net.now;
        let process = self.process(who);
        if !process.resume(now) {
            return;
        }
        let inbox = std::mem::take(&mut process.inbox);
        let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
        match who {
            Who::Client(at) => {
                self.clients[at].turn(net, truth, setup, &mut inbox.into_iter());
            }
            Who::Server(at) => {
                for waiting in inbox {
                    self.hand_to_server(at, waiting);
                }
            }
        }
    }

    fn heal(&mut self) {
        self.net.note(Note::Healed);
        self.healed_at = Some(self.net.now);
        self.attackers.clear();
        self.net.heal(&self.setup);
        for at in 0..self.servers.len() {
            self.resume(Who::Server(at));
            let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
            let server = &mut self.servers[at];
            server.store.disk.set_capacity(None);
            server.commit = (Duration::ZERO, Duration::from_millis(2));
            server.start(net, truth, setup);
        }
        for at in 0..self.clients.len() {
            self.clients[at].setup.late_timers = Duration::ZERO;
            self.resume(Who::Client(at));
            let (net, truth, setup) = (&mut self.net, &mut self.truth, &self.setup);
            self.clients[at].come_back(net, truth, setup);
        }
    }

    fn attack(&mut self, at: u16) {
        let Some(attacker) = self.attackers.get_mut(usize::from(at)) else { return };
        let secrets = self.clients.first().map(Client::secrets).unwrap_or_default();
        let (goes_on, every) = (attacker.goes_on(), attacker.every);
        let (from, to, bytes) = attacker.send(&mut self.net, secrets);
        self.arrive(from, to, bytes);
        if goes_on {
            self.net.at(self.net.now + every, Due::Attack(at));
        }
    }

    /// When the faults ended.
    pub fn healed_at(&self) -> Option<Instant> {
        self.healed_at
    }

    /// Whether a store was too crowded for one of the clients.
    pub(crate) fn is_crowded(&self) -> bool {
        self.truth.crowded
    }

    /// The world's time.
    pub fn now(&self) -> Instant {
        self.net.now
    }

    /// How and when a client ended.
    pub fn end(&self, client: usize) -> (End, Instant) {
        let client = &self.clients[client];
        (client.end.unwrap_or(End::Running), client.ended_at.unwrap_or(self.net.now))
    }

    /// The violation, if there is one.
    pub fn violation(&self) -> Option<&Violation> {
        self.truth.violation.as_ref()
    }

    /// Fails the run from outside: for checks of whole runs.
    pub(crate) fn check(&mut self, ok: bool, invariant: u8, what: impl FnOnce() -> String) {
        self.truth.check(ok, invariant, what);
    }

    /// What has been counted.
    pub fn counts(&self) -> Counts {
        let [path_sent, lost, duplicated, reordered, corrupted] = self.net.path_counts();
        Counts {
            steps: self.steps,
            events: self.net.journal.events(),
            datagrams: self.net.datagrams,
            path_sent,
            lost,
            duplicated,
            reordered,
            corrupted,
            crashes: self.crashes,
            overflows: self.overflows,
            rotted: self.rotted,
            struck: self.servers.iter().map(|server| server.store.stats()[0]).sum(),
            released: self.servers.iter().map(|server| server.store.stats()[1]).sum(),
            crowded: self.servers.iter().map(|server| server.store.stats()[2]).sum(),
            resumed: self.clients.iter().map(|client| client.resumed).sum(),
            fallbacks: self.clients.iter().map(|client| client.fallbacks).sum(),
        }
    }

    /// The last lines of the event log.
    pub fn into_lines(self) -> Vec<String> {
        self.net.journal.into_lines()
    }

    /// Hash of the event log.
    pub fn hash(&self) -> u64 {
        self.net.journal.hash()
    }

    /// Looks at what is stored in the end: 1 for a complete transfer, and 5 and 6 for all stores.
    pub(crate) fn check_stores(&mut self) {
        for client in 0..self.clients.len() {
            let Some(tid) = self.clients[client].tid else { continue };
            if self.clients[client].end != Some(End::Complete) {
                continue;
            }
            let mut held = BTreeMap::new();
            // A chunk that moved may be in two stores; it counts once.
            let count: u64 = self.servers.iter().map(|s| s.held(tid.0, &mut held)).sum();
            self.truth.i01_stored_is_the_payload(client, &held, count);
        }
        let mut rng = self.net.rng.clone();
        for server in &self.servers {
            server.store.check_power_cut(&mut self.truth, &mut rng);
        }
    }
}
