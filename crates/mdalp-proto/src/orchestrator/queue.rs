//! Intents that wait, in order of arrival, one place for each asker.
//!
//! Counts by asking the sorted map for a range of addresses, so that nothing else has to be kept
//! and a waiting intent costs less than 256 bytes.

use super::asker::Asker;
use crate::source::{Prefix, is_local};
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
    /// Counts arrivals.
    serial: u64,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    order: VecDeque<Asker>,
    waiting: BTreeMap<Asker, Waiting>,
    serial: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Notes a repeated intent; its position, from 1, unless it does not wait here.
    pub(super) fn repeat(&mut self, now: Instant, from: &Asker, len: usize) -> Option<usize> {
        let intent = self.waiting.get_mut(from)?;
        intent.heard = now;
        intent.longest = intent.longest.max(saturated(len));
        let serial = intent.serial;
        let before = |other: &Asker| self.waiting.get(other).is_some_and(|it| it.serial < serial);
        Some(self.order.partition_point(before) + 1)
    }

    /// When an intent with a nonce that waits was last heard from `addr`.
    pub(super) fn nonced_heard(&self, addr: SocketAddr) -> Option<Instant> {
        self.waiting.range(Asker::nonced_of(addr)).map(|(_, waiting)| waiting.heard).max()
    }

    /// Adds an intent that does not wait yet; its position, from 1.
    pub(super) fn push(
        &mut self,
        now: Instant,
        from: Asker,
        len: usize,
        quota: Quota,
    ) -> Result<usize, Full> {
        if self.order.len() >= quota.total {
            return Err(Full::Queue);
        }
        // A whole class may sit on one machine, and nobody else can send from there.
        let (ip, local) = (from.addr.ip(), is_local(from.addr));
        let per_source = if local { quota.per_prefix } else { quota.per_source };
        let same_ip = Asker::all_of(ip..=ip);
        if self.waiting.range(same_ip).take(per_source).count() >= per_source {
            return Err(Full::Source);
        }
        let same_prefix = Asker::all_of(Prefix::of(ip).addresses());
        if self.waiting.range(same_prefix).take(quota.per_prefix).count() >= quota.per_prefix {
            return Err(Full::Prefix);
        }
        self.serial += 1;
        self.order.push_back(from);
        let intent = Waiting { heard: now, longest: saturated(len), serial: self.serial };
        self.waiting.insert(from, intent);
        Ok(self.order.len())
    }

    /// Takes the newest intent back out.
    pub(super) fn pop_newest(&mut self) {
        if let Some(from) = self.order.pop_back() {
            self.waiting.remove(&from);
        }
    }

    /// Asks `stays` of each intent in order of arrival and takes out those for which it says no.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(Asker, Waiting) -> bool) {
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
