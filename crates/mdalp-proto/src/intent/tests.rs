//! The client's conversation with the orchestrator, in virtual time.

use super::*;
use crate::ids::TransactionId;
use crate::wire::list::Entry;
use crate::wire::{Capabilities, encode_assignment, encode_queued};

const LIST: &[u8] = b"Type:1;TID:7;DATA:[{'ip_address': '10.0.0.2', 'name': 'A'}]";

fn at() -> SocketAddr {
    "10.0.0.1:4650".parse().unwrap()
}

fn intent() -> Intent {
    Intent::new(Instant::ZERO, IntentConfig::default(), OrchestratorAddr(at()))
}

/// Lets time pass to the end; returns when each intent was sent and its length.
fn run_dry(intent: &mut Intent) -> Vec<(f64, usize)> {
    let mut sent = Vec::new();
    let mut now = Instant::ZERO;
    loop {
        let mut out = Vec::new();
        while let Some(to) = intent.poll_transmit(&mut out) {
            assert_eq!(to, at());
            assert!(out.starts_with(b"Type:0;"));
            sent.push((now.as_secs_f64(), out.len()));
            out.clear();
        }
        let Some(next) = intent.poll_timeout() else { return sent };
        assert!(next > now);
        now = next;
        intent.handle_timeout(now);
    }
}

#[test]
fn f19_asks_at_most_eight_times_in_120_seconds_and_then_says_so() {
    let mut intent = intent();
    let sent = run_dry(&mut intent);
    assert!((7..=8).contains(&sent.len()), "{sent:?}");
    assert!(sent[1].0 >= 1.0 && sent[1].0 <= 1.25);
    assert_eq!((sent[0].1, sent[1].1, sent[2].1), (7, 400, 7));
    assert_eq!(intent.poll_event(), Some(Err(IntentError::NoAnswer)));
    assert_eq!(intent.poll_event(), None);
}

#[test]
fn the_first_readable_assignment_counts_and_nothing_after_it() {
    let mut intent = intent();
    intent.handle_datagram(Instant::ZERO, at(), LIST);
    intent.handle_datagram(Instant::ZERO, at(), b"Type:1;TID:8;DATA:[{'ip_address': '10.0.0.9'}]");
    let assignment = intent.poll_event().unwrap().unwrap();
    assert_eq!((assignment.tid, assignment.receivers.len()), (TransactionId(7), 1));
    intent.handle_datagram(Instant::ZERO, at(), LIST);
    assert_eq!((intent.poll_event(), intent.poll_timeout()), (None, None));
    assert_eq!(intent.poll_transmit(&mut Vec::new()), None);
}

#[test]
fn h29_assignments_from_other_addresses_are_ignored() {
    let mut intent = intent();
    for stranger in ["10.0.0.1:4651", "10.0.0.3:4650"] {
        intent.handle_datagram(Instant::ZERO, stranger.parse().unwrap(), LIST);
    }
    assert_eq!(intent.poll_event(), None);
    assert_eq!(intent.counters().strangers, 2);
}

#[test]
fn s11_s12_a_list_that_is_no_list_is_not_evaluated_and_the_client_keeps_waiting() {
    let mut intent = intent();
    for junk in [
        &b"Type:1;TID:1;DATA:[0]*(10**7);"[..],
        b"Type:1;TID:1;DATA:[\xff]",
        b"\xff",
        b"Type:3;TID:1;",
        b"Type:2;TID:1;SEQ:0;DATA:x",
    ] {
        intent.handle_datagram(Instant::ZERO, at(), junk);
        assert_eq!(intent.poll_event(), None);
    }
    assert_eq!(intent.counters().unreadable, 5);
    intent.handle_datagram(Instant::ZERO, at(), LIST);
    assert!(intent.poll_event().unwrap().is_ok());
}

#[test]
fn an_answer_that_stays_unreadable_is_told_from_no_answer() {
    let mut intent = intent();
    intent.handle_datagram(Instant::ZERO, at(), b"Type:1;TID:1;DATA:[{'name': 'x'}]");
    run_dry(&mut intent);
    let Some(Err(IntentError::NotUnderstood(why))) = intent.poll_event() else { panic!() };
    assert_eq!(why, "receiver list: entry 0 has no ip_address");
}

#[test]
fn h21_a_list_of_too_many_receivers_is_not_taken_and_said_to_be_one() {
    let list = vec!["{'ip_address': '10.0.0.2'}"; 65].join(", ");
    let assignment = format!("Type:1;TID:7;DATA:[{list}]");
    let mut refusing = intent();
    refusing.handle_datagram(Instant::ZERO, at(), assignment.as_bytes());
    assert_eq!(refusing.poll_event(), None);
    run_dry(&mut refusing);
    let error = IntentError::TooManyReceivers(ListError::TooMany(64));
    assert_eq!(refusing.poll_event(), Some(Err(error)));

    let config = IntentConfig { max_receivers: 65, ..IntentConfig::default() };
    let mut taking = Intent::new(Instant::ZERO, config, OrchestratorAddr(at()));
    taking.handle_datagram(Instant::ZERO, at(), assignment.as_bytes());
    assert_eq!(taking.poll_event().unwrap().unwrap().receivers.len(), 65);
}

#[test]
fn h23_an_empty_list_is_a_clear_error_at_once() {
    let mut intent = intent();
    intent.handle_datagram(Instant::ZERO, at(), b"Type:1;TID:1;DATA:[];");
    assert_eq!(intent.poll_event(), Some(Err(IntentError::NoReceivers)));
}

const NONCE: Nonce = Nonce(0x1234);

fn nonced(require_echo: bool) -> Intent {
    let config = IntentConfig { nonce: Some(NONCE), require_echo, ..IntentConfig::default() };
    let mut intent = Intent::new(Instant::ZERO, config, OrchestratorAddr(at()));
    assert_eq!(intent.poll_transmit(&mut Vec::new()), Some(at()));
    intent
}

fn list(tid: u64, nonce: Option<Nonce>) -> Vec<u8> {
    let entry =
        Entry { ip: [10, 0, 0, 2].into(), name: "A".to_owned(), caps: Capabilities::default() };
    let mut out = Vec::new();
    encode_assignment(&mut out, TransactionId(tid), nonce, &[entry]);
    out
}

fn queued(nonce: Nonce, position: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_queued(&mut out, nonce, position);
    out
}

fn ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// The transaction that it took.
fn taken(intent: &mut Intent) -> Option<u64> {
    intent.poll_event().map(|result| result.unwrap().tid.0)
}

#[test]
fn r37_the_first_intent_is_padded_and_nonced_and_every_second_one_bare_until_an_echo_is_seen() {
    let config = IntentConfig { nonce: Some(NONCE), ..IntentConfig::default() };
    let mut intent = Intent::new(Instant::ZERO, config, OrchestratorAddr(at()));
    let mut sent = Vec::new();
    for n in 0..6 {
        let mut out = Vec::new();
        assert!(intent.poll_transmit(&mut out).is_some());
        let nonced = decode(&out) == Ok(Message::Intent { nonce: Some(NONCE) });
        sent.push((nonced, out.len()));
        let now = intent.poll_timeout().unwrap();
        if n == 3 {
            intent.handle_datagram(now, at(), &queued(NONCE, 9));
        }
        intent.handle_timeout(now);
    }
    let (full, bare) = ((true, 400), (false, 7));
    assert_eq!(sent, [full, bare, full, bare, full, full]);
}

#[test]
fn t2_an_assignment_that_echoes_the_nonce_wins_at_once() {
    let mut intent = nonced(false);
    intent.handle_datagram(ms(5), at(), &list(7, Some(NONCE)));
    assert_eq!((taken(&mut intent), intent.counters().echoed), (Some(7), true));
    assert_eq!((intent.poll_notice(), intent.poll_timeout()), (None, None));
}

#[test]
fn t2_an_assignment_without_an_echo_is_held_for_300_ms_in_which_an_echoed_one_wins() {
    let mut intent = nonced(false);
    intent.handle_datagram(ms(5), at(), &list(66, None));
    assert_eq!((taken(&mut intent), intent.poll_timeout()), (None, Some(ms(305))));
    intent.handle_timeout(ms(304));
    assert_eq!(taken(&mut intent), None);
    intent.handle_datagram(ms(304), at(), &list(7, Some(NONCE)));
    let Some(Notice::Conflict { first, second, echoed: true }) = intent.poll_notice() else {
        panic!("both are named")
    };
    assert_eq!((first.tid.0, second.tid.0), (66, 7));
    assert_eq!(taken(&mut intent), Some(7));
}

#[test]
fn an_orchestrator_that_knows_no_nonces_costs_300_ms() {
    let mut intent = nonced(false);
    intent.handle_datagram(ms(5), at(), &list(7, None));
    intent.handle_datagram(ms(100), at(), &list(7, None));
    intent.handle_timeout(ms(305));
    assert_eq!((taken(&mut intent), intent.poll_notice()), (Some(7), None));
    assert!(!intent.counters().echoed);
}

#[test]
fn t2_two_different_assignments_without_an_echo_are_a_conflict_that_is_said_once() {
    let mut intent = nonced(false);
    for tid in 7..100 {
        intent.handle_datagram(ms(5 + tid), at(), &list(tid, None));
    }
    let Some(Notice::Conflict { first, second, echoed: false }) = intent.poll_notice() else {
        panic!("both are named")
    };
    assert_eq!((first.tid.0, second.tid.0, intent.poll_notice()), (7, 8, None));
    intent.handle_timeout(ms(312));
    assert_eq!(taken(&mut intent), Some(7));
}

#[test]
fn t2_once_the_orchestrator_is_known_to_echo_no_other_assignment_counts() {
    // Told, or by a word that the intent waits: also for what came before it.
    for told in [true, false] {
        let mut intent = nonced(told);
        if !told {
            intent.handle_datagram(ms(1), at(), &list(65, None));
            intent.handle_datagram(ms(2), at(), &queued(NONCE, 3));
            assert_eq!(intent.poll_notice(), Some(Notice::Queued { position: 3 }));
        }
        for tid in 66..1_000 {
            intent.handle_datagram(ms(tid), at(), &list(tid, None));
            intent.handle_datagram(ms(tid), at(), &list(tid, Some(Nonce(tid))));
            intent.handle_timeout(ms(tid));
        }
        assert_eq!((taken(&mut intent), intent.poll_notice()), (None, None));
        assert!(intent.counters().unechoed >= 2 * 934);
        intent.handle_datagram(ms(2_000), at(), &list(7, Some(NONCE)));
        assert_eq!(taken(&mut intent), Some(7));
    }
}

#[test]
fn t2_a_word_that_somebody_waits_counts_only_with_the_right_nonce() {
    let mut intent = nonced(false);
    intent.handle_datagram(ms(1), at(), &queued(Nonce(1), 3));
    intent.handle_datagram(ms(2), "10.0.0.9:4650".parse().unwrap(), &queued(NONCE, 3));
    assert_eq!(intent.poll_notice(), None);
    intent.handle_datagram(ms(3), at(), &list(7, None));
    intent.handle_timeout(ms(303));
    assert_eq!(taken(&mut intent), Some(7));
}

#[test]
fn who_never_gets_an_echo_that_is_required_is_told_so() {
    let mut intent = nonced(true);
    intent.handle_datagram(ms(1), at(), &list(7, None));
    run_dry(&mut intent);
    assert_eq!(intent.poll_event(), Some(Err(IntentError::NotEchoed)));
}

#[test]
fn who_waits_in_the_queue_to_the_end_is_told_so() {
    let mut intent = nonced(false);
    intent.handle_datagram(ms(1), at(), &queued(NONCE, 3));
    run_dry(&mut intent);
    assert_eq!(intent.poll_event(), Some(Err(IntentError::StillWaiting { position: 3 })));
}

#[test]
fn t24_three_intents_in_a_row_that_find_nobody_are_enough() {
    let mut intent = nonced(false);
    for n in 1..=3 {
        assert_eq!(intent.poll_event(), None, "after {} intents", n - 1);
        // Each intent counts once, however often the system says it.
        intent.handle_unreachable("10.0.0.1:4651".parse().unwrap());
        intent.handle_unreachable(at());
        intent.handle_unreachable(at());
        if n < 3 {
            intent.handle_timeout(intent.poll_timeout().unwrap());
            intent.poll_transmit(&mut Vec::new()).unwrap();
        }
    }
    assert_eq!(intent.poll_event(), Some(Err(IntentError::Refused)));
}

#[test]
fn t24_an_orchestrator_that_restarts_is_waited_for() {
    let mut intent = nonced(false);
    for n in 0..6 {
        if n == 2 {
            intent.handle_datagram(ms(1), at(), &queued(NONCE, 1));
        } else {
            intent.handle_unreachable(at());
        }
        let gone = intent.poll_event();
        assert_eq!(gone.is_some(), n == 5, "{n}: {gone:?}");
        if n < 5 {
            intent.handle_timeout(intent.poll_timeout().unwrap());
            intent.poll_transmit(&mut Vec::new()).unwrap();
        }
    }
}
