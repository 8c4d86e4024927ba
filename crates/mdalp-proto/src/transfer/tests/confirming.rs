//! The last round trip: is it whole?

use super::*;
use crate::wire::{Refusal, Statement, Verdict, encode_ack, encode_seal_reply};

pub(super) const HASH: [u8; 32] = [7; 32];

/// A question as a receiver gets it.
pub(super) struct Asked {
    pub(super) lane: usize,
    /// How many this one has got, with this one.
    pub(super) nth: u32,
    /// How many all have got.
    of_all: u32,
    pub(super) crc: ChunkCrc,
}

/// What became of a transfer.
pub(super) struct Ran {
    pub(super) transfer: Transfer,
    pub(super) now: Instant,
    /// The chunks that were sent, in order.
    sent: Vec<u64>,
    /// How many questions each receiver got.
    pub(super) asked: [u32; 2],
}

/// Runs a transfer of ten chunks to two receivers that advertise what is given, `seal` and `record` for
/// each and `crc` for both; `answer` makes of a question a verdict, or silence.
pub(super) fn run_with(
    caps: [(bool, bool); 2],
    crc: bool,
    mut answer: impl FnMut(Asked) -> Option<Verdict>,
) -> Ran {
    let target = |at: usize| Target {
        addr: ReceiverAddr(addr(at)),
        latency: 1.0,
        window: 1,
        crc,
        seal: caps[at].0,
        record: caps[at].1,
    };
    let targets = [target(0), target(1)];
    let plan = Plan::new(net::TID, 1000, 100, &targets, &Latency);
    let mut now = Instant::ZERO;
    let config = TransferConfig::default();
    let mut transfer = Transfer::new(now, config, &plan, &targets, Box::new(Latency));
    let (mut asked, mut sent) = ([0, 0], Vec::new());
    while transfer.outcome().is_none() {
        let mut quiet = true;
        while let Some(transmit) = transfer.poll_transmit() {
            quiet = false;
            let (mut out, mut reply) = (Vec::new(), Vec::new());
            let len = (transmit.range.end - transmit.range.start) as usize;
            transfer.encode(&transmit, &[0; 100][..len], &mut out);
            match decode(&out).unwrap() {
                Message::Data { tid, seq, crc, .. } => {
                    sent.push(seq.0);
                    encode_ack(&mut reply, tid, seq, crc);
                }
                Message::Seal(seal) => {
                    let stated = Statement { chunks: 10, bytes: 1000, blake3: HASH };
                    assert_eq!(seal.statement, stated);
                    let lane = transmit.lane;
                    assert_eq!(seal.checked, caps[lane].1, "with a CRC where it is read");
                    asked[lane] += 1;
                    let (nth, of_all) = (asked[lane], asked.iter().sum());
                    let question = Asked { lane, nth, of_all, crc: seal.crc() };
                    let Some(verdict) = answer(question) else { continue };
                    encode_seal_reply(&mut reply, seal.tid, &verdict, 1000);
                }
                other => panic!("{other:?}"),
            }
            now = now + ms(50);
            transfer.handle_datagram(now, transmit.to, &reply);
        }
        while let Some(event) = transfer.poll_event() {
            if event == Event::DigestWanted {
                quiet = false;
                transfer.provide_digest(now, HASH);
            }
        }
        if quiet && let Some(next) = transfer.poll_timeout() {
            now = now.max(next);
            transfer.handle_timeout(now);
        }
    }
    Ran { transfer, now, sent, asked }
}

/// The same with receivers of one store, which may be asked to confirm the whole; `answer` is given the
/// number of the question.
fn run(
    seal: [bool; 2],
    mut answer: impl FnMut(u32) -> Option<Verdict>,
) -> (Transfer, Instant, Vec<u64>) {
    let ran = run_with(seal.map(|seal| (seal, false)), true, |asked| answer(asked.of_all));
    (ran.transfer, ran.now, ran.sent)
}

#[test]
fn complete_is_the_receipt() {
    let (transfer, _, sent) = run([true, true], |_| Some(Verdict::Complete));
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: true }));
    assert_eq!(sent.len(), 10);
}

#[test]
fn a_lost_question_or_answer_is_asked_again() {
    let (transfer, now, _) = run([true, true], |n| (n == 5).then_some(Verdict::Complete));
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: true }));
    assert!(now < Instant::from_millis(6000), "{now:?}");
}

#[test]
fn what_is_missing_is_sent_again_and_nothing_else() {
    let (transfer, _, sent) = run([true, true], |n| {
        let missing = [3..=4, 9..=9].into_iter().collect();
        Some(if n == 1 { Verdict::Missing(missing) } else { Verdict::Complete })
    });
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: true }));
    assert_eq!(sent[10..], [3, 4, 9]);
    assert_eq!(transfer.acked_bytes(), 1000);
}

#[test]
fn a_mismatch_and_servers_that_miss_something_for_ever_end_it() {
    let (transfer, ..) = run([true, true], |_| Some(Verdict::Mismatch));
    assert_eq!(transfer.outcome(), Some(Outcome::Mismatch));
    let (transfer, ..) =
        run([true, true], |_| Some(Verdict::Missing(std::iter::once(0..=0).collect())));
    assert_eq!(transfer.outcome(), Some(Outcome::Mismatch));
    let (transfer, ..) =
        run([true, true], |_| Some(Verdict::Missing(std::iter::once(5..=u64::MAX).collect())));
    assert_eq!(transfer.outcome(), Some(Outcome::Mismatch));
}

#[test]
fn f10_a_damaged_question_or_answer_does_not_end_it() {
    let (transfer, ..) = run([true, true], |n| {
        Some(match n {
            1 | 3 => Verdict::Mismatch,
            2 => Verdict::Missing(std::iter::once(10..=10).collect()),
            _ => Verdict::Complete,
        })
    });
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: true }));
}

#[test]
fn t22_without_an_answer_it_is_complete_but_unverified_after_one_timeout() {
    let (transfer, now, _) = run([true, true], |_| None);
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: false }));
    // Five round trips to two receivers, one after the other here, and then three seconds.
    assert_eq!(now, Instant::from_millis(3500));
}

#[test]
fn nobody_is_asked_if_a_classic_receiver_holds_chunks() {
    let (transfer, ..) = run([true, false], |_| panic!("asked"));
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: false }));
}

#[test]
fn a_verdict_that_nobody_asked_for_changes_nothing() {
    let target = Target {
        addr: ReceiverAddr(addr(0)),
        latency: 1.0,
        window: 1,
        crc: false,
        seal: true,
        record: false,
    };
    let plan = Plan::new(net::TID, 1000, 100, &[target], &Latency);
    let now = Instant::ZERO;
    let mut transfer =
        Transfer::new(now, TransferConfig::default(), &plan, &[target], Box::new(Latency));
    transfer.handle_datagram(now, addr(0), b"Type:5;TID:3740;DATA:complete");
    transfer.handle_datagram(now, addr(0), b"Type:5;TID:1;DATA:mismatch");
    assert_eq!(transfer.outcome(), None);
}

/// A transfer whose hash is known to three receivers; datagrams are answered by hand.
pub(super) struct Early {
    pub(super) transfer: Transfer,
    pub(super) now: Instant,
    pub(super) left: Vec<Transmit>,
}

impl Early {
    fn new(chunks: u64, window: u16, copies: usize, latencies: [f64; 3]) -> Self {
        let target = |at: usize| Target {
            addr: ReceiverAddr(addr(at)),
            latency: latencies[at],
            window,
            crc: false,
            seal: true,
            record: false,
        };
        let targets = [0, 1, 2].map(target);
        let plan = Plan::new(net::TID, chunks * 100, 100, &targets, &Latency);
        let config = TransferConfig { copies, ..TransferConfig::default() };
        let now = Instant::ZERO;
        let mut transfer = Transfer::new(now, config, &plan, &targets, Box::new(Latency));
        transfer.provide_digest(now, HASH);
        let mut world = Self { transfer, now, left: Vec::new() };
        world.drain();
        world
    }

    pub(super) fn drain(&mut self) {
        while let Some(transmit) = self.transfer.poll_transmit() {
            let mut out = Vec::new();
            self.transfer.encode(&transmit, &[0; 100], &mut out);
            self.left.push(transmit);
        }
    }

    /// Acknowledges what has left so far, but for the last `but`.
    fn acks(&mut self, but: usize) {
        let chunks = self.left.iter().filter(|sent| sent.content == Content::Chunk);
        let chunks: Vec<Transmit> = chunks.cloned().collect();
        for sent in &chunks[..chunks.len() - but] {
            let mut ack = Vec::new();
            encode_ack(&mut ack, net::TID, sent.seq, None);
            self.transfer.handle_datagram(self.now, sent.to, &ack);
        }
        self.drain();
    }

    pub(super) fn says(&mut self, lane: usize, verdict: &Verdict) {
        let mut reply = Vec::new();
        encode_seal_reply(&mut reply, net::TID, verdict, 1000);
        self.transfer.handle_datagram(self.now, addr(lane), &reply);
        self.drain();
    }

    /// Who was asked, in order.
    pub(super) fn questions(&self) -> Vec<usize> {
        let seals = self.left.iter().filter(|sent| sent.content == Content::Seal);
        seals.map(|sent| sent.lane).collect()
    }
}

fn nothing_there() -> Verdict {
    Verdict::Missing(std::iter::once(0..=5).collect())
}

#[test]
fn a_small_payload_is_sent_and_sealed_in_one_round_trip() {
    let mut world = Early::new(6, 32, 1, [1.0; 3]);
    assert_eq!(world.left.len(), 7, "six chunks and the question behind them");
    assert_eq!(world.left[6].content, Content::Seal);
    world.now = world.now + ms(50);
    world.acks(0);
    assert_eq!((world.questions(), world.transfer.outcome()), (vec![2], None));
    world.says(2, &Verdict::Complete);
    assert_eq!(world.transfer.outcome(), Some(Outcome::Complete { verified: true }));
    assert_eq!(world.left.len(), 7);
}

#[test]
fn i03_the_early_receipt_does_not_stand_in_for_an_ack() {
    let mut world = Early::new(6, 32, 1, [1.0; 3]);
    world.now = world.now + ms(50);
    world.says(2, &Verdict::Complete);
    world.acks(1);
    assert_eq!((world.transfer.outcome(), world.transfer.acked_bytes()), (None, 500));
    world.acks(0);
    assert_eq!(world.transfer.outcome(), Some(Outcome::Complete { verified: true }));
    assert_eq!(world.questions().len(), 1);
}

#[test]
fn what_was_missing_before_the_last_ack_is_no_repair() {
    for verdict in [nothing_there(), Verdict::Mismatch] {
        let mut world = Early::new(6, 32, 1, [1.0; 3]);
        world.now = world.now + ms(50);
        world.says(2, &verdict);
        world.acks(0);
        assert_eq!((world.questions().len(), world.left.len()), (2, 8), "asked at once");
        let asked = world.questions()[1];
        world.says(asked, &Verdict::Complete);
        assert_eq!(world.transfer.outcome(), Some(Outcome::Complete { verified: true }));
    }
}

#[test]
fn an_early_answer_that_comes_after_the_last_ack_is_an_early_one() {
    let mut world = Early::new(6, 32, 1, [1.0; 3]);
    world.now = world.now + ms(50);
    world.acks(0);
    world.says(2, &nothing_there());
    assert_eq!((world.questions().len(), world.left.len()), (2, 8), "no chunk again");
    let asked = world.questions()[1];
    world.says(asked, &nothing_there());
    assert_eq!(world.left.len(), 14, "this time it is meant");
}

#[test]
fn without_an_early_answer_the_question_is_asked_an_eighth_of_a_round_trip_later() {
    let mut world = Early::new(6, 32, 1, [1.0; 3]);
    world.now = world.now + ms(80);
    world.acks(0);
    assert_eq!(world.transfer.poll_timeout(), Some(Instant::from_millis(90)));
    world.now = world.now + ms(10);
    world.transfer.handle_timeout(world.now);
    world.drain();
    assert_eq!(world.questions().len(), 2);
    // The first answer may be that to the first question.
    world.says(2, &nothing_there());
    assert_eq!(world.left.len(), 8);
}

#[test]
fn the_farthest_is_asked_early() {
    assert_eq!(Early::new(6, 32, 1, [2.0, 3.0, 2.0]).questions(), [1]);
}

#[test]
fn h27_the_early_question_takes_a_place_in_the_window_and_among_three_to_a_stranger() {
    for (chunks, window) in [(6, 2), (9, 32)] {
        let mut world = Early::new(chunks, window, 1, [1.0; 3]);
        assert!(world.questions().is_empty());
        world.now = world.now + ms(50);
        // All but the last three or two, which are the last receiver's.
        world.acks(world.transfer.in_flight(2));
        assert!(world.questions().is_empty());
        world.acks(1);
        assert_eq!(world.questions(), [2]);
    }
}

#[test]
fn nobody_is_asked_early_after_a_timeout_or_with_copies() {
    assert!(Early::new(6, 32, 2, [1.0; 3]).questions().is_empty());
    let mut world = Early::new(6, 1, 1, [1.0; 3]);
    world.now = world.transfer.poll_timeout().unwrap();
    world.transfer.handle_timeout(world.now);
    world.drain();
    world.acks(2);
    assert!(world.questions().is_empty());
}

#[test]
fn r40_a_refusal_is_told_once_in_ten_seconds_and_changes_nothing() {
    let mut world = Early::new(6, 1, 1, [1.0; 3]);
    let mut told = 0;
    for second in [0, 9, 10] {
        world.now = Instant::from_millis(second * 1000);
        let (timer, left) = (world.transfer.poll_timeout(), world.left.len());
        world.says(1, &Verdict::Refused(Refusal::SourceQuota));
        assert_eq!((world.transfer.poll_timeout(), world.left.len()), (timer, left));
        while let Some(event) = world.transfer.poll_event() {
            assert_eq!(event, Event::Refused { lane: 1, why: Refusal::SourceQuota });
            told += 1;
        }
    }
    assert_eq!(told, 2);
}

#[test]
fn b6_hashing_time_counts_neither_as_silence_nor_against_the_confirmation() {
    let target = Target {
        addr: ReceiverAddr(addr(0)),
        latency: 1.0,
        window: 1,
        crc: false,
        seal: true,
        record: false,
    };
    let plan = Plan::new(net::TID, 100, 100, &[target], &Latency);
    let held = [std::iter::once(0..=0).collect::<RangeSet>()];
    let config = TransferConfig::default();
    let policy = Box::new(Latency);
    let mut transfer = Transfer::resume(Instant::ZERO, config, &plan, &[target], policy, &held);
    assert_eq!(transfer.poll_event(), Some(Event::DigestWanted));
    let hashed = Instant::from_millis(500_000);
    transfer.handle_timeout(hashed);
    assert_eq!(transfer.outcome(), None);
    transfer.provide_digest(hashed, HASH);
    transfer.handle_timeout(transfer.poll_timeout().unwrap());
    let asked = std::iter::from_fn(|| transfer.poll_transmit()).count();
    assert_eq!((asked, transfer.outcome()), (2, None));
}

#[test]
fn b9_a_receiver_that_misses_sixteen_million_chunks_costs_no_walk_over_them() {
    let target = |at: usize| Target {
        addr: ReceiverAddr(addr(at)),
        latency: 1.0,
        window: 1,
        crc: false,
        seal: true,
        record: false,
    };
    let targets: Vec<Target> = (0..30).map(target).collect();
    let plan = Plan::new(net::TID, 1_600_000_000, 100, &targets, &Latency);
    let share = |share: &crate::split::Share| {
        std::iter::once(share.first_seq..=share.first_seq + share.chunks - 1).collect()
    };
    let held: Vec<RangeSet> = plan.shares.iter().map(share).collect();
    let config = TransferConfig::default();
    let mut transfer =
        Transfer::resume(Instant::ZERO, config, &plan, &targets, Box::new(Latency), &held);
    transfer.provide_digest(Instant::ZERO, HASH);
    let asked = std::iter::from_fn(|| transfer.poll_transmit()).last().unwrap().lane;
    let mut reply = Vec::new();
    let missing = Verdict::Missing(std::iter::once(1..=15_999_998).collect());
    encode_seal_reply(&mut reply, net::TID, &missing, 1000);
    transfer.handle_datagram(Instant::ZERO, addr(asked), &reply);
    // All receivers forget them, and neither of their neighbours.
    let kept = [0..=0, 15_999_999..=plan.layout.chunks() - 1].into_iter().collect();
    assert_eq!(transfer.acked_bytes(), plan.layout.bytes_of(&kept));
    let left: u64 = (0..30).map(|at| transfer.acked_by(at).len()).sum();
    assert_eq!(left, plan.layout.chunks() - 15_999_998);
}

#[test]
fn duplicate_acks_alone_do_not_keep_a_transfer_alive() {
    let mut world = Early::new(6, 1, 2, [1.0; 3]);
    world.acks(0);
    let (seq, lane) = (world.left[0].seq, world.left[0].lane);
    let mut ack = Vec::new();
    encode_ack(&mut ack, net::TID, seq, None);
    let since = world.now;
    while world.transfer.outcome().is_none() {
        assert!(world.now - since < ms(200_000), "kept alive");
        world.now = world.transfer.poll_timeout().unwrap();
        world.transfer.handle_datagram(world.now, addr(lane), &ack);
        world.transfer.handle_timeout(world.now);
        world.drain();
    }
    assert_eq!(world.transfer.outcome(), Some(Outcome::NoProgress));
    assert_eq!(world.now - since, TransferConfig::default().fail_after);
}
