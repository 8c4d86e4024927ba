//! Reading a store from another process while a server writes it (`ls`, `show`, `get`).
//!
//! Takes no lock and writes nothing. Shows what was there when it was opened.

use std::ops::ControlFlow;

use mdalp_proto::ids::{SequenceNumber, TransactionId};

use crate::disk::Disk;
use crate::log::{Catalog, Damage, OpenError, find_damage, load_read_only};
use crate::traits::Query;
use crate::types::{ReadError, ReceiverName, TransactionSummary};

/// See the module.
///
/// Chunks in a batch that is just being written may be missing. If the server gives the space of a
/// released transaction back meanwhile, its files stay readable as long as this exists.
#[derive(Debug)]
pub struct Reader<D: Disk> {
    catalog: Catalog<D::File>,
    damage: Vec<Damage>,
}

impl<D: Disk> Reader<D> {
    /// Takes a snapshot.
    pub fn open(disk: &D) -> Result<Self, OpenError> {
        let (catalog, damage) = load_read_only(disk)?;
        Ok(Self { catalog, damage })
    }

    /// What is known to be damaged, by segment; the end of a segment that is being written is not damage.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Looks at every byte: the same, and what shows by that. Changes nothing: a server that has the store
    /// strikes it out.
    pub fn check(&self) -> Result<Vec<Damage>, ReadError> {
        let mut all = find_damage(&self.catalog)?;
        all.extend_from_slice(&self.damage);
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }
}

impl<D: Disk> Query for Reader<D> {
    fn list(&self) -> Result<Vec<TransactionSummary>, ReadError> {
        Ok(self.catalog.list())
    }

    fn transaction(&self, tid: TransactionId) -> Result<Option<TransactionSummary>, ReadError> {
        Ok(self.catalog.summary(tid))
    }

    fn receivers(&self) -> Result<Vec<ReceiverName>, ReadError> {
        Ok(self.catalog.receivers.clone())
    }

    fn read(
        &self,
        tid: TransactionId,
        from: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.catalog.chunks(tid, from)?.visit(visit)
    }
}
