//! Receivers with separate stores: what is stated of the whole is recorded by each.

use super::*;
use crate::wire::{Refusal, Verdict, encode_ack, encode_seal_reply};

/// What a receiver makes of a statement: the n-th one that it gets, and the CRC of that.
type Answer<'a> = &'a mut dyn FnMut(usize, u32, ChunkCrc) -> Option<Verdict>;

/// Runs a transfer of ten chunks to two receivers that advertise `crc` and what is given, and says how
/// long it took and how many statements each receiver got.
fn run(caps: [(bool, bool); 2], crc: bool, answer: Answer<'_>) -> (Transfer, Duration, [u32; 2]) {
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
    let mut stated = [0, 0];
    while transfer.outcome().is_none() {
        let mut quiet = true;
        while let Some(transmit) = transfer.poll_transmit() {
            quiet = false;
            let (mut out, mut reply) = (Vec::new(), Vec::new());
            let len = (transmit.range.end - transmit.range.start) as usize;
            transfer.encode(&transmit, &[0; 100][..len], &mut out);
            match decode(&out).unwrap() {
                Message::Data { tid, seq, crc, .. } => encode_ack(&mut reply, tid, seq, crc),
                Message::Seal(seal) => {
                    stated[transmit.lane] += 1;
                    assert_eq!(seal.checked, caps[transmit.lane].1, "with a CRC where it is read");
                    let verdict = answer(transmit.lane, stated[transmit.lane], seal.crc());
                    let Some(verdict) = verdict else { continue };
                    encode_seal_reply(&mut reply, seal.tid, &verdict, 1000);
                }
                other => panic!("{other:?}"),
            }
            now = now + ms(10);
            transfer.handle_datagram(now, transmit.to, &reply);
        }
        while let Some(event) = transfer.poll_event() {
            if event == Event::DigestWanted {
                quiet = false;
                transfer.provide_digest(now, [7; 32]);
            }
        }
        if quiet && let Some(next) = transfer.poll_timeout() {
            now = now.max(next);
            transfer.handle_timeout(now);
        }
    }
    (transfer, now - Instant::ZERO, stated)
}

const RECORD: [(bool, bool); 2] = [(false, true); 2];

fn verified(transfer: &Transfer) -> bool {
    transfer.outcome() == Some(Outcome::Complete { verified: true })
}

#[test]
fn t6_it_is_verified_when_every_receiver_has_recorded_the_statement() {
    let (transfer, took, stated) = run(RECORD, true, &mut |_, _, crc| Some(Verdict::Recorded(crc)));
    assert!(verified(&transfer) && took < Duration::from_secs(1), "{took:?}");
    assert_eq!(stated, [1, 1]);
    assert!(transfer.unconfirmed().is_empty());
}

#[test]
fn a_lost_statement_is_repeated_to_its_receiver_alone() {
    let (transfer, _, stated) = run(RECORD, true, &mut |lane, nth, crc| {
        (lane == 0 || nth == 3).then_some(Verdict::Recorded(crc))
    });
    assert!(verified(&transfer));
    assert_eq!(stated, [1, 3]);
}

#[test]
fn t22_a_receiver_that_never_records_costs_one_timeout_and_is_named() {
    let (transfer, took, _) =
        run(RECORD, true, &mut |lane, _, crc| (lane == 0).then_some(Verdict::Recorded(crc)));
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: false }));
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(transfer.unconfirmed(), [1]);
}

#[test]
fn t22_receivers_that_advertise_seal_and_see_only_shares_record_instead() {
    let (transfer, took, _) =
        run([(true, true); 2], true, &mut |_, _, crc| Some(Verdict::Recorded(crc)));
    assert!(verified(&transfer) && took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_share_that_says_missing_is_not_sent_what_others_hold() {
    let (transfer, _, _) = run(RECORD, true, &mut |_, nth, crc| {
        let missing = Verdict::Missing([0..=9].into_iter().collect());
        Some(if nth == 1 { missing } else { Verdict::Recorded(crc) })
    });
    assert!(verified(&transfer));
    assert_eq!((0..2).map(|lane| transfer.stats(lane).datagrams).sum::<u64>(), 10);
}

#[test]
fn the_record_of_another_statement_counts_for_nothing() {
    let (transfer, ..) =
        run(RECORD, true, &mut |_, _, crc| Some(Verdict::Recorded(ChunkCrc(crc.0 ^ 1))));
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: false }));
    let (transfer, ..) = run(RECORD, true, &mut |_, _, _| Some(Verdict::Mismatch));
    assert_eq!(transfer.outcome(), Some(Outcome::Mismatch));
}

#[test]
fn where_acks_prove_nothing_of_the_bytes_a_record_does_not_verify() {
    let (transfer, ..) = run(RECORD, false, &mut |_, _, crc| Some(Verdict::Recorded(crc)));
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: false }));
}

#[test]
fn a_classic_receiver_beside_them_leaves_it_unverified_at_once() {
    let caps = [(false, true), (false, false)];
    let (transfer, took, stated) = run(caps, true, &mut |_, _, crc| Some(Verdict::Recorded(crc)));
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: false }));
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(stated, [1, 0], "nothing new is sent to who does not know it");
}

#[test]
fn a_refusal_is_told_once_and_changes_nothing() {
    let target = Target {
        addr: ReceiverAddr(addr(0)),
        latency: 1.0,
        window: 1,
        crc: true,
        seal: false,
        record: true,
    };
    let plan = Plan::new(net::TID, 100, 100, &[target], &Latency);
    let config = TransferConfig::default();
    let mut transfer = Transfer::new(Instant::ZERO, config, &plan, &[target], Box::new(Latency));
    let mut refusal = Vec::new();
    encode_seal_reply(&mut refusal, net::TID, &Verdict::Refused(Refusal::SourceQuota), 100);
    while transfer.poll_transmit().is_some() {}
    for n in 0..5 {
        transfer.handle_datagram(Instant::ZERO + ms(n), addr(0), &refusal);
    }
    let events: Vec<_> = std::iter::from_fn(|| transfer.poll_event()).collect();
    assert_eq!(events, [Event::Refused { lane: 0, why: Refusal::SourceQuota }]);
    assert_eq!((transfer.poll_transmit(), transfer.outcome()), (None, None));
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
    assert!(verified(&transfer), "{:?}", transfer.outcome());
    assert_eq!(stated, [1, 1]);
}
