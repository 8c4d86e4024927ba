//! The receivers: which are up, how busy they are, which fit into one assignment.

use crate::ids::{Nonce, TransactionId};
use crate::wire::list::{Entry, spell};
use crate::wire::{Capabilities, MAX_CLASSIC_ASSIGNMENT, encode_spelled};
use std::sync::Arc;

#[derive(Debug)]
struct Receiver {
    /// As it is spelled in a list, with and without capabilities.
    entry: Arc<[u8]>,
    classic: Arc<[u8]>,
    up: bool,
    /// Live transactions that it was handed out to.
    load: usize,
    /// When it was last handed out, as a count of assignments.
    used: u64,
}

/// Which receivers a transaction got, and how they are spelled: enough to say it again byte for byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Choice {
    pub(super) receivers: Box<[u16]>,
    entries: Box<[Arc<[u8]>]>,
}

#[derive(Debug)]
pub(super) struct Pool {
    receivers: Vec<Receiver>,
    hand_out: usize,
    assignments: u64,
}

/// Separates entries.
const SEPARATOR: usize = b", ".len();
/// Room for entries, each with a separator: all but the header with the longest TID. The list has
/// one separator less than entries.
const ROOM: usize = MAX_CLASSIC_ASSIGNMENT - b"Type:1;TID:;DATA:[]".len() - 20 + SEPARATOR;
/// What an echo of the nonce takes of it.
const ECHO: usize = b"NONCE:0123456789abcdef;".len();

impl Pool {
    pub(super) fn new(entries: &[Entry], hand_out: Option<usize>) -> Self {
        // More do not fit any datagram, and 16 bits number them.
        let entries = entries.iter().take(usize::from(u16::MAX));
        let receivers = entries.map(|entry| {
            let classic = Entry { caps: Capabilities::default(), ..entry.clone() };
            let (entry, classic) = (spell(entry).into(), spell(&classic).into());
            Receiver { entry, classic, up: true, load: 0, used: 0 }
        });
        let hand_out = hand_out.unwrap_or(usize::MAX).max(1);
        Self { receivers: receivers.collect(), hand_out, assignments: 0 }
    }

    /// Hands receiver `index` out from now on, or not.
    pub(super) fn set_up(&mut self, index: u16, up: bool) {
        if let Some(receiver) = self.receivers.get_mut(usize::from(index)) {
            receiver.up = up;
        }
    }

    /// Receiver `index` has other capabilities from now on.
    pub(super) fn respell(&mut self, index: u16, entry: &Entry) {
        if let Some(receiver) = self.receivers.get_mut(usize::from(index)) {
            receiver.entry = spell(entry).into();
        }
    }

    pub(super) fn any_up(&self) -> bool {
        self.receivers.iter().any(|receiver| receiver.up)
    }

    /// No answer to an intent without a nonce is longer than this.
    pub(super) fn longest_answer(&self) -> usize {
        let mut lens: Vec<_> = self.receivers.iter().map(|r| r.entry.len() + SEPARATOR).collect();
        lens.sort_unstable_by(|a, b| b.cmp(a));
        let list: usize = lens.iter().take(self.hand_out).sum();
        list.min(ROOM) + MAX_CLASSIC_ASSIGNMENT - ROOM
    }

    /// The same for an answer that echoes a nonce.
    pub(super) fn with_echo(longest_answer: usize) -> usize {
        (longest_answer + ECHO).min(MAX_CLASSIC_ASSIGNMENT)
    }

    /// Takes the least loaded receivers, of these the least recently used, as many as are handed
    /// out and fit the datagram, which `echoes` a nonce or not; they are named in the order of the
    /// configuration.
    pub(super) fn choose(&mut self, echoes: bool) -> Choice {
        let room = if echoes { ROOM - ECHO } else { ROOM };
        let up = self.receivers.iter().enumerate().filter(|(_, receiver)| receiver.up);
        let mut order: Vec<_> = up.map(|(i, r)| (r.load, r.used, i as u16)).collect();
        order.sort_unstable();
        let mut chosen: Vec<u16> = order.into_iter().map(|(.., i)| i).take(self.hand_out).collect();
        let len = |spelled: &[u8]| spelled.len() + SEPARATOR;
        let with_caps = chosen.iter().map(|&i| len(&self.get(i).entry)).sum::<usize>() <= room;
        if !with_caps {
            let mut room = room;
            let mut fits = |len: usize| room.checked_sub(len).inspect(|&left| room = left);
            let fitting = chosen.iter().take_while(|&&i| fits(len(&self.get(i).classic)).is_some());
            chosen.truncate(fitting.count());
        }
        chosen.sort_unstable();
        self.assignments += 1;
        for &i in &chosen {
            let receiver = &mut self.receivers[usize::from(i)];
            receiver.load += 1;
            receiver.used = self.assignments;
        }
        let entries = chosen.iter().map(|&i| {
            let receiver = self.get(i);
            if with_caps { receiver.entry.clone() } else { receiver.classic.clone() }
        });
        let entries = entries.collect();
        Choice { receivers: chosen.into(), entries }
    }

    /// The receivers of `choice` have one transaction less.
    pub(super) fn release(&mut self, choice: &Choice) {
        for &i in &choice.receivers {
            let load = &mut self.receivers[usize::from(i)].load;
            *load = load.saturating_sub(1);
        }
    }

    /// The Type 1 that names `choice`.
    pub(super) fn datagram(tid: TransactionId, nonce: Option<Nonce>, choice: &Choice) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_CLASSIC_ASSIGNMENT);
        encode_spelled(&mut out, tid, nonce, choice.entries.iter().map(|entry| &**entry));
        out
    }

    fn get(&self, index: u16) -> &Receiver {
        &self.receivers[usize::from(index)]
    }
}
