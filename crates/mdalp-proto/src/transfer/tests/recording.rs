//! Receivers with separate stores: what is stated of the whole is recorded by each.

use super::confirming::{Asked, Early, HASH, Ran, run_with};
use super::*;
use crate::wire::{Seal, Statement, Verdict, encode_ack, encode_seal_reply};

const RECORD: [(bool, bool); 2] = [(false, true); 2];

fn verified(ran: &Ran) -> bool {
    ran.transfer.outcome() == Some(Outcome::Complete { verified: true })
}

#[test]
fn t6_it_is_verified_when_every_receiver_has_recorded_the_statement() {
    let ran = run_with(RECORD, true, |asked: Asked| Some(Verdict::Recorded(asked.crc)));
    assert!(verified(&ran) && ran.now < Instant::from_millis(1000), "{:?}", ran.now);
    assert_eq!(ran.asked, [1, 1]);
}

#[test]
fn a_lost_statement_is_repeated_to_its_receiver_alone() {
    let ran = run_with(RECORD, true, |asked: Asked| {
        (asked.lane == 0 || asked.nth == 3).then_some(Verdict::Recorded(asked.crc))
    });
    assert!(verified(&ran));
    assert_eq!(ran.asked, [1, 3]);
}

#[test]
fn receivers_that_find_a_mismatch_end_it() {
    let ran = run_with(RECORD, true, |_| Some(Verdict::Mismatch));
    assert_eq!(ran.transfer.outcome(), Some(Outcome::Mismatch));
}

#[test]
fn where_acks_prove_nothing_of_the_bytes_a_record_does_not_verify() {
    let ran = run_with(RECORD, false, |asked: Asked| Some(Verdict::Recorded(asked.crc)));
    assert_eq!(ran.transfer.outcome(), Some(Outcome::Complete { verified: false }));
}

/// Two receivers of separate stores that have acknowledged five chunks each, and what they are asked.
fn apart(records: [bool; 2], seals: [bool; 2]) -> Early {
    let target = |at: usize| Target {
        addr: ReceiverAddr(addr(at)),
        latency: 1.0,
        window: 8,
        crc: true,
        seal: seals[at],
        record: records[at],
    };
    let targets = [0, 1].map(target);
    let plan = Plan::new(net::TID, 1000, 100, &targets, &Latency);
    let now = Instant::ZERO;
    let held = [(0..=4), (5..=9)].map(|range| std::iter::once(range).collect::<RangeSet>());
    let config = TransferConfig::default();
    let mut transfer = Transfer::resume(now, config, &plan, &targets, Box::new(Latency), &held);
    transfer.provide_digest(now, HASH);
    let mut world = Early { transfer, now, left: Vec::new() };
    world.drain();
    world
}

fn recorded(checked: bool) -> Verdict {
    let statement = Statement { chunks: 10, bytes: 1000, blake3: HASH };
    Verdict::Recorded(Seal { tid: net::TID, statement, checked }.crc())
}

#[test]
fn t06_separate_receivers_confirm_each_for_itself() {
    let mut world = apart([true; 2], [false; 2]);
    assert_eq!(world.questions(), [0, 1]);
    world.says(1, &recorded(true));
    assert_eq!((world.transfer.outcome(), world.transfer.unconfirmed()), (None, vec![0]));
    world.says(1, &recorded(true));
    assert_eq!(world.transfer.outcome(), None, "one receiver does not answer for another");
    world.says(0, &Verdict::Complete);
    assert_eq!(world.transfer.outcome(), Some(Outcome::Complete { verified: true }));
    assert!(world.transfer.unconfirmed().is_empty());
}

#[test]
fn recorded_counts_only_with_the_crc_of_what_was_stated() {
    let mut world = apart([true; 2], [false; 2]);
    world.says(0, &recorded(true));
    world.says(1, &Verdict::Recorded(ChunkCrc(7)));
    assert_eq!((world.transfer.outcome(), world.transfer.unconfirmed()), (None, vec![1]));
}

#[test]
fn a_receiver_of_separate_stores_that_misses_what_others_hold_moves_nothing() {
    let mut world = apart([true; 2], [false; 2]);
    let left = world.left.len();
    world.says(0, &Verdict::Missing(std::iter::once(5..=9).collect()));
    assert_eq!((world.left.len(), world.transfer.acked_bytes()), (left, 1000));
    assert_eq!(world.transfer.ignored().not_an_ack, 1);
}

#[test]
fn where_a_classic_receiver_holds_chunks_the_others_record_but_nothing_is_verified() {
    let mut world = apart([true, false], [false; 2]);
    assert_eq!(world.questions(), [0]);
    world.says(0, &recorded(true));
    assert_eq!(world.transfer.outcome(), Some(Outcome::Complete { verified: false }));
}

#[test]
fn recorded_from_one_that_was_asked_for_all_asks_every_receiver_for_itself() {
    let mut world = apart([true; 2], [true; 2]);
    assert_eq!(world.questions(), [0]);
    world.says(0, &recorded(true));
    assert_eq!((world.questions(), world.transfer.outcome()), (vec![0, 1], None));
    world.says(1, &recorded(true));
    assert_eq!(world.transfer.outcome(), Some(Outcome::Complete { verified: true }));
}

#[test]
fn t22_who_does_not_confirm_is_named_after_one_timeout() {
    let mut world = apart([true; 2], [false; 2]);
    world.says(0, &recorded(true));
    while world.transfer.outcome().is_none() {
        world.now = world.transfer.poll_timeout().unwrap();
        world.transfer.handle_timeout(world.now);
        world.drain();
    }
    assert_eq!(world.transfer.outcome(), Some(Outcome::Complete { verified: false }));
    assert_eq!((world.now, world.transfer.unconfirmed()), (Instant::from_millis(3000), vec![1]));
}

#[test]
fn who_acknowledges_a_chunk_late_is_asked_to_record_the_whole_too() {
    let target = |at: usize| Target {
        addr: ReceiverAddr(addr(at)),
        latency: 1.0,
        window: 1,
        crc: true,
        seal: false,
        record: true,
    };
    let targets = [target(0), target(1)];
    let plan = Plan::new(net::TID, 1000, 100, &targets, &Latency);
    let (mut now, config) = (Instant::ZERO, TransferConfig::default());
    let mut transfer = Transfer::new(now, config, &plan, &targets, Box::new(Latency));
    transfer.provide_digest(now, [7; 32]);
    // The second one's ack comes when the first one has everything and is asked.
    let (mut late, mut stated) = (None::<(SocketAddr, Vec<u8>)>, [0, 0]);
    while transfer.outcome().is_none() {
        while let Some(transmit) = transfer.poll_transmit() {
            let (mut out, mut reply) = (Vec::new(), Vec::new());
            let len = (transmit.range.end - transmit.range.start) as usize;
            transfer.encode(&transmit, &[0; 100][..len], &mut out);
            now = now + ms(10);
            match decode(&out).unwrap() {
                Message::Data { tid, seq, crc, .. } => encode_ack(&mut reply, tid, seq, crc),
                Message::Seal(seal) => {
                    stated[transmit.lane] += 1;
                    if let Some((from, ack)) = late.take() {
                        transfer.handle_datagram(now, from, &ack);
                    }
                    encode_seal_reply(&mut reply, seal.tid, &Verdict::Recorded(seal.crc()), 1000);
                }
                other => panic!("{other:?}"),
            }
            if transmit.lane == 1 && stated == [0, 0] {
                late = Some((transmit.to, reply));
            } else {
                transfer.handle_datagram(now, transmit.to, &reply);
            }
        }
        if transfer.outcome().is_none()
            && let Some(next) = transfer.poll_timeout()
        {
            now = now.max(next);
            transfer.handle_timeout(now);
        }
    }
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: true }));
    assert_eq!(stated, [1, 1]);
}
