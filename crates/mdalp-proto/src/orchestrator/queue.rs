//! Intents that wait, in order of arrival, one place for each source address and port.
//!
//! Counts by asking the sorted map for a range of addresses, so that nothing else has to be kept
//! and a waiting intent costs less than 200 bytes (G9).

use crate::source::{Prefix, is_local, sockets_of};
use crate::time::Instant;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Why an intent is not queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Full {
    Queue,
    Source,
    Prefix,
}

/// How many may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    pub(super) total: usize,
    pub(super) per_source: usize,
    pub(super) per_prefix: usize,
}

/// One waiting intent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// When it was last repeated.
    pub(super) heard: Instant,
    /// The longest datagram it was said in: what an answer may grow to.
    pub(super) longest: u16,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    order: VecDeque<SocketAddr>,
    waiting: BTreeMap<SocketAddr, Waiting>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Notes a repeated intent; `false` if it does not wait here.
    pub(super) fn repeat(&mut self, now: Instant, from: SocketAddr, len: usize) -> bool {
        let Some(waiting) = self.waiting.get_mut(&from) else { return false };
        waiting.heard = now;
        waiting.longest = waiting.longest.max(saturated(len));
        true
    }

    /// Adds an intent that does not wait yet; its position, from 1.
    pub(super) fn push(
        &mut self,
        now: Instant,
        from: SocketAddr,
        len: usize,
        quota: Quota,
    ) -> Result<usize, Full> {
        if self.order.len() >= quota.total {
            return Err(Full::Queue);
        }
        // A whole class may sit on one machine, and nobody else can send from there.
        let per_source = if is_local(from) { quota.per_prefix } else { quota.per_source };
        let same_ip = sockets_of(from.ip()..=from.ip());
        if self.waiting.range(same_ip).take(per_source).count() >= per_source {
            return Err(Full::Source);
        }
        let same_prefix = sockets_of(Prefix::of(from.ip()).addresses());
        if self.waiting.range(same_prefix).take(quota.per_prefix).count() >= quota.per_prefix {
            return Err(Full::Prefix);
        }
        self.order.push_back(from);
        self.waiting.insert(from, Waiting { heard: now, longest: saturated(len) });
        Ok(self.order.len())
    }

    /// Takes the newest intent back out.
    pub(super) fn pop_newest(&mut self) {
        if let Some(from) = self.order.pop_back() {
            self.waiting.remove(&from);
        }
    }

    /// Asks `stays` of each intent in order of arrival and takes out those for which it says no.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(SocketAddr, Waiting) -> bool) {
        let waiting = &mut self.waiting;
        self.order.retain(|from| {
            let stay = waiting.get(from).is_some_and(|&intent| stays(*from, intent));
            if !stay {
                waiting.remove(from);
            }
            stay
        });
    }
}

fn saturated(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}
