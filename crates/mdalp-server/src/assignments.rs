//! What was assigned and has not begun: in memory only, so that an intent costs no disk.
//!
//! The writer records one with its first chunk, and takes it out when that is kept: for one that was
//! refused because the disk is full there is another try. Does not know when assignments lapse: the oldest go when there are too many, and a transaction that begins
//! after that is kept as one that nobody announced.

use mdalp_proto::ids::TransactionId;
use mdalp_store::{ReceiverName, Store, TransactionInfo, UnixMillis};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// As many as an orchestrator remembers by default.
const MOST: usize = 16_384;

#[derive(Debug)]
struct Assignment {
    /// Its key in `order`.
    serial: u64,
    client: SocketAddr,
    at: UnixMillis,
    receivers: Box<[u16]>,
}

#[derive(Debug, Default)]
struct Table {
    assigned: BTreeMap<TransactionId, Assignment>,
    /// Oldest first.
    order: BTreeMap<u64, TransactionId>,
    serial: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Assignments {
    names: Vec<ReceiverName>,
    table: Mutex<Table>,
}

impl Assignments {
    /// Of these receivers, by their number in assignments.
    pub(crate) fn of(names: Vec<ReceiverName>) -> Self {
        Self { names, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Whatever a panic elsewhere left undone, an entry is there or not.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(
        &self,
        tid: TransactionId,
        client: SocketAddr,
        at: UnixMillis,
        receivers: Box<[u16]>,
    ) {
        let table = &mut *self.table();
        if table.assigned.len() >= MOST
            && let Some((_, oldest)) = table.order.pop_first()
        {
            table.assigned.remove(&oldest);
        }
        table.serial += 1;
        table.order.insert(table.serial, tid);
        table.assigned.insert(tid, Assignment { serial: table.serial, client, at, receivers });
    }

    /// Those of `tids` that are here, to be recorded.
    pub(crate) fn begun_by(
        &self,
        tids: impl Iterator<Item = TransactionId>,
    ) -> Vec<(TransactionId, TransactionInfo)> {
        let table = &*self.table();
        if table.assigned.is_empty() {
            return Vec::new();
        }
        let begun = tids.filter_map(|tid| {
            let Assignment { client, at, receivers, .. } = table.assigned.get(&tid)?;
            let receivers = receivers.iter().filter_map(|&i| self.names.get(usize::from(i)));
            let receivers = receivers.cloned().collect();
            Some((tid, TransactionInfo { client: client.to_string(), begun: *at, receivers }))
        });
        begun.collect()
    }

    /// Takes out those of `tids` that are here: they are on record.
    pub(crate) fn recorded(&self, tids: impl Iterator<Item = TransactionId>) {
        let table = &mut *self.table();
        for tid in tids {
            if let Some(Assignment { serial, .. }) = table.assigned.remove(&tid) {
                table.order.remove(&serial);
            }
        }
    }

    /// Records `tid` in `store` if it is here: for a payload without chunks.
    pub(crate) fn begin(&self, store: &dyn Store, tid: TransactionId) {
        for (tid, info) in self.begun_by(std::iter::once(tid)) {
            match store.begin(tid, &info) {
                Ok(()) => self.recorded(std::iter::once(tid)),
                Err(error) => {
                    tracing::debug!(%tid, %error, "an empty transaction was not recorded");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b3_a_flood_of_assignments_costs_bounded_memory_and_the_newest_stay() {
        let assigned = Assignments::of(vec![]);
        let client = SocketAddr::from(([192, 0, 2, 1], 9));
        for tid in 0..MOST as u64 + 10 {
            assigned.add(TransactionId(tid), client, UnixMillis(tid), Box::new([]));
        }
        let sizes = || {
            let table = assigned.table();
            (table.assigned.len(), table.order.len())
        };
        assert_eq!(sizes(), (MOST, MOST));
        let begun = assigned.begun_by([9, 10].into_iter().map(TransactionId));
        assert_eq!(begun.len(), 1);
        assert_eq!((begun[0].0, begun[0].1.begun), (TransactionId(10), UnixMillis(10)));
        assigned.recorded(std::iter::once(TransactionId(10)));
        assert!(assigned.begun_by(std::iter::once(TransactionId(10))).is_empty(), "only once");
        assert_eq!(sizes(), (MOST - 1, MOST - 1));
    }
}
