//! Finds the records of a segment without its footer: after a crash, or to check every byte.
//!
//! Reads only; what follows from the findings is decided by [`super::open`] and [`super::verify`].

use std::collections::BTreeMap;
use std::ops::Range;

use mdalp_proto::ids::{SequenceNumber, TransactionId};

use super::catalog::Part;
use super::codec::Take;
use super::facts::Facts;
use super::format::{HEADER, Header, START, SegmentId, VERSION, kind};
use super::index::{Entry, MemoryIndex};
use super::{Damage, DamageKind};
use crate::types::{ReceiverId, ReceiverName, Share, UnixMillis};

/// What the records of one segment say.
#[derive(Default, Debug)]
pub(super) struct Contents {
    pub(super) clock: UnixMillis,
    pub(super) receivers: BTreeMap<ReceiverId, ReceiverName>,
    pub(super) parts: BTreeMap<TransactionId, Part>,
    pub(super) damage: Vec<Damage>,
    /// Of format version 1, whose receipts are not statements.
    pub(super) old: bool,
}

impl Contents {
    /// Takes in one record whose checksums hold; `None` if its body makes no sense.
    pub(super) fn apply(&mut self, header: &Header, body: &[u8], offset: u64) -> Option<()> {
        let tid = TransactionId(header.tid);
        let mut take = Take(body);
        match header.kind {
            kind::CHUNK => {
                let clock = self.clock;
                let (facts, index) = self.part(tid);
                if !facts.held.contains(header.seq) {
                    let receiver = ReceiverId(header.receiver);
                    let keep = facts.shares.keep_ranges([receiver], || facts.held.clone());
                    facts.held.insert(header.seq);
                    facts.came(clock);
                    facts.count_chunk(body.len() as u64, receiver);
                    facts.reopened = true;
                    if keep {
                        facts.shares.list(receiver, header.seq, Share::MAX_RANGES);
                    }
                    let offset = u32::try_from(offset).ok()?;
                    index.push(Entry { seq: header.seq, offset, crc: header.crc });
                }
            }
            kind::BEGIN => self.part(tid).0.info = Some(Box::new(take.info()?)),
            kind::CLOSE => {
                let receipt = take.receipt()?;
                let states = !self.old;
                self.part(tid).0.close(&receipt, states);
            }
            kind::STATEMENT if !self.old => {
                let (statement, held) = take.statement()?;
                self.part(tid).0.state_whole(&statement, held);
            }
            kind::LOST => {
                let lost = take.ranges()?;
                self.part(tid).0.lose(&lost);
            }
            kind::ORIGIN if !self.old => self.part(tid).0.sender = Some(Box::new(take.address()?)),
            kind::RELEASE => self.part(tid).0.release = Some(take.release()?),
            kind::RECEIVER => {
                self.receivers.insert(ReceiverId(header.receiver), take.receiver()?);
            }
            kind::CLOCK => self.clock = UnixMillis(header.tid),
            kind::INDEX | kind::FOOTER | kind::TRAILER => {}
            _ => return None,
        }
        Some(())
    }

    /// Notes that the chunks which are named as damaged were held once.
    pub(super) fn lose_damaged(&mut self) {
        for at in 0..self.damage.len() {
            if let Some((tid, seq)) = self.damage[at].chunk {
                self.part(tid).0.lost.get_or_insert_default().insert(seq.0);
            }
        }
    }

    /// How many chunks there are, if the index is in memory.
    pub(super) fn chunks(&self) -> usize {
        self.parts.values().map(|part| part.index.memory.len()).sum()
    }

    fn part(&mut self, tid: TransactionId) -> (&mut Facts, &mut MemoryIndex) {
        open_part(&mut self.parts, tid)
    }
}

/// The part of a transaction in a segment that is being written or scanned.
pub(super) fn open_part(
    parts: &mut BTreeMap<TransactionId, Part>,
    tid: TransactionId,
) -> (&mut Facts, &mut MemoryIndex) {
    let part = parts.entry(tid).or_default();
    (part.facts.get_or_insert_default(), &mut part.index.memory)
}

/// See [`scan`].
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) contents: Contents,
    /// End of the last valid record.
    pub(super) end: u64,
    /// End of the last byte that is not zero, if that is not part of a valid record.
    pub(super) dirty: u64,
    /// A footer or trailer was among the records.
    pub(super) sealed: bool,
    /// End of the last record, if that still says which chunk it was: otherwise `end`.
    pub(super) named: u64,
    /// What is not valid behind `end`.
    pub(super) tail: Vec<Damage>,
}

/// Goes through all of a segment's bytes.
///
/// The first invalid record with nothing valid behind it is a torn tail: a write that was cut short
/// and never acknowledged (or, which cannot be told apart, damage to the very last record). An invalid
/// record with a valid one behind it is reported as damage, and the valid ones count. (After a power
/// cut that may also be a batch, never acknowledged, whose sectors were written out of order.)
pub(super) fn scan(bytes: &[u8], id: SegmentId) -> Scan {
    let seed = id.seed();
    let mut contents = Contents { old: id.version < VERSION, ..Contents::default() };
    let mut suspects = Vec::new();
    let mut sealed = false;
    let mut at = START as usize;
    let (mut end, mut named) = (at, at);
    let limit = used(bytes);
    while at < limit {
        let offset = at as u64;
        let mut suspect = |kind, chunk| {
            suspects.push(Damage { segment: id.number, offset, kind, chunk });
        };
        let header = Header::decode(seed, &bytes[at..]);
        let record = header.and_then(|header| {
            let body = bytes.get(at + HEADER..)?.get(..header.len as usize)?;
            Some((header, body))
        });
        let Some((header, body)) = record else {
            suspect(DamageKind::Header, None);
            let Some(next) = next_header(&bytes[..limit], at + 1, seed) else { break };
            at = next;
            continue;
        };
        at += HEADER + body.len();
        let chunk = (header.kind == kind::CHUNK)
            .then_some((TransactionId(header.tid), SequenceNumber(header.seq)));
        if !header.fits(body) {
            let is_index = matches!(header.kind, kind::INDEX | kind::FOOTER | kind::TRAILER);
            suspect(if is_index { DamageKind::Index } else { DamageKind::Body }, chunk);
            named = if chunk.is_some() { at } else { named };
            continue;
        }
        if contents.apply(&header, body, offset).is_none() {
            suspect(DamageKind::Meaning, chunk);
        }
        contents.damage.append(&mut suspects);
        sealed |= matches!(header.kind, kind::FOOTER | kind::TRAILER);
        end = at;
    }
    contents.lose_damaged();
    let (named, dirty) = (named.max(end) as u64, limit.max(end) as u64);
    Scan { contents, end: end as u64, dirty, sealed, named, tail: suspects }
}

/// The same where some of the bytes could not be read. Nothing is to be written over these: the records end
/// behind them, and what is there is damage, not a torn tail.
pub(super) fn scan_readable(bytes: &[u8], unreadable: &[Range<u64>], id: SegmentId) -> Scan {
    let mut found = scan(bytes, id);
    if let Some(last) = unreadable.last()
        && last.end > found.end
    {
        found.contents.damage.append(&mut found.tail);
        found.contents.lose_damaged();
        found.end = last.end;
        found.dirty = found.dirty.max(last.end);
        found.named = found.named.max(last.end);
    }
    found
}

/// Where the next valid record header is.
pub(super) fn next_header(bytes: &[u8], from: usize, seed: u32) -> Option<usize> {
    (from..bytes.len()).find(|&at| Header::decode(seed, &bytes[at..]).is_some())
}

/// Length of `bytes` without the zeros at its end.
pub(super) fn used(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut len = bytes.len();
    while len >= ZEROS.len() && bytes[len - ZEROS.len()..len] == ZEROS {
        len -= ZEROS.len();
    }
    bytes[..len].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: SegmentId = SegmentId { number: 1, store: 2, version: VERSION };

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Header::of(kind, 0, 3, 4, body).encode(ID.seed(), body, &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn any_bytes_are_scanned(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let file = [&ID.encode()[..], &bytes].concat();
            prop_assert!(scan(&file, ID).contents.parts.is_empty());
        }

        #[test]
        fn any_body_with_right_checksums_is_scanned(
            records in proptest::collection::vec(
                (0..12_u8, proptest::collection::vec(any::<u8>(), 0..60)),
                0..9,
            ),
        ) {
            let mut file = ID.encode().to_vec();
            for (kind, body) in &records {
                file.extend(record(*kind, body));
            }
            let found = scan(&file, ID);
            prop_assert_eq!(found.end, file.len() as u64);
            prop_assert!(found.contents.damage.iter().all(|d| d.kind == DamageKind::Meaning));
        }
    }

    #[test]
    fn a_record_inside_a_chunk_of_a_damaged_segment_is_not_taken_for_one() {
        let stranger = SegmentId { store: 77, ..ID };
        let mut forged = Vec::new();
        Header::of(kind::CHUNK, 0, 3, 9, b"evil").encode(stranger.seed(), b"evil", &mut forged);
        let mut file = ID.encode().to_vec();
        file.extend(record(kind::CHUNK, &forged));
        file[START as usize] ^= 1;
        file.extend(record(kind::BEGIN, &[0; 14]));
        let found = scan(&file, ID);
        assert_eq!(found.contents.damage.len(), 1);
        assert!(
            found
                .contents
                .parts
                .values()
                .all(|part| { part.facts.as_ref().is_none_or(|facts| facts.held.is_empty()) })
        );
    }
}
