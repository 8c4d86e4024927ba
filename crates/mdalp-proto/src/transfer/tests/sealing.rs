//! The last round trip: is it whole?

use super::*;
use crate::wire::{Verdict, encode_ack, encode_seal_reply};

const HASH: [u8; 32] = [7; 32];

/// Runs a transfer of ten chunks to two receivers that can be asked; `answer` makes of the n-th
/// question a verdict, or silence.
fn run(
    seal: [bool; 2],
    mut answer: impl FnMut(u32) -> Option<Verdict>,
) -> (Transfer, Instant, Vec<u64>) {
    let target = |at: usize| Target {
        addr: ReceiverAddr(addr(at)),
        latency: 1.0,
        window: 1,
        crc: false,
        seal: seal[at],
    };
    let targets = [target(0), target(1)];
    let plan = Plan::new(net::TID, 1000, 100, &targets, &Latency);
    let mut now = Instant::ZERO;
    let mut transfer =
        Transfer::new(now, TransferConfig::default(), &plan, &targets, Box::new(Latency));
    let (mut questions, mut sent) = (0, Vec::new());
    while transfer.outcome().is_none() {
        let mut quiet = true;
        while let Some(transmit) = transfer.poll_transmit() {
            quiet = false;
            let mut out = Vec::new();
            transfer.encode(
                &transmit,
                &[0; 100][..(transmit.range.end - transmit.range.start) as usize],
                &mut out,
            );
            let mut reply = Vec::new();
            match decode(&out).unwrap() {
                Message::Data { tid, seq, .. } => {
                    sent.push(seq.0);
                    encode_ack(&mut reply, tid, seq, None);
                }
                Message::Seal(seal) => {
                    assert_eq!((seal.chunks, seal.bytes, seal.blake3), (10, 1000, HASH));
                    questions += 1;
                    let Some(verdict) = answer(questions) else { continue };
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
    (transfer, now, sent)
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
fn without_an_answer_it_is_complete_but_unverified() {
    let (transfer, now, _) = run([true, true], |_| None);
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: false }));
    assert!(now > Instant::from_millis(30_000) && now < Instant::from_millis(35_000), "{now:?}");
}

#[test]
fn nobody_is_asked_if_a_classic_receiver_holds_chunks() {
    let (transfer, ..) = run([true, false], |_| panic!("asked"));
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: false }));
}

#[test]
fn a_verdict_that_nobody_asked_for_changes_nothing() {
    let target =
        Target { addr: ReceiverAddr(addr(0)), latency: 1.0, window: 1, crc: false, seal: true };
    let plan = Plan::new(net::TID, 1000, 100, &[target], &Latency);
    let now = Instant::ZERO;
    let mut transfer =
        Transfer::new(now, TransferConfig::default(), &plan, &[target], Box::new(Latency));
    transfer.handle_datagram(now, addr(0), b"Type:5;TID:3740;DATA:complete");
    transfer.handle_datagram(now, addr(0), b"Type:5;TID:1;DATA:mismatch");
    assert_eq!(transfer.outcome(), None);
}
