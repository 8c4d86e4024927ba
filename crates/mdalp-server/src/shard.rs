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
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{oneshot, watch};

/// What stands before the id in a chunk and in a seal; the type's digit in between may be any.
pub(crate) const BEFORE_TYPE: &[u8] = b"Type:";
pub(crate) const BEFORE_ID: &[u8] = b";TID:";
/// Where the id begins.
pub(crate) const ID: usize = BEFORE_TYPE.len() + 1 + BEFORE_ID.len();
/// Digits of the longest id.
pub(crate) const DIGITS: usize = 20;

/// A parcel is handed over when it takes so many bytes …
const PARCEL: usize = 16 << 10;
/// … and is lost if this many wait: a slow shard must not fill the memory, and clients repeat.
const PARCELS: usize = 256;
/// So many letters may wait; then the shards that write them do.
const LETTERS: usize = 1024;

/// Datagrams for another shard.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    bytes: Vec<u8>,
    datagrams: Vec<Passed>,
}

/// Where a datagram came in, from whom, and its place in the parcel.
type Passed = (Local, SocketAddr, Range<usize>);

impl Parcel {
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = (Local, SocketAddr, &[u8])> {
        self.datagrams.iter().map(|(local, from, at)| (*local, *from, &self.bytes[at.clone()]))
    }

    fn weight(&self) -> usize {
        self.bytes.len() + self.datagrams.len() * size_of::<Passed>()
    }
}

/// What the other shards tell the first one.
#[derive(Debug)]
pub(crate) enum Letter {
    /// What a machine of receivers reported: for the orchestrator.
    Event(Event),
    /// A transaction was closed: for the orchestrator, too.
    Ended(TransactionId),
    /// Transactions left the memory: the store has to be looked at, which the first one does.
    LostSight,
}

/// What a shard heard.
#[derive(Debug)]
pub(crate) enum News {
    Parcel(Parcel),
    Letter(Letter),
}

#[derive(Clone, Debug)]
struct Peer {
    parcels: Sender<Parcel>,
}

/// One shard's ways to all of them.
#[derive(Debug)]
pub(crate) struct Team {
    me: usize,
    peers: Vec<Peer>,
    parcels: Receiver<Parcel>,
    packing: Vec<Parcel>,
    /// To the first shard …
    first: Sender<Letter>,
    /// … what is not on its way yet …
    unsent: VecDeque<Letter>,
    /// … and the first one's end.
    letters: Option<Receiver<Letter>>,
    /// Datagrams that another shard had no room for.
    pub(crate) lost: u64,
}

impl Team {
    /// As many shards as asked for, in order.
    pub(crate) fn of(shards: usize) -> Vec<Self> {
        let (first, letters) = mpsc::channel(LETTERS);
        let mut letters = Some(letters);
        let (mut peers, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..shards {
            let (parcels, parcels_end) = mpsc::channel(PARCELS);
            peers.push(Peer { parcels });
            ends.push(parcels_end);
        }
        let team = |(me, parcels)| Self {
            me,
            peers: peers.clone(),
            parcels,
            packing: (0..shards).map(|_| Parcel::default()).collect(),
            first: first.clone(),
            unsent: VecDeque::new(),
            letters: letters.take(),
            lost: 0,
        };
        ends.into_iter().enumerate().map(team).collect()
    }

    pub(crate) fn is_first(&self) -> bool {
        self.me == 0
    }

    pub(crate) fn owns(&self, tid: TransactionId) -> bool {
        self.owner(tid.0 as u32) == self.me
    }

    /// As the kernel's program has it.
    fn owner(&self, key: u32) -> usize {
        key as usize % self.peers.len()
    }

    /// Whether a datagram belongs to another shard, and is now among those to be passed on to it.
    pub(crate) fn passes_on(&mut self, local: Local, from: SocketAddr, datagram: &[u8]) -> bool {
        if self.peers.len() == 1 {
            return false;
        }
        // What has no id is dropped here as well as there.
        let owner = key(datagram).map_or(self.me, |key| self.owner(key));
        if owner == self.me {
            return false;
        }
        let parcel = &mut self.packing[owner];
        let start = parcel.bytes.len();
        parcel.bytes.extend_from_slice(datagram);
        parcel.datagrams.push((local, from, start..parcel.bytes.len()));
        if parcel.weight() >= PARCEL {
            self.hand_over(owner);
        }
        true
    }

    /// Hands over what is to be passed on.
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

    /// A parcel that has come.
    pub(crate) fn parcel(&mut self) -> Option<Parcel> {
        self.parcels.try_recv().ok()
    }

    /// Writes to the first shard, unless this is the first.
    pub(crate) fn tell_first(&mut self, letter: Letter) {
        if !self.is_first() {
            self.unsent.push_back(letter);
        }
    }

    /// Sends what was written. Waits for room: what makes letters must not outrun who reads them.
    pub(crate) async fn deliver(&mut self) {
        while let Some(letter) = self.unsent.pop_front() {
            // It is ending if nobody reads.
            let _ = self.first.send(letter).await;
        }
    }

    /// Letters that have come by now: not those that follow while these are read.
    pub(crate) fn letters(&mut self) -> Vec<Letter> {
        let Some(letters) = &mut self.letters else { return Vec::new() };
        (0..letters.len()).map_while(|_| letters.try_recv().ok()).collect()
    }

    /// Takes no more letters.
    pub(crate) fn close(&mut self) {
        if let Some(letters) = &mut self.letters {
            letters.close();
        }
    }

    /// What another shard sends next.
    pub(crate) async fn news(&mut self) -> News {
        let Self { letters, parcels, .. } = self;
        // Neither is ever at its end: this shard could send to itself.
        poll_fn(|cx| {
            if let Some(letters) = letters
                && let Poll::Ready(Some(letter)) = letters.poll_recv(cx)
            {
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
    stop: Option<oneshot::Sender<()>>,
    /// Until it was heard.
    ended: Option<oneshot::Receiver<Result<Summary, ServerError>>>,
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
        Ok(Self { stop: Some(stop), ended: Some(ended), stats })
    }

    /// What it said last of itself.
    pub(crate) fn stats(&self) -> Stats {
        self.stats.borrow().clone()
    }

    /// Lets it finish what it has read, and end.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
    }

    /// How it ended, when it has.
    pub(crate) async fn end(&mut self) -> Result<(), ServerError> {
        let Some(ended) = &mut self.ended else { return Ok(()) };
        let result = ended.await;
        self.ended = None;
        result.map_err(|_| ServerError::Thread(Self::NAME))?.map(drop)
    }
}

/// Completes when one of `others` has ended by itself, which none of them should.
pub(crate) async fn any_ended(others: &mut [Other]) -> ServerError {
    poll_fn(|cx| {
        for other in &mut *others {
            let Some(ended) = &mut other.ended else { continue };
            if let Poll::Ready(result) = Pin::new(ended).poll(cx) {
                other.ended = None;
                let error = result.ok().and_then(Result::err);
                return Poll::Ready(error.unwrap_or(ServerError::Thread(Other::NAME)));
            }
        }
        Poll::Pending
    })
    .await
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

    #[tokio::test]
    async fn letters_come_in_order_and_who_writes_too_many_waits() {
        let mut team = Team::of(2);
        let mut second = team.pop().expect("two");
        let mut first = team.pop().expect("two");
        let all = LETTERS as u64 + 5;
        (0..all).for_each(|n| second.tell_first(Letter::Ended(TransactionId(n))));
        let mut delivering = std::pin::pin!(tokio::task::unconstrained(second.deliver()));
        let mut got = Vec::new();
        while (got.len() as u64) < all {
            let waker = &mut std::task::Context::from_waker(std::task::Waker::noop());
            let all_sent = delivering.as_mut().poll(waker).is_ready();
            let batch = first.letters();
            assert!(batch.len() <= LETTERS && (all_sent || batch.len() == LETTERS));
            got.extend(batch);
        }
        let numbers = got.iter().map(|letter| match letter {
            Letter::Ended(tid) => tid.0,
            _ => u64::MAX,
        });
        assert!(numbers.eq(0..all));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_first_shard_that_reads_no_more() {
        let mut team = Team::of(2);
        team[0].close();
        (0..5000).for_each(|n| team[1].tell_first(Letter::Ended(TransactionId(n))));
        team[1].deliver().await;
    }

    #[test]
    fn a_parcel_of_many_short_datagrams_takes_no_more_memory_than_one_of_few() {
        let mut team = Team::of(2);
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        for _ in 0..4 * PARCEL / size_of::<Passed>() {
            assert!(team[0].passes_on(Local(0), from, b"Type:2;TID:1"));
        }
        let parcel = team[1].parcel().expect("handed over");
        let (bytes, datagrams) = (parcel.bytes.capacity(), parcel.datagrams.capacity());
        assert!(bytes + datagrams * size_of::<Passed>() <= 3 * PARCEL);
    }

    #[test]
    fn one_shard_keeps_everything() {
        let mut team = Team::of(1);
        let from = SocketAddr::from(([127, 0, 0, 1], 9));
        assert!(!team[0].passes_on(Local(0), from, &chunk(7)) && team[0].owns(TransactionId(7)));
    }
}
