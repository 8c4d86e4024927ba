//! What a capture notices by itself: chunks sent again, answers that came before.
//!
//! Remembers what it has seen, within bounds. Knows nothing of timers and windows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use mdalp_proto::wire::{Message, decode};

use crate::{Interface, Packet};

/// Messages remembered; beyond, the first in the order of addresses is forgotten.
const MAX_REMEMBERED: usize = 262_144;

/// Tells apart what is not a repetition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    from: SocketAddr,
    to: SocketAddr,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum What {
    Intent,
    Assignment(u64),
    Chunk(u64, u64),
    Ack(u64, u64),
    Seal(u64),
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    first: SystemTime,
    times: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Notes(BTreeMap<Key, Seen>);

impl Notes {
    /// What is to be said about `packet`, if it was there before.
    pub(crate) fn notice(&mut self, packet: &Packet<'_>) -> Option<String> {
        let (what, name) = match decode(packet.bytes).ok()? {
            Message::Intent { .. } => (What::Intent, "intent sent again".to_owned()),
            Message::Assignment { tid, .. } => {
                (What::Assignment(tid.0), "the same assignment again".to_owned())
            }
            Message::Data { tid, seq, .. } => {
                (What::Chunk(tid.0, seq.0), format!("retransmission of SEQ {seq}"))
            }
            // An answer that was lost was never seen, so the next one is no duplicate.
            _ if packet.interface == Interface::Lost => return None,
            Message::Ack { tid, seq, .. } => {
                (What::Ack(tid.0, seq.0), format!("duplicate ack of SEQ {seq}"))
            }
            Message::Seal(seal) => (What::Seal(seal.tid.0), "seal sent again".to_owned()),
            Message::SealReply { .. }
            | Message::Queued { .. }
            | Message::Probe { .. }
            | Message::ProbeReply { .. } => return None,
        };
        let key = Key { from: packet.from, to: packet.to, what };
        let seen = self.0.entry(key).or_insert(Seen { first: packet.at, times: 0 });
        seen.times = seen.times.saturating_add(1);
        let Seen { first, times } = *seen;
        if self.0.len() > MAX_REMEMBERED {
            self.0.pop_first();
        }
        if times == 1 {
            return None;
        }
        let after = packet.at.duration_since(first).unwrap_or_default().as_secs_f64();
        Some(format!("{name}, time {times}, {after:.6} s after the first"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn notice(notes: &mut Notes, ms: u64, to: u16, bytes: &[u8], lost: bool) -> Option<String> {
        let at = UNIX_EPOCH + Duration::from_millis(ms);
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        let to = SocketAddr::from(([127, 0, 0, 2], to));
        let interface = if lost { Interface::Lost } else { Interface::Seen };
        notes.notice(&Packet { at, from, to, bytes, interface })
    }

    #[test]
    fn a_chunk_sent_again_is_a_retransmission_even_if_the_first_was_lost() {
        let mut notes = Notes::default();
        let chunk = b"Type:2;TID:7;SEQ:8;DATA:x";
        assert_eq!(notice(&mut notes, 0, 1, chunk, true), None);
        assert_eq!(notice(&mut notes, 10, 2, chunk, false), None, "another receiver");
        assert_eq!(notice(&mut notes, 11, 1, b"Type:2;TID:7;SEQ:9;DATA:x", false), None);
        assert_eq!(
            notice(&mut notes, 3000, 1, chunk, false).as_deref(),
            Some("retransmission of SEQ 8, time 2, 3.000000 s after the first")
        );
    }

    #[test]
    fn an_ack_is_a_duplicate_only_if_one_has_arrived() {
        let mut notes = Notes::default();
        let ack = b"Type:3;TID:7;SEQ:8;";
        assert_eq!(notice(&mut notes, 0, 1, ack, true), None);
        assert_eq!(notice(&mut notes, 1, 1, ack, false), None);
        let again = notice(&mut notes, 2, 1, ack, false).expect("a duplicate");
        assert!(again.starts_with("duplicate ack of SEQ 8, time 2"), "{again}");
    }

    #[test]
    fn what_is_no_message_is_not_noticed() {
        let mut notes = Notes::default();
        assert_eq!(notice(&mut notes, 0, 1, b"hello", false), None);
        assert_eq!(notice(&mut notes, 0, 1, b"hello", false), None);
    }
}
