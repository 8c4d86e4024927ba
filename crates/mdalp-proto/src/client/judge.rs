//! Which receivers of a list are used.
//!
//! A list came from the network: each address is judged, none is used twice. Does not resolve names.

use super::plan::{Candidate, Mode};
use crate::address::{self, Refusal};
use crate::wire::list::Entry;
use crate::wire::{Capabilities, PORT};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// What a client makes of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Whose list it is.
    pub orchestrator: IpAddr,
    /// Whether a public orchestrator may list receivers on private networks.
    pub allow_private: bool,
    /// Whether what receivers advertise is used, but for the port.
    pub extensions: bool,
    /// How the payload is spread: a single receiver is chosen by its place.
    pub mode: Mode,
}

/// Why a listed receiver is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unused {
    /// Its address.
    #[error("{0}")]
    Address(Refusal),
    /// The same address and port stand in the list before.
    #[error("listed twice")]
    Twice,
}

/// A receiver of the list, judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Where chunks would go.
    pub addr: SocketAddr,
    /// Why none do, if so.
    pub unused: Option<Unused>,
}

/// Why nobody is left to send to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The list has no receiver at the place that was chosen.
    NoSuchPlace,
    /// This one is not used, and no other either.
    AllUnused {
        /// Index in the list.
        first: usize,
        /// Why it is not.
        why: Unused,
    },
}

/// A judged list.
#[derive(Clone, PartialEq, Debug)]
pub struct Judged {
    /// All receivers, in the orchestrator's order.
    pub listed: Vec<Listed>,
    /// Those that are sent to, in the same order, or why there are none.
    pub candidates: Result<Vec<Candidate>, Problem>,
}

/// Judges a list; `is_own` says whether an address is the client's own socket.
pub fn judge(entries: &[Entry], rules: &Rules, is_own: impl Fn(SocketAddr) -> bool) -> Judged {
    let (mut listed, mut candidates, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (place, entry) in entries.iter().enumerate() {
        let addr = SocketAddr::new(entry.ip, entry.caps.port.unwrap_or(PORT));
        let unused = match address::check(entry.ip, rules.orchestrator, rules.allow_private) {
            Err(refusal) => Some(Unused::Address(refusal)),
            Ok(()) if is_own(addr) => Some(Unused::Address(Refusal::Own)),
            Ok(()) if !seen.insert(addr) => Some(Unused::Twice),
            Ok(()) => None,
        };
        listed.push(Listed { addr, unused });
        if unused.is_none() && rules.mode.uses(place) {
            let caps = if rules.extensions { entry.caps } else { Capabilities::default() };
            candidates.push(Candidate { addr, caps, place, latency: None });
        }
    }
    let candidates = match rules.mode {
        Mode::Single(n) if !(1..=listed.len()).contains(&n) => Err(Problem::NoSuchPlace),
        _ if candidates.is_empty() => Err(all_unused(&listed, rules.mode)),
        _ => Ok(candidates),
    };
    Judged { listed, candidates }
}

fn all_unused(listed: &[Listed], mode: Mode) -> Problem {
    let mut chosen = listed.iter().enumerate().filter(|(place, _)| mode.uses(*place));
    let first = chosen.find_map(|(first, listed)| Some((first, listed.unused?)));
    first.map_or(Problem::NoSuchPlace, |(first, why)| Problem::AllUnused { first, why })
}
