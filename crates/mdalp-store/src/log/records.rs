//! Records other than chunks: what happens to transactions.

use mdalp_proto::ids::TransactionId;
use mdalp_proto::wire::Statement;

use super::catalog::{Transaction, stated};
use super::codec::{Put, fits, release_byte};
use super::format::{HEADER, Header, kind};
use super::write::Room;
use super::{Active, Inner, SegmentLog};
use crate::disk::Disk;
use crate::types::{
    Receipt, ReceiverId, ReceiverName, Release, State, StoreError, TransactionInfo,
};

impl<D: Disk> SegmentLog<D> {
    /// Writes one record that is not a chunk, and flushes it.
    fn record(
        &self,
        inner: &mut Inner<D::File>,
        header: Header,
        body: &[u8],
    ) -> Result<(), StoreError> {
        self.put_record(inner, header, body, self.fsync())
    }

    fn put_record(
        &self,
        inner: &mut Inner<D::File>,
        header: Header,
        body: &[u8],
        flush: bool,
    ) -> Result<(), StoreError> {
        if inner.poison.is_some() {
            return Err(StoreError::Poisoned);
        }
        if header.record_len() > self.max_record() {
            return Err(StoreError::TooLong);
        }
        let begins = header.kind == kind::BEGIN;
        let fits = |active: &Active| {
            let limit = if begins { active.intake_limit() } else { active.limit };
            active.end + header.record_len() <= limit
        };
        if !inner.active.as_ref().is_some_and(fits) {
            self.roll(inner)?;
        }
        let Some(active) = &inner.active else { return Err(StoreError::Full) };
        inner.buf.clear();
        header.encode(active.seed, body, &mut inner.buf);
        Ok(self.put(inner, flush)?)
    }

    pub(super) fn record_begin(
        &self,
        tid: TransactionId,
        info: &TransactionInfo,
    ) -> Result<(), StoreError> {
        self.put_begin(&mut self.inner(), tid, info, self.fsync())
    }

    pub(super) fn put_begin(
        &self,
        inner: &mut Inner<D::File>,
        tid: TransactionId,
        info: &TransactionInfo,
        flush: bool,
    ) -> Result<(), StoreError> {
        if inner.catalog.transactions.get(tid).is_some() {
            return Err(StoreError::AlreadyExists);
        }
        let texts = info.receivers.iter().flat_map(|receiver| [&receiver.address, &receiver.name]);
        if !texts.chain([&info.client]).all(|text| fits(text)) {
            return Err(StoreError::TooLong);
        }
        self.look_for_room(inner);
        if inner.room < Room::All {
            return Err(StoreError::Full);
        }
        let mut body = Vec::new();
        body.info(info);
        let header = Header::of(kind::BEGIN, 0, tid.0, 0, &body);
        self.put_record(inner, header, &body, flush)?;
        inner.note(tid, |facts| facts.info = Some(Box::new(info.clone())));
        Ok(())
    }

    pub(super) fn record_receiver(
        &self,
        receiver: &ReceiverName,
    ) -> Result<ReceiverId, StoreError> {
        let inner = &mut *self.inner();
        let known = &inner.catalog.receivers;
        if let Some(at) = known.iter().position(|known| known == receiver) {
            return Ok(ReceiverId(at as u16));
        }
        let id = u16::try_from(known.len()).map_err(|_| StoreError::TooLong)?;
        let table: usize = known
            .iter()
            .chain([receiver])
            .map(|r| HEADER + 4 + r.address.len() + r.name.len())
            .sum();
        if !fits(&receiver.address) || !fits(&receiver.name) || table as u64 > self.max_record() {
            return Err(StoreError::TooLong);
        }
        let mut body = Vec::new();
        body.receiver(receiver);
        self.record(inner, Header::of(kind::RECEIVER, id, 0, 0, &body), &body)?;
        inner.catalog.receivers.push(receiver.clone());
        if let Some(active) = &mut inner.active {
            active.contents.receivers.insert(ReceiverId(id), receiver.clone());
        }
        Ok(ReceiverId(id))
    }

    pub(super) fn record_statement(
        &self,
        tid: TransactionId,
        statement: &Statement,
    ) -> Result<(), StoreError> {
        let inner = &mut *self.inner();
        let mut held = 0;
        match inner.catalog.transactions.get(tid) {
            Some(Transaction { facts, .. }) if facts.release.is_some() => {
                return Err(StoreError::Released);
            }
            Some(Transaction { facts, .. }) => {
                held = facts.held.len();
                let beyond = facts.held.last().is_some_and(|last| last >= statement.chunks);
                let other = facts.statement.as_ref().is_some_and(|known| **known != *statement);
                if other || beyond || facts.floor > statement.chunks {
                    return Err(StoreError::Contradicted);
                }
                // Again only if more is held now, which from now on is known to have been there.
                if facts.statement.is_some() && held <= facts.floor {
                    return Ok(());
                }
            }
            None if statement.chunks > 0 => return Err(StoreError::UnknownTransaction),
            None => {
                self.look_for_room(inner);
                if inner.room < Room::All || !inner.catalog.crowd.admits(&inner.limits) {
                    return Err(StoreError::Full);
                }
            }
        }
        let mut body = Vec::new();
        body.statement(statement, held);
        self.record(inner, Header::of(kind::STATEMENT, 0, tid.0, 0, &body), &body)?;
        inner.note(tid, |facts| facts.state_whole(statement, held));
        Ok(())
    }

    pub(super) fn record_close(
        &self,
        tid: TransactionId,
        receipt: &Receipt,
    ) -> Result<(), StoreError> {
        let inner = &mut *self.inner();
        let transaction = inner.catalog.transactions.get(tid);
        let facts = &transaction.ok_or(StoreError::UnknownTransaction)?.facts;
        if facts.release.is_some() {
            return Err(StoreError::Released);
        }
        if facts.receipt.as_deref() == Some(receipt) && facts.state() == State::Complete {
            return Ok(());
        }
        if facts.statement.as_ref().is_some_and(|known| **known != stated(receipt)) {
            return Err(StoreError::Contradicted);
        }
        let revision =
            facts.receipt.as_ref().map_or(0, |receipt| receipt.revision).saturating_add(1);
        if facts.held.contiguous_from_zero() != Some(receipt.chunks)
            || facts.bytes != receipt.bytes
            || receipt.revision != revision
            || receipt.chunks < facts.floor
        {
            return Err(StoreError::Outdated);
        }
        let mut body = Vec::new();
        body.receipt(receipt);
        self.record(inner, Header::of(kind::CLOSE, 0, tid.0, 0, &body), &body)?;
        inner.note(tid, |facts| facts.close(receipt, true));
        Ok(())
    }

    pub(super) fn record_release(
        &self,
        tid: TransactionId,
        why: Release,
    ) -> Result<(), StoreError> {
        let inner = &mut *self.inner();
        let transaction = inner.catalog.transactions.get(tid);
        if transaction.ok_or(StoreError::UnknownTransaction)?.facts.release.is_some() {
            return Ok(());
        }
        let body = [release_byte(why)];
        self.record(inner, Header::of(kind::RELEASE, 0, tid.0, 0, &body), &body)?;
        inner.note(tid, |facts| facts.release = Some(why));
        inner.catalog.less_is_needed_of(tid);
        Ok(())
    }
}
