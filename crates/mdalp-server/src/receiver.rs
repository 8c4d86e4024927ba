//! Receivers alone, and their part of a server that is more: take chunks, keep them in a store,
//! acknowledge them.

use crate::config::ReceiverConfig;
use crate::engine::Engine;
use crate::error::{ConfigError, ServerError};
use crate::inbox::Inbox;
use crate::keeper::{self, Keeper, Opened};
use crate::log::Log;
use crate::port::{Input, Port};
use crate::stats::{StatsSender, Summary};
use crate::writer::{self, Batch, Writer};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::orchestrator::Orchestrator;
use mdalp_proto::receiver::{Event, Local, Receiver, Stored};
use mdalp_proto::time::Instant;
use mdalp_proto::wire::ChunkCrc;
use mdalp_store::{AppendError, Appended, ReceiverName, Store};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

/// Chunks that the store has not confirmed, in bytes of memory; more are dropped (F29).
const MAX_PENDING: usize = 8 << 20;
/// Batches read from one socket before the others get their turn.
const BURST: usize = 32;

/// Runs one receiver on each of `sockets` (see [`bind_receivers`](crate::bind_receivers)) until
/// `shutdown` completes; then what was read is committed and acknowledged.
///
/// # Errors
/// [`ServerError`] if a socket or the store fails.
pub async fn run(
    sockets: Vec<UdpSocket>,
    store: Arc<dyn Store>,
    config: ReceiverConfig,
    stats: StatsSender,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, ServerError> {
    let side = ReceiverSide::start(sockets, store, config, &[]).await?;
    Engine::new(None, Some(side), stats).run(shutdown).await
}

/// The receivers' machine with its sockets and threads.
pub(crate) struct ReceiverSide {
    pub(crate) ports: Vec<Port>,
    pub(crate) machine: Receiver,
    pub(crate) writer: Writer,
    pub(crate) keeper: Keeper,
    /// Transactions that the store holds open from before.
    open: Vec<TransactionId>,
    /// Whether transactions must be announced to the machine.
    pub(crate) registered_only: bool,
    batch: Batch,
    /// The other batch, unless the writer has it.
    spare: Option<Batch>,
    under_way: usize,
    /// Transactions left the memory since the last sweep, or the store was crowded: it has to look for
    /// them.
    pub(crate) lost_sight: bool,
    /// The store's last refusal, for the log.
    pub(crate) refusal: Option<AppendError>,
}

impl ReceiverSide {
    /// Starts the threads and asks the store what it holds. `own` are more addresses of this process.
    pub(crate) async fn start(
        sockets: Vec<UdpSocket>,
        store: Arc<dyn Store>,
        config: ReceiverConfig,
        own: &[SocketAddr],
    ) -> Result<Self, ServerError> {
        let ReceiverConfig { receivers, mut rules, keep, observer } = config;
        if receivers.is_empty() {
            return Err(ConfigError::NoReceivers.into());
        }
        if receivers.len() != sockets.len() {
            let (sockets, receivers) = (sockets.len(), receivers.len());
            return Err(ConfigError::Sockets { sockets, receivers }.into());
        }
        let ports = sockets
            .into_iter()
            .map(|socket| Port::new(socket, "receiver", observer.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        rules.seals |= receivers.iter().any(|spec| spec.entry().caps.seal);
        rules.own.extend(own.iter().copied().chain(ports.iter().map(Port::addr)));
        let names = receivers.iter().map(|spec| ReceiverName {
            address: spec.addr().to_string(),
            name: spec.name().to_owned(),
        });
        let mut keeper = keeper::spawn(store.clone(), keep, rules.quiet)?;
        keeper.send(keeper::Command::Open(names.collect()))?;
        let keeper::Reply::Opened(opened) = keeper.reply().await? else {
            return Err(ServerError::Thread("mdalp-keeper"));
        };
        let Opened { ids, open } = opened.map_err(|error| ServerError::Store {
            doing: "reading what it holds",
            reason: error.to_string(),
        })?;
        Ok(Self {
            ports,
            registered_only: rules.registered_only,
            machine: Receiver::new(rules),
            writer: writer::spawn(store, ids)?,
            keeper,
            open,
            batch: Batch::default(),
            spare: Some(Batch::default()),
            under_way: 0,
            lost_sight: false,
            refusal: None,
        })
    }

    /// Watches what the store holds open from before. There may be more than the memory has places
    /// for; the first sweep looks at all.
    pub(crate) fn adopt(&mut self, now: Instant) -> Result<(), ServerError> {
        for tid in self.open.drain(..) {
            self.machine.adopt(now, tid);
            if self.registered_only {
                self.machine.register(tid);
            }
        }
        self.keeper.send(keeper::Command::Sweep)
    }

    /// Bytes that wait for the store.
    pub(crate) fn pending(&self) -> usize {
        self.under_way + self.batch.weight()
    }

    /// Reads what waits in the sockets.
    pub(crate) fn receive(&mut self, now: Instant, inbox: &mut Inbox) -> Result<(), ServerError> {
        for index in 0..self.ports.len() {
            let local = Local(index as u16);
            for _ in 0..BURST {
                match self.ports[index].receive(inbox)? {
                    Input::Datagrams => {
                        for (from, datagram) in inbox.datagrams() {
                            self.datagram(now, local, from, datagram);
                        }
                    }
                    Input::Noise => {}
                    Input::Nothing => break,
                }
            }
        }
        self.submit()
    }

    fn datagram(&mut self, now: Instant, local: Local, from: SocketAddr, bytes: &[u8]) {
        self.machine.handle_datagram(now, local, from, bytes);
        let Some(append) = self.machine.poll_append() else { return };
        if self.pending() >= MAX_PENDING {
            self.refusal = Some(AppendError::Busy);
            self.machine.handle_appended(now, &append, Stored::Failed);
        } else {
            self.batch.push(append, bytes);
        }
    }

    /// Hands the batch to the writer if it has nothing to do.
    pub(crate) fn submit(&mut self) -> Result<(), ServerError> {
        if self.batch.appends.is_empty() {
            return Ok(());
        }
        let Some(spare) = self.spare.take() else { return Ok(()) };
        let batch = std::mem::replace(&mut self.batch, spare);
        self.under_way = batch.weight();
        self.writer.send(batch)
    }

    /// Takes the writer's results. The acks are drained afterwards.
    pub(crate) fn appended(&mut self, now: Instant, mut batch: Batch) -> Result<(), ServerError> {
        let mut poisoned = false;
        // A store that returns too few results has confirmed too few chunks.
        let missing = std::iter::repeat(&Err(AppendError::Unavailable));
        for (append, result) in batch.appends.iter().zip(batch.results.iter().chain(missing)) {
            let stored = match *result {
                Ok(Appended::New) => Stored::New,
                Ok(Appended::Duplicate { crc }) => Stored::Duplicate { crc: ChunkCrc(crc) },
                Err(AppendError::Crowded) => {
                    // What is silent for long makes room.
                    self.lost_sight = true;
                    Stored::Crowded
                }
                Err(error) => {
                    self.refusal = Some(error);
                    poisoned |= error == AppendError::Poisoned;
                    Stored::Failed
                }
            };
            self.machine.handle_appended(now, append, stored);
            self.queue_acks();
        }
        batch.clear();
        self.spare = Some(batch);
        self.under_way = 0;
        if poisoned {
            let reason = AppendError::Poisoned.to_string();
            return Err(ServerError::Store { doing: "appending chunks", reason });
        }
        self.submit()
    }

    fn queue_acks(&mut self) {
        while let Some(ack) = self.machine.poll_transmit() {
            if let Some(port) = self.ports.get_mut(usize::from(ack.local.0)) {
                port.send(ack.to, |out| ack.encode(out));
            }
        }
    }

    /// Sends the acks, and passes on what happened.
    pub(crate) fn drain(
        &mut self,
        now: Instant,
        log: &mut Log,
        mut orchestrator: Option<&mut Orchestrator>,
    ) -> Result<(), ServerError> {
        self.queue_acks();
        while let Some(asked) = self.machine.poll_seal() {
            self.keeper.send(keeper::Command::Seal(asked))?;
        }
        while let Some(reply) = self.machine.poll_seal_reply() {
            if let Some(port) = self.ports.get_mut(usize::from(reply.local.0)) {
                port.send(reply.to, |out| reply.encode(out));
            }
        }
        self.ports.iter_mut().for_each(Port::flush);
        while let Some(event) = self.machine.poll_event() {
            if let Event::Claimed { tid } = event {
                log.claimed(tid);
            }
            match (event, orchestrator.as_deref_mut()) {
                (Event::Claimed { tid }, Some(to)) => to.transaction_claimed(now, tid),
                (Event::Active { tid }, Some(to)) => to.transaction_active(now, tid),
                (Event::Idle { tid }, Some(to)) => to.transaction_ended(now, tid),
                (Event::Quiet { tid }, _) => self.keeper.send(keeper::Command::Inspect(tid))?,
                (Event::Evicted { .. }, _) => self.lost_sight = true,
                _ => {}
            }
        }
        Ok(())
    }
}
