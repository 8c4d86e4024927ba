//! What servers hold, read from their data directories while they run or not.
//!
//! Several directories, of receivers that ran as separate processes, are read as one store. Changes
//! nothing.

use crate::console;
use crate::directory;
use crate::exit::{Exit, Failure};
use crate::text;
use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::ranges::RangeSet;
use mdalp_store::disk::RealDisk;
use mdalp_store::{
    Damage, DamageKind, Query, ReadError, Reader, ReceiverId, ReceiverName, State,
    TransactionSummary,
};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const DEFAULT: &str = "mdalp-data";

/// Where to look.
#[derive(clap::Args)]
pub(crate) struct DataArgs {
    /// Data directory of the servers; repeat it for receivers that have one each
    #[arg(long, value_name = "DIR", default_value = DEFAULT)]
    data: Vec<PathBuf>,
}

impl DataArgs {
    pub(crate) fn open(&self) -> Result<Held, Failure> {
        let held = self.open_as_it_is()?;
        for (dir, store) in self.data.iter().zip(&held.stores) {
            let foreign = store.damage().iter().filter(|damage| damage.kind == DamageKind::Foreign);
            let files: Vec<String> =
                foreign.map(|damage| format!("{:010}.seg", damage.segment)).collect();
            if !files.is_empty() {
                return Err(Exit::LocalIo.because(format_args!(
                    "data directory {}: files of several stores are mixed in it: {} do not belong to the \
                     others; give the files of each server a directory of their own",
                    dir.display(),
                    files.join(", ")
                )));
            }
        }
        Ok(held)
    }

    /// Also a directory in which those of several servers are mixed.
    pub(crate) fn open_as_it_is(&self) -> Result<Held, Failure> {
        let stores = self.data.iter().map(|dir| open(dir)).collect::<Result<_, _>>()?;
        Ok(Held { stores })
    }

    /// Whether the operator named a directory that is not the default one.
    pub(crate) fn is_given(&self) -> bool {
        self.data != [Path::new(DEFAULT)]
    }

    pub(crate) fn dirs(&self) -> &[PathBuf] {
        &self.data
    }

    /// The directories, for messages.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> = self.data.iter().map(|dir| dir.display().to_string()).collect();
        names.join(", ")
    }
}

fn open(dir: &Path) -> Result<Reader<RealDisk>, Failure> {
    let dir_name = dir.display();
    let disk = RealDisk::open(dir).map_err(|error| {
        Exit::LocalIo.because(format_args!(
            "data directory {dir_name}: {error}; name another with --data DIR"
        ))
    })?;
    let wrong = |problem: &dyn std::fmt::Display| {
        Exit::LocalIo.because(format_args!("data directory {dir_name}: {problem}"))
    };
    if let Some(problem) = directory::unreadable(dir).map_err(|error| wrong(&error))? {
        return Err(wrong(&problem));
    }
    let store = Reader::open(&disk).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        Exit::LocalIo.because(format_args!(
            "data directory {dir_name}: {error}{}",
            cause.unwrap_or_default()
        ))
    })?;
    if !store.damage().is_empty() {
        let count = text::count(store.damage().len() as u64, "place");
        console::note(format_args!(
            "mdalp: data directory {dir_name}: damaged in {count}; mdalp verify --data {dir_name} names them"
        ));
    }
    Ok(store)
}

/// All stores as one.
pub(crate) struct Held {
    stores: Vec<Reader<RealDisk>>,
}

impl Held {
    /// Looks at every byte of all stores: what is damaged, by directory.
    pub(crate) fn check(&self) -> Result<Vec<(usize, Damage)>, ReadError> {
        let mut all = Vec::new();
        for (at, store) in self.stores.iter().enumerate() {
            all.extend(store.check()?.into_iter().map(|damage| (at, damage)));
        }
        Ok(all)
    }

    /// The numbers of each store's receivers follow those of the store before.
    fn receiver_offsets(&self) -> Result<Vec<u16>, ReadError> {
        let mut next = 0_u16;
        let mut offsets = Vec::new();
        for store in &self.stores {
            offsets.push(next);
            next = next.saturating_add(u16::try_from(store.receivers()?.len()).unwrap_or(u16::MAX));
        }
        Ok(offsets)
    }

    /// Joins what several stores have of one transaction.
    fn join(
        &self,
        tid: TransactionId,
        parts: Vec<TransactionSummary>,
    ) -> Result<Option<TransactionSummary>, ReadError> {
        let several = parts.len() > 1;
        let damaged = parts.iter().any(|part| part.state == State::Damaged);
        let mut parts = parts.into_iter();
        let Some(mut whole) = parts.next() else { return Ok(None) };
        for part in parts {
            if matches!(whole.state, State::Expired | State::Removed) {
                whole.state = part.state;
            }
            whole.statement = match (whole.statement, part.statement) {
                // The first one that a store hears of counts there; stores that disagree prove nothing.
                (Some(one), Some(other)) if one != other => {
                    return Err(ReadError::Contradiction);
                }
                (one, other) => one.or(other),
            };
            whole.receipt = whole.receipt.or(part.receipt);
            whole.info = whole.info.or(part.info);
            whole.chunks += part.chunks;
            whole.bytes += part.bytes;
            whole.ranges.union_with(&part.ranges);
            whole.shares.extend(part.shares);
            whole.last_append = whole.last_append.max(part.last_append);
        }
        if several {
            if whole.chunks != whole.ranges.len() {
                (whole.chunks, whole.bytes) = self.count(tid)?;
            }
            // No store has compared the whole, unless it has all of it. Who reads it does.
            let stated = whole.statement.map(|statement| (statement.chunks, statement.bytes));
            let held = whole.ranges.contiguous_from_zero().map(|chunks| (chunks, whole.bytes));
            if matches!(whole.state, State::Open | State::Complete | State::Damaged) {
                let is_whole = stated.is_some() && held == stated;
                whole.state = match (is_whole, damaged) {
                    (true, _) => State::Complete,
                    (false, true) => State::Damaged,
                    (false, false) => State::Open,
                };
            }
        }
        Ok(Some(whole))
    }

    /// Chunks and bytes, where some are in more than one store. What is damaged in all of them is not there.
    fn count(&self, tid: TransactionId) -> Result<(u64, u64), ReadError> {
        let (mut chunks, mut bytes) = (0, 0);
        let mut from = SequenceNumber(0);
        loop {
            let read = self.read(tid, from, &mut |_, data| {
                chunks += 1;
                bytes += data.len() as u64;
                ControlFlow::Continue(())
            });
            match read {
                Err(ReadError::Damaged { seq }) if seq >= from && seq.0 < u64::MAX => {
                    from = SequenceNumber(seq.0 + 1);
                }
                other => return other.map(|()| (chunks, bytes)),
            }
        }
    }
}

impl Query for Held {
    fn list(&self) -> Result<Vec<TransactionSummary>, ReadError> {
        let mut tids = BTreeSet::new();
        for store in &self.stores {
            tids.extend(store.list()?.iter().map(|summary| summary.tid));
        }
        tids.into_iter().filter_map(|tid| self.transaction(tid).transpose()).collect()
    }

    fn transaction(&self, tid: TransactionId) -> Result<Option<TransactionSummary>, ReadError> {
        let mut parts = Vec::new();
        for (store, offset) in self.stores.iter().zip(self.receiver_offsets()?) {
            let Some(mut part) = store.transaction(tid)? else { continue };
            for share in &mut part.shares {
                share.receiver = ReceiverId(share.receiver.0.saturating_add(offset));
            }
            parts.push(part);
        }
        self.join(tid, parts)
    }

    fn receivers(&self) -> Result<Vec<ReceiverName>, ReadError> {
        let lists = self.stores.iter().map(Query::receivers).collect::<Result<Vec<_>, _>>()?;
        Ok(lists.concat())
    }

    fn read(
        &self,
        tid: TransactionId,
        from: SequenceNumber,
        visit: &mut dyn FnMut(SequenceNumber, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let mut held = Vec::new();
        for store in &self.stores {
            if let Some(summary) = store.transaction(tid)? {
                held.push((store, summary.ranges));
            }
        }
        if held.is_empty() {
            return Err(ReadError::UnknownTransaction);
        }
        let mut at = from.0;
        loop {
            // The first chunk from `at` on, how far the chunks go on from there, and who has them.
            let run = |(index, (_, ranges)): (usize, &(_, RangeSet))| {
                let range = ranges.iter().find(|range| *range.end() >= at)?;
                Some((at.max(*range.start()), *range.end(), index))
            };
            let Some((first, last, index)) = held.iter().enumerate().filter_map(run).min() else {
                return Ok(());
            };
            let mut stopped = false;
            let read = held[index].0.read(tid, SequenceNumber(first), &mut |seq, data| {
                if seq.0 > last {
                    return ControlFlow::Break(());
                }
                let flow = visit(seq, data);
                stopped = flow.is_break();
                flow
            });
            match read {
                // Another copy may be good.
                Err(ReadError::Damaged { seq })
                    if held
                        .iter()
                        .enumerate()
                        .any(|(other, (_, ranges))| other != index && ranges.contains(seq.0)) =>
                {
                    held[index].1.remove(seq.0);
                    at = seq.0;
                    continue;
                }
                other => other?,
            }
            let Some(next) = last.checked_add(1).filter(|_| !stopped) else { return Ok(()) };
            at = next;
        }
    }
}
