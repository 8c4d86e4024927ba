//! Intents with nonces, what is said to those that wait, and what a flood of them costs.

use super::*;
use crate::wire::encode_nonced_intent;

pub(super) fn nonced(nonce: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_nonced_intent(&mut bytes, Nonce(nonce), len);
    bytes
}

/// The nonces of what was sent, and whether it is an assignment.
fn echoes(sent: &[Transmit]) -> Vec<(Option<u64>, bool)> {
    let echo = |transmit: &Transmit| match decode(&transmit.datagram).unwrap() {
        Message::Assignment { nonce, .. } => (nonce.map(|nonce| nonce.0), true),
        Message::Queued { nonce, .. } => (Some(nonce.0), false),
        other => panic!("{other:?}"),
    };
    sent.iter().map(echo).collect()
}

fn one_at_a_time() -> World {
    World::new(Config { concurrency: Some(1), ..Config::new(entries(3, "R", "")) })
}

#[test]
fn t2_the_nonce_is_echoed_and_only_to_who_sent_one() {
    let mut world = World::three();
    let sent = world.send("198.51.100.7:1", &nonced(0xabc, 400));
    assert!(
        sent[0].datagram.starts_with(b"Type:1;TID:1;NONCE:0000000000000abc;DATA:[{'ip_address'")
    );
    assert_eq!(echoes(&world.intent("198.51.100.7:2")), [(None, true)]);
}

#[test]
fn t2_two_sends_from_one_address_and_port_never_get_one_transaction() {
    for config in [Config::new(entries(3, "R", "")), Config::standalone(entries(3, "R", ""))] {
        let mut world = World::new(config);
        let first = world.send(CLIENT, &nonced(1, 400));
        let second = world.send(CLIENT, &nonced(2, 400));
        assert_eq!((first[0].tid, second[0].tid), (Some(TransactionId(1)), Some(TransactionId(2))));
        // Each is told its own again, for as long as it is there: a nonce is for one transaction.
        for _ in 0..11 {
            world.wait(10 * SECOND);
            assert_eq!(world.send(CLIENT, &nonced(1, 400)), first);
            assert_eq!(world.send(CLIENT, &nonced(2, 400)), second);
        }
        assert_eq!(world.orchestrator.live(), 2);
    }
}

#[test]
fn t2_two_sends_from_one_port_wait_in_two_places() {
    let mut world = one_at_a_time();
    world.intent("198.51.100.1:7");
    assert_eq!(echoes(&world.send(CLIENT, &nonced(1, 400))), [(Some(1), false)]);
    assert_eq!(echoes(&world.send(CLIENT, &nonced(2, 400))), [(Some(2), false)]);
    assert_eq!(world.orchestrator.queued(), 2);
    world.orchestrator.transaction_ended(world.now, TransactionId(1));
    assert_eq!(echoes(&world.sent()), [(Some(1), true)]);
}

#[test]
fn r38_an_intent_with_a_nonce_that_waits_is_told_its_place_each_time_it_asks() {
    let mut world = one_at_a_time();
    world.intent("198.51.100.1:7");
    world.send("198.51.100.2:7", &nonced(8, 400));
    let place = |world: &mut World| {
        let sent = world.send(CLIENT, &nonced(9, 30));
        assert_eq!((sent.len(), sent[0].tid), (1, None));
        assert!(sent[0].datagram.len() <= 3 * 30, "not much longer than the shortest question");
        match decode(&sent[0].datagram) {
            Ok(Message::Queued { nonce: Nonce(9), position }) => position,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(place(&mut world), 2);
    assert_eq!(place(world.wait(SECOND)), 2);
    world.orchestrator.transaction_ended(world.now, TransactionId(1));
    assert_eq!(echoes(&world.sent()), [(Some(8), true)]);
    assert_eq!(place(&mut world), 1);
    assert_eq!(world.orchestrator.queued(), 1);
}

#[test]
fn r37_bare_intents_beside_one_with_a_nonce_are_ignored_for_ten_seconds() {
    // A client that does not know its orchestrator sends both in turn.
    let mut world = World::three();
    world.send(CLIENT, &nonced(1, 400));
    assert_eq!(world.intent(CLIENT), []);
    assert_eq!(world.wait(Duration::from_millis(9_999)).intent(CLIENT), []);
    assert_eq!((world.orchestrator.live(), world.count("drop_beside_nonced")), (1, 2));
    let later = world.wait(Duration::from_millis(1)).intent(CLIENT);
    assert_eq!(later[0].tid, Some(TransactionId(2)));

    let mut world = one_at_a_time();
    world.intent("198.51.100.1:7");
    world.send(CLIENT, &nonced(1, 400));
    assert_eq!((world.intent(CLIENT), world.orchestrator.queued()), (vec![], 1));
}

#[test]
fn r37_a_bare_intent_after_the_one_with_a_nonce_has_begun_is_another_send() {
    let mut world = World::three();
    world.send(CLIENT, &nonced(1, 400));
    world.orchestrator.transaction_claimed(world.now, TransactionId(1));
    assert_eq!(world.intent(CLIENT)[0].tid, Some(TransactionId(2)));
}

#[test]
fn s8_an_echo_costs_23_bytes_of_the_list_and_only_where_there_is_one() {
    // As many receivers as just fit without an echo.
    let fits = (1..30).rev().find(|&count| {
        let mut world = World::new(Config::new(entries(count, "Rxxxxxxxxxxxx", "")));
        let sent = world.intent("198.51.100.7:1");
        let Ok(Message::Assignment { list, .. }) = decode(&sent[0].datagram) else { panic!() };
        parse(list).unwrap().len() == usize::from(count)
    });
    let mut world = World::new(Config::new(entries(fits.unwrap(), "Rxxxxxxxxxxxx", "")));
    let bare = world.intent("198.51.100.7:1");
    let echoed = world.send("198.51.100.7:2", &nonced(1, 400));
    let listed = |sent: &[Transmit]| match decode(&sent[0].datagram) {
        Ok(Message::Assignment { list, .. }) => parse(list).unwrap().len(),
        other => panic!("{other:?}"),
    };
    assert!(echoed[0].datagram.len() <= 1024 && bare[0].datagram.len() <= 1024);
    assert_eq!(listed(&bare), usize::from(fits.unwrap()));
    assert!(listed(&echoed) + 1 >= listed(&bare));
}

#[test]
fn t19_no_question_is_answered_by_more_than_three_times_its_length_beyond_the_limits() {
    // A full list, and every length of question; the limits on answers to strangers are used up.
    let mut world = World::new(Config::new(entries(16, "R", "crc seal window=32 chunk=1200")));
    for host in 1..=200 {
        world.intent(&format!("198.51.{host}.7:1"));
    }
    world.events();
    for (port, len) in (2000_u16..).zip(6..=1_000) {
        let questions = [padded(len.max(13)), nonced(u64::from(port), len), b"Type:0".to_vec()];
        for (question, host) in questions.iter().zip(201..) {
            for transmit in world.send(&format!("198.51.{host}.7:{port}"), question) {
                assert!(transmit.datagram.len() <= 3 * question.len(), "{len}");
            }
        }
    }
}

#[test]
fn t19_within_the_limits_six_bytes_get_170_times_as_much_and_never_more() {
    let mut world = World::new(Config::new(entries(40, "R", "crc seal window=32 chunk=1200")));
    let question = b"Type:0";
    let answer = world.send(CLIENT, question)[0].datagram.len();
    assert!(answer <= 1024 && answer > 900, "{answer}");
    assert!(answer.div_ceil(question.len()) <= 171);
    // From one network ten of these, then five a second.
    let more: usize =
        (1..100).map(|n| world.send(&format!("198.51.100.9:{n}"), question).len()).sum();
    assert_eq!(more, 9);
}

#[test]
fn b4_padded_intents_into_a_full_table_search_the_queue_a_hundred_times_a_second_at_most() {
    let mut world = World::new(Config { live: 2, ..Config::new(entries(3, "R", "")) });
    for n in 0..4_096 {
        world.intent(&format!("10.{}.{}.1:7", n / 256, n % 256));
    }
    let before = world.orchestrator.searches;
    for n in 0..2_000_u32 {
        // Evicts one, although strangers wait; every other one is a repeat.
        let from = format!("198.51.100.7:{}", 1 + n / 2);
        world.send(&from, &nonced(u64::from(n / 2), 400));
        world.now = world.now + Duration::from_micros(500);
        world.events();
    }
    assert!(world.count("evicted") >= 900);
    let searches = world.orchestrator.searches - before;
    assert!((90..=101).contains(&searches), "{searches} in a second");
}

#[test]
fn b4_padded_repeats_of_waiting_intents_search_no_more_often() {
    let mut world = World::three();
    let clients: Vec<_> =
        (0..1_000).map(|n| format!("10.1.{}.{}:7", n / 250, 1 + n % 250)).collect();
    // 64 of a network may wait; the limits let 10 through.
    for client in &clients {
        world.intent(client);
    }
    let before = world.orchestrator.searches;
    for client in &clients {
        world.send(client, &padded(400));
    }
    assert!(world.orchestrator.searches - before <= 1);
    world.wait(Duration::from_millis(10));
    assert_eq!(world.orchestrator.queued(), 0, "all are served by the next search");
}
