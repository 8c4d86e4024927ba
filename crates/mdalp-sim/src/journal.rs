//! What happened in a run: a hash of all of it, and the last lines for people.
//!
//! The hash is the proof of determinism (invariant 28): it covers every event with its time and is
//! the same on every machine and in every build.

use mdalp_proto::time::Instant;
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

/// A party, by its place in the setup.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Node {
    Client(u8),
    Orchestrator,
    Receiver(u8),
    /// A server process, which is an orchestrator, receivers, or both.
    Server(u8),
    Attacker,
}

/// Something that happened. Numbers only: it is hashed for every event and formatted for few.
#[derive(Clone, Copy, Hash, Debug)]
pub(crate) enum Note {
    /// A datagram was given to the network; `kind` is its type.
    Send {
        from: Node,
        to: Node,
        kind: u8,
        seq: u64,
        len: u16,
    },
    /// It arrived.
    Arrive {
        to: Node,
        kind: u8,
        seq: u64,
    },
    /// It arrived where nobody listens.
    Nobody {
        to: Node,
    },
    Assigned {
        client: u8,
        tid: u64,
    },
    Planned {
        client: u8,
        lanes: u8,
        chunks: u64,
    },
    TimedOut {
        client: u8,
        lane: u8,
        seq: u64,
        next_ms: u64,
    },
    State {
        client: u8,
        lane: u8,
        state: u8,
    },
    Moved {
        client: u8,
        from: u8,
        to: u8,
        chunks: u64,
    },
    Acked {
        client: u8,
        lane: u8,
        seq: u64,
    },
    Stored {
        server: u8,
        seq: u64,
        result: u8,
    },
    Committed {
        server: u8,
        chunks: u64,
    },
    Closed {
        server: u8,
        tid: u64,
    },
    Fault {
        action: u16,
    },
    Down {
        server: u8,
    },
    Up {
        server: u8,
    },
    Healed,
}

/// The log of a run.
#[derive(Debug)]
pub(crate) struct Journal {
    hash: Mixer,
    events: u64,
    lines: VecDeque<String>,
    keep: usize,
}

impl Journal {
    /// Keeps the last `keep` lines.
    pub(crate) fn new(keep: usize) -> Self {
        Self { hash: Mixer(0x6d64_616c_7000), events: 0, lines: VecDeque::new(), keep }
    }

    pub(crate) fn note(&mut self, now: Instant, note: Note) {
        self.events += 1;
        self.hash.write_u64(now.as_nanos());
        note.hash(&mut self.hash);
        if self.keep > 0 {
            if self.lines.len() == self.keep {
                self.lines.pop_front();
            }
            self.lines.push_back(format!("{:>14.6} {note:?}", now.as_secs_f64()));
        }
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// A hasher that is the same everywhere: every integer counts as 64 bits.
#[derive(Debug)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        let h = self.0;
        (h ^ (h >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(n.into());
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
}
