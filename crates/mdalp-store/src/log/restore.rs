//! What opening does about that which the manifest knows and no segment tells: a segment that is lost, or of
//! which a part is.
//!
//! What is known of the transactions (who began them, what their senders stated, receipts) is recorded once
//! more, in the segment being written, together with which chunks are lost: they are damaged until these
//! are sent again. Only then does the manifest forget the segment. Should the file come back, what it holds
//! counts again.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use mdalp_proto::ids::SequenceNumber;
use mdalp_proto::ranges::RangeSet;

use super::catalog::{Catalog, Transaction};
use super::codec::Put;
use super::facts::Facts;
use super::format::{HEADER, Header, kind};
use super::manifest::{self, Entries, Found, Manifest, Missing};
use super::{Damage, DamageKind, SegmentLog};
use crate::disk::{Access, Disk, DiskFile, MANIFEST, is_full};
use crate::types::StoreError;

/// No record has more ranges.
const MOST_RANGES: usize = 4096;

impl Missing {
    fn damage(&self) -> Damage {
        let chunk = self.lost.first().map(|seq| (self.tid, SequenceNumber(seq)));
        Damage { segment: self.segment, offset: 0, kind: DamageKind::Lost, chunk }
    }
}

/// The manifest itself.
fn damaged() -> Damage {
    Damage { segment: MANIFEST, offset: 0, kind: DamageKind::Manifest, chunk: None }
}

/// Enters what the manifest knows besides into the catalog of a reader. `before` was read before the
/// directory was, `after` afterwards: what a server made or removed meanwhile is in one of them only.
pub(super) fn enter<F: DiskFile>(
    catalog: &mut Catalog<F>,
    before: &Found,
    after: Found,
) -> Vec<Damage> {
    let (known, mut entries) = match (before, after) {
        (Found::Good(known, ..), Found::Good(entries, ..)) => (known, entries),
        (_, Found::Damaged) => return vec![damaged()],
        _ => return Vec::new(),
    };
    entries.retain(|number, _| known.contains_key(number));
    learn(catalog, &entries);
    let missing = manifest::compare(entries, catalog);
    for one in &missing {
        let facts = &mut catalog.transactions.get_or_default(one.tid).facts;
        facts.supplement(&Facts { release: None, ..one.facts.clone() });
        facts.lose(&one.lost);
    }
    missing.iter().map(Missing::damage).collect()
}

/// Learns the receivers that no segment tells of.
fn learn<F: DiskFile>(catalog: &mut Catalog<F>, entries: &Entries) {
    for entry in entries.values() {
        let mut new = entry.contents.receivers.clone();
        new.retain(|id, _| usize::from(id.0) >= catalog.receivers.len());
        catalog.learn(&new);
    }
}

impl<D: Disk> SegmentLog<D> {
    /// Compares what is there with what should be, takes care of what is not, and brings the manifest up to
    /// date. Before anything is removed.
    pub(super) fn compare_with(&self, found: Found) -> Result<Vec<Damage>, StoreError> {
        let (entries, end) = match found {
            Found::Good(entries, store, end) if store == self.store => (entries, end),
            // Maintenance makes one.
            Found::Nothing => return Ok(Vec::new()),
            _ => return Ok(vec![damaged()]),
        };
        let file = self.disk.open(MANIFEST, Access::Write);
        let file = file.map_err(|error| self.manifest_failed(&error))?;
        let mut manifest = Manifest::resume(file, self.store, end, &entries);
        let numbers: Vec<u64> = entries.keys().copied().collect();
        let missing = {
            let catalog = &mut self.inner().catalog;
            for (number, segment) in &catalog.segments {
                if segment.file.len().ok() != manifest.sealed.get(number).copied() {
                    manifest.sealed.remove(number);
                }
            }
            learn(catalog, &entries);
            manifest::compare(entries, catalog)
        };
        *self.manifest() = manifest;
        let damage = missing.iter().map(Missing::damage).collect();
        for one in &missing {
            match self.restore(one) {
                Ok(()) => {}
                // It is found again by the next opening.
                Err(StoreError::Full) => return Ok(damage),
                Err(error) => return Err(error),
            }
        }
        let changed: BTreeSet<u64> = missing.iter().map(|one| one.segment).collect();
        let gone: Vec<u64> = {
            let inner = self.inner();
            let gone = |number: &u64| !inner.catalog.segments.contains_key(number);
            numbers.into_iter().filter(gone).collect()
        };
        self.record_in_manifest(|manifest| {
            manifest.sealed.retain(|number, _| !changed.contains(number));
            for &number in &gone {
                manifest.add_removed(number);
            }
        })?;
        let alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        self.complete_manifest(&alone)?;
        Ok(damage)
    }

    /// Makes an empty manifest, if there is room.
    pub(super) fn create_manifest(&self) -> Result<bool, StoreError> {
        let created = self.manifest().create(&self.disk);
        match created {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => Ok(false),
            Err(error) => Err(self.manifest_failed(&error)),
        }
    }

    pub(super) fn manifest_failed(&self, error: &std::io::Error) -> StoreError {
        self.inner().poisoned("writing the manifest", error).into()
    }

    /// Records anew what is known of a transaction.
    fn restore(
        &self,
        Missing { tid, facts: known, lost, old, .. }: &Missing,
    ) -> Result<(), StoreError> {
        let inner = &mut *self.inner();
        let tid = *tid;
        let nothing = Facts::default();
        let there = inner.catalog.transactions.get(tid).map(|Transaction { facts, .. }| facts);
        let there = there.unwrap_or(&nothing);
        let nobody = there.info.is_none() && there.sender.is_none();
        let info = known.info.as_ref().filter(|_| there.info.is_none());
        let sender = known.sender.as_ref().filter(|_| nobody);
        let lower = there.statement.is_none() || there.floor < known.floor;
        let statement =
            there.statement.as_ref().or(known.statement.as_ref()).filter(|_| lower).cloned();
        // Of version 1, it says nothing of what the sender stated.
        let receipt =
            known.receipt.as_ref().filter(|_| !old && there.revision() < known.revision());
        if let Some(info) = info {
            let mut body = Vec::new();
            body.info(info);
            self.record(inner, Header::of(kind::BEGIN, 0, tid.0, 0, &body), &body)?;
            inner.note(tid, |facts| facts.info = Some(info.clone()));
        }
        if let Some(sender) = sender {
            let mut body = Vec::new();
            body.address(sender);
            self.record(inner, Header::of(kind::ORIGIN, 0, tid.0, 0, &body), &body)?;
            inner.note(tid, |facts| facts.sender = Some(sender.clone()));
        }
        if let Some(statement) = statement {
            let mut body = Vec::new();
            body.statement(&statement, known.floor);
            self.record(inner, Header::of(kind::STATEMENT, 0, tid.0, 0, &body), &body)?;
            inner.note(tid, |facts| facts.state_whole(&statement, known.floor));
        }
        if let Some(receipt) = receipt {
            let mut body = Vec::new();
            body.receipt(receipt);
            self.record(inner, Header::of(kind::CLOSE, 0, tid.0, 0, &body), &body)?;
            inner.note(tid, |facts| facts.close(receipt, true));
        }
        let most = ((self.max_record() as usize - HEADER - 4) / 16).min(MOST_RANGES);
        let ranges: Vec<_> = lost.iter().collect();
        for piece in ranges.chunks(most.max(1)) {
            let piece: RangeSet = piece.iter().cloned().collect();
            let mut body = Vec::new();
            body.ranges(&piece);
            self.record(inner, Header::of(kind::LOST, 0, tid.0, 0, &body), &body)?;
            inner.note(tid, |facts| facts.lose(&piece));
        }
        Ok(())
    }
}
