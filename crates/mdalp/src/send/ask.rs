//! From an orchestrator to an assignment: intents, what is said meanwhile, and what is remembered.
//!
//! Which answer counts is decided by [`mdalp_proto::intent`].

use super::Session;
use super::waiting::Asking;
use crate::error::{Interrupt, SendError};
use crate::event::{Event, Kind};
use crate::known::Known;
use crate::sockets::{Arrival, Sockets};
use mdalp_proto::ids::{Nonce, OrchestratorAddr};
use mdalp_proto::intent::{Assignment, Intent, IntentConfig, IntentError, Notice};
use mdalp_proto::wire::PORT;
use mdalp_proto::wire::list::MOST_ENTRIES;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

impl<F: FnMut(&Event)> Session<'_, F> {
    /// Intents until there is an assignment.
    pub(super) async fn ask<I: Future<Output = Interrupt>>(
        &mut self,
        orchestrator: SocketAddr,
        sockets: &Sockets,
        mut interrupt: Pin<&mut I>,
    ) -> Result<Assignment, SendError> {
        let known = self.known();
        let config = self.intent_config(orchestrator, known.as_ref())?;
        let mut intent = Intent::new(self.clock.now(), config, OrchestratorAddr(orchestrator));
        let mut datagram = Vec::new();
        let mut conflict = None;
        let mut asking = Asking::new(self.clock.now(), orchestrator);
        loop {
            while let Some(to) = intent.poll_transmit(&mut datagram) {
                self.trace("sent", to, &datagram);
                sockets.send(&datagram, datagram.len(), to).await?;
                datagram.clear();
            }
            while let Some(notice) = intent.poll_notice() {
                conflict = self.notice(orchestrator, notice).or(conflict);
            }
            if let Some(result) = intent.poll_event() {
                let assignment =
                    result.map_err(|error| self.why(error, orchestrator, &intent, &config))?;
                if intent.counters().echoed {
                    self.remember(known, orchestrator);
                } else if self.options.require_verified
                    && let Some(conflict) = conflict
                {
                    return Err(conflict);
                }
                return Ok(assignment);
            }
            let next = intent.poll_timeout().unwrap_or(self.clock.now()).min(asking.wait.due);
            let received = tokio::select! {
                // An answer that waits counts, also where the time was up before this process ran.
                biased;
                signal = &mut interrupt => return Err(SendError::Interrupt(signal)),
                received = sockets.recv(&mut self.inbox) => Some(received),
                () = tokio::time::sleep_until(self.clock.to_tokio(next)) => None,
            };
            let now = self.clock.now();
            match received {
                Some(Arrival::Datagram(at, from)) => {
                    let bytes = self.inbox.bytes(at).to_vec();
                    self.trace("received", from, &bytes);
                    intent.handle_datagram(now, from, &bytes);
                    // A flood must not keep what is due from being done.
                    intent.handle_timeout(now);
                }
                Some(Arrival::Refused(by)) => {
                    self.note_trouble(by, io::ErrorKind::ConnectionRefused);
                    asking.failed(now, by);
                    intent.handle_unreachable(by);
                }
                Some(Arrival::Unreachable(peer, why)) => {
                    self.note_trouble(peer, why);
                    asking.failed(now, peer);
                }
                None => intent.handle_timeout(now),
            }
            self.remind_of_orchestrator(&mut asking);
        }
    }

    /// The orchestrators that are known to echo, if that is kept.
    fn known(&mut self) -> Option<Known> {
        let path = self.options.orchestrators.as_deref().filter(|_| self.options.extensions)?;
        match Known::read(path) {
            Ok(known) => Some(known),
            Err(why) => {
                self.emit(Kind::Warning { text: format!("{}: {why}; not used", path.display()) });
                None
            }
        }
    }

    fn intent_config(
        &self,
        orchestrator: SocketAddr,
        known: Option<&Known>,
    ) -> Result<IntentConfig, SendError> {
        let mut config = self.options.intent;
        // Chance that does not matter much: without a random source all clients stretch alike.
        config.jitter_seed ^= getrandom::u64().unwrap_or(0);
        config.require_echo |= known.is_some_and(|known| known.contains(orchestrator));
        config.nonce = None;
        if self.options.extensions {
            let nonce = getrandom::u64().map_err(|error| {
                SendError::socket("asking the system for a random number", io::Error::other(error))
            })?;
            config.nonce = Some(Nonce(nonce));
        }
        Ok(config)
    }

    /// Tells the user; a conflict is an error where it is not decided.
    fn notice(&mut self, addr: SocketAddr, notice: Notice) -> Option<SendError> {
        match notice {
            Notice::Queued { position } => self.emit(Kind::Queued { position }),
            Notice::Conflict { first, second, echoed } => {
                let (first, second) = (named(&first), named(&second));
                let taken = if echoed {
                    "the second one echoes this client's nonce and is taken"
                } else {
                    "the first one is taken"
                };
                let text = format!(
                    "two different assignments from orchestrator {addr} for one intent, so one may be \
                     forged: {first}, and {second}; {taken}"
                );
                self.emit(Kind::Warning { text });
                return (!echoed).then_some(SendError::Conflict { addr, first, second });
            }
            _ => {}
        }
        None
    }

    fn remember(&mut self, known: Option<Known>, orchestrator: SocketAddr) {
        let Some(mut known) = known else { return };
        if let Err(error) = known.remember(orchestrator) {
            let text = format!(
                "{}: {error}; the next send will not know that orchestrator {orchestrator} echoes",
                known.path().display()
            );
            self.emit(Kind::Warning { text });
        }
    }

    fn why(
        &self,
        error: IntentError,
        addr: SocketAddr,
        intent: &Intent,
        config: &IntentConfig,
    ) -> SendError {
        let seconds = config.timeout.as_secs_f64();
        match error {
            IntentError::NotUnderstood(why) => SendError::NotUnderstood { addr, why },
            IntentError::TooManyReceivers(why) => {
                let hint = "; --max-receivers allows more";
                let hint = if config.max_receivers < MOST_ENTRIES { hint } else { "" };
                SendError::NotUnderstood { addr, why: format!("{why}{hint}") }
            }
            IntentError::NoReceivers => SendError::NoReceivers { addr },
            IntentError::NotEchoed => {
                let required = config.require_echo && !self.options.intent.require_echo;
                let file = self.options.orchestrators.as_ref().filter(|_| required);
                let advice = file.map_or_else(String::new, |file| {
                    let file = file.display();
                    format!("; if it was replaced by an older one, take its line out of {file}")
                });
                SendError::NotEchoed { addr, seconds, advice }
            }
            IntentError::Refused => SendError::NobodyThere { addr },
            IntentError::StillWaiting { position } => {
                SendError::StillWaiting { addr, seconds, position }
            }
            _ => {
                let intents = intent.counters().intents;
                let system = self.trouble_of(&[addr]);
                let system =
                    system.map_or_else(String::new, |said| format!("; the system says: {said}"));
                SendError::NoAnswer { addr, seconds, intents, system }
            }
        }
    }
}

/// A transaction, and the first receiver of its list.
fn named(assignment: &Assignment) -> String {
    let first = assignment.receivers.first();
    let first = first.map_or_else(String::new, |entry| {
        format!(" at {}", SocketAddr::new(entry.ip, entry.caps.port.unwrap_or(PORT)))
    });
    format!("transaction {}{first}", assignment.tid)
}
