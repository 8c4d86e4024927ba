//! Captures of what a relay sees: the client's side of the network, and what never arrives.
//!
//! What a client sends is in the capture even if it is then lost, for the client did send it. What
//! is lost on the way to the client is on an interface of its own.

use std::time::SystemTime;

use mdalp_capture::{CaptureFile, Interface, Packet};

use crate::network::{Direction, Fate};
use crate::relay::Observer;

/// Writes everything that a relay sees to `file`.
pub fn observer(file: CaptureFile) -> Observer {
    // The relay's clock begins where the first datagram says: stamps then never run backwards.
    let mut began = None;
    Box::new(move |seen| {
        let now = SystemTime::now();
        let began = *began.get_or_insert_with(|| now.checked_sub(seen.at).unwrap_or(now));
        let (from, to) = match seen.direction {
            Direction::Up => (seen.client, seen.front),
            Direction::Down => (seen.front, seen.client),
        };
        let never_came = seen.direction == Direction::Down && seen.fate.lost.is_some();
        let interface = if never_came { Interface::Lost } else { Interface::Seen };
        let at = began.checked_add(seen.at).unwrap_or(now);
        let packet = Packet { at, from, to, bytes: seen.bytes, interface };
        file.write(&packet, comment(seen.fate).as_deref());
    })
}

/// What is to be said about a datagram that did not simply arrive.
fn comment(fate: Fate) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(why) = fate.lost {
        parts.push(format!("lost: {why}"));
    }
    let happened = [
        (fate.duplicated, "duplicated on the way"),
        (fate.damaged, "damaged on the way"),
        (fate.out_of_order, "out of order on the way"),
    ];
    parts.extend(happened.iter().filter(|(did, _)| *did).map(|(_, what)| (*what).to_owned()));
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_that_simply_arrives_has_no_comment() {
        assert_eq!(comment(Fate::default()), None);
    }

    #[test]
    fn a_comment_says_all_that_happened() {
        let lost = Fate { lost: Some("random loss"), ..Fate::default() };
        assert_eq!(comment(lost).as_deref(), Some("lost: random loss"));
        let worn = Fate { duplicated: true, damaged: true, ..Fate::default() };
        assert_eq!(comment(worn).as_deref(), Some("duplicated on the way; damaged on the way"));
    }
}
