//! Who asks: an address and port, and the nonce if the intent had one.
//!
//! Two sends from one address and port are two askers if their intents have nonces. Sorted by address
//! first, so that all askers of a network are a range.

use crate::ids::Nonce;
use crate::source::sockets_of;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

const LAST: Option<Nonce> = Some(Nonce(u64::MAX));

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Asker {
    pub(super) addr: SocketAddr,
    pub(super) nonce: Option<Nonce>,
}

impl Asker {
    /// All askers with addresses of `ips`.
    pub(super) fn all_of(ips: RangeInclusive<IpAddr>) -> RangeInclusive<Self> {
        let sockets = sockets_of(ips);
        let (first, last) = (*sockets.start(), *sockets.end());
        Self { addr: first, nonce: None }..=Self { addr: last, nonce: LAST }
    }

    /// Those at `addr` that have a nonce.
    pub(super) fn nonced_of(addr: SocketAddr) -> RangeInclusive<Self> {
        Self { addr, nonce: Some(Nonce(0)) }..=Self { addr, nonce: LAST }
    }
}
