//! The names of things: numbers and addresses that must not be mixed up.
//!
//! Does not parse datagrams ([`crate::wire`] does); it only says what each value means.

use std::fmt;
use std::net::SocketAddr;

/// Identifies one transaction at every server that takes part in it (field `TID`).
///
/// 64 bits on the wire. Ours are random 63-bit numbers, so that signed parsers can read them and
/// nobody off the path can guess one (H41).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub u64);

/// Numbers a chunk within its transaction, from 0 (field `SEQ`).
///
/// The order of sequence numbers is the order of the payload's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SequenceNumber(pub u64);

/// Tells one question from every other one, so that only who has read it can answer it (field `NONCE`).
///
/// 64 random bits, spelled as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Nonce(pub u64);

/// Where a receiver takes chunks and from where alone its acks count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiverAddr(pub SocketAddr);

/// Where the orchestrator takes intents and from where alone its assignment counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrchestratorAddr(pub SocketAddr);

macro_rules! transparent_fmt {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    )*};
}
transparent_fmt!(TransactionId, SequenceNumber, ReceiverAddr, OrchestratorAddr);
