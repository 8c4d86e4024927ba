//! Writing datagrams, byte for byte as classic peers spell them.
//!
//! Every function appends to a buffer and cannot fail. Does not add what a peer has not advertised:
//! whoever calls decides on CRCs and capabilities.

use super::{Capabilities, ChunkCrc, Seal, Verdict};
use crate::ids::{Nonce, SequenceNumber, TransactionId};
use crate::wire::list::{Entry, spell};

/// Bytes of payload in a classic chunk.
pub const CLASSIC_CHUNK: u16 = 100;

/// The longest header a Type 2 can have, in bytes: 20-digit numbers and a CRC.
pub const MAX_DATA_HEADER: usize = b"Type:2;TID:;SEQ:;CRC:;DATA:".len() + 20 + 20 + 8;

/// `Type:0;`
pub fn encode_intent(out: &mut Vec<u8>) {
    out.extend_from_slice(b"Type:0;");
}

/// An intent that is padded and nothing more.
pub(crate) fn encode_padded_intent(out: &mut Vec<u8>, len: usize) {
    encode_intent(out);
    pad(out, len);
}

/// An intent that can be told from every other one, padded to at least `len` bytes so that the
/// answer is not much longer than the question.
pub fn encode_nonced_intent(out: &mut Vec<u8>, nonce: Nonce, len: usize) {
    encode_intent(out);
    put_nonce(out, nonce);
    pad(out, len);
}

/// A Type 6: the intent with that nonce waits at `position`, from 1.
pub fn encode_queued(out: &mut Vec<u8>, nonce: Nonce, position: u64) {
    out.extend_from_slice(b"Type:6;");
    put_nonce(out, nonce);
    out.extend_from_slice(b"DATA:");
    number(out, position);
}

/// A Type 7, padded to at least `len` bytes: no answer is longer than its question (H51).
pub fn encode_probe(out: &mut Vec<u8>, nonce: Nonce, len: usize) {
    out.extend_from_slice(b"Type:7;");
    put_nonce(out, nonce);
    pad(out, len);
}

/// A Type 8.
pub fn encode_probe_reply(out: &mut Vec<u8>, nonce: Nonce, caps: Capabilities) {
    out.extend_from_slice(b"Type:8;");
    put_nonce(out, nonce);
    out.extend_from_slice(b"DATA:");
    out.extend_from_slice(caps.to_string().as_bytes());
}

fn put_nonce(out: &mut Vec<u8>, nonce: Nonce) {
    out.extend_from_slice(b"NONCE:");
    for byte in nonce.0.to_be_bytes() {
        hex(out, byte);
    }
    out.push(b';');
}

/// `PAD:000…;`, so that `out` has at least `len` bytes; nothing if it is almost as long.
fn pad(out: &mut Vec<u8>, len: usize) {
    const AROUND: usize = b"PAD:;".len();
    if let Some(zeros) = len.checked_sub(out.len() + AROUND) {
        out.extend_from_slice(b"PAD:");
        out.resize(out.len() + zeros, b'0');
        out.push(b';');
    }
}

/// A Type 1 in Python's spelling of the list, without a trailing `;`.
pub fn encode_assignment(
    out: &mut Vec<u8>,
    tid: TransactionId,
    nonce: Option<Nonce>,
    receivers: &[Entry],
) {
    let entries: Vec<Vec<u8>> = receivers.iter().map(spell).collect();
    encode_spelled(out, tid, nonce, entries.iter().map(Vec::as_slice));
}

/// A Type 1 of entries that are spelled already.
pub(crate) fn encode_spelled<'a>(
    out: &mut Vec<u8>,
    tid: TransactionId,
    nonce: Option<Nonce>,
    entries: impl Iterator<Item = &'a [u8]>,
) {
    out.extend_from_slice(b"Type:1;TID:");
    number(out, tid.0);
    out.push(b';');
    if let Some(nonce) = nonce {
        put_nonce(out, nonce);
    }
    out.extend_from_slice(b"DATA:[");
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
    let crc = seal.checked.then(|| seal.crc());
    numbers(out, seal.tid, SequenceNumber(seal.statement.chunks), crc);
    out.extend_from_slice(b"DATA:");
    put_statement(out, seal);
}

/// See [`Seal::crc`].
pub(super) fn seal_crc(seal: &Seal) -> ChunkCrc {
    let mut text = Vec::with_capacity(96);
    put_statement(&mut text, seal);
    ChunkCrc::of(seal.tid, SequenceNumber(seal.statement.chunks), &text)
}

fn put_statement(out: &mut Vec<u8>, seal: &Seal) {
    number(out, seal.statement.bytes);
    out.push(b' ');
    for byte in seal.statement.blake3 {
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
        Verdict::Recorded(ChunkCrc(crc)) => {
            out.extend_from_slice(b"recorded ");
            for byte in crc.to_be_bytes() {
                hex(out, byte);
            }
        }
        Verdict::Refused(why) => {
            out.extend_from_slice(b"refused ");
            out.extend_from_slice(why.word().as_bytes());
        }
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
