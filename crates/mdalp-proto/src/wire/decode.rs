//! Reading datagrams.
//!
//! Strict where a lax reading could be abused (digits, order, overflow), lenient exactly where real
//! peers differ (a trailing `;`, fields after the last known one). Never panics, never allocates
//! for classic messages, and looks at no more of the datagram than its header.

use super::{Capabilities, ChunkCrc, Message, Refusal, Seal, Statement, Verdict};
use crate::ids::{Nonce, SequenceNumber, TransactionId};
use crate::ranges::RangeSet;

/// Why a datagram is not a message. Counted and dropped, never answered (R-20).
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It does not begin with the five bytes `Type:`.
    #[error("does not begin with Type:")]
    NotMdalp,
    /// The type is a number, but none we know.
    #[error("unknown type")]
    UnknownType,
    /// A field that must come next is not there.
    #[error("expected field {0}")]
    Expected(&'static str),
    /// A number is empty, signed, padded, not ASCII or over 64 bits.
    #[error("bad number in {0}")]
    BadNumber(&'static str),
    /// The CRC is not eight lower-case hexadecimal digits.
    #[error("bad CRC field")]
    BadCrc,
    /// The nonce is not sixteen lower-case hexadecimal digits.
    #[error("bad nonce")]
    BadNonce,
    /// The capabilities are not text.
    #[error("bad capabilities")]
    BadCapabilities,
    /// The body of a seal or of its answer cannot be read.
    #[error("bad seal")]
    BadSeal,
}

/// Reads one datagram.
///
/// ```
/// use mdalp_proto::ids::{SequenceNumber, TransactionId};
/// use mdalp_proto::wire::{Message, decode};
/// let message = decode(b"Type:2;TID:3740;SEQ:31;DATA:a;b\n").unwrap();
/// let (tid, seq) = (TransactionId(3740), SequenceNumber(31));
/// assert_eq!(message, Message::Data { tid, seq, crc: None, data: b"a;b\n" });
/// ```
pub fn decode(datagram: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut input = Cursor { rest: datagram };
    if !input.skip(b"Type:") {
        return Err(DecodeError::NotMdalp);
    }
    match input.number("Type")? {
        // Whatever else follows, and a nonce that cannot be read, is ignored (R-5).
        0 => Ok(Message::Intent { nonce: input.nonce().unwrap_or(None) }),
        1 => {
            let (tid, nonce) = (input.tid()?, input.nonce()?);
            Ok(Message::Assignment { tid, nonce, list: input.data()? })
        }
        2 => {
            let (tid, seq) = (input.tid()?, input.seq()?);
            let crc = input.crc()?;
            Ok(Message::Data { tid, seq, crc, data: input.data()? })
        }
        3 => {
            let (tid, seq) = (input.tid()?, input.seq()?);
            // Whatever follows SEQ is ignored (R-6), a CRC that cannot be read included: an ack
            // without the CRC that was asked for does not count anyway.
            Ok(Message::Ack { tid, seq, crc: input.crc().unwrap_or(None) })
        }
        4 => {
            let (tid, chunks, crc) = (input.tid()?, input.seq()?.0, input.crc()?);
            let body = input.data()?;
            let statement = statement(chunks, body).ok_or(DecodeError::BadSeal)?;
            let seal = Seal { tid, statement, checked: crc.is_some() };
            if crc.is_some_and(|crc| crc != seal.crc()) {
                return Err(DecodeError::BadCrc);
            }
            Ok(Message::Seal(seal))
        }
        5 => {
            let tid = input.tid()?;
            let verdict = verdict(input.data()?).ok_or(DecodeError::BadSeal)?;
            Ok(Message::SealReply { tid, verdict })
        }
        6 => {
            let (nonce, body) = (input.required_nonce()?, without_semicolon(input.data()?));
            let position = leading_number(body).filter(|&(_, used)| used == body.len());
            let (position, _) = position.ok_or(DecodeError::BadNumber("DATA"))?;
            Ok(Message::Queued { nonce, position })
        }
        7 => Ok(Message::Probe { nonce: input.required_nonce()? }),
        8 => {
            let (nonce, body) = (input.required_nonce()?, without_semicolon(input.data()?));
            let text = std::str::from_utf8(body).map_err(|_| DecodeError::BadCapabilities)?;
            Ok(Message::ProbeReply { nonce, caps: Capabilities::parse(text) })
        }
        _ => Err(DecodeError::UnknownType),
    }
}

/// What is left of a datagram's header.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    fn skip(&mut self, prefix: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// ASCII digits without sign or leading zero, up to `;` or the end of the datagram.
    fn number(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let (value, used) = leading_number(self.rest).ok_or(DecodeError::BadNumber(field))?;
        let rest = self.rest.get(used..).unwrap_or_default();
        self.rest = match rest.split_first() {
            None => rest,
            Some((b';', rest)) => rest,
            Some(_) => return Err(DecodeError::BadNumber(field)),
        };
        Ok(value)
    }

    fn tid(&mut self) -> Result<TransactionId, DecodeError> {
        if !self.skip(b"TID:") {
            return Err(DecodeError::Expected("TID"));
        }
        self.number("TID").map(TransactionId)
    }

    fn seq(&mut self) -> Result<SequenceNumber, DecodeError> {
        if !self.skip(b"SEQ:") {
            return Err(DecodeError::Expected("SEQ"));
        }
        self.number("SEQ").map(SequenceNumber)
    }

    fn crc(&mut self) -> Result<Option<ChunkCrc>, DecodeError> {
        if !self.skip(b"CRC:") {
            return Ok(None);
        }
        let crc = self.hex(8).ok_or(DecodeError::BadCrc)?;
        Ok(Some(ChunkCrc(u32::try_from(crc).map_err(|_| DecodeError::BadCrc)?)))
    }

    fn nonce(&mut self) -> Result<Option<Nonce>, DecodeError> {
        if !self.skip(b"NONCE:") {
            return Ok(None);
        }
        self.hex(16).map(|nonce| Some(Nonce(nonce))).ok_or(DecodeError::BadNonce)
    }

    fn required_nonce(&mut self) -> Result<Nonce, DecodeError> {
        self.nonce()?.ok_or(DecodeError::Expected("NONCE"))
    }

    /// So many lower-case hexadecimal digits, 16 at most, up to `;` or the end of the datagram.
    fn hex(&mut self, count: usize) -> Option<u64> {
        let (digits, rest) = self.rest.split_at_checked(count)?;
        let value = hex_number(digits)?;
        self.rest = match rest.split_first() {
            None => rest,
            Some((b';', rest)) => rest,
            Some(_) => return None,
        };
        Some(value)
    }

    fn data(&mut self) -> Result<&'a [u8], DecodeError> {
        if self.skip(b"DATA:") { Ok(self.rest) } else { Err(DecodeError::Expected("DATA")) }
    }
}

/// The decimal number at the start of `text` and how many bytes it takes.
fn leading_number(text: &[u8]) -> Option<(u64, usize)> {
    /// The longest number has 20 digits; one more is read to see that there are too many.
    const MOST: usize = 21;
    let (mut value, mut used) = (0_u64, 0);
    // Twice as many always fit.
    while used < 16
        && let Some(eight) = text.get(used..).and_then(eight_digits)
    {
        value = value * 100_000_000 + eight;
        used += 8;
    }
    while let Some(digit @ b'0'..=b'9') = text.get(used)
        && used < MOST
    {
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        used += 1;
    }
    let padded = used > 1 && text.first() == Some(&b'0');
    (used > 0 && !padded).then_some((value, used))
}

/// The number that the first eight bytes are, if they are all digits: ids have nineteen, and are read
/// from every datagram.
fn eight_digits(text: &[u8]) -> Option<u64> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let bytes = u64::from_le_bytes(*text.first_chunk()?);
    // A digit has a 3 in its upper half, and six more does not change that.
    let upper = |bytes: u64| bytes & (0xf0 * EACH);
    if upper(bytes) != 0x30 * EACH || upper(bytes.wrapping_add(0x06 * EACH)) != 0x30 * EACH {
        return None;
    }
    // Neighbours are joined: to numbers of two digits, of four, of eight. The first is the lowest.
    let ones = bytes & (0x0f * EACH);
    let twos = (ones.wrapping_mul(10 << 8 | 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000 << 32 | 1) >> 32)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Up to 16 lower-case hexadecimal digits.
fn hex_number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value: u64, &d| Some(value << 4 | u64::from(hex_digit(d)?)))
}

/// A trailing `;` after the answer's or the seal's text is optional, as in Types 0, 1 and 3.
fn without_semicolon(body: &[u8]) -> &[u8] {
    body.strip_suffix(b";").unwrap_or(body)
}

fn statement(chunks: u64, body: &[u8]) -> Option<Statement> {
    let (bytes, used) = leading_number(body)?;
    let hex = without_semicolon(body.get(used..)?.strip_prefix(b" ")?);
    let hex: &[u8; 64] = hex.try_into().ok()?;
    let mut blake3 = [0; 32];
    for (byte, pair) in blake3.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(Statement { chunks, bytes, blake3 })
}

fn verdict(body: &[u8]) -> Option<Verdict> {
    match without_semicolon(body) {
        b"complete" => Some(Verdict::Complete),
        b"mismatch" => Some(Verdict::Mismatch),
        body => {
            if let Some(digits) = body.strip_prefix(b"recorded ") {
                let digits: &[u8; 8] = digits.try_into().ok()?;
                let crc = u32::try_from(hex_number(digits)?).ok()?;
                return Some(Verdict::Recorded(ChunkCrc(crc)));
            }
            if let Some(word) = body.strip_prefix(b"refused ") {
                let known = Refusal::ALL.into_iter().find(|why| why.word().as_bytes() == word);
                return known.map(Verdict::Refused);
            }
            missing(body.strip_prefix(b"missing ")?).map(Verdict::Missing)
        }
    }
}

/// `3-9,14`: ascending ranges. Bounded by the datagram, and so is the memory it takes.
fn missing(text: &[u8]) -> Option<RangeSet> {
    let mut set = RangeSet::new();
    for item in text.split(|&b| b == b',') {
        let (first, used) = leading_number(item)?;
        let last = match item.get(used..)?.split_first() {
            None => first,
            Some((b'-', text)) => match leading_number(text)? {
                (last, used) if used == text.len() => last,
                _ => return None,
            },
            Some(_) => return None,
        };
        // Ascending only: anything else is not ours, and inserting it would cost O(n²).
        if first > last || set.last().is_some_and(|before| before >= first) {
            return None;
        }
        set.insert_range(first..=last);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::leading_number;
    use proptest::prelude::*;

    /// What the standard library makes of the digits in front.
    fn parsed(text: &[u8]) -> Option<(u64, usize)> {
        let used = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = std::str::from_utf8(&text[..used]).ok()?;
        let padded = used > 1 && digits.starts_with('0');
        Some((digits.parse().ok()?, used)).filter(|_| !padded)
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_the_standard_library_reads_them(
            text in "[0-9]{0,23}[0-9/:;a\\xff]{0,9}",
        ) {
            prop_assert_eq!(leading_number(text.as_bytes()), parsed(text.as_bytes()));
        }

        #[test]
        fn any_number_is_read_to_its_end(number: u64, rest in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut text = number.to_string().into_bytes();
            let used = text.len();
            text.push(b';');
            text.extend(rest);
            prop_assert_eq!(leading_number(&text), Some((number, used)));
        }

        #[test]
        fn bytes_beside_the_digits_are_none(at in 0..8_usize, byte: u8) {
            let mut text = *b"12345678";
            text[at] = byte;
            prop_assert_eq!(leading_number(&text), parsed(&text));
        }
    }
}
