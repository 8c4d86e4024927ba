//! What every process has: a clock of its own, a socket buffer, and a timer. Shared by all nodes.

use super::net::Buffer;
use mdalp_proto::time::Instant;
use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::Duration;

/// Datagrams that a default receive buffer held in measurements (F34).
const SOCKET_BUFFER: usize = 256;

/// A datagram in the socket buffer.
pub(crate) type Waiting = (SocketAddrV4, SocketAddrV4, Buffer);

#[derive(Debug)]
pub(crate) struct Process {
    /// How far its clock is behind: the sum of all times it stood still.
    lag: Duration,
    paused: Option<(Instant, bool)>,
    pub(crate) inbox: VecDeque<Waiting>,
    /// When it wants to be woken, in the world's time.
    timer: Instant,
}

impl Process {
    pub(crate) fn new() -> Self {
        Self { lag: Duration::ZERO, paused: None, inbox: VecDeque::new(), timer: Instant::NEVER }
    }

    /// The time as this process sees it.
    pub(crate) fn local(&self, now: Instant) -> Instant {
        Instant::ZERO + (now - Instant::ZERO).saturating_sub(self.lag)
    }

    /// Sets the timer, given in local time.
    pub(crate) fn set_timer(&mut self, local: Option<Instant>, late: Duration) {
        self.timer = local.map_or(Instant::NEVER, |at| at + self.lag + late);
    }

    /// When it is to be woken; a paused one is not.
    pub(crate) fn timer(&self) -> Instant {
        if self.paused.is_some() { Instant::NEVER } else { self.timer }
    }

    /// Whether its clock ever stood still.
    pub(crate) fn has_stood_still(&self) -> bool {
        !self.lag.is_zero()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(crate) fn pause(&mut self, now: Instant, stops_clock: bool) {
        self.paused.get_or_insert((now, stops_clock));
    }

    /// Whether it was paused.
    pub(crate) fn resume(&mut self, now: Instant) -> bool {
        let Some((since, stopped)) = self.paused.take() else { return false };
        if stopped {
            self.lag += now - since;
        }
        true
    }

    /// Keeps a datagram for later; `false` if the buffer is full.
    pub(crate) fn queue(&mut self, waiting: Waiting) -> bool {
        let room = self.inbox.len() < SOCKET_BUFFER;
        if room {
            self.inbox.push_back(waiting);
        }
        room
    }
}
