//! The loop that moves datagrams until a transfer has ended.

use super::Session;
use super::choose::Receiver;
use super::waiting::Wait;
use crate::error::{Interrupt, SendError};
use crate::event::{Event, Kind, ReceiverProgress, millis};
use crate::journal::Journal;
use crate::sockets::{Arrival, Sockets};
use mdalp_proto::client::{HASHED_FIRST, falls_back};
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::{self, LaneState, Outcome, Transfer};
use std::io;
use std::pin::Pin;
use std::time::Duration;

/// Between two progress events.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// A receiver's silence is worth a line each time it has lasted so much longer.
const SILENCE: Duration = Duration::from_secs(5);
/// Datagrams read before what they allow is sent. More would let the first ack wait for the others
/// in each round trip, for what is sent together comes back together.
const BURST: usize = 16;
/// Such bursts before the timers are looked at again, however much still waits.
const BURSTS: usize = 16;

/// What is said again and again, and when it is due next.
struct Reminders {
    progress: Instant,
    silence: Instant,
    wait: Wait,
}

type Hashing = tokio::task::JoinHandle<io::Result<[u8; 32]>>;

/// The hash, when it is there.
async fn finished(hashing: &mut Option<Hashing>) -> io::Result<[u8; 32]> {
    match hashing {
        Some(hashing) => hashing.await.unwrap_or_else(|error| Err(io::Error::other(error))),
        None => std::future::pending().await,
    }
}

impl<F: FnMut(&Event)> Session<'_, F> {
    pub(super) async fn pump<I: Future<Output = Interrupt>>(
        &mut self,
        transfer: &mut Transfer,
        sockets: &Sockets,
        mut interrupt: Pin<&mut I>,
    ) -> Result<(), SendError> {
        let now = self.clock.now();
        let mut due = Reminders {
            progress: now + PROGRESS_EVERY,
            silence: now + SILENCE,
            wait: Wait::from(now),
        };
        if self.wants_digest() && self.payload.len() <= HASHED_FIRST {
            self.note_digest(transfer, self.payload.blake3())?;
        } else if let Some(digest) = self.digest {
            transfer.provide_digest(now, digest);
        }
        if self.has_windows() {
            sockets.join();
        }
        let (mut hashing, mut bursts) = (self.start_hashing(), 0_usize);
        loop {
            while let Some(event) = transfer.poll_event() {
                self.tell(transfer, &event)?;
            }
            // Before anything else leaves, so that what is acknowledged is never sent again.
            if let Some(Err(error)) = self.journal.as_mut().map(Journal::flush) {
                self.lose_journal(&error);
            }
            if matches!(transfer.outcome(), Some(Outcome::Complete { .. })) {
                return Ok(());
            }
            self.send_all(transfer, sockets).await?;
            let next = transfer.poll_timeout().unwrap_or(self.clock.now());
            let next = next.min(due.progress).min(due.silence).min(due.wait.due);
            let received = tokio::select! {
                signal = &mut interrupt => return Err(SendError::Interrupt(signal)),
                received = sockets.recv(&mut self.inbox) => Some(received),
                hashed = finished(&mut hashing) => {
                    self.note_digest(transfer, hashed)?;
                    hashing = None;
                    None
                }
                () = tokio::time::sleep_until(self.clock.to_tokio(next)) => None,
            };
            let all = self.take_burst(transfer, sockets, received);
            bursts = if all { 0 } else { (bursts + 1) % BURSTS };
            if bursts == 0 {
                transfer.handle_timeout(self.clock.now());
                self.remind(transfer, &mut due);
            }
        }
    }

    /// Whether anybody can be asked to compare, and the hash is not known.
    fn wants_digest(&self) -> bool {
        self.can_verify() && self.digest.is_none()
    }

    /// Hashes the payload on a thread of its own.
    fn start_hashing(&self) -> Option<Hashing> {
        let payload = self.payload.clone();
        self.wants_digest().then(|| tokio::task::spawn_blocking(move || payload.blake3()))
    }

    fn note_digest(
        &mut self,
        transfer: &mut Transfer,
        hashed: io::Result<[u8; 32]>,
    ) -> Result<(), SendError> {
        let digest = hashed.map_err(|source| SendError::Payload {
            name: self.payload.name().to_owned(),
            offset: 0,
            source,
        })?;
        self.digest = Some(digest);
        transfer.provide_digest(self.clock.now(), digest);
        Ok(())
    }

    /// Hands `received` to the transfer, and what else has arrived; whether that was all. Before the
    /// timers are looked at, so that a process that was stopped for a while does not take waiting acks
    /// for lost.
    fn take_burst(
        &mut self,
        transfer: &mut Transfer,
        sockets: &Sockets,
        mut received: Option<Arrival>,
    ) -> bool {
        for _ in 0..BURST {
            received = received.or_else(|| sockets.try_recv(&mut self.inbox));
            match received.take() {
                None => return true,
                Some(Arrival::Refused(by)) => {
                    self.note_trouble(by, io::ErrorKind::ConnectionRefused);
                    transfer.handle_unreachable(self.clock.now(), by);
                }
                Some(Arrival::Unreachable(peer, why)) => {
                    self.note_trouble(peer, why);
                }
                Some(Arrival::Datagram(at, from)) => {
                    if !self.trouble.is_empty() {
                        self.trouble.remove(&from);
                    }
                    if self.options.datagrams {
                        let bytes = self.inbox.bytes(at.clone()).to_vec();
                        self.trace("received", from, &bytes);
                    }
                    transfer.handle_datagram(self.clock.now(), from, self.inbox.bytes(at));
                }
            }
        }
        false
    }

    /// Translates an event of the core; the end as an error, unless it is complete.
    fn tell(&mut self, transfer: &Transfer, event: &transfer::Event) -> Result<(), SendError> {
        let address = |session: &Self, lane: usize| session.receivers[lane].addr.to_string();
        match *event {
            transfer::Event::Acked { lane, seq, .. } => {
                self.last_ack_at = Some(self.clock.now());
                if let Some(journal) = &mut self.journal {
                    journal.note(lane, seq);
                }
            }
            transfer::Event::TimedOut { lane, seq, next } => self.emit(Kind::Retransmit {
                address: address(self, lane),
                seq: seq.0,
                next_timeout_ms: millis(next),
            }),
            transfer::Event::State { lane, state } => {
                self.emit(Kind::ReceiverState {
                    address: address(self, lane),
                    state: state.name(),
                });
            }
            transfer::Event::Moved { what } => self.emit(Kind::Replan {
                from: address(self, what.from),
                to: address(self, what.to),
                chunks: what.chunks.max(1),
                reason: what.reason.name(),
            }),
            transfer::Event::Refused { lane, why } => {
                self.emit(Kind::Refused { address: address(self, lane), why: why.word() });
            }
            transfer::Event::Missing { chunks } => self.emit(Kind::Repair { chunks }),
            transfer::Event::Finished(outcome) => {
                self.emit_progress(transfer);
                return self.outcome(transfer, outcome);
            }
            _ => {}
        }
        Ok(())
    }

    fn outcome(&mut self, transfer: &Transfer, outcome: Outcome) -> Result<(), SendError> {
        let (acked, total) = (transfer.acked_bytes(), self.payload.len());
        let tid = transfer.tid().0;
        let unconfirmed = transfer.unconfirmed();
        if outcome == (Outcome::Complete { verified: false }) && !unconfirmed.is_empty() {
            let addresses = unconfirmed.iter().map(|&lane| self.receivers[lane].addr.to_string());
            let addresses = addresses.collect();
            self.emit(Kind::Unconfirmed { addresses });
        }
        // Receivers that record what is stated compare chunks, and nobody the whole.
        let compared = self.receivers.iter().all(Receiver::compares_the_whole);
        self.changed = !compared && self.payload.has_changed();
        match outcome {
            Outcome::Complete { verified: true } if self.changed => {
                let name = self.payload.name();
                let why = format!("{name} was written to while it was sent");
                if self.options.require_verified {
                    return Err(SendError::Unverified { tid, why });
                }
                self.emit(Kind::Warning { text: format!("{why}; not verified") });
                Ok(())
            }
            Outcome::Complete { verified: true } => {
                let blake3 = blake3::Hash::from_bytes(self.digest.unwrap_or_default());
                self.emit(Kind::Receipt { tid, bytes: total, blake3: blake3.to_hex().to_string() });
                Ok(())
            }
            Outcome::Complete { .. } if self.options.require_verified => {
                let why = if unconfirmed.is_empty() {
                    "no receiver that holds chunks can be asked: they are classic".to_owned()
                } else {
                    format!("no answer from {}", self.named_lanes(unconfirmed))
                };
                Err(SendError::Unverified { tid, why })
            }
            Outcome::Complete { .. } => Ok(()),
            Outcome::Mismatch => Err(SendError::Mismatch { tid }),
            outcome if falls_back(outcome) => Err(SendError::NothingArrives),
            Outcome::Deadline => {
                let seconds = self.options.deadline.unwrap_or_default().as_secs_f64();
                Err(SendError::Deadline { seconds, acked, total, tid })
            }
            _ => {
                let silent = (0..self.receivers.len())
                    .filter(|&lane| transfer.state(lane) != LaneState::Done);
                let silent = self.named_lanes(silent);
                let seconds = self.options.transfer.fail_after.as_secs_f64();
                Err(SendError::NoProgress { seconds, acked, total, tid, silent })
            }
        }
    }

    /// Addresses and names, for people.
    fn named_lanes(&self, lanes: impl IntoIterator<Item = usize>) -> String {
        let receivers = lanes.into_iter().filter_map(|lane| self.receivers.get(lane));
        let named = receivers.map(|receiver| format!("{} ({})", receiver.addr, receiver.name));
        named.collect::<Vec<_>>().join(", ")
    }

    /// Progress ten times a second; who is silent every five seconds; whom all wait for.
    fn remind(&mut self, transfer: &Transfer, due: &mut Reminders) {
        let now = self.clock.now();
        self.remind_of_receivers(transfer, &mut due.wait);
        if now >= due.progress {
            due.progress = now + PROGRESS_EVERY;
            self.emit_progress(transfer);
        }
        if now >= due.silence {
            due.silence = now + SILENCE;
            for lane in 0..self.receivers.len() {
                let waiting = transfer.waiting_since(lane).map(|since| now - since);
                if let Some(waiting) = waiting.filter(|waiting| *waiting >= SILENCE) {
                    let address = self.receivers[lane].addr.to_string();
                    self.emit(Kind::Silent { address, seconds: waiting.as_secs() });
                }
            }
        }
    }

    fn emit_progress(&mut self, transfer: &Transfer) {
        let progress = |(lane, receiver): (usize, &super::Receiver)| {
            let stats = transfer.stats(lane);
            ReceiverProgress {
                address: receiver.addr.to_string(),
                bytes: stats.bytes,
                planned_bytes: receiver.share.bytes,
                retransmissions: stats.retransmissions,
                state: transfer.state(lane).name(),
            }
        };
        let receivers = self.receivers.iter().enumerate().map(progress).collect();
        let (bytes, total_bytes) = (transfer.acked_bytes(), self.payload.len());
        self.emit(Kind::Progress { bytes, total_bytes, receivers });
    }
}
