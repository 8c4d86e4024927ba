//! The network loop: one task that owns the sockets and the machines and never blocks.
//!
//! Whatever wakes it, it then reads what waits, does what is due, and drains all outputs. Work that
//! blocks is done by the threads of [`crate::writer`] and [`crate::keeper`].

use crate::clock::Clock;
use crate::error::ServerError;
use crate::inbox::Inbox;
use crate::keeper::{self, Outcome};
use crate::log::Log;
use crate::orchestrator::OrchestratorSide;
use crate::port::{Input, Port};
use crate::receiver::{ReceiverSide, tell};
use crate::shard::{Letter, News, Other, any_ended};
use crate::stats::{Stats, StatsSender, Summary};
use crate::worker::Worker;
use crate::writer::Batch;
use mdalp_proto::completion::{Answer, Finding, Reason};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::orchestrator::Orchestrator;
use mdalp_proto::time::Instant;
use mdalp_store::complete::Done;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout_at;

/// Batches of intents read before the receivers get their turn.
const BURST: usize = 8;
const SECOND: Duration = Duration::from_secs(1);
/// After what time all transactions of the store are looked at if some were not watched.
const SWEEP_SOON: Duration = Duration::from_secs(60);
/// What shutting down may take (F17: 5 s).
const GRACE: Duration = Duration::from_millis(4_500);
/// What other shards may take longer, for they hear of it later.
const SLACK: Duration = Duration::from_millis(250);

/// Why the loop woke up.
enum Wake {
    Readable,
    Timer,
    Appended(Batch),
    Kept(keeper::Reply),
    News(News),
}

pub(crate) struct Engine {
    clock: Clock,
    orchestrator: Option<OrchestratorSide>,
    receivers: Option<ReceiverSide>,
    stats: StatsSender,
    log: Log,
    inbox: Inbox,
    closed: u64,
    expired: u64,
    next_second: Instant,
    last_sweep: Instant,
}

impl Engine {
    pub(crate) fn new(
        orchestrator: Option<OrchestratorSide>,
        receivers: Option<ReceiverSide>,
        stats: StatsSender,
    ) -> Self {
        Self {
            clock: Clock::start(),
            orchestrator,
            receivers,
            stats,
            log: Log::default(),
            inbox: Inbox::new(),
            closed: 0,
            expired: 0,
            next_second: Instant::ZERO,
            last_sweep: Instant::ZERO,
        }
    }

    pub(crate) async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Summary, ServerError> {
        let result = self.turns(pin!(shutdown)).await;
        self.finish(result).await
    }

    async fn turns(
        &mut self,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), ServerError> {
        if let Some(receivers) = &mut self.receivers {
            receivers.adopt(self.clock.now())?;
        }
        loop {
            let now = self.clock.now();
            self.do_what_is_due(now)?;
            self.drain(now)?;
            if let Some(receivers) = &mut self.receivers {
                receivers.team.deliver().await;
            }
            let wake_at = self.clock.wake_at(self.next_timeout());
            let own = self.orchestrator.as_ref().map(|side| &side.port);
            let wake = tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                wake = wait(own, &mut self.receivers) => wake?,
                () = tokio::time::sleep_until(wake_at) => Wake::Timer,
            };
            let now = self.clock.now();
            match wake {
                Wake::Readable => self.receive(now)?,
                Wake::Timer => {}
                Wake::Appended(batch) => self.appended(now, batch)?,
                Wake::Kept(reply) => self.kept(now, reply),
                Wake::News(news) => self.news(now, news)?,
            }
        }
    }

    /// Ends all shards and threads, and if nothing failed, waits for the store to answer for what was
    /// read.
    async fn finish(mut self, mut result: Result<(), ServerError>) -> Result<Summary, ServerError> {
        let deadline = tokio::time::Instant::now() + GRACE;
        let mut others = Vec::new();
        if let Some(side) = &mut self.receivers {
            others = std::mem::take(&mut side.others);
            side.team.close();
        }
        others.iter_mut().for_each(Other::stop);
        if result.is_ok() {
            result = self.settle(deadline).await;
        }
        let mut stats = self.snapshot(false);
        for other in &mut others {
            // Its own deadline is a little later.
            if let Ok(ended) = timeout_at(deadline + SLACK, other.end()).await {
                result = result.and(ended);
            } else {
                tracing::warn!("a shard did not end in time");
            }
            stats.add(&other.stats());
        }
        stats.ready = false;
        self.stats.send_replace(stats.clone());
        // The store is free for the next server when all threads have let go of it.
        let threads = async {
            if let Some(ReceiverSide { writer, keeper, team, .. }) = self.receivers {
                if team.is_first() {
                    tokio::join!(writer.end(), keeper.end());
                } else {
                    // The writer ends after the last shard.
                    drop(writer);
                    keeper.end().await;
                }
            }
        };
        // What is not done by then ends with the process.
        let _ = timeout_at(deadline, threads).await;
        result.map(|()| Summary { stats })
    }

    /// Reads no more from the sockets.
    async fn settle(&mut self, deadline: tokio::time::Instant) -> Result<(), ServerError> {
        let now = self.clock.now();
        if let Some(side) = &mut self.receivers {
            while let Some(parcel) = side.team.parcel() {
                side.unpack(now, &parcel)?;
            }
        }
        while let Some(receivers) = self.receivers.as_mut().filter(|side| side.pending() > 0) {
            receivers.submit()?;
            let Ok(reply) = timeout_at(deadline, receivers.writer.reply()).await else {
                let bytes = receivers.pending();
                tracing::warn!(bytes, "the store did not answer in time; not acknowledged");
                break;
            };
            let now = self.clock.now();
            self.appended(now, reply?)?;
            self.drain(now)?;
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Instant> {
        let orchestrator = self.orchestrator.as_ref().and_then(|side| side.machine.poll_timeout());
        let receivers = self.receivers.as_ref().and_then(|side| side.machine.poll_timeout());
        [orchestrator, receivers, Some(self.next_second)].into_iter().flatten().min()
    }

    fn receive(&mut self, now: Instant) -> Result<(), ServerError> {
        self.receive_intents(now)?;
        match &mut self.receivers {
            Some(receivers) => receivers.receive(now, &mut self.inbox),
            None => Ok(()),
        }
    }

    fn receive_intents(&mut self, now: Instant) -> Result<(), ServerError> {
        for _ in 0..BURST {
            let Some(side) = &mut self.orchestrator else { break };
            match side.port.receive(&mut self.inbox)? {
                Input::Datagrams => {}
                Input::Noise => continue,
                Input::Nothing => break,
            }
            // First what other shards know: a client that has an ack may want its next transaction.
            self.read_letters(now);
            if let Some(side) = &mut self.orchestrator {
                for (from, datagram) in self.inbox.datagrams() {
                    side.machine.handle_datagram(now, from, datagram);
                }
            }
        }
        Ok(())
    }

    fn do_what_is_due(&mut self, now: Instant) -> Result<(), ServerError> {
        if let Some(side) = &mut self.orchestrator {
            side.machine.handle_timeout(now);
        }
        if let Some(side) = &mut self.receivers {
            side.machine.handle_timeout(now);
            let interval = if side.lost_sight { side.sweep.min(SWEEP_SOON) } else { side.sweep };
            if !side.team.is_first() {
                if std::mem::take(&mut side.lost_sight) {
                    side.team.tell_first(Letter::LostSight);
                }
            } else if now.since(self.last_sweep) >= interval {
                (self.last_sweep, side.lost_sight) = (now, false);
                side.keeper.send(keeper::Command::Sweep)?;
            }
        }
        if now >= self.next_second {
            self.next_second = now + SECOND;
            let mut stats = self.snapshot(true);
            self.log.second(&stats);
            let others = self.receivers.iter().flat_map(|side| &side.others);
            others.for_each(|other| stats.add(&other.stats()));
            if let Some(error) = self.receivers.as_mut().and_then(|side| side.refusal.take()) {
                tracing::warn!(%error, "chunks were not stored and not acknowledged");
            }
            self.stats.send_if_modified(|old| {
                let changed = *old != stats;
                *old = stats;
                changed
            });
        }
        Ok(())
    }

    fn drain(&mut self, now: Instant) -> Result<(), ServerError> {
        if let Some(receivers) = &mut self.receivers {
            let orchestrator = self.orchestrator.as_mut().map(|side| &mut side.machine);
            receivers.drain(now, &mut self.log, orchestrator)?;
        }
        if let Some(side) = &mut self.orchestrator {
            side.drain(&mut self.log);
        }
        Ok(())
    }

    fn appended(&mut self, now: Instant, batch: Batch) -> Result<(), ServerError> {
        self.receivers.as_mut().map_or(Ok(()), |receivers| receivers.appended(now, batch))
    }

    /// Takes what another shard sent, and then what waits: news, however many, must not keep the
    /// sockets waiting.
    fn news(&mut self, now: Instant, news: News) -> Result<(), ServerError> {
        match (news, &mut self.receivers) {
            (News::Parcel(parcel), Some(side)) => side.unpack(now, &parcel)?,
            (News::Parcel(_), None) => {}
            (News::Letter(letter), _) => {
                self.letter(now, letter);
                self.read_letters(now);
            }
        }
        self.receive(now)
    }

    fn read_letters(&mut self, now: Instant) {
        let letters = self.receivers.as_mut().map(|side| side.team.letters());
        for letter in letters.unwrap_or_default() {
            self.letter(now, letter);
        }
    }

    fn letter(&mut self, now: Instant, letter: Letter) {
        match (letter, &mut self.orchestrator, &mut self.receivers) {
            (Letter::Event(event), Some(side), _) => tell(&mut side.machine, now, event),
            (Letter::Ended(tid), ..) => self.ended(now, tid),
            (Letter::LostSight, _, Some(side)) => side.lost_sight = true,
            _ => {}
        }
    }

    fn kept(&mut self, now: Instant, reply: keeper::Reply) {
        match reply {
            keeper::Reply::Inspected(tid, outcome) => match outcome {
                Outcome::Over => {
                    self.receivers.iter_mut().for_each(|side| side.machine.handle_finished(tid));
                    self.ended(now, tid);
                }
                Outcome::Gaps(gaps) => self.log.gaps(tid, &gaps),
                Outcome::Failed(why) => self.log.failed(tid, &why),
                Outcome::Nothing => {}
            },
            keeper::Reply::Done(done) => self.done(now, done),
            keeper::Reply::Damage(damage) => {
                for one in &damage {
                    self.log.damage(one);
                }
            }
            keeper::Reply::Opened(_) => {}
        }
    }

    /// Passes on what the completion rules led to.
    fn done(&mut self, now: Instant, done: Done) {
        match done {
            Done::Answered(answer) => self.answered(now, &answer),
            Done::Released(tid, Reason::Expired) => {
                self.expired += 1;
                self.log.released(tid);
                self.ended(now, tid);
            }
            Done::Released(tid, Reason::Removed) => {
                self.log.removed(tid);
            }
            Done::Failed(tid, why) => self.log.failed(tid, &why),
            Done::CalendarSet => self.log.calendar_set(),
        }
    }

    fn answered(&mut self, now: Instant, answer: &Answer) {
        let (tid, from) = (answer.asked.seal.tid, answer.from());
        let statement = answer.asked.seal.statement;
        match answer.found {
            Finding::Closed { revision } => {
                self.closed += 1;
                self.log.closed(tid, from, &statement, revision);
            }
            Finding::Recorded => self.log.recorded(tid, from, &statement),
            Finding::Nothing => {}
        }
        if let Some(side) = &mut self.receivers {
            side.machine.handle_sealed(&answer.asked, answer.verdict.clone());
        }
        if answer.is_final() {
            self.ended(now, tid);
        }
    }

    fn ended(&mut self, now: Instant, tid: TransactionId) {
        match (&mut self.orchestrator, &mut self.receivers) {
            (Some(side), _) => side.machine.transaction_ended(now, tid),
            (None, Some(side)) => side.team.tell_first(Letter::Ended(tid)),
            (None, None) => {}
        }
    }

    fn snapshot(&self, ready: bool) -> Stats {
        let orchestrator = self.orchestrator.as_ref();
        let receivers = self.receivers.as_ref();
        let machine = orchestrator.map(|side| &side.machine);
        let ports = || {
            let own = orchestrator.iter().map(|side| &side.port);
            own.chain(receivers.iter().flat_map(|side| &side.ports))
        };
        Stats {
            ready,
            queued: machine.map_or(0, Orchestrator::queued),
            live: machine.map_or(0, Orchestrator::live),
            receiving: receivers.map_or(0, |side| side.machine.transactions()),
            closed: self.closed,
            expired: self.expired,
            pending_bytes: receivers.map_or(0, ReceiverSide::pending),
            unsent: ports().map(|port| port.unsent).sum(),
            dropped: ports().map(Port::dropped).sum::<u64>()
                + receivers.map_or(0, |side| side.team.lost),
            orchestrator: machine.map(|machine| *machine.counters()),
            receivers: receivers.map(|side| *side.machine.counters()),
        }
    }
}

/// Completes when a socket may be read or a thread has answered.
async fn wait(
    own: Option<&Port>,
    receivers: &mut Option<ReceiverSide>,
) -> Result<Wake, ServerError> {
    let (ports, writer, keeper, team, others) = match receivers {
        Some(ReceiverSide { ports, writer, keeper, team, others, .. }) => {
            (&ports[..], Some(writer), Some(keeper), Some(team), &mut others[..])
        }
        None => (&[][..], None, None, None, &mut [][..]),
    };
    let readable = poll_fn(|cx| {
        // All of them, so that each one wakes this task.
        let ready = own.into_iter().chain(ports).filter(|port| port.poll_readable(cx).is_ready());
        if ready.count() > 0 { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::select! {
        biased;
        reply = reply_of(writer) => Ok(Wake::Appended(reply?)),
        reply = reply_of(keeper) => Ok(Wake::Kept(reply?)),
        news = async { match team { Some(team) => team.news().await, None => pending().await } } => {
            Ok(Wake::News(news))
        }
        error = any_ended(others) => Err(error),
        () = readable => Ok(Wake::Readable),
    }
}

/// The next reply of a thread; never, if there is none.
async fn reply_of<C, R>(worker: Option<&mut Worker<C, R>>) -> Result<R, ServerError>
where
    C: Send + 'static,
    R: Send + 'static,
{
    match worker {
        Some(worker) => worker.reply().await,
        None => pending().await,
    }
}
