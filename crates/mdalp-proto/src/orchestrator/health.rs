//! Which receivers of the list are there, and what they speak: one probe a second to each.
//!
//! Classic receivers answer no probe. So if none of the list ever answered, all are handed out as they
//! were typed. Once one has answered, those that never did or that fell silent are not handed out.
//!
//! Not here: sockets, and whose turn it is among those that are handed out (`pool`).

use super::{Event, Orchestrator};
use crate::ids::Nonce;
use crate::source::without_flow;
use crate::time::Instant;
use crate::wire::list::Entry;
use crate::wire::{Capabilities, PORT, encode_probe};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// From one probe of a receiver to the next. Intents wait for the first round so long at most.
const INTERVAL: Duration = Duration::from_secs(1);
/// A receiver that misses so many in a row is gone. An answer may be this many intervals late.
const MISSED: usize = 3;
/// A probe's length, in bytes: longer than any answer, with room for capabilities of later versions.
const PROBE_LEN: usize = 160;

/// A probe to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// To this receiver.
    pub to: SocketAddr,
    /// The Type 7.
    pub datagram: Vec<u8>,
}

/// What is known of one receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It never answered.
    Unknown,
    /// It answers, and speaks this.
    Up(Capabilities),
    /// It answered once, and does not any more.
    Gone,
}

#[derive(Debug)]
struct Target {
    addr: SocketAddr,
    typed: Capabilities,
    state: State,
    /// Of the last probes that have no answer.
    nonces: VecDeque<Nonce>,
    /// Probes in a row without an answer, the last one not counted.
    missed: usize,
    /// Whether the last one was answered.
    answered: bool,
    /// Whether it was said that it never answered.
    told: bool,
}

/// What is known of all receivers.
#[derive(Debug)]
pub(super) struct Health {
    targets: Vec<Target>,
    by_addr: BTreeMap<SocketAddr, u16>,
    typed: bool,
    rounds: u64,
    next_round: Instant,
    /// Whether any receiver ever answered.
    any: bool,
    probes: VecDeque<Probe>,
    events: Vec<Event>,
    /// Whether something is known that the pool does not know yet.
    changed: bool,
}

impl Health {
    /// Receivers that are asked if `probe`. `typed`: their capabilities come from the operator.
    pub(super) fn new(entries: &[Entry], probe: bool, typed: bool) -> Self {
        let entries = entries.iter().take(if probe { usize::from(u16::MAX) } else { 0 });
        let targets = entries.map(|entry| Target {
            addr: SocketAddr::new(entry.ip, entry.caps.port.unwrap_or(PORT)),
            typed: entry.caps,
            state: State::Unknown,
            nonces: VecDeque::new(),
            missed: 0,
            answered: false,
            told: false,
        });
        let targets: Vec<_> = targets.collect();
        let asks = !targets.is_empty();
        Self {
            by_addr: targets.iter().map(|target| target.addr).zip(0..).collect(),
            targets,
            typed,
            rounds: 0,
            next_round: if asks { Instant::ZERO } else { Instant::NEVER },
            any: false,
            probes: VecDeque::new(),
            events: Vec::new(),
            changed: false,
        }
    }

    /// Whether the first round is over: until then nobody knows what to hand out.
    pub(super) fn is_settled(&self) -> bool {
        self.rounds > 1 || self.targets.iter().all(|target| matches!(target.state, State::Up(_)))
    }

    /// When the next round is due.
    pub(super) fn next_round(&self) -> Option<Instant> {
        (self.next_round < Instant::NEVER).then_some(self.next_round)
    }

    /// Judges the last round, and asks everybody again.
    fn round(&mut self, now: Instant, random: &mut dyn FnMut() -> u64) {
        self.next_round = now + INTERVAL;
        // The first round ends with the second one.
        self.changed |= self.rounds == 1;
        for (index, target) in (0_u16..).zip(&mut self.targets) {
            if self.rounds > 0 && !target.answered {
                target.missed = target.missed.saturating_add(1);
            }
            target.answered = false;
            if target.missed >= MISSED {
                match target.state {
                    State::Up(_) => {
                        (target.state, self.changed) = (State::Gone, true);
                        self.events.push(Event::ReceiverGone { index });
                    }
                    State::Unknown if self.any && !target.told => {
                        target.told = true;
                        let handed_out = self.typed;
                        self.events.push(Event::ReceiverSilent { index, handed_out });
                    }
                    State::Unknown | State::Gone => {}
                }
            }
            let nonce = Nonce(random());
            target.nonces.push_back(nonce);
            if target.nonces.len() > MISSED {
                target.nonces.pop_front();
            }
            let mut datagram = Vec::with_capacity(PROBE_LEN);
            encode_probe(&mut datagram, nonce, PROBE_LEN);
            self.probes.push_back(Probe { to: target.addr, datagram });
        }
        self.rounds += 1;
        if !self.any && self.rounds == MISSED as u64 + 1 {
            self.events.push(Event::NoReceiverAnswers);
        }
    }

    /// Takes an answer; `false` if it answers nothing that was asked there.
    fn answer(&mut self, from: SocketAddr, nonce: Nonce, caps: Capabilities) -> bool {
        let Some(&index) = self.by_addr.get(&without_flow(from)) else { return false };
        let target = &mut self.targets[usize::from(index)];
        let Some(at) = target.nonces.iter().position(|asked| *asked == nonce) else { return false };
        target.nonces.remove(at);
        (target.missed, target.answered, target.told) = (0, true, false);
        let before = std::mem::replace(&mut target.state, State::Up(caps));
        if before != State::Up(caps) {
            let back = before == State::Gone;
            let with = handed_out_with(target, self.typed);
            self.events.push(Event::ReceiverAnswers { index, caps: with, back });
        }
        self.changed |= before != State::Up(caps);
        self.any = true;
        true
    }

    /// Each receiver: whether it is handed out, and with what capabilities.
    fn verdicts(&self) -> impl Iterator<Item = (bool, Capabilities)> {
        self.targets.iter().map(|target| {
            let up = match target.state {
                State::Up(_) => true,
                State::Unknown => !self.any || self.typed,
                State::Gone => false,
            };
            (up, handed_out_with(target, self.typed))
        })
    }
}

/// What it says that it speaks; of this what was typed, if something was. Its port is where it answers.
fn handed_out_with(target: &Target, typed: bool) -> Capabilities {
    let own = target.typed;
    match target.state {
        State::Up(says) if typed => own.shared_with(says),
        State::Up(says) => Capabilities { port: own.port, ..says },
        State::Unknown | State::Gone => own,
    }
}

impl Orchestrator {
    /// The next probe to send to a receiver; the answer comes in as any datagram.
    pub fn poll_probe(&mut self) -> Option<Probe> {
        self.health.probes.pop_front()
    }

    /// Takes a receiver's answer; `false` if nothing was asked.
    pub(super) fn probe_answered(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nonce: Nonce,
        caps: Capabilities,
    ) -> bool {
        let asked = self.health.answer(from, nonce, caps);
        if asked {
            self.apply_health(now);
        }
        asked
    }

    /// Asks all receivers again when it is time.
    pub(super) fn probe_receivers(&mut self, now: Instant) {
        if self.health.next_round <= now {
            self.health.round(now, &mut *self.random);
            self.apply_health(now);
        }
    }

    /// Hands out what the probes found, and serves intents that waited for it.
    fn apply_health(&mut self, now: Instant) {
        self.events.extend(self.health.events.drain(..));
        if !self.health.is_settled() || !std::mem::take(&mut self.health.changed) {
            return;
        }
        for (index, (up, caps)) in (0_u16..).zip(self.health.verdicts()) {
            self.pool.set_up(index, up);
            if let Some(entry) = self.config.receivers.get_mut(usize::from(index))
                && entry.caps != caps
            {
                entry.caps = caps;
                self.pool.respell(index, entry);
            }
        }
        self.longest_answer = self.pool.longest_answer();
        if self.pool.any_up() && !self.queue.is_empty() && self.slot_is_free() {
            self.next_search = self.next_search.min(now.max(self.not_before));
        }
    }
}
