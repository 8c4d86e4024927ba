//! The client's conversation with the orchestrator, in virtual time.

use super::*;

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
