//! What must hold, and what the checks need to know to see whether it does.
//!
//! The numbers are those of the reliability matrix, §4. Each check looks at what has just happened
//! and nothing else, so that a run costs no more with checks than its events do. Not here: 2, 23, 25
//! and 28, which are about whole runs (see [`crate::run`]), 15, which is the codec's alone, and 24,
//! which is about many runs.

use super::store::Key;
use crate::payload;
use crate::setup::Setup;
use mdalp_proto::ids::{Nonce, SequenceNumber, TransactionId};
use mdalp_proto::layout::Layout;
use mdalp_proto::ranges::RangeSet;
use mdalp_proto::time::Instant;
use mdalp_proto::wire::ChunkCrc;
use mdalp_proto::{orchestrator, receiver};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;

/// An invariant that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its number in the reliability matrix.
    pub invariant: u8,
    /// When.
    pub at: Instant,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} at {:.6} s: {}", self.invariant, self.at.as_secs_f64(), self.what)
    }
}

/// What is known of one client's transfer by those who see everything.
#[derive(Debug, Default)]
pub(crate) struct ClientTruth {
    pub(crate) tid: Option<u64>,
    pub(crate) layout: Option<Layout>,
    pub(crate) payload_seed: u64,
    /// Whether it ended well.
    pub(crate) complete: bool,
    /// And the servers say that they have all of it.
    pub(crate) verified: bool,
    /// Acks that some server handed to its socket.
    acked_out: RangeSet,
}

/// What was spent of an allowance that grows steadily up to a limit.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    spent: f64,
    at: Instant,
}

impl Budget {
    /// Whether there was enough, with `rate` more each second and `most` at once.
    fn spend(&mut self, now: Instant, cost: f64, rate: f64, most: f64) -> bool {
        let earned = (now - self.at).as_secs_f64() * rate;
        (self.spent, self.at) = ((self.spent - earned).max(0.0) + cost, now);
        self.spent <= most + 1e-6
    }
}

/// Everything that no node knows.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) now: Instant,
    pub(crate) violation: Option<Violation>,
    pub(crate) clients: Vec<ClientTruth>,
    /// Damage may have passed unnoticed, as it may without CRCs: bytes prove nothing any more.
    pub(crate) tainted: bool,
    receiver_limits: receiver::Config,
    orchestrator_limits: orchestrator::Config,
    issued: BTreeSet<u64>,
    /// The newest assignment of each address: which, when, in which life of the orchestrator.
    answered: BTreeMap<(SocketAddrV4, Option<Nonce>), (u64, Instant, u32)>,
    claimed: BTreeSet<u64>,
    /// The longest intent of each address.
    asked: BTreeMap<SocketAddrV4, usize>,
    /// Answers to short intents in this life of the orchestrator: to all, and by /24.
    budgets: (u32, Budget, BTreeMap<[u8; 3], Budget>),
    scratch: Vec<u8>,
}

impl Truth {
    pub(crate) fn new(setup: &Setup) -> Self {
        let client = |n| ClientTruth { payload_seed: setup.seed ^ n as u64, ..Default::default() };
        let corrupt = |config: &mdalp_netem::PathConfig| {
            config.corruption != mdalp_netem::Corruption::default()
        };
        let ends = &setup.receivers;
        let damaged =
            ends.iter().any(|end| corrupt(end.up.current()) || corrupt(end.down.current()));
        let far = corrupt(&setup.orchestrator.up) || corrupt(&setup.orchestrator.down);
        Self {
            now: Instant::ZERO,
            violation: None,
            clients: (0..setup.clients.len()).map(client).collect(),
            tainted: far || (damaged && !setup.servers.caps.crc),
            receiver_limits: setup.servers.receiver.clone(),
            orchestrator_limits: setup.servers.orchestrator.clone(),
            issued: BTreeSet::new(),
            answered: BTreeMap::new(),
            claimed: BTreeSet::new(),
            asked: BTreeMap::new(),
            budgets: Default::default(),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn check(&mut self, ok: bool, invariant: u8, what: impl FnOnce() -> String) {
        if !ok && self.violation.is_none() {
            self.violation = Some(Violation { invariant, at: self.now, what: what() });
        }
    }

    /// The CRC of the chunk that an honest client sends under these numbers; `None` if none does.
    pub(crate) fn expected(&mut self, (tid, seq): Key) -> Option<ChunkCrc> {
        let client = self.clients.iter().find(|client| client.tid == Some(tid))?;
        let range = client.layout.as_ref()?.range(SequenceNumber(seq));
        if range.is_empty() {
            return None;
        }
        self.scratch.resize((range.end - range.start) as usize, 0);
        payload::fill(client.payload_seed, range.start, &mut self.scratch);
        Some(ChunkCrc::of(TransactionId(tid), SequenceNumber(seq), &self.scratch))
    }

    fn is_clients(&self, tid: u64) -> bool {
        self.clients.iter().any(|client| client.tid == Some(tid))
    }

    /// 1: what is stored is the payload and nothing else. `held` of all stores together.
    pub(crate) fn i01_stored_is_the_payload(
        &mut self,
        client: usize,
        held: &BTreeMap<u64, ChunkCrc>,
        count: u64,
    ) {
        if self.tainted && !self.clients[client].verified {
            return;
        }
        let Some(tid) = self.clients[client].tid else { return };
        let chunks = self.clients[client].layout.as_ref().map_or(0, Layout::chunks);
        self.check(count == chunks && held.len() as u64 == chunks, 1, || {
            format!("{count} chunks are stored, the payload has {chunks}")
        });
        for (&seq, &crc) in held {
            let expected = self.expected((tid, seq));
            self.check(expected == Some(crc), 1, || format!("wrong bytes in chunk {seq}"));
        }
    }

    /// 3: `Acked` came in answer to an ack from that receiver, for a chunk sent to it, that some
    /// server really gave.
    pub(crate) fn i03_done_only_by_ack(&mut self, client: usize, seq: u64, sent: bool) {
        let given = self.clients[client].acked_out.contains(seq) || self.tainted;
        self.check(sent && given, 3, || {
            format!("chunk {seq} counts as done: sent there {sent}, acknowledged {given}")
        });
    }

    /// 3, the other way round, and 26: an ack of what was sent there counts, however late.
    pub(crate) fn i03_ack_counts(&mut self, counts: bool, seq: u64) {
        self.check(counts, 3, || format!("the ack of chunk {seq} does not count"));
    }

    /// 8 (H40): who acknowledges what it cannot have becomes suspect.
    pub(crate) fn h40_liar_is_suspect(&mut self, suspect: bool) {
        self.check(suspect, 8, || "sixteen false acks, and not suspect".to_owned());
    }

    /// 8 (F25): refusals can be forged, and few of them mean nothing.
    pub(crate) fn f25_refusals_are_hints(&mut self, ok: bool) {
        self.check(ok, 8, || "suspect after too few refusals".to_owned());
    }

    /// 4: an ack is handed to the socket only for what is durable. 7: and never after a failed flush.
    pub(crate) fn i04_acked_is_durable(
        &mut self,
        key: Key,
        said: Option<ChunkCrc>,
        held: Option<ChunkCrc>,
        flush_failed: bool,
    ) {
        self.check(held.is_some(), 4, || {
            format!("{}/{} is acknowledged but not durable", key.0, key.1)
        });
        self.check(said.is_none() || said == held, 4, || {
            format!("{}/{} is said to be {said:?} and is {held:?}", key.0, key.1)
        });
        self.check(!flush_failed, 7, || format!("ack {}/{} after a failed flush", key.0, key.1));
        let client = self.clients.iter_mut().find(|client| client.tid == Some(key.0));
        if let Some(client) = client {
            client.acked_out.insert(key.1);
        }
    }

    /// 5: recovery finds what was acknowledged.
    pub(crate) fn i05_acked_survives(&mut self, there: bool, key: Key) {
        self.check(there, 5, || format!("{}/{} was acknowledged and is gone", key.0, key.1));
    }

    /// 5: what was released does not come back.
    pub(crate) fn i05_released_stays_so(&mut self, so: bool, tid: u64) {
        self.check(so, 5, || format!("{tid} was released and is back"));
    }

    /// 5: recovery finds no wrong bytes.
    pub(crate) fn i05_recovery_keeps_bytes(&mut self, same: bool, key: Key) {
        self.check(same, 5, || format!("{}/{} has other bytes after a restart", key.0, key.1));
    }

    /// 6: recovering twice finds the same.
    pub(crate) fn i06_recovery_is_idempotent(&mut self, same: bool) {
        self.check(same, 6, || "recovering twice does not find the same".to_owned());
    }

    /// 8: a client sends to the orchestrator and to receivers it accepted, nobody else.
    pub(crate) fn i08_known_destination(&mut self, known: bool, to: SocketAddrV4) {
        self.check(known, 8, || format!("a datagram goes to {to}"));
    }

    /// 8 and 9: a server answers the sender of a datagram, with no more bytes than it got, once.
    pub(crate) fn i09_reply(
        &mut self,
        request: Option<(SocketAddrV4, usize)>,
        to: SocketAddrV4,
        len: usize,
    ) {
        self.check(request.is_some(), 9, || format!("a second answer, to {to}"));
        let Some((from, asked)) = request else { return };
        self.h13_answerable(to);
        self.check(from == to, 8, || format!("{from} is answered at {to}"));
        self.check(len <= asked, 9, || format!("{len} bytes in answer to {asked}"));
    }

    /// 8 (H13): what cannot be one other host gets nothing.
    fn h13_answerable(&mut self, to: SocketAddrV4) {
        let bad = to.port() == 0 || to.ip().is_multicast() || to.ip().is_unspecified();
        self.check(!bad, 8, || format!("an answer to {to}"));
    }

    /// 9: before it has answered, a receiver gets at most 3 chunks at once, 16 datagrams in 30 s and
    /// 50 in 120 s. `sent` includes the datagram that is sent now, `since` the first.
    pub(crate) fn i09_unproven(&mut self, sent: u32, in_flight: usize, since: Duration) {
        let limit = if since < Duration::from_secs(30) { 16 } else { 50 };
        let counts = since <= Duration::from_secs(120);
        self.check(in_flight <= 3, 9, || format!("{in_flight} chunks at once to a stranger"));
        self.check(!counts || sent <= limit, 9, || {
            format!("{sent} datagrams to a stranger in {since:?}")
        });
    }

    /// An intent of so many bytes has come.
    pub(crate) fn asked(&mut self, from: SocketAddrV4, len: usize) {
        let longest = self.asked.entry(from).or_default();
        *longest = len.max(*longest);
    }

    /// 9: assignments of more than three times the question are few, to one prefix and to all (G10).
    /// A new `life` of the orchestrator has forgotten what it paid.
    pub(crate) fn i09_assignment(&mut self, to: SocketAddrV4, len: usize, life: u32) {
        let asked = self.asked.get(&to).copied().unwrap_or_default();
        self.check(asked > 0, 8, || format!("{to} never asked"));
        self.h13_answerable(to);
        if asked * 3 >= len {
            return;
        }
        if std::mem::replace(&mut self.budgets.0, life) != life {
            self.budgets = (life, Budget::default(), BTreeMap::new());
        }
        let [a, b, c, _] = to.ip().octets();
        let (now, prefix) = (self.now, self.budgets.2.entry([a, b, c]).or_default());
        let few = prefix.spend(now, 1.0, 5.0, 10.0);
        let all = self.budgets.1.spend(now, len as f64, 125_000.0, 12_500.0);
        self.check(few, 9, || format!("too many answers to the neighbours of {to}"));
        self.check(all, 9, || "more than 1 Mbit/s of answers to strangers".to_owned());
    }

    /// 10: never more in flight than the receiver's window.
    pub(crate) fn i10_window(&mut self, in_flight: usize, window: usize) {
        self.check(in_flight <= window, 10, || format!("{in_flight} in flight, window {window}"));
    }

    /// 11: what is no news causes neither a transmission nor progress.
    pub(crate) fn i11_no_news_no_effect(&mut self, sent: u64, progress: u64) {
        self.check(sent == 0 && progress == 0, 11, || {
            format!("a datagram that is no news: {sent} sent, {progress} bytes of progress")
        });
    }

    /// 12: reported bytes grow, up to the payload's length.
    pub(crate) fn i12_bytes(&mut self, before: u64, now: u64, payload: u64) {
        self.check(before <= now && now <= payload, 12, || {
            format!("reported bytes went from {before} to {now} of {payload}")
        });
    }

    /// 13 and 14: ids are never issued twice, and one address gets one id until it is claimed.
    /// Unless a flood made the orchestrator forget some, `evicted` in all.
    pub(crate) fn i13_assignment(
        &mut self,
        (to, nonce): (SocketAddrV4, Option<Nonce>),
        tid: u64,
        life: u32,
        evicted: u64,
    ) {
        let window = self.orchestrator_limits.repeat_window;
        let before = self.answered.get(&(to, nonce)).copied();
        if let Some((old, when, its_life)) = before
            && life == its_life
            && evicted == 0
            && self.now - when < window
            && !self.claimed.contains(&old)
            && old != tid
        {
            self.check(false, 14, || format!("{to} has {old} and gets {tid}"));
        }
        if before.is_none_or(|(old, ..)| old != tid) {
            let fresh = self.issued.insert(tid);
            self.check(fresh, 13, || format!("{tid} is issued twice"));
            self.answered.insert((to, nonce), (tid, self.now, life));
        }
    }

    /// Whether the client of `tid` reported it complete.
    pub(crate) fn finished(&self, tid: u64) -> bool {
        self.clients.iter().any(|client| client.tid == Some(tid) && client.complete)
    }

    /// A receiver in the orchestrator's process saw data of `tid`.
    pub(crate) fn claimed(&mut self, tid: u64) {
        self.claimed.insert(tid);
    }

    /// 17: what receivers remember stays within the documented quotas.
    pub(crate) fn i17_receiver_memory(
        &mut self,
        transactions: usize,
        ranges: usize,
        waiting: usize,
    ) {
        let limits = &self.receiver_limits;
        let (most, total) = (limits.transactions, limits.ranges_total);
        // Beyond the total, transactions with few ranges may still open some.
        let most_ranges = (limits.ranges * transactions).min(total + 64 * transactions);
        self.check(transactions <= most, 17, || format!("{transactions} transactions of {most}"));
        self.check(ranges <= most_ranges, 17, || format!("{ranges} ranges of {most_ranges}"));
        self.check(waiting <= 8 << 20, 17, || format!("{waiting} bytes wait for the disk"));
    }

    /// 17 (H45): nor is more acknowledged of one transaction than can be remembered.
    pub(crate) fn h45_ranges(&mut self, ranges: usize) {
        let most = self.receiver_limits.ranges;
        self.check(ranges <= most, 17, || format!("{ranges} ranges of {most} are acknowledged"));
    }

    /// 17 (H46): one address and one /24 have few transactions; `all` are in memory.
    pub(crate) fn h46_quotas<'a>(&mut self, from: IpAddr, all: impl Iterator<Item = &'a IpAddr>) {
        let prefix = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_bits() >> 8,
            IpAddr::V6(_) => 0,
        };
        let neighbours = all.filter(|ip| prefix(ip) == prefix(&from));
        let (near, own) =
            neighbours.fold((0, 0), |(near, own), ip| (near + 1, own + usize::from(*ip == from)));
        let limits = &self.receiver_limits;
        let ok = own <= limits.per_source && near <= limits.per_prefix;
        self.check(ok, 17, || format!("{from} has {own} transactions, its /24 {near}"));
    }

    /// 17: so does the orchestrator.
    pub(crate) fn i17_orchestrator_memory(&mut self, queued: usize, live: usize) {
        let (queue, most) = (self.orchestrator_limits.queue, self.orchestrator_limits.live);
        self.check(queued <= queue, 17, || format!("{queued} intents of {queue} wait"));
        self.check(live <= most, 17, || format!("{live} transactions of {most} are open"));
    }

    /// 18: a status agrees with what is durable.
    pub(crate) fn i18_status_is_true(&mut self, complete: bool, acked: u64, chunks: u64) {
        self.check(complete == (acked == chunks), 18, || {
            format!("complete is {complete} with {acked} of {chunks} chunks acknowledged")
        });
    }

    /// 18: without damage that nobody could notice, servers have what was sent.
    pub(crate) fn i18_no_mismatch(&mut self, mismatch: bool) {
        let tainted = self.tainted;
        self.check(!mismatch || tainted, 18, || "the servers report a mismatch".to_owned());
    }

    /// 18: a receipt says what was sent.
    pub(crate) fn i18_receipt(&mut self, tid: u64, bytes: u64, finished: bool) {
        if !self.is_clients(tid) || self.tainted || !finished {
            return;
        }
        let client = self.clients.iter().find(|client| client.tid == Some(tid));
        let sent = client.and_then(|client| client.layout.as_ref()).map_or(0, Layout::bytes);
        self.check(bytes == sent, 18, || format!("a receipt over {bytes} of {sent} bytes"));
    }

    /// 21: while work remains, the next look at it is due soon.
    pub(crate) fn i21_timer_is_armed(&mut self, next: Option<Duration>, limit: Duration) {
        self.check(next.is_some_and(|next| next <= limit), 21, || {
            format!("the next wake-up is in {next:?}, the limit is {limit:?}")
        });
    }

    /// 22: without an ack each timeout is twice the one before, up to 3 s, and none comes early.
    pub(crate) fn i22_backoff(&mut self, before: Duration, waited: Duration, next: Duration) {
        let least = (before * 2).min(Duration::from_secs(3));
        self.check(next >= least, 22, || format!("timeout {next:?} after one of {before:?}"));
        self.check(waited >= before, 22, || format!("resent after {waited:?}, not {before:?}"));
    }

    /// 22: a receiver that does not answer is asked about every 3 s at most.
    pub(crate) fn i22_suspect_is_asked_rarely(&mut self, after: Duration, least: Duration) {
        self.check(after >= least, 22, || format!("a suspect is asked again after {after:?}"));
    }

    /// 22: only a chunk that was sent once is a measurement, and none is faster than the network.
    pub(crate) fn i22_clean_sample(&mut self, measured: Option<Duration>, least: Duration) {
        let tainted = self.tainted;
        self.check(tainted || measured.is_none_or(|rtt| rtt >= least), 22, || {
            format!("a round trip of {least:?} is measured as {measured:?}")
        });
    }

    /// 26: others get what a suspect has, soon after there is somebody who answers.
    pub(crate) fn i26_suspect_keeps_nothing(&mut self, kept: Duration, limit: Duration) {
        self.check(kept <= limit, 26, || format!("a suspect has kept its chunks for {kept:?}"));
    }

    /// 26: what is acknowledged is not sent again.
    pub(crate) fn i26_acked_is_not_resent(&mut self, acked: bool, seq: u64) {
        self.check(!acked, 26, || format!("chunk {seq} is sent although it is acknowledged"));
    }

    /// 27: a receiver that owes an answer is suspect after 30 s.
    pub(crate) fn i27_silence_is_suspect(&mut self, waited: Duration, limit: Duration) {
        self.check(waited <= limit, 27, || format!("silent for {waited:?} and not suspect"));
    }

    /// 30: the store and a plain map agree.
    pub(crate) fn i30_store_is_the_model(&mut self, same: bool, key: Key) {
        self.check(same, 30, || format!("the store and its model differ in {}/{}", key.0, key.1));
    }
}
