//! A link that sends one datagram at a time, with a finite queue in front. Keeps times, not datagrams.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::Rate;

/// The longest UDP datagram. A length beyond it, which cannot be, counts as this.
const MAX_DATAGRAM: usize = u16::MAX as usize;

/// The datagrams in the bottleneck.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bottleneck {
    /// When each datagram has left entirely, and its bytes with headers. The first is being sent.
    inside: VecDeque<(Duration, u64)>,
    /// Bytes of all that are inside.
    bytes: u64,
    /// When the last one has left.
    free_at: Duration,
}

impl Bottleneck {
    /// Takes a datagram of `len` payload bytes at `now` and says when it has left entirely; `None`
    /// if the queue is full and it is dropped.
    pub(crate) fn admit(&mut self, rate: &Rate, now: Duration, len: usize) -> Option<Duration> {
        while let Some(&(_, bytes)) = self.inside.front().filter(|(leaves, _)| *leaves <= now) {
            self.inside.pop_front();
            self.bytes -= bytes;
        }
        let size = len.min(MAX_DATAGRAM) as u64 + u64::from(rate.overhead);
        if let Some((_, sending)) = self.inside.front() {
            let waiting = self.inside.len() as u64 - 1;
            let waiting_bytes = self.bytes - sending + size;
            let full = rate.queue_packets.is_some_and(|max| waiting >= u64::from(max))
                || rate.queue_bytes.is_some_and(|max| waiting_bytes > max);
            if full {
                return None;
            }
        }
        let bits = u128::from(size) * 8;
        let nanos = bits * 1_000_000_000 / u128::from(rate.bits_per_second.get());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now).saturating_add(takes);
        self.inside.push_back((self.free_at, size));
        self.bytes += size;
        Some(self.free_at)
    }
}
