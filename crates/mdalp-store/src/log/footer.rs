//! The end of a sealed segment: a sorted index, and what the segment holds by transaction, so that
//! opening a log reads neither chunks nor index.
//!
//! Three records: index, footer, trailer. The trailer is the last 32 bytes of the file and says where
//! the footer is. A segment may be sealed again further on, after damage was found: the last trailer
//! counts.

use std::collections::BTreeMap;
use std::io;

use mdalp_proto::ids::{SequenceNumber, TransactionId};
use mdalp_proto::ranges::RangeSet;

use super::catalog::Part;
use super::codec::{Put, Take, release_byte};
use super::facts::Facts;
use super::format::{HEADER, Header, SegmentId, VERSION, kind};
use super::index::{Entry, Index, Slice};
use super::scan::Contents;
use super::share::Shares;
use super::{Damage, DamageKind};
use crate::disk::{DiskFile, read_what_can_be, write_all_at};
use crate::types::{ReceiverId, Share, UnixMillis};

/// Appends index, footer and trailer at `at` and ends the file there. Returns where each transaction's
/// index now is.
///
/// `durable`: all records before were flushed, and this is to be flushed too. The trailer comes after a
/// flush of its own: it vouches for an index that opening does not look at. If anything here fails, the
/// segment is as good as before, only not sealed.
pub(super) fn seal(
    file: &impl DiskFile,
    id: SegmentId,
    at: u64,
    durable: bool,
    contents: &Contents,
) -> io::Result<BTreeMap<TransactionId, Slice>> {
    let mut entries = Vec::with_capacity(contents.chunks() * Entry::LEN);
    let mut slices = BTreeMap::new();
    for (&tid, part) in &contents.parts {
        let start = at + (HEADER + entries.len()) as u64;
        for entry in part.index.memory.to_sorted() {
            entries.extend_from_slice(&entry.encode());
        }
        slices.insert(tid, Slice { at: start, count: part.index.memory.len() as u32 });
    }
    let body = encode(id, durable, contents, &contents.parts, &slices);

    let mut bytes = Vec::with_capacity(entries.len() + body.len() + 3 * HEADER);
    Header::of(kind::INDEX, 0, 0, 0, &entries).encode(id.seed(), &entries, &mut bytes);
    let footer_at = at + bytes.len() as u64;
    Header::of(kind::FOOTER, 0, 0, 0, &body).encode(id.seed(), &body, &mut bytes);
    write_all_at(file, &bytes, at)?;
    let trailer_at = at + bytes.len() as u64;
    file.set_len(trailer_at + HEADER as u64)?;
    if durable {
        file.sync_data()?;
    }
    bytes.clear();
    Header::of(kind::TRAILER, 0, footer_at, 0, &[]).encode(id.seed(), &[], &mut bytes);
    write_all_at(file, &bytes, trailer_at)?;
    if durable {
        file.sync_data()?;
    }
    Ok(slices)
}

/// The body of a footer over `parts`, whose indexes are in memory.
pub(super) fn encode(
    id: SegmentId,
    durable: bool,
    contents: &Contents,
    parts: &BTreeMap<TransactionId, Part>,
    slices: &BTreeMap<TransactionId, Slice>,
) -> Vec<u8> {
    let mut body = Vec::new();
    body.number([u8::from(durable)]);
    body.number(contents.clock.0.to_be_bytes());
    put_list(&mut body, contents.receivers.iter(), |body, (id, receiver)| {
        body.number(id.0.to_be_bytes());
        body.receiver(receiver);
    });
    put_list(&mut body, contents.damage.iter(), put_damage);
    put_list(&mut body, parts.iter(), |body, (tid, part)| {
        let slice = slices.get(tid).copied().unwrap_or(Slice { at: 0, count: 0 });
        body.number(tid.0.to_be_bytes());
        body.number(slice.at.to_be_bytes());
        body.number(slice.count.to_be_bytes());
        let facts = part.facts.as_deref();
        let held = part.index.memory.held();
        put_facts(body, facts.unwrap_or(&Facts::default()), &held, id.version);
    });
    body
}

/// What a sealed segment's footer says, and whether its records were flushed before it was written;
/// `None` if there is no trailer at the end, or the footer is damaged or cannot be read.
pub(super) fn load(file: &impl DiskFile, id: SegmentId) -> io::Result<Option<(Contents, bool)>> {
    Ok(load_body(file, id)?.and_then(|body| decode(&body, id)))
}

/// The same, not decoded.
pub(super) fn load_body(file: &impl DiskFile, id: SegmentId) -> io::Result<Option<Vec<u8>>> {
    let Some(trailer_at) = file.len()?.checked_sub(HEADER as u64) else { return Ok(None) };
    let trailer = header_at(file, id, trailer_at)?;
    let Some(trailer) = trailer.filter(|header| header.kind == kind::TRAILER) else {
        return Ok(None);
    };
    let Some(footer) = header_at(file, id, trailer.tid)? else { return Ok(None) };
    if footer.kind != kind::FOOTER
        || trailer.tid.checked_add(footer.record_len()) != Some(trailer_at)
    {
        return Ok(None);
    }
    let mut body = vec![0; footer.len as usize];
    let (count, _) = read_what_can_be(file, &mut body, trailer.tid + HEADER as u64)?;
    Ok(Some(body).filter(|body| count == body.len() && footer.fits(body)))
}

/// What the body of a footer says.
pub(super) fn decode(body: &[u8], id: SegmentId) -> Option<(Contents, bool)> {
    take_contents(&mut Take(body), id)
}

fn header_at(file: &impl DiskFile, id: SegmentId, at: u64) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER];
    if read_what_can_be(file, &mut bytes, at)?.0 < HEADER {
        return Ok(None);
    }
    Ok(Header::decode(id.seed(), &bytes))
}

fn put_list<T>(
    body: &mut Vec<u8>,
    items: impl ExactSizeIterator<Item = T>,
    put: impl Fn(&mut Vec<u8>, T),
) {
    body.number((items.len() as u32).to_be_bytes());
    items.for_each(|item| put(body, item));
}

fn put_option<T>(body: &mut Vec<u8>, item: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    body.number([u8::from(item.is_some())]);
    if let Some(item) = item {
        put(body, item);
    }
}

fn put_damage(body: &mut Vec<u8>, damage: &Damage) {
    body.number(damage.offset.to_be_bytes());
    body.number([match damage.kind {
        DamageKind::Header => 0,
        DamageKind::Body => 1,
        DamageKind::Lost => 3,
        DamageKind::Index => 4,
        _ => 2,
    }]);
    put_option(body, damage.chunk, |body, (tid, seq)| {
        body.number(tid.0.to_be_bytes());
        body.number(seq.0.to_be_bytes());
    });
}

fn put_facts(body: &mut Vec<u8>, facts: &Facts, held: &RangeSet, version: u32) {
    put_option(body, facts.info.as_deref(), Put::info);
    put_option(body, facts.receipt.as_deref(), Put::receipt);
    put_option(body, facts.release, |body, why| body.number([release_byte(why)]));
    put_option(body, facts.last_append, |body, at| body.number(at.0.to_be_bytes()));
    body.number(facts.bytes.to_be_bytes());
    body.ranges(held);
    put_list(body, facts.shares.listed(held).iter(), |body, share| {
        body.number(share.receiver.0.to_be_bytes());
        body.number(share.chunks.to_be_bytes());
        body.number(share.bytes.to_be_bytes());
        body.ranges(&share.ranges);
    });
    if version < VERSION {
        return;
    }
    put_option(body, facts.statement.as_deref(), |body, one| body.statement(one, 0));
    put_option(body, facts.sender.as_deref(), Put::address);
    body.number(facts.floor.to_be_bytes());
    body.number([u8::from(facts.reopened)]);
    put_option(body, facts.lost.as_deref(), Put::ranges);
}

fn take_contents(take: &mut Take<'_>, id: SegmentId) -> Option<(Contents, bool)> {
    let durable = take.u8()? == 1;
    let mut contents = Contents {
        old: id.version < VERSION,
        clock: UnixMillis(take.u64()?),
        receivers: take
            .list(|take| Some((ReceiverId(take.u16()?), take.receiver()?)))?
            .into_iter()
            .collect(),
        damage: take.list(|take| take_damage(take, id))?,
        parts: take.list(|take| take_part(take, id.version))?.into_iter().collect(),
    };
    if contents.old {
        contents.lose_damaged();
    }
    Some((contents, durable))
}

fn take_damage(take: &mut Take<'_>, id: SegmentId) -> Option<Damage> {
    Some(Damage {
        segment: id.number,
        offset: take.u64()?,
        kind: match take.u8()? {
            0 => DamageKind::Header,
            1 => DamageKind::Body,
            3 => DamageKind::Lost,
            4 => DamageKind::Index,
            _ => DamageKind::Meaning,
        },
        chunk: take
            .option(|take| Some((TransactionId(take.u64()?), SequenceNumber(take.u64()?))))?,
    })
}

fn take_part(take: &mut Take<'_>, version: u32) -> Option<(TransactionId, Part)> {
    let tid = TransactionId(take.u64()?);
    let slice = Slice { at: take.u64()?, count: take.u32()? };
    let index = Index { disk: Some(slice), ..Index::default() };
    let mut facts = Facts {
        info: take.option(Take::info)?.map(Box::new),
        receipt: take.option(Take::receipt)?.map(Box::new),
        release: take.option(Take::release)?,
        last_append: take.option(|take| take.u64().map(UnixMillis))?,
        bytes: take.u64()?,
        held: take.ranges()?,
        shares: Shares::new(take.list(|take| {
            Some(Share {
                receiver: ReceiverId(take.u16()?),
                chunks: take.u64()?,
                bytes: take.u64()?,
                ranges: take.ranges()?,
            })
        })?),
        ..Facts::default()
    };
    if version < VERSION {
        // Its chunks after a receipt, if any, outnumber it.
        facts.reopened = facts.receipt.is_none() && !facts.held.is_empty();
        facts.floor = facts.receipt.as_ref().map_or(0, |receipt| receipt.chunks);
    } else {
        let statement = take.option(Take::statement)?;
        facts.statement = statement.map(|(statement, _)| Box::new(statement));
        facts.sender = take.option(Take::address)?.map(Box::new);
        facts.floor = take.u64()?;
        facts.reopened = take.u8()? == 1;
        facts.lost = take.option(Take::ranges)?.map(Box::new);
    }
    Some((tid, Part { facts: Some(Box::new(facts)), index, ..Part::default() }))
}
