//! Receivers alone, and their part of a server that is more: take chunks, keep them in a store,
//! acknowledge them.

use crate::assignments::Assignments;
use crate::config::ReceiverConfig;
use crate::engine::Engine;
use crate::error::{ConfigError, ServerError};
use crate::inbox::Inbox;
use crate::keeper::{self, Keeper, Opened};
use crate::log::Log;
use crate::port::{Input, Port};
use crate::shard::{Letter, Other, Parcel, Team};
use crate::stats::{StatsSender, Summary};
use crate::writer::{self, Batch, Writer};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::observe::Observer;
use mdalp_proto::orchestrator::Orchestrator;
use mdalp_proto::receiver::{Config, Event, Local, Receiver, Stored};
use mdalp_proto::time::Instant;
use mdalp_proto::wire::ChunkCrc;
use mdalp_store::{AppendError, Appended, ReceiverName, Store};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Chunks that the store has not confirmed, in bytes of memory of all shards; more are dropped (F29).
const MAX_PENDING: usize = 8 << 20;
/// Batches read from one socket before the others get their turn …
const BURST: usize = 32;
/// … and datagrams: a batch of joined ones can be 2,000.
const BURST_DATAGRAMS: usize = 4096;

const SECOND: Duration = Duration::from_secs(1);
/// How often all transactions of the store are looked at, unless they are kept for less.
const SWEEP: Duration = Duration::from_secs(600);

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
    let side = ReceiverSide::start(sockets, store, config, Arc::default(), &[]).await?;
    Engine::new(None, Some(side), stats).run(shutdown).await
}

/// The receivers' machine with its sockets and threads; one shard's, if there are several.
pub(crate) struct ReceiverSide {
    pub(crate) ports: Vec<Port>,
    pub(crate) machine: Receiver,
    pub(crate) writer: Writer,
    pub(crate) keeper: Keeper,
    /// This shard's ways to the others …
    pub(crate) team: Team,
    /// … which the first one has started.
    pub(crate) others: Vec<Other>,
    /// Transactions that the store holds open from before.
    open: Vec<TransactionId>,
    batch: Batch,
    /// The other batch, unless the writer has it.
    spare: Option<Batch>,
    under_way: usize,
    max_pending: usize,
    /// How often all transactions of the store are looked at.
    pub(crate) sweep: Duration,
    /// Transactions left the memory since the last sweep, or the store was crowded: it has to look for
    /// them.
    pub(crate) lost_sight: bool,
    /// The store's last refusal, for the log.
    pub(crate) refusal: Option<AppendError>,
}

/// What a shard is made of. Its sockets join the runtime that it runs in.
struct Parts {
    sockets: Vec<UdpSocket>,
    observer: Option<Observer>,
    rules: Config,
    writer: Writer,
    keeper: Keeper,
    team: Team,
    open: Vec<TransactionId>,
    max_pending: usize,
    sweep: Duration,
}

impl ReceiverSide {
    /// Starts the threads and asks the store what it holds. `assigned` is what an orchestrator in this
    /// process notes; `own` are more addresses of this process.
    pub(crate) async fn start(
        sockets: Vec<UdpSocket>,
        store: Arc<dyn Store>,
        config: ReceiverConfig,
        assigned: Arc<Assignments>,
        own: &[SocketAddr],
    ) -> Result<Self, ServerError> {
        config.check(sockets.len())?;
        let ReceiverConfig { receivers, mut rules, keep, observer, shards } = config;
        rules.seals |= receivers.iter().any(|spec| {
            let caps = spec.entry().caps;
            caps.seal || caps.record
        });
        rules.probed = receivers.iter().map(|spec| spec.entry().caps).collect();
        let bound = sockets.iter().filter_map(|socket| socket.local_addr().ok());
        rules.own.extend(own.iter().copied().chain(bound));
        rules.transactions = part(rules.transactions, shards);
        rules.ranges_total = part(rules.ranges_total, shards);
        let names = receivers.iter().map(|spec| ReceiverName {
            address: spec.addr().to_string(),
            name: spec.name().to_owned(),
        });
        let mut keeper = keeper::spawn(store.clone(), assigned.clone(), keep, true)?;
        keeper.send(keeper::Command::Open(names.collect()))?;
        let keeper::Reply::Opened(opened) = keeper.reply().await? else {
            return Err(ServerError::Thread("mdalp-keeper"));
        };
        let Opened { ids, open } = opened.map_err(|error| ServerError::Store {
            doing: "reading what it holds",
            reason: error.to_string(),
        })?;
        let mut keepers = vec![keeper];
        for _ in 1..shards {
            keepers.push(keeper::spawn(store.clone(), assigned.clone(), keep, false)?);
        }
        let writers = writer::spawn(store, ids, assigned, shards)?;
        let mut all = Vec::new();
        let each = shared(sockets, shards)?.into_iter().zip(Team::of(shards));
        for ((sockets, team), (writer, keeper)) in each.zip(writers.into_iter().zip(keepers)) {
            let open = open.iter().copied().filter(|tid| team.owns(*tid)).collect();
            let (observer, rules) = (observer.clone(), rules.clone());
            let (max_pending, sweep) = (MAX_PENDING / shards, keep.shortest().clamp(SECOND, SWEEP));
            all.push(Parts {
                sockets,
                observer,
                rules,
                writer,
                keeper,
                team,
                open,
                max_pending,
                sweep,
            });
        }
        let mut all = all.into_iter();
        let first = all.next().ok_or(ConfigError::Shards(0))?;
        let mut first = Self::of(first)?;
        for parts in all {
            let run = |stats, stop: oneshot::Receiver<()>| async {
                let shutdown = async { drop(stop.await) };
                Engine::new(None, Some(Self::of(parts)?), stats).run(shutdown).await
            };
            first.others.push(Other::spawn(run)?);
        }
        Ok(first)
    }

    fn of(parts: Parts) -> Result<Self, ServerError> {
        let Parts { sockets, observer, rules, writer, keeper, team, open, max_pending, sweep } =
            parts;
        let port = |socket| Port::new(socket, "receiver", observer.clone());
        Ok(Self {
            ports: sockets.into_iter().map(port).collect::<Result<_, _>>()?,
            machine: Receiver::new(rules),
            writer,
            keeper,
            team,
            others: Vec::new(),
            open,
            batch: Batch::default(),
            spare: Some(Batch::default()),
            under_way: 0,
            max_pending,
            sweep,
            lost_sight: false,
            refusal: None,
        })
    }

    /// Watches what the store holds open from before. There may be more than the memory has places
    /// for; the first sweep looks at all.
    pub(crate) fn adopt(&mut self, now: Instant) -> Result<(), ServerError> {
        for tid in self.open.drain(..) {
            self.machine.adopt(now, tid);
        }
        if self.team.is_first() { self.keeper.send(keeper::Command::Sweep) } else { Ok(()) }
    }

    /// Bytes that wait for the store.
    pub(crate) fn pending(&self) -> usize {
        self.under_way + self.batch.weight()
    }

    /// Reads what waits in the sockets.
    pub(crate) fn receive(&mut self, now: Instant, inbox: &mut Inbox) -> Result<(), ServerError> {
        for index in 0..self.ports.len() {
            let local = Local(index as u16);
            let mut count = 0;
            for _ in 0..BURST {
                if count >= BURST_DATAGRAMS {
                    break;
                }
                match self.ports[index].receive(inbox)? {
                    Input::Datagrams => {
                        for (from, datagram) in inbox.datagrams() {
                            count += 1;
                            if !self.team.passes_on(local, from, datagram) {
                                self.datagram(now, local, from, datagram);
                            }
                        }
                    }
                    Input::Noise => {}
                    Input::Nothing => break,
                }
            }
        }
        self.team.flush();
        self.submit()
    }

    /// Takes what another shard got.
    pub(crate) fn unpack(&mut self, now: Instant, parcel: &Parcel) -> Result<(), ServerError> {
        for (local, from, datagram) in parcel.datagrams() {
            self.datagram(now, local, from, datagram);
        }
        self.submit()
    }

    fn datagram(&mut self, now: Instant, local: Local, from: SocketAddr, bytes: &[u8]) {
        self.machine.handle_datagram(now, local, from, bytes);
        let Some(append) = self.machine.poll_append() else { return };
        if self.pending() >= self.max_pending {
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
        while let Some(reply) = self.machine.poll_probe_reply() {
            if let Some(port) = self.ports.get_mut(usize::from(reply.local.0)) {
                port.send(reply.to, |out| out.extend_from_slice(&reply.datagram));
            }
        }
        self.ports.iter_mut().for_each(Port::flush);
        while let Some(event) = self.machine.poll_event() {
            if let Event::Claimed { tid } = event {
                log.claimed(tid);
            }
            match (event, orchestrator.as_deref_mut()) {
                (Event::Quiet { tid }, _) => self.keeper.send(keeper::Command::Inspect(tid))?,
                (Event::Evicted { .. }, _) => self.lost_sight = true,
                (event, Some(to)) => tell(to, now, event),
                (event, None) => self.team.tell_first(Letter::Event(event)),
            }
        }
        Ok(())
    }
}

/// Tells the orchestrator how a transaction goes on.
pub(crate) fn tell(to: &mut Orchestrator, now: Instant, event: Event) {
    match event {
        Event::Claimed { tid } => to.transaction_claimed(now, tid),
        Event::Active { tid } => to.transaction_active(now, tid),
        Event::Idle { tid } => to.transaction_ended(now, tid),
        _ => {}
    }
}

/// One shard's part of a limit. Ids are drawn at random, so that some shards get more than the mean:
/// four standard deviations are enough for them.
fn part(limit: usize, shards: usize) -> usize {
    let mean = limit.div_ceil(shards);
    if shards == 1 { limit } else { limit.min(mean + 4 * mean.isqrt()) }
}

/// A set of sockets for each shard.
fn shared(sockets: Vec<UdpSocket>, shards: usize) -> Result<Vec<Vec<UdpSocket>>, ServerError> {
    if shards == 1 {
        return Ok(vec![sockets]);
    }
    #[cfg(not(target_os = "linux"))]
    return Err(ConfigError::Shards(shards).into());
    #[cfg(target_os = "linux")]
    {
        let mut sets: Vec<_> = (0..shards).map(|_| Vec::new()).collect();
        for socket in sockets {
            let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
            let addr = socket.local_addr().unwrap_or(unknown);
            let all = crate::kernel::share(socket, shards).map_err(|source| {
                let (role, doing) = ("receiver".to_owned(), "sharing the address among shards");
                ServerError::Socket { addr, role, doing, source }
            })?;
            sets.iter_mut().zip(all).for_each(|(set, socket)| set.push(socket));
        }
        Ok(sets)
    }
}
