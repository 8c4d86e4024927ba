//! One send from intent to report.
//!
//! Carries bytes and deadlines between sockets, clock, payload and the machines of the core, and
//! their events to the caller. Decides nothing about the protocol.

mod ask;
mod choose;
mod departures;
mod report;
mod resume;
mod transfer;
mod waiting;

use crate::clock::Clock;
use crate::error::{Interrupt, SendError};
use crate::event::{Event, Kind, Report};
use crate::journal::Journal;
use crate::options::Options;
use crate::payload::Payload;
use crate::sockets::{Inbox, Sockets};
use choose::Receiver;
use mdalp_proto::address::{self, Refusal};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::time::Instant;
use mdalp_proto::transfer::Transfer;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;

/// Sends `payload` through the orchestrator at `host` (an address or a name) and `port`.
///
/// Ends when every chunk is acknowledged, when it cannot go on, or when `interrupt` completes;
/// `on_event` sees every event, the last of which is always [`Kind::End`]. Must run inside a tokio
/// runtime with I/O and time enabled.
pub async fn send(
    host: &str,
    port: u16,
    payload: &Payload,
    options: &Options,
    interrupt: impl Future<Output = Interrupt>,
    on_event: impl FnMut(&Event),
) -> Report {
    let mut session = Session::new(payload, options, on_event, format!("{host}:{port}"));
    session.emit(Kind::Start {
        // An IPv6 address needs brackets before a port.
        orchestrator: host.parse::<Ipv6Addr>().map_or_else(
            |_| format!("{host}:{port}"),
            |ip| SocketAddr::from((ip, port)).to_string(),
        ),
        mode: options.mode.name(),
        payload: payload.name().to_owned(),
        total_bytes: payload.len(),
        version: env!("CARGO_PKG_VERSION"),
    });
    let result = session.run(host, port, std::pin::pin!(interrupt)).await;
    session.close_journal(&result);
    let report = session.report(result.err().as_ref());
    session.emit(Kind::End(Box::new(report.clone())));
    report
}

struct Session<'a, F> {
    clock: Clock,
    payload: &'a Payload,
    options: &'a Options,
    on_event: F,
    tid: Option<TransactionId>,
    receivers: Vec<Receiver>,
    /// The machine, as it was when it ended.
    transfer: Option<Transfer>,
    assigned_at: Option<Instant>,
    last_ack_at: Option<Instant>,
    /// The payload's BLAKE3, once it is known.
    digest: Option<[u8; 32]>,
    /// The orchestrator, as it was named.
    named: String,
    /// Bytes in a full chunk, once that is planned.
    chunk_bytes: u16,
    journal: Option<Journal>,
    /// How many receivers must have each chunk: as the options say, or the journal.
    copies: usize,
    /// The payload was written to while it was sent, and no server has compared the whole of it.
    changed: bool,
    /// What the system says of peers that cannot be reached.
    trouble: BTreeMap<SocketAddr, io::ErrorKind>,
    inbox: Inbox,
}

impl<'a, F: FnMut(&Event)> Session<'a, F> {
    fn new(payload: &'a Payload, options: &'a Options, on_event: F, named: String) -> Self {
        Self {
            clock: Clock::start(),
            payload,
            options,
            on_event,
            tid: None,
            receivers: Vec::new(),
            transfer: None,
            assigned_at: None,
            last_ack_at: None,
            digest: None,
            named,
            chunk_bytes: 0,
            journal: None,
            copies: options.transfer.copies,
            changed: false,
            trouble: BTreeMap::new(),
            inbox: Inbox::new(),
        }
    }
}

impl<F: FnMut(&Event)> Session<'_, F> {
    fn emit(&mut self, kind: Kind) {
        (self.on_event)(&Event { at: self.clock.elapsed(), kind });
    }

    /// Reports a datagram, if datagrams are asked for. Of its data only the length is told.
    fn trace(&mut self, direction: &'static str, peer: SocketAddr, datagram: &[u8]) {
        if self.options.datagrams {
            let header = datagram
                .windows(5)
                .position(|w| w == b"DATA:")
                .filter(|_| datagram.starts_with(b"Type:2"))
                .map_or(datagram.len(), |at| at + 5);
            let (header, data) = datagram.split_at(header);
            let mut text = header[..header.len().min(1024)].escape_ascii().to_string();
            if !data.is_empty() {
                text = format!("{text}<{} bytes>", data.len());
            }
            self.emit(Kind::Datagram { direction, address: peer.to_string(), text });
        }
    }

    async fn run<I: Future<Output = Interrupt>>(
        &mut self,
        host: &str,
        port: u16,
        mut interrupt: Pin<&mut I>,
    ) -> Result<(), SendError> {
        let whom = [host.to_owned()];
        let orchestrator = tokio::select! {
            resolved = self.patiently("resolver", &whom, resolve(host, port)) => resolved?,
            signal = &mut interrupt => return Err(SendError::Interrupt(signal)),
        };
        if let Some(saved) = self.saved(&self.named.clone())? {
            let mut sockets = Sockets::for_peer(orchestrator, self.options.observer.clone())?;
            let now = self.clock.now();
            self.assigned_at = Some(now);
            let mut transfer = self.resume(now, saved);
            self.receivers.iter().try_for_each(|receiver| sockets.ensure(receiver.addr))?;
            let result = self.pump(&mut transfer, &sockets, interrupt).await;
            self.transfer = Some(transfer);
            return result;
        }
        let mut small = false;
        loop {
            // A fresh port for each transaction.
            let mut sockets = Sockets::for_peer(orchestrator, self.options.observer.clone())?;
            let assignment = self.ask(orchestrator, &sockets, interrupt.as_mut()).await?;
            let assigned_at = self.clock.now();
            self.assigned_at.get_or_insert(assigned_at);
            self.choose(orchestrator, assignment, &mut sockets)?;
            let basis = tokio::select! {
                basis = self.measure() => basis?,
                signal = &mut interrupt => return Err(SendError::Interrupt(signal)),
            };
            let Some(mut transfer) = self.plan(assigned_at, &basis, small) else {
                return Ok(());
            };
            let result = self.pump(&mut transfer, &sockets, interrupt.as_mut()).await;
            self.transfer = Some(transfer);
            match result {
                Err(SendError::NothingArrives) => {
                    self.emit(Kind::Fallback { chunk_bytes: self.chunk_bytes });
                    small = true;
                }
                result => return result,
            }
        }
    }
}

/// The orchestrator's address; IPv4 first where a name has both, as classic orchestrators have it.
async fn resolve(host: &str, port: u16) -> Result<SocketAddr, SendError> {
    let failed = |source| SendError::Resolve { host: host.to_owned(), source };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let found: Vec<SocketAddr> =
        tokio::net::lookup_host((bare, port)).await.map_err(failed)?.collect();
    let v4 = found.iter().find(|addr| addr.is_ipv4());
    let none = || failed(io::Error::new(io::ErrorKind::NotFound, "no address"));
    let addr = v4.or(found.first()).copied().ok_or_else(none)?;
    if address::check(addr.ip(), addr.ip(), true) == Err(Refusal::NotUnicast) {
        let what = "no single host has this address; give the orchestrator's own";
        return Err(SendError::Usage(format!("orchestrator {host}: {what}")));
    }
    Ok(addr)
}
