//! Writing datagrams, byte for byte as classic peers spell them.
//!
//! Every function appends to a buffer and cannot fail. Does not add what a peer has not advertised:
//! whoever calls decides on CRCs and capabilities.

use super::{ChunkCrc, Seal, Verdict};
use crate::ids::{SequenceNumber, TransactionId};
use crate::wire::list::{Entry, spell};

/// Bytes of payload in a classic chunk.
pub const CLASSIC_CHUNK: u16 = 100;

/// The longest header a Type 2 can have, in bytes: 20-digit numbers and a CRC.
pub const MAX_DATA_HEADER: usize = b"Type:2;TID:;SEQ:;CRC:;DATA:".len() + 20 + 20 + 8;

/// `Type:0;`
pub fn encode_intent(out: &mut Vec<u8>) {
    out.extend_from_slice(b"Type:0;");
}

/// A Type 1 in Python's spelling of the list, without a trailing `;`.
pub fn encode_assignment(out: &mut Vec<u8>, tid: TransactionId, receivers: &[Entry]) {
    let entries: Vec<Vec<u8>> = receivers.iter().map(spell).collect();
    encode_spelled(out, tid, entries.iter().map(Vec::as_slice));
}

/// A Type 1 of entries that are spelled already.
pub(crate) fn encode_spelled<'a>(
    out: &mut Vec<u8>,
    tid: TransactionId,
    entries: impl Iterator<Item = &'a [u8]>,
) {
    out.extend_from_slice(b"Type:1;TID:");
    number(out, tid.0);
    out.extend_from_slice(b";DATA:[");
    for (i, entry) in entries.enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(entry);
    }
    out.push(b']');
}

/// All of a Type 2 up to its data, which the caller appends.
pub fn encode_data_header(
    out: &mut Vec<u8>,
    tid: TransactionId,
    seq: SequenceNumber,
    crc: Option<ChunkCrc>,
) {
    out.extend_from_slice(b"Type:2;TID:");
    numbers(out, tid, seq, crc);
    out.extend_from_slice(b"DATA:");
}

/// A Type 3, with the CRC of what was stored if the chunk came with one.
pub fn encode_ack(
    out: &mut Vec<u8>,
    tid: TransactionId,
    seq: SequenceNumber,
    crc: Option<ChunkCrc>,
) {
    out.extend_from_slice(b"Type:3;TID:");
    numbers(out, tid, seq, crc);
}

/// A Type 4.
pub fn encode_seal(out: &mut Vec<u8>, seal: &Seal) {
    out.extend_from_slice(b"Type:4;TID:");
    numbers(out, seal.tid, SequenceNumber(seal.chunks), None);
    out.extend_from_slice(b"DATA:");
    number(out, seal.bytes);
    out.push(b' ');
    for byte in seal.blake3 {
        hex(out, byte);
    }
}

/// A Type 5. `limit` bounds the datagram in bytes: of a long list of gaps only the first are said,
/// and the client asks again after it has filled them.
pub fn encode_seal_reply(out: &mut Vec<u8>, tid: TransactionId, verdict: &Verdict, limit: usize) {
    let start = out.len();
    out.extend_from_slice(b"Type:5;TID:");
    number(out, tid.0);
    out.extend_from_slice(b";DATA:");
    match verdict {
        Verdict::Complete => out.extend_from_slice(b"complete"),
        Verdict::Mismatch => out.extend_from_slice(b"mismatch"),
        Verdict::Missing(gaps) => {
            out.extend_from_slice(b"missing ");
            for (i, gap) in gaps.iter().enumerate() {
                let before = out.len();
                if i > 0 {
                    out.push(b',');
                }
                number(out, *gap.start());
                if gap.end() > gap.start() {
                    out.push(b'-');
                    number(out, *gap.end());
                }
                if i > 0 && out.len() - start > limit {
                    out.truncate(before);
                    break;
                }
            }
        }
    }
}

/// `n;SEQ:n;` and, if there is one, `CRC:xxxxxxxx;`.
fn numbers(out: &mut Vec<u8>, tid: TransactionId, seq: SequenceNumber, crc: Option<ChunkCrc>) {
    number(out, tid.0);
    out.extend_from_slice(b";SEQ:");
    number(out, seq.0);
    out.push(b';');
    if let Some(ChunkCrc(crc)) = crc {
        out.extend_from_slice(b"CRC:");
        for byte in crc.to_be_bytes() {
            hex(out, byte);
        }
        out.push(b';');
    }
}

fn hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

/// Decimal digits. Not by `fmt`: this runs for every datagram, and that costs more than the rest of
/// the header together.
fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}
