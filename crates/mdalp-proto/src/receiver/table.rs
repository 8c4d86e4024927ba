//! The transactions in memory: quotas, eviction, and when each is looked at.
//!
//! What is here may be forgotten at any time, because the store knows better.

use super::owner::Owners;
use super::{ACTIVE_INTERVAL, Append, Config, Local};
use crate::ids::TransactionId;
use crate::ranges::RangeSet;
use crate::source::{Prefix, is_local};
use crate::tidmap::{Place, TidMap};
use crate::time::Instant;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// An idle transaction keeps no more ranges than this: 1 KiB.
const IDLE_RANGES: usize = 64;

/// Why a new transaction is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    Source,
    Prefix,
}

#[derive(Clone, Debug)]
pub(super) struct Transaction {
    /// Who counts for it; nobody does for one that was there before the server started.
    creator: Option<IpAddr>,
    created: Instant,
    /// When the last chunk came, also if it was a duplicate.
    pub(super) heard: Instant,
    /// When the last new chunk was stored.
    pub(super) last_new: Instant,
    /// When it was last said to be active.
    pub(super) announced: Instant,
    pub(super) owners: Owners,
    /// What the store has confirmed. Changed by [`Table::answered`] alone.
    durable: RangeSet,
    /// Ranges that were confirmed but are not in `durable` any more, to save memory.
    forgotten: usize,
    /// Chunks that the store has not answered for.
    pub(super) pending: u32,
    /// Of these, chunks that may open a range each.
    opening: u32,
    new_chunks: u64,
    /// Silence was reported and nothing new has come since.
    quiet: bool,
    /// When it is looked at.
    check: Instant,
}

impl Transaction {
    /// How many ranges there would be if all that may open one did.
    fn ranges_at_most(&self) -> usize {
        self.durable.range_count() + self.forgotten + self.opening as usize
    }

    /// Counts chunk `seq` as under way, unless there is no room for the range that it may open:
    /// more than `limit` (H45). Says whether it may open one.
    pub(super) fn take(&mut self, local: Local, seq: u64, limit: usize) -> Option<bool> {
        let last = self.owners.last_seq(local)?;
        // A run of chunks opens one range, also while the store has answered for none of them.
        let follows = last.and_then(|last| last.checked_add(1)) == Some(seq);
        let opens = !follows && self.durable.would_open_range(seq);
        if opens && self.ranges_at_most() >= limit {
            return None;
        }
        if let Some(last) = self.owners.last_seq(local) {
            *last = Some(seq);
        }
        self.pending += 1;
        self.opening += u32::from(opens);
        Some(opens)
    }

    /// New chunks a minute.
    fn progress(&self, now: Instant) -> u64 {
        let seconds = now.since(self.created).as_secs().max(1);
        self.new_chunks.saturating_mul(60) / seconds
    }
}

/// What a look at a transaction found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Quiet(TransactionId),
    Idle(TransactionId),
}

#[derive(Debug, Default)]
pub(super) struct Table {
    transactions: TidMap<Transaction>,
    by_creator: BTreeSet<(IpAddr, TransactionId)>,
    /// One for each transaction.
    checks: BTreeSet<(Instant, TransactionId)>,
    ranges: usize,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.transactions.len()
    }

    pub(super) fn ranges(&self) -> usize {
        self.ranges
    }

    pub(super) fn find(&mut self, tid: TransactionId) -> Option<Place> {
        self.transactions.find(tid)
    }

    pub(super) fn at(&mut self, place: Place, tid: TransactionId) -> Option<&mut Transaction> {
        self.transactions.at(place, tid)
    }

    /// Whether the store has chunks of this transaction to answer for.
    pub(super) fn is_storing(&self, tid: TransactionId) -> bool {
        self.transactions.get(tid).is_some_and(|transaction| transaction.pending > 0)
    }

    pub(super) fn next_check(&self) -> Option<Instant> {
        self.checks.first().map(|&(at, _)| at)
    }

    /// Makes room for `tid` and takes it. Those that had to go for it are added to `evicted`.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        tid: TransactionId,
        from: Option<SocketAddr>,
        config: &Config,
        evicted: &mut Vec<TransactionId>,
    ) -> Result<Place, Refused> {
        let creator = from.filter(|&from| !is_local(from)).map(|from| from.ip());
        if let Some(ip) = creator {
            let prefix = Prefix::of(ip).addresses();
            self.keep_quota(now, ip..=ip, config.per_source, config, evicted)
                .map_err(|()| Refused::Source)?;
            self.keep_quota(now, prefix, config.per_prefix, config, evicted)
                .map_err(|()| Refused::Prefix)?;
        }
        if self.transactions.len() >= config.transactions.max(1) {
            self.evict_least(now, config, evicted);
        }
        let check = now + config.quiet;
        self.checks.insert((check, tid));
        self.by_creator.extend(creator.map(|ip| (ip, tid)));
        let transaction = Transaction {
            creator,
            created: now,
            heard: now,
            last_new: now,
            announced: now,
            owners: Owners::default(),
            durable: RangeSet::new(),
            forgotten: 0,
            pending: 0,
            opening: 0,
            new_chunks: 0,
            quiet: false,
            check,
        };
        Ok(self.transactions.insert(tid, transaction))
    }

    /// Checks that one more of `ips` does not pass `quota`; one idle transaction of theirs may go.
    fn keep_quota(
        &mut self,
        now: Instant,
        ips: RangeInclusive<IpAddr>,
        quota: usize,
        config: &Config,
        evicted: &mut Vec<TransactionId>,
    ) -> Result<(), ()> {
        let (first, last) = ips.into_inner();
        let theirs = (first, TransactionId(0))..=(last, TransactionId(u64::MAX));
        let mut count = 0;
        let mut idle = None;
        for &(_, tid) in self.by_creator.range(theirs) {
            count += 1;
            let heard = self.transactions.get(tid).map_or(Instant::ZERO, |t| t.heard);
            if heard + config.evictable <= now {
                idle = Some(tid);
            }
        }
        if count < quota {
            return Ok(());
        }
        let tid = idle.ok_or(())?;
        self.remove(tid);
        evicted.push(tid);
        Ok(())
    }

    /// Removes one of 64, the idle before those with the least progress (H49). Several at once,
    /// because finding them takes a look at all, and a flood asks for it with each datagram.
    fn evict_least(&mut self, now: Instant, config: &Config, evicted: &mut Vec<TransactionId>) {
        let mut order: Vec<_> = self
            .transactions
            .iter()
            .map(|(tid, t)| (now < t.heard + config.evictable, t.progress(now), t.heard, tid))
            .collect();
        let count = (order.len() / 64).max(1).min(order.len());
        if count < order.len() {
            order.select_nth_unstable(count);
        }
        for &(.., tid) in &order[..count] {
            self.remove(tid);
            evicted.push(tid);
        }
    }

    /// Lets `tid` count against no quota any more.
    pub(super) fn finish(&mut self, tid: TransactionId) {
        let creator = self.transactions.get_mut(tid).and_then(|one| one.creator.take());
        if let Some(ip) = creator {
            self.by_creator.remove(&(ip, tid));
        }
    }

    pub(super) fn remove(&mut self, tid: TransactionId) {
        let Some(transaction) = self.transactions.remove(tid) else { return };
        self.ranges -= transaction.durable.range_count();
        self.checks.remove(&(transaction.check, tid));
        if let Some(ip) = transaction.creator {
            self.by_creator.remove(&(ip, tid));
        }
    }

    /// Takes the store's answer for a chunk that was [taken](Transaction::take): `held` says whether
    /// it is new, and is `None` if it is not held. Returns whether to say that the transaction is
    /// active.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        append: &Append,
        held: Option<bool>,
        config: &Config,
    ) -> bool {
        let (tid, seq) = (append.tid, append.seq.0);
        let Some(transaction) = self.transactions.at(append.place, tid) else { return false };
        transaction.pending = transaction.pending.saturating_sub(1);
        transaction.opening = transaction.opening.saturating_sub(u32::from(append.opens_range));
        let Some(new) = held else { return false };
        let before = transaction.durable.range_count();
        // After failures of the store a run may have holes that were not counted. What is not noted
        // here is still in the store.
        let has_room = before + transaction.forgotten < limit(self.ranges, config);
        if has_room || !transaction.durable.would_open_range(seq) {
            transaction.durable.insert(seq);
        }
        self.ranges = self.ranges + transaction.durable.range_count() - before;
        if !new {
            return false;
        }
        transaction.new_chunks += 1;
        transaction.last_new = now;
        if std::mem::take(&mut transaction.quiet) {
            self.checks.remove(&(transaction.check, tid));
            transaction.check = now + config.quiet;
            self.checks.insert((transaction.check, tid));
        }
        let announce = now >= transaction.announced + ACTIVE_INTERVAL;
        if announce {
            transaction.announced = now;
        }
        announce
    }

    /// How many ranges a transaction may have now.
    pub(super) fn limit(&self, config: &Config) -> usize {
        limit(self.ranges, config)
    }

    /// Looks at the next transaction that is to be looked at by `now`; what it found, or nothing any
    /// more.
    pub(super) fn next_due(&mut self, now: Instant, config: &Config) -> Option<Due> {
        while let Some(&(at, tid)) = self.checks.first().filter(|&&(at, _)| at <= now) {
            let transaction = self.transactions.get_mut(tid)?;
            let is_quiet = now >= transaction.last_new + config.quiet && transaction.pending == 0;
            let reported = !transaction.quiet && is_quiet;
            transaction.quiet |= is_quiet;
            if !reported && transaction.quiet && now >= transaction.heard + config.idle {
                self.remove(tid);
                return Some(Due::Idle(tid));
            }
            let crowded = transaction.durable.range_count() > IDLE_RANGES;
            if crowded && now >= transaction.heard + config.evictable {
                let before = transaction.durable.range_count();
                transaction.forgotten += before;
                transaction.durable = RangeSet::new();
                self.ranges -= before;
            }
            let quiet_at = transaction.last_new + config.quiet;
            let next = if !transaction.quiet && quiet_at <= now {
                // Waiting for the store: nothing to say before it answers.
                now + config.quiet
            } else if !transaction.quiet {
                quiet_at
            } else if transaction.durable.range_count() > IDLE_RANGES {
                transaction.heard + config.evictable
            } else {
                transaction.heard + config.idle
            };
            self.checks.remove(&(at, tid));
            // A moment that has passed would be looked at again and again.
            transaction.check = next.max(Instant::from_nanos(now.as_nanos() + 1));
            self.checks.insert((transaction.check, tid));
            if reported {
                return Some(Due::Quiet(tid));
            }
        }
        None
    }
}

/// How many ranges a transaction may have while all have `total`.
fn limit(total: usize, config: &Config) -> usize {
    if total < config.ranges_total { config.ranges } else { config.ranges.min(IDLE_RANGES) }
}
