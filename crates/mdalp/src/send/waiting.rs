//! Whom the client waits for: said once nothing has come for a while, with what the system says of it.
//!
//! Does not decide how long to wait.

use super::Session;
use crate::event::{Event, Kind};
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::Transfer;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Nothing has come for so long: people wonder.
const FIRST: Duration = Duration::from_millis(1500);
/// Between two words about one wait.
const AGAIN: Duration = Duration::from_secs(10);

/// One wait: since when, and when it is worth a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    since: Instant,
    pub(super) due: Instant,
}

impl Wait {
    pub(super) fn from(now: Instant) -> Self {
        Self { since: now, due: now + FIRST }
    }

    /// For how long nothing has come at `now`, if that is worth a word.
    fn lasted(&mut self, now: Instant) -> Option<Duration> {
        if now < self.due {
            return None;
        }
        self.due = now + AGAIN;
        Some(now - self.since)
    }

    /// Something came at `at`: another wait begins.
    fn news(&mut self, at: Instant) {
        if at > self.since {
            *self = Self::from(at);
        }
    }
}

/// The wait for the orchestrator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    pub(super) wait: Wait,
    orchestrator: SocketAddr,
    /// Whether it was said that the system has something to say.
    named: bool,
}

impl Asking {
    pub(super) fn new(now: Instant, orchestrator: SocketAddr) -> Self {
        Self { wait: Wait::from(now), orchestrator, named: false }
    }

    /// The system says that something did not reach `peer`: that is worth a word at once, once.
    pub(super) fn failed(&mut self, now: Instant, peer: SocketAddr) {
        if peer == self.orchestrator && !std::mem::replace(&mut self.named, true) {
            self.wait.due = now;
        }
    }
}

impl<F: FnMut(&Event)> Session<'_, F> {
    /// Notes what the system says of `peer`.
    pub(super) fn note_trouble(&mut self, peer: SocketAddr, why: io::ErrorKind) {
        self.trouble.insert(peer, why);
    }

    /// What the system says of those of `peers` that it said something of.
    pub(super) fn trouble_of(&self, peers: &[SocketAddr]) -> Option<String> {
        if let [peer] = peers {
            return self.trouble.get(peer).map(ToString::to_string);
        }
        let said = peers.iter().filter_map(|peer| Some((peer, self.trouble.get(peer)?)));
        let said: Vec<String> = said.map(|(peer, why)| format!("{peer}: {why}")).collect();
        (!said.is_empty()).then(|| said.join(", "))
    }

    fn say_waiting(&mut self, what: &'static str, whom: Vec<String>, lasted: Duration) {
        self.say_waiting_with(what, whom, lasted, None);
    }

    fn say_waiting_with(
        &mut self,
        what: &'static str,
        addresses: Vec<String>,
        lasted: Duration,
        problem: Option<String>,
    ) {
        // In tenths: more would only look precise.
        let seconds = (lasted.as_secs_f64() * 10.0).round() / 10.0;
        self.emit(Kind::Waiting { what, addresses, seconds, problem });
    }

    /// Does `work`, and says so when it takes long.
    pub(super) async fn patiently<T>(
        &mut self,
        what: &'static str,
        whom: &[String],
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        let mut wait = Wait::from(self.clock.now());
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep_until(self.clock.to_tokio(wait.due)) => {
                    if let Some(lasted) = wait.lasted(self.clock.now()) {
                        self.say_waiting(what, whom.to_vec(), lasted);
                    }
                }
            }
        }
    }

    /// Says that the orchestrator has not answered, if it is time to.
    pub(super) fn remind_of_orchestrator(&mut self, asking: &mut Asking) {
        if let Some(lasted) = asking.wait.lasted(self.clock.now()) {
            let peer = asking.orchestrator;
            let problem = self.trouble_of(&[peer]);
            self.say_waiting_with("orchestrator", vec![peer.to_string()], lasted, problem);
        }
    }

    /// Says who owes an answer, if nobody has acknowledged anything for a while.
    pub(super) fn remind_of_receivers(&mut self, transfer: &Transfer, wait: &mut Wait) {
        if let Some(at) = self.last_ack_at {
            wait.news(at);
        }
        let Some(lasted) = wait.lasted(self.clock.now()) else { return };
        let all_acked = transfer.acked_bytes() == self.payload.len();
        if all_acked && self.can_verify() && self.digest.is_none() {
            return self.say_waiting("hash", vec![self.payload.name().to_owned()], lasted);
        }
        let owes = |&lane: &usize| all_acked || transfer.waiting_since(lane).is_some();
        let lanes: Vec<usize> = (0..self.receivers.len()).filter(owes).collect();
        let peers: Vec<SocketAddr> = lanes.iter().map(|&lane| self.receivers[lane].addr).collect();
        let problem = self.trouble_of(&peers);
        let what = if all_acked { "confirmation" } else { "receivers" };
        let whom = lanes.iter().map(|&lane| self.receivers[lane].addr.to_string()).collect();
        self.say_waiting_with(what, whom, lasted, problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn t24_a_wait_is_worth_a_word_within_two_seconds_and_then_every_ten() {
        let mut wait = Wait::from(at(0));
        assert_eq!(wait.lasted(at(1499)), None);
        assert_eq!(wait.lasted(at(1500)), Some(Duration::from_millis(1500)));
        assert_eq!(wait.lasted(at(11_499)), None);
        assert_eq!(wait.lasted(at(11_500)), Some(Duration::from_millis(11_500)));
        wait.news(at(20_000));
        wait.news(at(20_000));
        assert_eq!(wait.lasted(at(21_499)), None);
        assert_eq!(wait.lasted(at(21_500)), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn t24_what_the_system_says_of_the_orchestrator_is_worth_a_word_at_once_and_once() {
        let orchestrator = "127.0.0.1:4650".parse().unwrap();
        let mut asking = Asking::new(at(0), orchestrator);
        asking.failed(at(1), "127.0.0.1:4651".parse().unwrap());
        assert_eq!(asking.wait.due, at(1500), "another's trouble says nothing of it");
        asking.failed(at(1), orchestrator);
        assert_eq!(asking.wait.lasted(at(1)), Some(Duration::from_millis(1)));
        asking.failed(at(1000), orchestrator);
        assert_eq!(asking.wait.due, at(10_001));
    }
}
