//! What happens during a send, as one model: progress bar, log, JSON and report are views of it.
//!
//! Does not print. The JSON spelling of each event is a contract (`docs/events.schema.json`):
//! fields are added, never changed or removed, while `v` is 1.

use serde::Serialize;
use std::time::Duration;

/// The version of the JSON spelling.
pub const VERSION: u32 = 1;

/// One event and when it happened.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Since the send began, on a monotonic clock.
    pub at: Duration,
    /// What happened.
    pub kind: Kind,
}

impl Event {
    /// One line of JSON, without a line break. `began` is the wall-clock time at which the send
    /// began.
    ///
    /// # Errors
    /// None that can happen with these types; the signature is `serde_json`'s.
    pub fn to_json(&self, began: jiff::Timestamp) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            v: u32,
            ts: String,
            t_ns: u64,
            #[serde(flatten)]
            kind: &'a Kind,
        }
        let ts = began.checked_add(self.at).unwrap_or(began);
        serde_json::to_string(&Line {
            v: VERSION,
            ts: format!("{ts:.6}"),
            t_ns: u64::try_from(self.at.as_nanos()).unwrap_or(u64::MAX),
            kind: &self.kind,
        })
    }
}

/// What happened.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A send begins: always the first event.
    Start {
        /// The orchestrator, as it was named.
        orchestrator: String,
        /// The balancing policy: `latency`, `single` or `adaptive`.
        mode: &'static str,
        /// The payload, as it was named.
        payload: String,
        /// The payload's length.
        total_bytes: u64,
        /// The version of this program.
        version: &'static str,
    },
    /// The orchestrator lets this send wait.
    Queued {
        /// Its place, from 1.
        position: u64,
    },
    /// The orchestrator assigned receivers.
    Receivers {
        /// The transaction.
        tid: u64,
        /// How long the assignment took.
        waited_ms: f64,
        /// The list, in the orchestrator's order.
        receivers: Vec<Listed>,
    },
    /// A receiver's latency was measured, or not.
    Probe {
        /// The receiver.
        address: String,
        /// How: `icmp`, `command`, `given` or `none`.
        method: &'static str,
        /// Mean round trip; absent if it did not answer.
        latency_ms: Option<f64>,
        /// Why there is none.
        problem: Option<String>,
    },
    /// Who gets what.
    Plan {
        /// The balancing policy.
        mode: &'static str,
        /// Bytes in a full chunk.
        chunk_bytes: u16,
        /// How the latencies were found, in one line.
        basis: String,
        /// The shares, in list order.
        shares: Vec<PlannedShare>,
    },
    /// How long the transfer would take without loss, by policy; only of a dry run.
    Prediction {
        /// In seconds, from the first chunk to the last ack; absent where latencies are not known.
        policies: Vec<Predicted>,
    },
    /// How far the transfer is; at most ten a second.
    Progress {
        /// Bytes acknowledged.
        bytes: u64,
        /// Bytes of the payload.
        total_bytes: u64,
        /// The same, by receiver.
        receivers: Vec<ReceiverProgress>,
    },
    /// No ack came in time; the chunk is sent again.
    Retransmit {
        /// The receiver.
        address: String,
        /// The chunk.
        seq: u64,
        /// When it is sent once more if this one is lost too.
        next_timeout_ms: f64,
    },
    /// A receiver began or ceased to answer.
    ReceiverState {
        /// The receiver.
        address: String,
        /// `active`, `suspect` or `done`.
        state: &'static str,
    },
    /// A receiver has not answered for a while.
    Silent {
        /// The receiver.
        address: String,
        /// For how long.
        seconds: u64,
    },
    /// Nothing has come for a while: whom the client waits for. First within two seconds, and then
    /// every ten.
    Waiting {
        /// For what: `resolver`, `orchestrator`, `latencies`, `receivers`, `hash` or `confirmation`.
        what: &'static str,
        /// Whom: addresses, or names where there is no address.
        addresses: Vec<String>,
        /// For how long.
        seconds: f64,
        /// What the system says of them, such as that a host refuses.
        problem: Option<String>,
    },
    /// A receiver says that it takes no chunks at this moment; they are sent to it again.
    Refused {
        /// The receiver.
        address: String,
        /// Why, in the protocol's words.
        why: &'static str,
    },
    /// All is acknowledged, but these receivers, which say that they can confirm the whole, did not.
    Unconfirmed {
        /// The receivers.
        addresses: Vec<String>,
    },
    /// Chunks moved from one receiver to another.
    Replan {
        /// Who had them.
        from: String,
        /// Who gets them.
        to: String,
        /// How many.
        chunks: u64,
        /// Why: `suspect`, `idle`, `overdue` or `returned`.
        reason: &'static str,
    },
    /// The servers found chunks missing that had been acknowledged; they are sent again.
    Repair {
        /// How many.
        chunks: u64,
    },
    /// The servers have compared length and hash of the payload.
    Receipt {
        /// The transaction.
        tid: u64,
        /// Bytes of the payload.
        bytes: u64,
        /// BLAKE3 of the payload, in hexadecimal.
        blake3: String,
    },
    /// Nothing large arrives; it is tried again in small chunks, in another transaction.
    Fallback {
        /// Bytes in the chunks that did not arrive.
        chunk_bytes: u16,
    },
    /// An earlier send goes on.
    Resume {
        /// Its transaction.
        tid: u64,
        /// Bytes that were acknowledged before.
        bytes: u64,
        /// Bytes of the payload.
        total_bytes: u64,
    },
    /// Something that the user should know and that does not end the send.
    Warning {
        /// What, and what to do.
        text: String,
    },
    /// One datagram; only where datagrams are asked for (`-vv`).
    Datagram {
        /// `sent` or `received`.
        direction: &'static str,
        /// The other end.
        address: String,
        /// Its header, and how many bytes of data follow.
        text: String,
    },
    /// The end, always the last event, however the send ended.
    End(Box<Report>),
}

/// A receiver as the orchestrator listed it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Listed {
    /// Where chunks would go.
    pub address: String,
    /// Its name, with everything but printable characters escaped.
    pub name: String,
    /// What it advertised; empty for a classic receiver.
    pub caps: String,
    /// Why nothing is sent to it, if so.
    pub refused: Option<String>,
}

/// One receiver's part of the plan.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PlannedShare {
    /// The receiver.
    pub address: String,
    /// Its name.
    pub name: String,
    /// Its latency, if one was measured or given.
    pub latency_ms: Option<f64>,
    /// Its bytes.
    pub bytes: u64,
    /// Its chunks.
    pub chunks: u64,
    /// The number of its first chunk.
    pub first_seq: u64,
}

/// What one policy would take.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Predicted {
    /// The policy; `single` with the receiver's place in the list, from 1.
    pub policy: String,
    /// In seconds.
    pub seconds: Option<f64>,
}

/// How far one receiver is.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ReceiverProgress {
    /// The receiver.
    pub address: String,
    /// Bytes that it acknowledged.
    pub bytes: u64,
    /// Bytes that it was to get by the plan.
    pub planned_bytes: u64,
    /// Its retransmissions.
    pub retransmissions: u64,
    /// `probing`, `active`, `suspect` or `done`.
    pub state: &'static str,
}

/// How a send ended.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// In one word.
    pub reason: Reason,
    /// The exit code that says the same.
    pub exit_code: u8,
    /// What went wrong and what to do, in one line; absent after success.
    pub error: Option<String>,
    /// The transaction, if there was one.
    pub tid: Option<u64>,
    /// Bytes acknowledged, each once.
    pub bytes: u64,
    /// Bytes of the payload.
    pub total_bytes: u64,
    /// Chunks acknowledged, each once.
    pub chunks: u64,
    /// Chunks of the payload; 0 if it was never planned.
    pub total_chunks: u64,
    /// Whether the servers confirmed that the payload is whole.
    pub verified: bool,
    /// BLAKE3 of the payload in hexadecimal, if it was computed.
    pub blake3: Option<String>,
    /// From the assignment to the last ack; 0 if there was no assignment.
    pub elapsed_s: f64,
    /// By receiver, in list order.
    pub receivers: Vec<ReceiverReport>,
    /// Datagrams that were received and did not count, by reason.
    pub ignored: IgnoredReport,
    /// The journal that the send can go on with ([`Options::resume`](crate::Options::resume)); absent
    /// where nothing is left to do, or nothing to go on with.
    pub journal: Option<String>,
}

impl Report {
    /// The report of a send that failed before it began: nothing is known but why.
    pub fn failed(reason: Reason, error: String) -> Self {
        Self {
            reason,
            exit_code: reason.exit_code(),
            error: Some(error),
            tid: None,
            bytes: 0,
            total_bytes: 0,
            chunks: 0,
            total_chunks: 0,
            verified: false,
            blake3: None,
            elapsed_s: 0.0,
            receivers: Vec::new(),
            ignored: IgnoredReport::default(),
            journal: None,
        }
    }
}

/// What one receiver did.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ReceiverReport {
    /// Where it is.
    pub address: String,
    /// Its name.
    pub name: String,
    /// Its latency, if one was measured or given.
    pub latency_ms: Option<f64>,
    /// Bytes that it acknowledged.
    pub bytes: u64,
    /// Chunks that it acknowledged.
    pub chunks: u64,
    /// The number of the first chunk of its share.
    pub first_seq: u64,
    /// Datagrams sent to it.
    pub datagrams: u64,
    /// Of these, retransmissions.
    pub retransmissions: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Smoothed round-trip time of its acks.
    pub srtt_ms: Option<f64>,
    /// `probing`, `active`, `suspect` or `done`.
    pub state: &'static str,
    /// The chunks that it acknowledged, as in `0-9,12`.
    pub ranges: String,
}

/// Datagrams that did not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct IgnoredReport {
    /// From addresses that are no receivers of the transaction.
    pub strangers: u64,
    /// Not readable.
    pub undecodable: u64,
    /// Readable, but not an ack of this transaction.
    pub unexpected: u64,
    /// Acks of chunks that were acknowledged before.
    pub duplicate_acks: u64,
    /// Acks of chunks that were never sent to the one who acked.
    pub optimistic_acks: u64,
    /// Acks whose CRC was not the chunk's.
    pub crc_mismatches: u64,
}

/// How a send ended, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Every byte acknowledged.
    Complete,
    /// A dry run: nothing was to be sent.
    DryRun,
    /// A defect of this program.
    Internal,
    /// Wrong settings.
    Usage,
    /// The orchestrator did not answer.
    NoOrchestrator,
    /// The orchestrator's answer cannot be understood.
    NotUnderstood,
    /// No receiver can be used.
    NoReceiver,
    /// Some bytes are acknowledged, and then nobody answered any more.
    Partial,
    /// The servers have something else than was sent, or could not say.
    Verification,
    /// The deadline came, or nobody ever answered.
    Deadline,
    /// A local file cannot be read.
    LocalIo,
    /// The system forbids what is needed.
    Permission,
    /// The list was refused for safety.
    Security,
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

impl Reason {
    /// The exit code of the table in `docs/cli.md`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Complete | Self::DryRun => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::NoOrchestrator => 3,
            Self::NotUnderstood => 4,
            Self::NoReceiver => 5,
            Self::Partial => 6,
            Self::Verification => 7,
            Self::Deadline => 8,
            Self::LocalIo => 9,
            Self::Permission => 10,
            Self::Security => 11,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

/// Milliseconds. Whole nanoseconds over a whole number, so that 335.148 ms come out as 335.148.
pub fn millis(d: Duration) -> f64 {
    d.as_nanos() as f64 / 1e6
}

/// Text from the network, safe to print: at most 64 characters, nothing but printable ones (H30).
pub fn printable(text: &str) -> String {
    let mut safe: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        safe.push('…');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_json_with_version_and_both_times() {
        let kind = Kind::ReceiverState { address: "127.0.0.2:4650".into(), state: "suspect" };
        let event = Event { at: Duration::from_millis(1500), kind };
        assert_eq!(
            event.to_json(jiff::Timestamp::UNIX_EPOCH).unwrap(),
            r#"{"v":1,"ts":"1970-01-01T00:00:01.500000Z","t_ns":1500000000,"type":"receiver_state","address":"127.0.0.2:4650","state":"suspect"}"#
        );
    }

    #[test]
    fn milliseconds_survive_the_way_through_a_duration() {
        for us in 1..100_000_u32 {
            let ms: f64 = format!("{}.{:03}", us / 1000, us % 1000).parse().unwrap();
            assert_eq!(millis(Duration::from_secs_f64(ms / 1000.0)).to_bits(), ms.to_bits());
        }
    }

    #[test]
    fn h30_names_from_the_network_cannot_reach_the_terminal_raw() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
        assert!(printable(&"x".repeat(1_000_000)).len() < 100);
    }
}
