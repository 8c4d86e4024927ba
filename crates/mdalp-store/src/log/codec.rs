//! Bodies of the records that are not chunks: big-endian numbers, texts with a 16-bit length, lists
//! with a 32-bit count.
//!
//! Decoding never panics and never allocates more than a small multiple of the input.

use std::net::{IpAddr, SocketAddr};

use mdalp_proto::ranges::RangeSet;
use mdalp_proto::wire::Statement;

use crate::types::{Receipt, ReceiverName, Release, TransactionInfo, UnixMillis};

/// Writes into a growing buffer.
pub(super) trait Put {
    fn number<const N: usize>(&mut self, bytes: [u8; N]);
    fn text(&mut self, text: &str);
    fn ranges(&mut self, ranges: &RangeSet);
    fn receiver(&mut self, receiver: &ReceiverName);
    fn info(&mut self, info: &TransactionInfo);
    fn receipt(&mut self, receipt: &Receipt);
    fn statement(&mut self, statement: &Statement, held: u64);
    fn address(&mut self, address: &SocketAddr);
}

impl Put for Vec<u8> {
    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.extend_from_slice(&bytes);
    }

    fn text(&mut self, text: &str) {
        // Longer texts were refused when they came in: see `fits`.
        let len = u16::try_from(text.len()).unwrap_or(0);
        self.number(len.to_be_bytes());
        self.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
    }

    fn ranges(&mut self, ranges: &RangeSet) {
        self.number((ranges.range_count() as u32).to_be_bytes());
        for range in ranges.iter() {
            self.number(range.start().to_be_bytes());
            self.number(range.end().to_be_bytes());
        }
    }

    fn receiver(&mut self, receiver: &ReceiverName) {
        self.text(&receiver.address);
        self.text(&receiver.name);
    }

    fn info(&mut self, info: &TransactionInfo) {
        self.number(info.begun.0.to_be_bytes());
        self.text(&info.client);
        self.number((info.receivers.len() as u32).to_be_bytes());
        for receiver in &info.receivers {
            self.receiver(receiver);
        }
    }

    fn receipt(&mut self, receipt: &Receipt) {
        self.number(receipt.revision.to_be_bytes());
        self.number(receipt.bytes.to_be_bytes());
        self.number(receipt.chunks.to_be_bytes());
        self.number(receipt.blake3);
        self.number(receipt.closed.0.to_be_bytes());
    }

    fn statement(&mut self, statement: &Statement, held: u64) {
        self.number(statement.chunks.to_be_bytes());
        self.number(statement.bytes.to_be_bytes());
        self.number(statement.blake3);
        self.number(held.to_be_bytes());
    }

    fn address(&mut self, address: &SocketAddr) {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.number(ip.octets());
        self.number(address.port().to_be_bytes());
    }
}

/// Whether a text can be written.
pub(super) fn fits(text: &str) -> bool {
    u16::try_from(text.len()).is_ok()
}

/// Reads from the front of a slice; `None` if it is too short or makes no sense.
pub(super) struct Take<'a>(pub(super) &'a [u8]);

impl<'a> Take<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let len = self.u16()?;
        let bytes = self.bytes(usize::from(len))?;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }

    /// A list; `item` must take at least one byte.
    pub(super) fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        (0..count).map(|_| item(self)).collect()
    }

    /// An item that may be absent.
    #[expect(clippy::option_option, reason = "malformed, absent and present are three cases")]
    pub(super) fn option<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => item(self).map(Some),
            _ => None,
        }
    }

    pub(super) fn ranges(&mut self) -> Option<RangeSet> {
        let ranges = self.list(|take| Some(take.u64()?..=take.u64()?))?;
        Some(ranges.into_iter().collect())
    }

    pub(super) fn receiver(&mut self) -> Option<ReceiverName> {
        Some(ReceiverName { address: self.text()?, name: self.text()? })
    }

    pub(super) fn info(&mut self) -> Option<TransactionInfo> {
        let begun = UnixMillis(self.u64()?);
        let client = self.text()?;
        Some(TransactionInfo { client, begun, receivers: self.list(Self::receiver)? })
    }

    pub(super) fn receipt(&mut self) -> Option<Receipt> {
        Some(Receipt {
            revision: self.u32()?,
            bytes: self.u64()?,
            chunks: self.u64()?,
            blake3: self.array()?,
            closed: UnixMillis(self.u64()?),
        })
    }

    /// A statement, and how many chunks were held when it was recorded.
    pub(super) fn statement(&mut self) -> Option<(Statement, u64)> {
        let (chunks, bytes, blake3) = (self.u64()?, self.u64()?, self.array()?);
        Some((Statement { chunks, bytes, blake3 }, self.u64()?))
    }

    pub(super) fn address(&mut self) -> Option<SocketAddr> {
        let ip = IpAddr::from(self.array::<16>()?).to_canonical();
        Some(SocketAddr::new(ip, self.u16()?))
    }

    pub(super) fn release(&mut self) -> Option<Release> {
        match self.u8()? {
            1 => Some(Release::Expired),
            2 => Some(Release::Removed),
            _ => None,
        }
    }
}

/// The byte for a [`Release`].
pub(super) fn release_byte(why: Release) -> u8 {
    match why {
        Release::Expired => 1,
        Release::Removed => 2,
    }
}
