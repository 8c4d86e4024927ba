//! Transactions that are open, ids that are in use, and when each lapses.

use super::asker::Asker;
use super::pool::Choice;
use crate::ids::TransactionId;
use crate::time::Instant;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How long an id is not drawn again after its transaction has ended (§3.4: 10 min).
const RETENTION: Duration = Duration::from_secs(600);
/// Ids remembered for that, at most: 1 MiB. 63 random bits hardly need it.
const MAX_RECENT: usize = 65_536;

#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) client: Asker,
    pub(super) choice: Choice,
    pub(super) assigned: Instant,
    /// Data has been seen by a receiver.
    pub(super) claimed: bool,
    /// When it lapses, unless something is heard of it.
    lapses: Instant,
    /// When it is looked at: not later than it lapses, so that `touch` need not sort.
    check: Instant,
    /// Counts assignments, to know the oldest.
    serial: u64,
}

#[derive(Debug, Default)]
pub(super) struct Live {
    transactions: BTreeMap<TransactionId, Transaction>,
    /// The newest unclaimed transaction of each asker.
    by_client: BTreeMap<Asker, TransactionId>,
    unclaimed: BTreeMap<u64, TransactionId>,
    /// One for each transaction.
    checks: BTreeSet<(Instant, TransactionId)>,
    recent: BTreeSet<TransactionId>,
    recent_order: VecDeque<(Instant, TransactionId)>,
    serial: u64,
}

impl Live {
    pub(super) fn len(&self) -> usize {
        self.transactions.len()
    }

    pub(super) fn get(&self, tid: TransactionId) -> Option<&Transaction> {
        self.transactions.get(&tid)
    }

    /// The transaction that `client` was given and has not begun.
    pub(super) fn unclaimed_of(&self, client: &Asker) -> Option<(TransactionId, &Transaction)> {
        let tid = *self.by_client.get(client)?;
        Some((tid, self.transactions.get(&tid)?))
    }

    /// When an intent with a nonce from `addr` was last given a transaction that is not begun yet.
    pub(super) fn nonced_assigned(&self, addr: SocketAddr) -> Option<Instant> {
        // More at one port are a flood, and looking at all of them would be what it is after.
        let tids = self.by_client.range(Asker::nonced_of(addr)).map(|(_, tid)| tid).take(16);
        tids.filter_map(|tid| Some(self.transactions.get(tid)?.assigned)).max()
    }

    pub(super) fn oldest_unclaimed(&self) -> Option<TransactionId> {
        self.unclaimed.values().next().copied()
    }

    /// Whether the id must not be drawn.
    pub(super) fn is_used(&self, tid: TransactionId) -> bool {
        self.transactions.contains_key(&tid) || self.recent.contains(&tid)
    }

    pub(super) fn insert(
        &mut self,
        now: Instant,
        tid: TransactionId,
        client: Asker,
        choice: Choice,
        lapses: Instant,
    ) {
        self.serial += 1;
        let serial = self.serial;
        self.unclaimed.insert(serial, tid);
        self.by_client.insert(client, tid);
        self.checks.insert((lapses, tid));
        let transaction = Transaction {
            client,
            choice,
            assigned: now,
            claimed: false,
            lapses,
            check: lapses,
            serial,
        };
        self.transactions.insert(tid, transaction);
    }

    /// Notes that data has been seen.
    pub(super) fn claim(&mut self, tid: TransactionId) {
        let Some(transaction) = self.transactions.get_mut(&tid) else { return };
        transaction.claimed = true;
        let (client, serial) = (transaction.client, transaction.serial);
        self.unclaimed.remove(&serial);
        if self.by_client.get(&client) == Some(&tid) {
            self.by_client.remove(&client);
        }
    }

    /// Moves the moment when it lapses.
    pub(super) fn touch(&mut self, tid: TransactionId, lapses: Instant) {
        let Some(transaction) = self.transactions.get_mut(&tid) else { return };
        transaction.lapses = lapses;
        if lapses < transaction.check {
            self.checks.remove(&(transaction.check, tid));
            self.checks.insert((lapses, tid));
            transaction.check = lapses;
        }
    }

    /// Forgets a transaction, but for its id.
    pub(super) fn remove(&mut self, now: Instant, tid: TransactionId) -> Option<Transaction> {
        let transaction = self.transactions.remove(&tid)?;
        self.unclaimed.remove(&transaction.serial);
        self.checks.remove(&(transaction.check, tid));
        if self.by_client.get(&transaction.client) == Some(&tid) {
            self.by_client.remove(&transaction.client);
        }
        if self.recent_order.len() >= MAX_RECENT {
            self.forget_oldest_id();
        }
        self.recent.insert(tid);
        self.recent_order.push_back((now + RETENTION, tid));
        Some(transaction)
    }

    fn forget_oldest_id(&mut self) {
        if let Some((_, tid)) = self.recent_order.pop_front() {
            self.recent.remove(&tid);
        }
    }

    /// The next transaction that has lapsed by `now`, still there.
    pub(super) fn next_lapsed(&mut self, now: Instant) -> Option<TransactionId> {
        while self.recent_order.front().is_some_and(|&(until, _)| until <= now) {
            self.forget_oldest_id();
        }
        while let Some(&(at, tid)) = self.checks.first().filter(|&&(at, _)| at <= now) {
            let transaction = self.transactions.get_mut(&tid)?;
            if transaction.lapses <= now {
                return Some(tid);
            }
            self.checks.remove(&(at, tid));
            transaction.check = transaction.lapses;
            self.checks.insert((transaction.check, tid));
        }
        None
    }

    /// When to look for lapsed transactions again.
    pub(super) fn next_check(&self) -> Option<Instant> {
        self.checks.first().map(|&(at, _)| at)
    }
}
