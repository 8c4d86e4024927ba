//! Bytes of a segment file. Knows nothing of transactions, durability or recovery.
//!
//! All numbers are big-endian. A file is a segment header, a copy of it, and records without gaps;
//! what follows the last record is zero.
//!
//! Segment header, at 0 and again at 512; records start at 1024:
//!
//! | bytes | content |
//! | --- | --- |
//! | 0–7 | `MDALPSEG` |
//! | 8–11 | format version; it and the checksum stay where they are in all versions |
//! | 12–15 | zero |
//! | 16–23 | number of the segment, as in its file name |
//! | 24–31 | store id: the same in all segments, drawn when the store was made |
//! | 32–59 | zero |
//! | 60–63 | CRC-32C of bytes 0–59 |
//!
//! Record:
//!
//! | bytes | content |
//! | --- | --- |
//! | 0 | 0xD7 |
//! | 1 | kind, see [`kind`] |
//! | 2–3 | receiver (chunk, receiver), else zero |
//! | 4–7 | length of the body |
//! | 8–15 | TID |
//! | 16–23 | SEQ |
//! | 24–27 | CRC-32C of bytes 8–23 and the body; for a chunk this is the CRC of the wire |
//! | 28–31 | CRC-32C of bytes 0–27, continued from that of store id and segment number |
//! | 32– | body |
//!
//! The last checksum starts from a value that no client knows: a chunk whose data looks like a record
//! is not taken for one when a damaged segment is searched for the next record.

/// What new segments have. Version 1 has neither statements nor senders: its receipts were made by the
/// server, and say nothing of what the sender stated.
pub(super) const VERSION: u32 = 2;
/// The oldest version that is read.
pub(super) const OLDEST: u32 = 1;
/// Where the first record starts.
pub(super) const START: u64 = 1024;
/// Length of a record without its body.
pub(super) const HEADER: usize = 32;
/// Where the copy of the segment header is.
const COPY: usize = 512;
const SEGMENT_HEADER: usize = 64;
const SEGMENT_MAGIC: &[u8; 8] = b"MDALPSEG";
const RECORD_MAGIC: u8 = 0xD7;

/// What a record is.
pub(super) mod kind {
    /// Payload bytes.
    pub(in crate::log) const CHUNK: u8 = 1;
    /// A transaction begins: TID; body: time, client, receivers.
    pub(in crate::log) const BEGIN: u8 = 2;
    /// A receiver's number; body: address, name. Repeated in each segment.
    pub(in crate::log) const RECEIVER: u8 = 3;
    /// A receipt: TID; body: the receipt.
    pub(in crate::log) const CLOSE: u8 = 4;
    /// The chunks of TID are not needed; body: one byte, why.
    pub(in crate::log) const RELEASE: u8 = 5;
    /// TID is the time in Unix milliseconds of the chunks that follow.
    pub(in crate::log) const CLOCK: u8 = 6;
    /// Sorted entries (SEQ: 8 bytes, offset: 4, CRC: 4) of all transactions.
    pub(in crate::log) const INDEX: u8 = 7;
    /// What the segment holds, by transaction.
    pub(in crate::log) const FOOTER: u8 = 8;
    /// The last record of a sealed segment; TID is the offset of the footer.
    pub(in crate::log) const TRAILER: u8 = 9;
    /// What the sender stated of the whole: TID; body: the statement, how many chunks were held, time.
    pub(in crate::log) const STATEMENT: u8 = 10;
    /// Who sent the first chunk of a transaction that nobody began: TID; body: address and port.
    pub(in crate::log) const ORIGIN: u8 = 11;
    /// Chunks of TID that were held once and are lost; body: their ranges.
    pub(in crate::log) const LOST: u8 = 12;
}

/// Which segment of which store: what record checksums start from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentId {
    pub(super) number: u64,
    pub(super) store: u64,
    /// Of the format.
    pub(super) version: u32,
}

impl SegmentId {
    /// The value that header checksums are continued from.
    pub(super) fn seed(self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.store.to_be_bytes()), &self.number.to_be_bytes())
    }

    /// The first [`START`] bytes of the file.
    pub(super) fn encode(self) -> [u8; START as usize] {
        let mut bytes = [0; START as usize];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.store.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..SEGMENT_HEADER].copy_from_slice(&crc.to_be_bytes());
        bytes.copy_within(..SEGMENT_HEADER, COPY);
        bytes
    }
}

/// What the start of a file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FileHeader {
    /// A segment; `intact` is false if one of the two copies is damaged.
    Segment { id: SegmentId, intact: bool },
    /// Written by a later release.
    Newer(u32),
    /// Nothing but zeros: the file was being made.
    Blank,
    /// None of these.
    Bad,
}

/// Reads the first [`START`] bytes, or fewer, of a file.
pub(super) fn file_header(bytes: &[u8]) -> FileHeader {
    if bytes.iter().all(|&byte| byte == 0) {
        return FileHeader::Blank;
    }
    let copies = [0, COPY].map(|at| bytes.get(at..at + SEGMENT_HEADER).and_then(header_copy));
    match copies {
        [None, None] => FileHeader::Bad,
        [Some(id), _] | [None, Some(id)] if id.version > VERSION => FileHeader::Newer(id.version),
        [Some(id), other] => FileHeader::Segment { id, intact: other == Some(id) },
        [None, Some(id)] => FileHeader::Segment { id, intact: false },
    }
}

fn header_copy(bytes: &[u8]) -> Option<SegmentId> {
    if !bytes.starts_with(SEGMENT_MAGIC) || crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
        return None;
    }
    let version = u32_at(bytes, 8);
    let id = SegmentId { number: u64_at(bytes, 16), store: u64_at(bytes, 24), version };
    (version >= OLDEST).then_some(id)
}

/// The 32 bytes before a record's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) receiver: u16,
    pub(super) len: u32,
    pub(super) tid: u64,
    pub(super) seq: u64,
    pub(super) crc: u32,
}

impl Header {
    /// A header whose `len` and `crc` fit `body`.
    pub(super) fn of(kind: u8, receiver: u16, tid: u64, seq: u64, body: &[u8]) -> Self {
        let crc = body_crc(tid, seq, body);
        Self { kind, receiver, len: body.len() as u32, tid, seq, crc }
    }

    /// Appends header and body to `buf`.
    pub(super) fn encode(&self, seed: u32, body: &[u8], buf: &mut Vec<u8>) {
        let mut bytes = [0; HEADER];
        bytes[0] = RECORD_MAGIC;
        bytes[1] = self.kind;
        bytes[2..4].copy_from_slice(&self.receiver.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.len.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.tid.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.seq.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.crc.to_be_bytes());
        let crc = crc32c::crc32c_append(seed, &bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_be_bytes());
        buf.extend_from_slice(&bytes);
        buf.extend_from_slice(body);
    }

    /// The header at the start of `bytes`, if its checksum holds.
    pub(super) fn decode(seed: u32, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        if bytes[0] != RECORD_MAGIC
            || crc32c::crc32c_append(seed, &bytes[..28]) != u32_at(bytes, 28)
        {
            return None;
        }
        Some(Self {
            kind: bytes[1],
            receiver: u16::from_be_bytes([bytes[2], bytes[3]]),
            len: u32_at(bytes, 4),
            tid: u64_at(bytes, 8),
            seq: u64_at(bytes, 16),
            crc: u32_at(bytes, 24),
        })
    }

    /// Whether `body` is what was written.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        self.len as usize == body.len() && self.crc == body_crc(self.tid, self.seq, body)
    }

    /// Length of the whole record.
    pub(super) fn record_len(&self) -> u64 {
        HEADER as u64 + u64::from(self.len)
    }
}

fn body_crc(tid: u64, seq: u64, body: &[u8]) -> u32 {
    use mdalp_proto::ids::{SequenceNumber, TransactionId};
    crate::chunk_crc(TransactionId(tid), SequenceNumber(seq), body)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) << 32 | u64::from(u32_at(bytes, at + 4))
}
