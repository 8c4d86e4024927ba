//! Events as lines of a log, and what is said even without `-v`.

use crate::text;
use mdalp::event::{Event, Kind, Listed, Predicted, Report};
use mdalp_proto::address::Refusal;
use std::collections::BTreeMap;

pub(super) struct Log {
    verbose: u8,
    /// Whether somebody watches.
    terminal: bool,
    /// Receivers' names by address.
    names: BTreeMap<String, String>,
}

impl Log {
    pub(super) fn new(verbose: u8, terminal: bool) -> Self {
        Self { verbose, terminal, names: BTreeMap::new() }
    }

    /// The lines for an event, without the last line break; none if it is not to be said.
    pub(super) fn line(&mut self, event: &Event) -> Option<String> {
        if let Kind::Receivers { receivers, .. } = &event.kind {
            self.names = receivers.iter().map(|r| (r.address.clone(), r.name.clone())).collect();
        }
        let lines =
            if self.verbose == 0 { self.warning(&event.kind) } else { self.all(&event.kind) };
        if lines.is_empty() {
            return None;
        }
        let head = if self.verbose == 0 {
            "mdalp: ".to_owned()
        } else {
            format!("{:9.4} ", event.at.as_secs_f64())
        };
        let lines: Vec<String> = lines.iter().map(|line| format!("{head}{line}")).collect();
        Some(lines.join("\n"))
    }

    /// What a user must know who did not ask for a log.
    fn warning(&self, kind: &Kind) -> Vec<String> {
        match kind {
            Kind::Receivers { receivers, .. } => receivers.iter().filter_map(refused).collect(),
            Kind::ReceiverState { state: "suspect", address } => {
                vec![format!("{} does not answer", self.who(address))]
            }
            Kind::Queued { position } => vec![queued(*position)],
            Kind::Fallback { chunk_bytes } => vec![fallback(*chunk_bytes)],
            Kind::Resume { tid, bytes, total_bytes } => vec![resume(*tid, *bytes, *total_bytes)],
            Kind::Warning { text } => vec![text.clone()],
            Kind::Refused { address, why } => vec![self.refuses(address, why)],
            Kind::Unconfirmed { addresses } => vec![self.unconfirmed(addresses)],
            Kind::Waiting { what, addresses, seconds, problem } if self.terminal => {
                vec![self.waiting(what, addresses, *seconds, problem.as_deref())]
            }
            _ => Vec::new(),
        }
    }

    fn refuses(&self, address: &str, why: &str) -> String {
        format!("{} takes no chunks at this moment: {why}", self.who(address))
    }

    fn all_of(&self, addresses: &[String]) -> String {
        addresses.iter().map(|address| self.who(address)).collect::<Vec<_>>().join(", ")
    }

    fn unconfirmed(&self, addresses: &[String]) -> String {
        format!(
            "all bytes are acknowledged, but no confirmation of the whole came from {}",
            self.all_of(addresses)
        )
    }

    fn waiting(
        &self,
        what: &str,
        addresses: &[String],
        seconds: f64,
        problem: Option<&str>,
    ) -> String {
        let whom = self.all_of(addresses);
        let problem = problem.map_or_else(String::new, |said| format!("; the system says: {said}"));
        let since = format!("{seconds:.1} s");
        match what {
            "resolver" => format!("waiting for the address of {whom}: {since}{problem}"),
            "orchestrator" if seconds < 0.1 => format!("waiting for orchestrator {whom}{problem}"),
            "orchestrator" => {
                format!("waiting for orchestrator {whom}: no answer for {since}{problem}")
            }
            "latencies" => format!("waiting for echoes of {whom}: {since}{problem}"),
            "hash" => format!("all is acknowledged; reading {whom} for its hash: {since}{problem}"),
            "confirmation" => {
                format!("all is acknowledged; waiting for {whom} to confirm: {since}{problem}")
            }
            _ => format!("waiting for {whom}: no ack for {since}{problem}"),
        }
    }

    fn all(&self, kind: &Kind) -> Vec<String> {
        let line = match kind {
            Kind::Start { orchestrator, mode, payload, total_bytes, .. } => {
                let bytes = text::count(*total_bytes, "byte");
                format!("asking orchestrator {orchestrator}: {payload}, {bytes}, mode {mode}")
            }
            Kind::Receivers { tid, waited_ms, receivers } => {
                let count = text::count(receivers.len() as u64, "receiver");
                let first = format!("transaction {tid}, assigned after {waited_ms:.1} ms: {count}");
                return std::iter::once(first).chain(receivers.iter().map(listed)).collect();
            }
            Kind::Probe { address, method, latency_ms, problem } => match (latency_ms, problem) {
                (Some(ms), _) => format!("{}: latency {ms:.3} ms ({method})", self.who(address)),
                (None, problem) => {
                    let problem = problem.as_deref().unwrap_or("no answer");
                    format!("{}: latency unknown ({method}: {problem})", self.who(address))
                }
            },
            Kind::Plan { basis, shares, chunk_bytes, .. } => {
                let first = format!("plan: {basis}; chunks of {chunk_bytes} bytes");
                let share = |share: &mdalp::event::PlannedShare| {
                    format!(
                        "{}: latency {}, {}, {} from SEQ {}",
                        self.who(&share.address),
                        text::millis(share.latency_ms),
                        text::count(share.bytes, "byte"),
                        text::count(share.chunks, "chunk"),
                        share.first_seq
                    )
                };
                return std::iter::once(first).chain(shares.iter().map(share)).collect();
            }
            Kind::Waiting { what, addresses, seconds, problem } => {
                self.waiting(what, addresses, *seconds, problem.as_deref())
            }
            Kind::Refused { address, why } => self.refuses(address, why),
            Kind::Unconfirmed { addresses } => self.unconfirmed(addresses),
            Kind::Retransmit { address, seq, next_timeout_ms } => {
                let next = text::seconds(next_timeout_ms / 1000.0);
                format!(
                    "timeout: {}, SEQ {seq} is sent again; next timeout in {next}",
                    self.who(address)
                )
            }
            Kind::ReceiverState { address, state } => format!("{} is {state}", self.who(address)),
            Kind::Silent { address, seconds } => {
                format!("{} has been silent for {seconds} s", self.who(address))
            }
            Kind::Replan { from, to, chunks, reason } => {
                let go = if *chunks == 1 { "goes" } else { "go" };
                let also = if *reason == "overdue" { "also" } else { "now" };
                let chunks = text::count(*chunks, "chunk");
                format!("{chunks} of {} {also} {go} to {} ({reason})", self.who(from), self.who(to))
            }
            Kind::Prediction { policies } => return policies.iter().map(predicted).collect(),
            Kind::Repair { chunks } => {
                format!("the servers miss {}, to be sent again", text::count(*chunks, "chunk"))
            }
            Kind::Receipt { bytes, blake3, .. } => {
                format!(
                    "receipt: the servers hold {}, BLAKE3 {blake3}",
                    text::count(*bytes, "byte")
                )
            }
            Kind::Queued { position } => queued(*position),
            Kind::Fallback { chunk_bytes } => fallback(*chunk_bytes),
            Kind::Resume { tid, bytes, total_bytes } => resume(*tid, *bytes, *total_bytes),
            Kind::Warning { text } => text.clone(),
            Kind::Datagram { direction, address, text } => {
                let arrow = if *direction == "sent" { "->" } else { "<-" };
                format!("{arrow} {address} {text}")
            }
            Kind::End(report) => return end(report),
            _ => return Vec::new(),
        };
        vec![line]
    }

    fn who(&self, address: &str) -> String {
        match self.names.get(address) {
            Some(name) => format!("{address} ({name})"),
            None => address.to_owned(),
        }
    }
}

fn refused(receiver: &Listed) -> Option<String> {
    let why = receiver.refused.as_ref()?;
    let private = *why == Refusal::Private.to_string();
    let hint = if private { "; --allow-private permits it" } else { "" };
    Some(format!("nothing is sent to {} ({}): {why}{hint}", receiver.address, receiver.name))
}

fn listed(receiver: &Listed) -> String {
    refused(receiver).unwrap_or_else(|| {
        let caps = if receiver.caps.is_empty() { "classic" } else { &receiver.caps };
        format!("{} ({}): {caps}", receiver.address, receiver.name)
    })
}

fn resume(tid: u64, bytes: u64, total_bytes: u64) -> String {
    format!("transaction {tid} goes on: {bytes} of {total_bytes} bytes are acknowledged")
}

fn predicted(predicted: &Predicted) -> String {
    match predicted.seconds {
        Some(seconds) => format!("{} would take {}", predicted.policy, text::seconds(seconds)),
        None => format!("{}: no latency is known to predict from", predicted.policy),
    }
}

fn queued(position: u64) -> String {
    format!(
        "waiting for an assignment, at place {position} (too many transfers, or no receiver is there)"
    )
}

fn fallback(chunk_bytes: u16) -> String {
    format!("no chunk of {chunk_bytes} bytes arrives; starting again with small ones")
}

fn end(report: &Report) -> Vec<String> {
    if report.tid.is_none() {
        return Vec::new();
    }
    let mut lines = vec![
        format!("elapsed: {:.6} s from the assignment to the last ack", report.elapsed_s),
        format!("acknowledged: {} of {} bytes", report.bytes, report.total_bytes),
    ];
    let ignored = &report.ignored;
    let counts = [
        (ignored.strangers, "from strangers"),
        (ignored.undecodable, "not readable"),
        (ignored.unexpected, "unexpected"),
        (ignored.duplicate_acks, "duplicate acks"),
        (ignored.optimistic_acks, "acks of what was not sent"),
        (ignored.crc_mismatches, "acks with a wrong CRC"),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if !counts.is_empty() {
        lines.push(format!("ignored datagrams: {}", counts.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn waiting(what: &'static str, problem: Option<&str>) -> Event {
        let (addresses, problem) = (vec!["127.0.0.1:4650".to_owned()], problem.map(str::to_owned));
        let kind = Kind::Waiting { what, addresses, seconds: 1.5, problem };
        Event { at: Duration::from_millis(1500), kind }
    }

    #[test]
    fn t24_a_terminal_is_told_whom_the_client_waits_for_and_a_pipe_only_with_v() {
        let event = waiting("orchestrator", Some("connection refused"));
        let said = "waiting for orchestrator 127.0.0.1:4650: no answer for 1.5 s; \
                    the system says: connection refused";
        assert_eq!(Log::new(0, true).line(&event), Some(format!("mdalp: {said}")));
        assert_eq!(Log::new(0, false).line(&event), None);
        assert!(Log::new(1, false).line(&event).unwrap().ends_with(said));
        let said = Log::new(0, true).line(&waiting("receivers", None));
        assert_eq!(said.as_deref(), Some("mdalp: waiting for 127.0.0.1:4650: no ack for 1.5 s"));
    }

    #[test]
    fn what_a_flag_permits_is_said_with_the_flag() {
        let line = |why: Refusal| {
            let (address, name) = ("10.0.0.2:4650".to_owned(), "A".to_owned());
            refused(&Listed { address, name, caps: String::new(), refused: Some(why.to_string()) })
        };
        assert!(line(Refusal::Private).unwrap().ends_with("; --allow-private permits it"));
        assert!(!line(Refusal::LinkLocal).unwrap().contains("--"));
    }
}
