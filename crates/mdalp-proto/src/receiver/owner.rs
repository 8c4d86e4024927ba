//! Who may send chunks of a transaction to one of our addresses.
//!
//! A random 63-bit id is as good as a password, so whoever knows it may move, as clients behind a
//! NAT do (F23). The short ids of classic orchestrators can be guessed: there the first address and
//! port keep the transaction until they fall silent (H47).

use super::Local;
use crate::ids::TransactionId;
use crate::rate::Rate;
use crate::time::Instant;
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::time::Duration;

/// Ids below this can be guessed.
const GUESSABLE: u64 = 1 << 32;

/// Whether a stranger may hit upon `tid`.
pub(super) fn is_guessable(tid: TransactionId) -> bool {
    tid.0 < GUESSABLE
}
/// 30 changes of address a minute, all at once if need be (F23 needs 12).
const CHANGES: Rate = Rate::new(30, 60, 30);

/// Why a chunk's sender is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Denied {
    /// Another address owns the transaction.
    NotOwner,
    /// It moves too often to be one client.
    Restless,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    local: Local,
    addr: SocketAddr,
    heard: Instant,
    /// When the bucket of changes is full again.
    changes: Instant,
    /// The number of the last chunk that was taken from it.
    last_seq: Option<u64>,
}

/// One owner for each of our addresses: a client may use a socket for each receiver. Mostly there is
/// one.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners(SmallVec<[Owner; 1]>);

impl Owners {
    /// Whether `from` may send; if so it is the owner from now on.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        tid: TransactionId,
        local: Local,
        from: SocketAddr,
        idle: Duration,
    ) -> Result<(), Denied> {
        let Some(owner) = self.0.iter_mut().find(|owner| owner.local == local) else {
            self.0.push(Owner {
                local,
                addr: from,
                heard: now,
                changes: Instant::ZERO,
                last_seq: None,
            });
            return Ok(());
        };
        if owner.addr != from && now < owner.heard + idle {
            if is_guessable(tid) {
                return Err(Denied::NotOwner);
            }
            if CHANGES.ready_at(owner.changes, 1) > now {
                return Err(Denied::Restless);
            }
            CHANGES.take(&mut owner.changes, now, 1);
        }
        owner.addr = from;
        owner.heard = now;
        Ok(())
    }

    /// Whether `from` is the address that sends to `local`.
    pub(super) fn is_owner(&self, local: Local, from: SocketAddr) -> bool {
        self.0.iter().any(|owner| (owner.local, owner.addr) == (local, from))
    }

    /// The last chunk that was taken by `local`.
    pub(super) fn last_seq(&mut self, local: Local) -> Option<&mut Option<u64>> {
        self.0.iter_mut().find(|owner| owner.local == local).map(|owner| &mut owner.last_seq)
    }
}
