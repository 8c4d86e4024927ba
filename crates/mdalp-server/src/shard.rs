//! Several network loops for the same receivers, on as many cores. Each is a shard: every transaction
//! belongs to one of them, by its id.
//!
//! A shard has sockets at all the receivers' addresses, rules, limits and a keeper of its own; the
//! store and its writer are shared. The kernel brings a datagram to its shard if it can (see
//! `kernel::share`); what comes to another one, for instance because it was joined with datagrams of
//! other transactions, is passed on here. Knows nothing of a datagram but where its id is.

use crate::error::ServerError;
use crate::stats::{Stats, Summary};
use mdalp_proto::ids::TransactionId;
use mdalp_proto::receiver::{Event, Local};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};

/// What stands before the id in a chunk and in a seal; the type's digit in between may be any.
pub(crate) const BEFORE_TYPE: &[u8] = b"Type:";
pub(crate) const BEFORE_ID: &[u8] = b";TID:";
/// Where the id begins.
pub(crate) const ID: usize = BEFORE_TYPE.len() + 1 + BEFORE_ID.len();
/// Digits of the longest id.
pub(crate) const DIGITS: usize = 20;

/// A parcel is handed over when it has this many bytes …
const PARCEL: usize = 64 << 10;
/// … and is lost if this many wait: a slow shard must not fill the memory, and clients repeat.
const PARCELS: usize = 32;

/// Datagrams for another shard.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    bytes: Vec<u8>,
    datagrams: Vec<(Local, SocketAddr, Range<usize>)>,
}

impl Parcel {
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (Local, SocketAddr, &[u8])> {
        self.datagrams.iter().map(|(local, from, at)| (*local, *from, &self.bytes[at.clone()]))
    }
}

/// What shards tell each other.
#[derive(Debug)]
pub(crate) enum Letter {
    /// To the first, which has the orchestrator: what a machine of receivers reported.
    Event(Event),
    /// To the first: a transaction was closed.
    Ended(TransactionId),
    /// To the first, which looks after the store: transactions left the memory.
    LostSight,
    /// From the first: chunks of this transaction are taken from now on.
    Register(TransactionId),
}

/// What a shard heard.
#[derive(Debug)]
pub(crate) enum News {
    Parcel(Parcel),
    Letter(Letter),
}

#[derive(Clone, Debug)]
struct Peer {
    letters: UnboundedSender<Letter>,
    parcels: Sender<Parcel>,
}

/// One shard's ways to all of them.
#[derive(Debug)]
pub(crate) struct Team {
    me: usize,
    peers: Vec<Peer>,
    letters: UnboundedReceiver<Letter>,
    parcels: Receiver<Parcel>,
    packing: Vec<Parcel>,
    /// Datagrams that another shard had no room for.
    pub(crate) lost: u64,
}

impl Team {
    /// As many shards as asked for, in order.
    pub(crate) fn of(shards: usize) -> Vec<Self> {
        let mut peers = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..shards {
            let (letters, letters_end) = mpsc::unbounded_channel();
            let (parcels, parcels_end) = mpsc::channel(PARCELS);
            peers.push(Peer { letters, parcels });
            ends.push((letters_end, parcels_end));
        }
        let team = |(me, (letters, parcels))| {
            let packing = (0..shards).map(|_| Parcel::default()).collect();
            Self { me, peers: peers.clone(), letters, parcels, packing, lost: 0 }
        };
        ends.into_iter().enumerate().map(team).collect()
    }

    pub(crate) fn is_first(&self) -> bool {
        self.me == 0
    }

    pub(crate) fn owns(&self, tid: TransactionId) -> bool {
        self.owner(tid) == self.me
    }

    fn owner(&self, tid: TransactionId) -> usize {
        tid.0 as u32 as usize % self.peers.len()
    }

    /// Whether a datagram belongs to another shard, and is now among those to be passed on to it.
    pub(crate) fn passes_on(&mut self, local: Local, from: SocketAddr, datagram: &[u8]) -> bool {
        // What is no chunk may be dropped here as well as there.
        let owner = match self.peers.len() {
            0 | 1 => self.me,
            shards => key(datagram).map_or(self.me, |key| key as usize % shards),
        };
        if owner == self.me {
            return false;
        }
        let parcel = &mut self.packing[owner];
        let start = parcel.bytes.len();
        parcel.bytes.extend_from_slice(datagram);
        parcel.datagrams.push((local, from, start..parcel.bytes.len()));
        if parcel.bytes.len() >= PARCEL {
            self.hand_over(owner);
        }
        true
    }

    /// Sends what is to be passed on.
    pub(crate) fn flush(&mut self) {
        for owner in 0..self.packing.len() {
            if !self.packing[owner].datagrams.is_empty() {
                self.hand_over(owner);
            }
        }
    }

    fn hand_over(&mut self, owner: usize) {
        let parcel = std::mem::take(&mut self.packing[owner]);
        let count = parcel.datagrams.len() as u64;
        self.lost += self.peers[owner].parcels.try_send(parcel).map_or(count, |()| 0);
    }

    /// Tells the first shard; nothing if this is the first.
    pub(crate) fn tell_first(&self, letter: Letter) {
        if !self.is_first() {
            // It is ending if nobody listens.
            let _ = self.peers[0].letters.send(letter);
        }
    }

    /// Tells the owner of a transaction that it is announced.
    pub(crate) fn register(&self, tid: TransactionId) {
        let _ = self.peers[self.owner(tid)].letters.send(Letter::Register(tid));
    }

    /// A letter that has come.
    pub(crate) fn letter(&mut self) -> Option<Letter> {
        self.letters.try_recv().ok()
    }

    /// What another shard sends next.
    pub(crate) async fn news(&mut self) -> News {
        let Self { letters, parcels, .. } = self;
        // Never closed: this shard could send to itself.
        poll_fn(|cx| {
            if let Poll::Ready(Some(letter)) = letters.poll_recv(cx) {
                return Poll::Ready(News::Letter(letter));
            }
            match parcels.poll_recv(cx) {
                Poll::Ready(Some(parcel)) => Poll::Ready(News::Parcel(parcel)),
                _ => Poll::Pending,
            }
        })
        .await
    }
}

/// The last 32 bits of the id in a chunk or a seal; anything if it is none. The kernel's program
/// computes the same.
fn key(datagram: &[u8]) -> Option<u32> {
    let rest = datagram.strip_prefix(BEFORE_TYPE)?;
    let digits = rest.get(1..)?.strip_prefix(BEFORE_ID)?.iter().take(DIGITS);
    let digits = digits.map(|byte| byte.wrapping_sub(b'0')).take_while(|digit| *digit < 10);
    Some(digits.fold(0, |key: u32, digit| key.wrapping_mul(10).wrapping_add(digit.into())))
}

/// A shard in a thread of its own, as the first shard sees it.
#[derive(Debug)]
pub(crate) struct Other {
    /// It ends when this is dropped.
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<Summary, ServerError>>,
    stats: watch::Receiver<Stats>,
}

impl Other {
    const NAME: &'static str = "mdalp-shard";

    /// `run` gets where to publish and what completes when the shard is to end.
    pub(crate) fn spawn<F>(
        run: impl FnOnce(watch::Sender<Stats>, oneshot::Receiver<()>) -> F + Send + 'static,
    ) -> Result<Self, ServerError>
    where
        F: Future<Output = Result<Summary, ServerError>>,
    {
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (publish, stats) = watch::channel(Stats { ready: true, ..Stats::default() });
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let result = match runtime {
                Ok(runtime) => runtime.block_on(run(publish, stopped)),
                Err(_) => Err(ServerError::Thread(Self::NAME)),
            };
            // Nobody waits if the first has ended by itself.
            let _ = end.send(result);
        };
        let thread = std::thread::Builder::new().name(Self::NAME.to_owned());
        thread.spawn(body).map_err(|_| ServerError::Thread(Self::NAME))?;
        Ok(Self { stop, ended, stats })
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats.borrow().clone()
    }

    /// Ends it, and waits for that.
    pub(crate) async fn end(self) -> Result<Stats, ServerError> {
        drop(self.stop);
        let ended = self.ended.await.map_err(|_| ServerError::Thread(Self::NAME))?;
        ended.map(|summary| summary.stats)
    }
}

/// Completes when one of `others` has ended by itself, which none of them should.
pub(crate) async fn any_ended(others: &mut [Other]) -> ServerError {
    let dead = ServerError::Thread(Other::NAME);
    poll_fn(|cx| {
        let ended = others.iter_mut().find_map(|other| match Pin::new(&mut other.ended).poll(cx) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        });
        ended.map_or(Poll::Pending, |result| Poll::Ready(result.ok().and_then(Result::err)))
    })
    .await
    .unwrap_or(dead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(tid: u64) -> Vec<u8> {
        format!("Type:2;TID:{tid};SEQ:0;DATA:x").into_bytes()
    }

    proptest! {
        #[test]
        fn chunks_and_seals_of_a_transaction_have_the_key_of_its_id(tid: u64, kind in 0..10_u8) {
            let datagram = format!("Type:{kind};TID:{tid};SEQ:7;DATA:1");
            prop_assert_eq!(key(datagram.as_bytes()), Some(tid as u32));
        }

        #[test]
        fn anything_can_be_asked_for_its_key(
            junk in proptest::collection::vec(any::<u8>(), 0..40), cut in 0..40_usize,
        ) {
            key(&junk);
            key(&chunk(u64::MAX)[..cut.min(33)]);
        }
    }

    #[test]
    fn a_chunk_is_passed_on_once_and_to_its_owner_alone() {
        let mut team = Team::of(3);
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        for tid in 0..9 {
            let (owner, foreign) = (tid as usize % 3, chunk(tid));
            assert!(!team[owner].passes_on(Local(0), from, &foreign));
            assert!(team[(owner + 1) % 3].passes_on(Local(2), from, &foreign));
        }
        team.iter_mut().for_each(Team::flush);
        for (owner, shard) in team.iter_mut().enumerate() {
            let parcel = shard.parcels.try_recv().expect("one parcel");
            let got: Vec<_> = parcel.datagrams().map(|(_, _, bytes)| bytes.to_vec()).collect();
            assert_eq!(got, [0, 3, 6].map(|n| chunk(n + owner as u64)));
            assert!(parcel.datagrams().all(|(local, ..)| local == Local(2)));
            assert!(shard.parcels.try_recv().is_err());
        }
    }

    #[test]
    fn what_a_slow_shard_has_no_room_for_is_lost_and_counted() {
        let mut team = Team::of(2);
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        for _ in 0..PARCELS + 2 {
            assert!(team[0].passes_on(Local(0), from, &chunk(1)));
            team[0].flush();
        }
        assert_eq!(team[0].lost, 2);
    }

    #[test]
    fn one_shard_keeps_everything() {
        let mut team = Team::of(1);
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        assert!(!team[0].passes_on(Local(0), from, &chunk(7)) && team[0].owns(TransactionId(7)));
    }
}
