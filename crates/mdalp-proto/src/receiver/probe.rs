//! Answers to an orchestrator that asks whether a receiver is there and what it speaks.
//!
//! No answer is longer than its question, so that nobody can have others flooded with more than they
//! send themselves; and there are not more of them than an orchestrator could need.

use super::Local;
use crate::ids::Nonce;
use crate::rate::Rate;
use crate::time::Instant;
use crate::wire::{Capabilities, encode_probe_reply};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Answers to everybody together: an orchestrator asks each receiver once a second. Strangers who use
/// them up have to send as much, and take no more than 20 ms of a second of this machine's time.
const RATE: Rate = Rate::new(2000, 1, 200);

/// An answer to a probe, to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeReply {
    /// The receiver that answers.
    pub local: Local,
    /// Who asked.
    pub to: SocketAddr,
    /// The Type 8.
    pub datagram: Vec<u8>,
}

/// Answers that were given, and those that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Probes {
    full_at: Instant,
    pub(super) replies: VecDeque<ProbeReply>,
}

impl Probes {
    /// Answers a probe of `len` bytes; `false` if the answer would be longer, or one too many.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        (local, to): (Local, SocketAddr),
        nonce: Nonce,
        caps: Capabilities,
        len: usize,
    ) -> bool {
        if RATE.ready_at(self.full_at, 1) > now {
            return false;
        }
        let mut datagram = Vec::new();
        encode_probe_reply(&mut datagram, nonce, caps);
        if datagram.len() > len {
            return false;
        }
        RATE.take(&mut self.full_at, now, 1);
        self.replies.push_back(ProbeReply { local, to, datagram });
        true
    }
}
