//! A model of the published Python client, faults included: one intent, a fixed timeout of 3 s,
//! echoes a second apart, and what it does with acks it does not expect (S1 to S5).
//!
//! Not modelled: the bytes that its division loses to rounding, and its parser.

use mdalp_proto::ids::TransactionId;
use mdalp_proto::split::Share;
use mdalp_proto::time::Instant;
use mdalp_proto::wire::{Message, decode};
use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(3);
/// Three echoes, a second apart: the last leaves after this.
pub(crate) const LAST_ECHO: Duration = Duration::from_secs(2);

/// One receiver as the client sees it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) addr: SocketAddrV4,
    first: u64,
    chunks: u64,
    at: u64,
    sent: Instant,
    pub(crate) datagrams: u64,
    pub(crate) retransmissions: u64,
    pub(crate) timeouts: u64,
    /// Chunks it counts as delivered.
    pub(crate) counted: u64,
}

impl Peer {
    pub(crate) fn new(addr: SocketAddrV4, share: Share) -> Self {
        Self {
            addr,
            first: share.first_seq,
            chunks: share.chunks,
            at: 0,
            sent: Instant::ZERO,
            datagrams: 0,
            retransmissions: 0,
            timeouts: 0,
            counted: 0,
        }
    }

    fn exhausted(&self) -> bool {
        self.at >= self.chunks
    }
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Original {
    tid: TransactionId,
    pub(crate) peers: Vec<Peer>,
    balanced: bool,
    /// When its `select` returns without a datagram.
    wait_until: Instant,
    pub(crate) outbox: VecDeque<(usize, u64)>,
    /// It raised an exception.
    pub(crate) crashed: bool,
}

impl Original {
    pub(crate) fn new(now: Instant, tid: TransactionId, peers: Vec<Peer>, balanced: bool) -> Self {
        let outbox = VecDeque::new();
        let wait_until = now + TIMEOUT;
        let mut client = Self { tid, peers, balanced, wait_until, outbox, crashed: false };
        for peer in 0..client.peers.len() {
            client.send(now, peer, false);
        }
        client
    }

    fn send(&mut self, now: Instant, at: usize, again: bool) {
        let peer = &mut self.peers[at];
        if peer.exhausted() {
            return;
        }
        peer.sent = now;
        peer.datagrams += 1;
        peer.retransmissions += u64::from(again);
        self.outbox.push_back((at, peer.first + peer.at));
    }

    pub(crate) fn is_done(&self) -> bool {
        self.crashed || self.peers.iter().all(Peer::exhausted)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_done()).then_some(self.wait_until)
    }

    /// Which peer and chunk an ack advanced, if one did.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        bytes: &[u8],
    ) -> Option<(usize, u64)> {
        if self.is_done() {
            return None;
        }
        let ack = match decode(bytes) {
            Ok(Message::Ack { tid, seq, .. }) if tid == self.tid => Some(seq.0),
            _ => None,
        };
        let from = self.peers.iter().position(|peer| peer.addr == from);
        let advanced = if self.balanced {
            from.zip(ack).and_then(|(at, seq)| self.take_balanced(now, at, seq))
        } else {
            self.take_single(now, from.and(ack))
        };
        self.look_for_timeouts(now);
        advanced
    }

    fn take_balanced(&mut self, now: Instant, at: usize, seq: u64) -> Option<(usize, u64)> {
        let peer = &mut self.peers[at];
        if seq != peer.first + peer.at {
            let next = seq + 1;
            if peer.first <= next && next < peer.first + peer.chunks {
                peer.at = next - peer.first;
            }
        }
        if peer.exhausted() {
            // The length of None (S1).
            self.crashed = true;
            return None;
        }
        let counted = peer.first + peer.at;
        peer.counted += 1;
        peer.at += 1;
        self.send(now, at, false);
        Some((at, counted))
    }

    fn take_single(&mut self, now: Instant, ack: Option<u64>) -> Option<(usize, u64)> {
        let peer = &mut self.peers[0];
        let current = peer.first + peer.at;
        if ack != Some(current) {
            self.send(now, 0, true);
            return None;
        }
        peer.counted += 1;
        peer.at += 1;
        self.send(now, 0, false);
        Some((0, current))
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.is_done() || now < self.wait_until {
            return;
        }
        if !self.balanced {
            self.peers[0].timeouts += 1;
            self.send(now, 0, true);
        }
        self.look_for_timeouts(now);
    }

    /// The balancing loop looks only after a datagram, or after 3 s without one.
    fn look_for_timeouts(&mut self, now: Instant) {
        self.wait_until = now + TIMEOUT;
        for at in 0..self.peers.len() {
            let peer = &mut self.peers[at];
            if self.balanced && !peer.exhausted() && now - peer.sent >= TIMEOUT {
                peer.timeouts += 1;
                self.send(now, at, true);
            }
        }
    }
}
