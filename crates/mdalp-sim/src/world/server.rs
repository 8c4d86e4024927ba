//! A server process in the world: machines, store and batching, as the real shell wires them.
//!
//! Receivers name chunks, the server collects them while the disk is busy and commits up to 64 at
//! once, and only then an ack exists. Quotas and rules are the machines'.

use super::checks::Truth;
use super::net::{Buffer, Due, Net, orchestrator_addr, receiver_addr, v4};
use super::process::Process;
use super::store::Store;
use crate::journal::Note;
use crate::setup::{Setup, Twin};
use mdalp_netem::{Rng, derive_seed};
use mdalp_proto::completion::{Answer, Finding};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::orchestrator::{self, Orchestrator};
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::receiver::{self, Append, Local, Receiver, Stored};
use mdalp_proto::wire::list::Entry;
use mdalp_proto::wire::{ChunkCrc, Message, decode};
use mdalp_store::{AppendError, AppendResult, Appended};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

/// Chunks in one commit at most, and bytes that may wait for one (§3.4).
const BATCH: usize = 64;
const MAX_WAITING: usize = 8 << 20;

/// A chunk on its way to the disk, and the datagram that brought it.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) append: Append,
    pub(crate) bytes: Buffer,
    request: (SocketAddrV4, usize),
}

pub(crate) struct Server {
    index: u8,
    pub(crate) process: Process,
    /// The machines; none while the process is down.
    orchestrator: Option<Orchestrator>,
    receiver: Option<Receiver>,
    has_orchestrator: bool,
    /// Which receivers of the setup it runs.
    pub(crate) receivers: Vec<usize>,
    pub(crate) store: Store,
    pub(crate) life: u32,
    pub(crate) up: bool,
    waiting: VecDeque<Pending>,
    waiting_bytes: usize,
    committing: Vec<Pending>,
    pub(crate) commit: (Duration, Duration),
    /// Disk operations that were tried, for the report.
    results: Vec<AppendResult>,
    scratch: Vec<u8>,
    /// The datagrams of questions that have no answer yet.
    questions: BTreeMap<TransactionId, (SocketAddrV4, usize)>,
    acks: u64,
    /// Who sent the last datagram, and who began each transaction that is in memory (17).
    heard: IpAddr,
    creators: BTreeMap<TransactionId, IpAddr>,
    /// What was acknowledged of each since it was taken into memory.
    taken: BTreeMap<TransactionId, RangeSet>,
}

impl Server {
    pub(crate) fn new(setup: &Setup, index: usize) -> Self {
        let all = 0..setup.receivers.len();
        let receivers = match (setup.servers.together, index.checked_sub(1)) {
            (true, _) => all.collect(),
            (false, Some(receiver)) => vec![receiver],
            (false, None) => Vec::new(),
        };
        Self {
            index: index as u8,
            process: Process::new(),
            orchestrator: None,
            receiver: None,
            has_orchestrator: index == 0,
            receivers,
            store: Store::new(setup),
            life: 0,
            up: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            committing: Vec::new(),
            commit: setup.servers.commit,
            results: Vec::new(),
            scratch: Vec::new(),
            questions: BTreeMap::new(),
            acks: 0,
            heard: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            creators: BTreeMap::new(),
            taken: BTreeMap::new(),
        }
    }

    /// Starts the process.
    pub(crate) fn start(&mut self, net: &mut Net, truth: &mut Truth, setup: &Setup) {
        if self.up {
            return;
        }
        if !self.receivers.is_empty() && self.store.open(&self.receivers).is_err() {
            let (server, life) = (self.index, self.life);
            net.at(net.now + setup.servers.restart_after, Due::Restart { server, life });
            let mut rng = net.rng.clone();
            let power = rng.up_to(1) == 0;
            self.store.die(power, &mut rng);
            net.rng = rng;
            return;
        }
        self.store.check_recovery(truth);
        self.life += 1;
        self.up = true;
        net.note(Note::Up { server: self.index });
        let unlimited = setup.twin == Some(Twin::NoLimits);
        let own = |addr: SocketAddrV4| vec![SocketAddr::V4(addr)];
        if self.has_orchestrator {
            let entry = |index: usize| Entry {
                ip: IpAddr::V4(*receiver_addr(index).ip()),
                name: setup.receivers[index].name.clone(),
                caps: setup.servers.caps,
            };
            let mut config = setup.servers.orchestrator.clone();
            if unlimited {
                (config.queue, config.queue_per_source) = (usize::MAX, usize::MAX);
                (config.queue_per_prefix, config.live) = (usize::MAX, usize::MAX);
            }
            if setup.twin == Some(Twin::NoRepeats) {
                config.repeat_window = Duration::ZERO;
            }
            config.own = own(orchestrator_addr());
            config.receivers = (0..setup.receivers.len()).map(entry).collect();
            let mut rng = Rng::new(derive_seed(setup.seed, 10_000 + u64::from(self.life)));
            let random = Box::new(move || rng.next_u64());
            self.orchestrator = Some(Orchestrator::new(config, random));
        }
        if !self.receivers.is_empty() {
            let mut config = setup.servers.receiver.clone();
            if unlimited {
                (config.ranges, config.ranges_total) = (usize::MAX, usize::MAX);
                (config.per_source, config.per_prefix) = (usize::MAX, usize::MAX);
                config.transactions = usize::MAX;
            }
            config.own = self.receivers.iter().flat_map(|&r| own(receiver_addr(r))).collect();
            let mut receiver = Receiver::new(config);
            let now = self.process.local(net.now);
            for tid in self.store.open_transactions() {
                receiver.adopt(now, tid);
            }
            self.receiver = Some(receiver);
        }
        self.after(net, truth, setup, None);
    }

    /// The process is gone, and what it had in memory.
    pub(crate) fn stop(&mut self, net: &mut Net, power: bool) {
        self.life += 1;
        self.up = false;
        (self.orchestrator, self.receiver) = (None, None);
        self.creators.clear();
        self.taken.clear();
        self.questions.clear();
        for pending in self.waiting.drain(..).chain(self.committing.drain(..)) {
            net.release(pending.bytes);
        }
        self.waiting_bytes = 0;
        for (_, _, bytes) in self.process.inbox.drain(..) {
            net.release(bytes);
        }
        self.process.set_timer(None, Duration::ZERO);
        net.note(Note::Down { server: self.index });
        let mut rng = net.rng.clone();
        self.store.die(power, &mut rng);
        net.rng = rng;
    }

    /// A datagram for `to`, which is one of this process's addresses.
    pub(crate) fn receive(
        &mut self,
        net: &mut Net,
        truth: &mut Truth,
        setup: &Setup,
        (from, to, buffer): super::process::Waiting,
    ) {
        let now = self.process.local(net.now);
        let bytes = net.take(buffer);
        let request = Some((from, bytes.len()));
        self.heard = IpAddr::V4(*from.ip());
        if to == orchestrator_addr() {
            if let Some(orchestrator) = &mut self.orchestrator {
                truth.asked(from, bytes.len());
                orchestrator.handle_datagram(now, from.into(), &bytes);
            }
            net.put(buffer, bytes);
            return self.after(net, truth, setup, None);
        }
        let host = net.host(to);
        let local = self.receivers.iter().position(|&index| Some(index) == host);
        let mut append = None;
        if let (Some(receiver), Some(local)) = (&mut self.receiver, local) {
            let asked = receiver.counters().seals;
            receiver.handle_datagram(now, Local(local as u16), from.into(), &bytes);
            append = receiver.poll_append();
            if receiver.counters().seals > asked
                && let Ok(Message::Seal(seal)) = decode(&bytes)
            {
                self.questions.insert(seal.tid, (from, bytes.len()));
            }
        }
        let len = bytes.len();
        if let Some(append) = append {
            net.put_back(buffer, bytes);
            let pending = Pending { append, bytes: buffer, request: (from, len) };
            self.enqueue(net, truth, setup, pending);
            return self.after(net, truth, setup, None);
        }
        net.put(buffer, bytes);
        self.after(net, truth, setup, request);
    }

    fn enqueue(&mut self, net: &mut Net, truth: &mut Truth, setup: &Setup, pending: Pending) {
        let now = self.process.local(net.now);
        let size = pending.append.data.len();
        if self.waiting_bytes + size > MAX_WAITING {
            if let Some(receiver) = &mut self.receiver {
                receiver.handle_appended(now, &pending.append, Stored::Failed);
            }
            return net.release(pending.bytes);
        }
        if setup.twin == Some(Twin::AckBeforeCommit) {
            if let Some(receiver) = &mut self.receiver {
                receiver.handle_appended(now, &pending.append, Stored::New);
            }
            self.send_acks(net, truth, Some(pending.request));
        }
        self.waiting_bytes += size;
        self.waiting.push_back(pending);
        self.begin_commit(net, truth, setup);
    }

    /// Hands what is waiting to the disk, unless that is busy.
    fn begin_commit(&mut self, net: &mut Net, truth: &mut Truth, setup: &Setup) {
        if !self.committing.is_empty() || self.waiting.is_empty() {
            return;
        }
        let count = self.waiting.len().min(BATCH);
        self.committing.extend(self.waiting.drain(..count));
        let (least, most) = self.commit;
        let takes = least + net.rng.duration_up_to(most.saturating_sub(least));
        if takes.is_zero() {
            return self.finish_commit(net, truth, setup);
        }
        let due = Due::Committed { server: self.index, life: self.life };
        net.at(net.now + takes, due);
    }

    /// The disk has done it. Errors of the store end the process, as they do in the real server.
    pub(crate) fn finish_commit(&mut self, net: &mut Net, truth: &mut Truth, setup: &Setup) {
        let now = self.process.local(net.now);
        let batch = std::mem::take(&mut self.committing);
        let mut results = std::mem::take(&mut self.results);
        self.store.append(net, truth, &batch, &mut results);
        net.note(Note::Committed { server: self.index, chunks: batch.len() as u64 });
        if self.store.is_poisoned() || self.store.is_dark() {
            self.committing = batch;
            return self.fail(net, setup);
        }
        for (pending, result) in batch.iter().zip(&results) {
            let stored = match *result {
                Ok(Appended::New) => Stored::New,
                Ok(Appended::Duplicate { crc }) => Stored::Duplicate { crc: ChunkCrc(crc) },
                Err(AppendError::Crowded) => Stored::Crowded,
                Err(_) => Stored::Failed,
            };
            let (server, seq) = (self.index, pending.append.seq.0);
            let code = match stored {
                Stored::New => 0,
                Stored::Duplicate { .. } => 1,
                Stored::Failed => 2,
                Stored::Crowded => 3,
            };
            net.note(Note::Stored { server, seq, result: code });
            self.waiting_bytes -= pending.append.data.len();
            if setup.twin != Some(Twin::AckBeforeCommit) {
                if let Some(receiver) = &mut self.receiver {
                    receiver.handle_appended(now, &pending.append, stored);
                }
                self.send_acks(net, truth, Some(pending.request));
            }
            net.release(pending.bytes);
        }
        self.results = results;
        self.committing = batch;
        self.committing.clear();
        if setup.servers.paranoid {
            let mut rng = net.rng.clone();
            self.store.check_power_cut(truth, &mut rng);
            net.rng = rng;
        }
        self.begin_commit(net, truth, setup);
        self.after(net, truth, setup, None);
    }

    /// The store takes no more: the process says so, ends, and is started again by whoever watches
    /// it. The next one may find in the cache what never reached the disk, or the power may go too.
    fn fail(&mut self, net: &mut Net, setup: &Setup) {
        let power = net.rng.up_to(1) == 0 || self.store.is_dark();
        self.stop(net, power);
        let (server, life) = (self.index, self.life);
        net.at(net.now + setup.servers.restart_after, Due::Restart { server, life });
    }

    /// The timer is due.
    pub(crate) fn wake(&mut self, net: &mut Net, truth: &mut Truth, setup: &Setup) {
        let now = self.process.local(net.now);
        if let Some(orchestrator) = &mut self.orchestrator {
            orchestrator.handle_timeout(now);
        }
        if let Some(receiver) = &mut self.receiver {
            receiver.handle_timeout(now);
        }
        self.after(net, truth, setup, None);
    }

    fn send_acks(
        &mut self,
        net: &mut Net,
        truth: &mut Truth,
        mut request: Option<(SocketAddrV4, usize)>,
    ) {
        while let Some(ack) = self.receiver.as_mut().and_then(Receiver::poll_transmit) {
            self.acks += 1;
            let (key, to) = ((ack.tid.0, ack.seq.0), v4(ack.to));
            self.scratch.clear();
            ack.encode(&mut self.scratch);
            let (held, failed) = (self.store.held_crc(key), self.store.flush_failed());
            truth.i04_acked_is_durable(key, ack.crc, held, failed);
            truth.i09_reply(request.take(), to, self.scratch.len());
            self.store.acked.insert(key);
            let ranges = self.taken.entry(ack.tid).or_default();
            ranges.insert(key.1);
            truth.h45_ranges(ranges.range_count());
            let host = self.receivers[usize::from(ack.local.0)];
            match net.ack_leaves(host, key.0, key.1) {
                Some(at) if at <= net.now => net.send_down(host, to, &self.scratch),
                Some(at) => {
                    let bytes = net.hold(&self.scratch);
                    net.at(at, Due::Leave { host: host as u8, to, bytes });
                }
                None => {}
            }
        }
    }

    /// Drains everything after an input.
    fn after(
        &mut self,
        net: &mut Net,
        truth: &mut Truth,
        setup: &Setup,
        request: Option<(SocketAddrV4, usize)>,
    ) {
        self.send_acks(net, truth, request);
        let now = self.process.local(net.now);
        let mut claimed = false;
        while let Some(event) = self.receiver.as_mut().and_then(Receiver::poll_event) {
            match event {
                receiver::Event::Evicted { tid } | receiver::Event::Idle { tid } => {
                    self.creators.remove(&tid);
                    self.taken.remove(&tid);
                }
                receiver::Event::Claimed { tid } => {
                    self.creators.insert(tid, self.heard);
                    claimed = true;
                    if let Some(orchestrator) = &mut self.orchestrator {
                        orchestrator.transaction_claimed(now, tid);
                        truth.claimed(tid.0);
                    }
                }
                receiver::Event::Active { tid } => {
                    if let Some(orchestrator) = &mut self.orchestrator {
                        orchestrator.transaction_active(now, tid);
                    }
                }
                receiver::Event::Quiet { tid } => {
                    if self.store.seems_over(tid)
                        && let Some(orchestrator) = &mut self.orchestrator
                    {
                        orchestrator.transaction_ended(now, tid);
                    }
                }
                _ => {}
            }
        }
        if claimed {
            truth.h46_quotas(self.heard, self.creators.values());
        }
        self.answer_seals(net, truth);
        self.drain_orchestrator(net, truth, setup);
        if self.store.is_poisoned() || self.store.is_dark() {
            return self.fail(net, setup);
        }
        if let Some(receiver) = &self.receiver {
            let (transactions, ranges) = (receiver.transactions(), receiver.ranges());
            truth.i17_receiver_memory(transactions, ranges, self.waiting_bytes);
        }
        let timers = [
            self.orchestrator.as_ref().and_then(Orchestrator::poll_timeout),
            self.receiver.as_ref().and_then(Receiver::poll_timeout),
        ];
        self.process.set_timer(timers.into_iter().flatten().min(), Duration::ZERO);
    }

    fn answer_seals(&mut self, net: &mut Net, truth: &mut Truth) {
        let Some(receiver) = &mut self.receiver else { return };
        while let Some(asked) = receiver.poll_seal() {
            let answer = self.store.answer(net, asked);
            if let Some(Answer { found: Finding::Closed { .. }, .. }) = &answer {
                net.note(Note::Closed { server: self.index, tid: asked.seal.tid.0 });
                let finished = truth.finished(asked.seal.tid.0);
                truth.i18_receipt(asked.seal.tid.0, asked.seal.statement.bytes, finished);
            }
            receiver.handle_sealed(&asked, answer.and_then(|answer| answer.verdict));
        }
        while let Some(reply) = receiver.poll_seal_reply() {
            self.scratch.clear();
            reply.encode(&mut self.scratch);
            let to = v4(reply.to);
            truth.i09_reply(self.questions.remove(&reply.tid), to, self.scratch.len());
            net.send_down(self.receivers[usize::from(reply.local.0)], to, &self.scratch);
        }
    }

    fn drain_orchestrator(&mut self, net: &mut Net, truth: &mut Truth, setup: &Setup) {
        let Some(orchestrator) = &mut self.orchestrator else { return };
        while let Some(event) = orchestrator.poll_event() {
            let orchestrator::Event::Assigned { tid, .. } = event else { continue };
            // On record with its first chunk.
            if setup.servers.together {
                self.store.assigned(tid);
            }
        }
        let host = setup.receivers.len();
        while let Some(transmit) = orchestrator.poll_transmit() {
            let to = v4(transmit.to);
            let evicted = orchestrator.counters().evicted;
            if let Ok(Message::Assignment { tid, nonce, .. }) = decode(&transmit.datagram) {
                truth.i13_assignment((to, nonce), tid.0, self.life, evicted);
            }
            truth.i09_assignment(to, transmit.datagram.len(), self.life);
            net.send_down(host, to, &transmit.datagram);
        }
        truth.i17_orchestrator_memory(orchestrator.queued(), orchestrator.live());
    }

    /// Adds the chunks of `tid` held here; returns how many.
    pub(crate) fn held(&self, tid: u64, into: &mut BTreeMap<u64, ChunkCrc>) -> u64 {
        self.store.held(tid, into)
    }
}
