//! The receiver list of a Type 1: a Python literal, read by a flat grammar and never evaluated.
//!
//! `[{'ip_address': '192.0.2.1', 'name': 'A'}, …]`, or the JSON spelling of the same. A list of flat
//! dictionaries whose values are strings or unsigned numbers is all there is: nothing nests, so
//! nothing recurses, and every size has a limit (H20–H23). Does not judge addresses:
//! [`crate::address`] does.

use super::Capabilities;
use std::collections::BTreeSet;
use std::net::IpAddr;
use winnow::ascii::{digit1, multispace0};
use winnow::combinator::{alt, delimited, opt, preceded, separated, separated_pair, terminated};
use winnow::error::{ContextError, ErrMode};
use winnow::prelude::*;
use winnow::token::any;

/// The longest list that is read, in bytes, unless more receivers are allowed.
pub const MAX_BYTES: usize = 8 * 1024;
/// The most receivers that a list may name, unless more are allowed. Classic lists hold about 17.
pub const MAX_ENTRIES: usize = 64;
/// The most receivers that may be allowed: about what one datagram can name.
pub const MOST_ENTRIES: usize = 1024;
/// The most bytes of data in a datagram.
const MAX_DATAGRAM: usize = 65_507;
const MAX_KEYS: usize = 16;
const MAX_STRING: usize = 255;

/// One receiver as the list names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where it is; the port comes from the capabilities, else it is 4650.
    pub ip: IpAddr,
    /// What the operator calls it. Untrusted text: escape it before printing (H30).
    pub name: String,
    /// What it can do beyond the classic protocol.
    pub caps: Capabilities,
}

/// Why a list is not one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// More bytes than so many receivers may take.
    #[error("list of {bytes} bytes; at most {most} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// What would be read.
        most: usize,
    },
    /// It names more receivers than are allowed.
    #[error("list of more than {0} receivers")]
    TooMany(usize),
    /// Not a flat list of dictionaries of strings and numbers, or one over a limit.
    #[error("not a flat list of dictionaries (byte {0})")]
    Syntax(usize),
    /// An entry has no `ip_address`, or it is not a string.
    #[error("entry {0} has no ip_address")]
    NoAddress(usize),
    /// An address is not a dotted quad or an IPv6 address in canonical form.
    #[error("entry {index}: {text:?} is not an IP address")]
    BadAddress {
        /// Which entry, from 0.
        index: usize,
        /// What stands there.
        text: String,
    },
    /// A key stands twice in one entry.
    #[error("entry {0} has a key twice")]
    DuplicateKey(usize),
}

enum Value {
    Text(String),
    Number,
}

/// Reads the list of a Type 1 (its `DATA`) of at most [`MAX_ENTRIES`]. A trailing `;` is optional.
///
/// # Errors
/// [`ListError`] says what is wrong; an empty list is not an error here.
pub fn parse(list: &[u8]) -> Result<Vec<Entry>, ListError> {
    parse_up_to(MAX_ENTRIES, list)
}

/// As [`parse`], a list of up to so many receivers, [`MOST_ENTRIES`] at most.
///
/// # Errors
/// As of [`parse`].
pub fn parse_up_to(receivers: usize, list: &[u8]) -> Result<Vec<Entry>, ListError> {
    let receivers = receivers.min(MOST_ENTRIES);
    let most = (receivers * (MAX_BYTES / MAX_ENTRIES)).clamp(MAX_BYTES, MAX_DATAGRAM);
    if list.len() > most {
        return Err(ListError::TooLong { bytes: list.len(), most });
    }
    let text = std::str::from_utf8(list).map_err(|e| ListError::Syntax(e.valid_up_to()))?;
    let mut rest = text;
    let begin = ('[', multispace0);
    let dicts: Option<Vec<_>> =
        preceded(begin, separated(0..=receivers, dict, comma)).parse_next(&mut rest).ok();
    if dicts.is_some() && (comma, dict).parse_peek(rest).is_ok() {
        return Err(ListError::TooMany(receivers));
    }
    let dicts = dicts
        .filter(|_| end(&mut rest).is_ok() && rest.is_empty())
        .ok_or(ListError::Syntax(text.len() - rest.len()))?;
    dicts.into_iter().enumerate().map(|(index, dict)| entry(index, dict)).collect()
}

fn entry(index: usize, dict: Vec<(String, Value)>) -> Result<Entry, ListError> {
    let (mut ip, mut name, mut caps) = (None, String::new(), Capabilities::default());
    let mut seen = BTreeSet::new();
    for (key, value) in dict {
        match (key.as_str(), value) {
            ("ip_address", Value::Text(text)) => ip = Some(text),
            ("name", Value::Text(text)) => name = text,
            ("caps", Value::Text(text)) => caps = Capabilities::parse(&text),
            _ => {}
        }
        if !seen.insert(key) {
            return Err(ListError::DuplicateKey(index));
        }
    }
    let text = ip.ok_or(ListError::NoAddress(index))?;
    // Canonical text only: `127.1`, `010.0.0.1` and the like mean different hosts to different
    // readers (H25). What prints back as itself has one meaning.
    let ip = text.parse().ok().filter(|ip: &IpAddr| ip.to_string() == text);
    Ok(Entry { ip: ip.ok_or(ListError::BadAddress { index, text })?, name, caps })
}

type Result2<T> = winnow::Result<T, ErrMode<ContextError>>;

fn end(input: &mut &str) -> Result2<()> {
    (multispace0, ']', multispace0, opt(';')).void().parse_next(input)
}

fn comma(input: &mut &str) -> Result2<()> {
    (multispace0, ',', multispace0).void().parse_next(input)
}

fn dict(input: &mut &str) -> Result2<Vec<(String, Value)>> {
    let colon = (multispace0, ':', multispace0);
    let pair = separated_pair(string, colon, value);
    delimited(
        ('{', multispace0),
        terminated(separated(0..=MAX_KEYS, pair, comma), multispace0),
        '}',
    )
    .parse_next(input)
}

fn value(input: &mut &str) -> Result2<Value> {
    let number = digit1.verify(|digits: &str| digits == "0" || !digits.starts_with('0'));
    alt((string.map(Value::Text), number.map(|_| Value::Number))).parse_next(input)
}

fn string(input: &mut &str) -> Result2<String> {
    let quote = any.verify(|&c| c == '\'' || c == '"').parse_next(input)?;
    let mut text = String::new();
    loop {
        let c = match any.parse_next(input)? {
            c if c == quote => return Ok(text),
            '\\' => escape(input)?,
            '\n' | '\r' => return Err(ErrMode::Backtrack(ContextError::new())),
            c => c,
        };
        text.push(c);
        if text.len() > MAX_STRING {
            return Err(ErrMode::Backtrack(ContextError::new()));
        }
    }
}

fn escape(input: &mut &str) -> Result2<char> {
    let hex = |input: &mut &str, digits: usize| -> Result2<char> {
        let mut code = 0;
        for _ in 0..digits {
            let digit = any.verify_map(|c: char| c.to_digit(16)).parse_next(input)?;
            code = code * 16 + digit;
        }
        char::from_u32(code).ok_or_else(|| ErrMode::Backtrack(ContextError::new()))
    };
    match any.parse_next(input)? {
        c @ ('\\' | '\'' | '"') => Ok(c),
        'n' => Ok('\n'),
        't' => Ok('\t'),
        'x' => hex(input, 2),
        'u' => hex(input, 4),
        _ => Err(ErrMode::Backtrack(ContextError::new())),
    }
}

/// Whether classic clients, which cut the text at fixed offsets, can read this name.
pub fn is_classic_name(name: &str) -> bool {
    name.len() <= 64 && name.chars().all(|c| matches!(c, ' '..='~') && !";'}\\".contains(c))
}

/// An entry of a list as Python prints it: `ip_address` first, then `name`, then `caps` if there are
/// any. Characters that classic clients trip over are left out of names.
pub(crate) fn spell(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(b"{'ip_address': '");
    out.extend_from_slice(entry.ip.to_string().as_bytes());
    out.extend_from_slice(b"', 'name': '");
    let name = entry.name.chars().filter(|c| is_classic_name(c.encode_utf8(&mut [0; 4])));
    out.extend(name.map(|c| c as u8).take(64));
    out.push(b'\'');
    if !entry.caps.is_classic() {
        out.extend_from_slice(b", 'caps': '");
        out.extend_from_slice(entry.caps.to_string().as_bytes());
        out.push(b'\'');
    }
    out.push(b'}');
    out
}
