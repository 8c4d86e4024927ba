//! Damage to the bytes of a datagram: what it is and how it is drawn.

use crate::config::Corruption;
use crate::rng::Rng;

/// How a datagram is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mangle {
    /// The byte at `offset` is combined with `mask`, which is not 0, by exclusive or.
    Xor {
        /// From the start of the payload.
        offset: usize,
        /// The bits that change.
        mask: u8,
    },
    /// Only the first `len` bytes are left.
    Truncate {
        /// What is left, in bytes.
        len: usize,
    },
}

impl Mangle {
    /// Damages `bytes`. Bytes that are not there are left alone.
    pub fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Xor { offset, mask } => {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= mask;
                }
            }
            Self::Truncate { len } => bytes.truncate(len),
        }
    }

    /// Draws what happens to a datagram of `len` bytes; an empty one cannot be damaged.
    pub(crate) fn draw(corruption: &Corruption, len: usize, rng: &mut Rng) -> Option<Self> {
        if len == 0 {
            return None;
        }
        let last = len as u64 - 1;
        if rng.happens(corruption.byte) {
            let within = corruption.byte_within.map_or(u64::MAX, |n| u64::from(n.get()));
            let offset = rng.up_to(last.min(within - 1)) as usize;
            Some(Self::Xor { offset, mask: 1 + rng.up_to(254) as u8 })
        } else if rng.happens(corruption.bit) {
            let offset = rng.up_to(last) as usize;
            Some(Self::Xor { offset, mask: 1 << rng.up_to(7) })
        } else if rng.happens(corruption.truncate) {
            Some(Self::Truncate { len: rng.up_to(last) as usize })
        } else {
            None
        }
    }
}
