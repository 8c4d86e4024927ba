//! What a classic client sees.

use crate::support::*;
use mdalp_server::open_store;
use mdalp_store::{Durability, State};
use std::time::Duration;

#[test]
fn t1_a_classic_payload_arrives_frees_its_place_and_is_never_called_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Fsync).unwrap();
    let mut server = Server::start(store.clone(), |config| {
        config.receivers.rules.quiet = Duration::from_millis(50);
    });
    let client = client();
    let (tid, list) = transaction(&client, &server);
    assert!(list.starts_with("[{'ip_address': '127.0.0.2', 'name': 'R2', 'caps': 'port="));
    assert_eq!(store.transaction(tid), Ok(None), "b3: an assignment alone costs no disk");

    send_all(&client, &server, tid, &bytes());
    let info = summary(&*store, tid).info.expect("recorded with the first chunk");
    assert_eq!(info.client, client.local_addr().unwrap().to_string());
    assert_eq!(info.receivers.len(), 3);
    assert_eq!(payload(&*store, tid).unwrap(), bytes());
    let stats = server.wait_for(|stats| stats.live == 0);
    assert_eq!(stats.closed, 0, "nobody knows whether this was all");
    let summary = summary(&*store, tid);
    assert_eq!((summary.state, summary.chunks, summary.bytes), (State::Open, 50, 5_000));
    assert_eq!(summary.shares.iter().map(|share| share.chunks).sum::<u64>(), 50);
    server.shut_down().unwrap();
}

#[test]
fn f06_a_duplicate_is_acknowledged_again_and_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Process).unwrap();
    let server = Server::start(store.clone(), |_| {});
    let client = client();
    let (tid, _) = transaction(&client, &server);
    for _ in 0..3 {
        let ack = ask(&client, server.receivers[0], &chunk(tid, 0, b"abc"));
        assert_eq!(ack, format!("Type:3;TID:{tid};SEQ:0;"));
    }
    // Also where it did not come first.
    ask(&client, server.receivers[1], &chunk(tid, 0, b"abc"));
    let summary = server.shut_down().unwrap();
    let counters = summary.stats.receivers.unwrap();
    assert_eq!((counters.stored, counters.duplicates, counters.conflicts), (1, 3, 0));
}

#[test]
fn f20_a_lost_assignment_is_said_again_and_a_second_file_gets_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(open_store(dir.path(), Durability::Process).unwrap(), |_| {});
    let client = client();
    let first = transaction(&client, &server);
    assert_eq!(transaction(&client, &server), first);
    ask(&client, server.receivers[0], &chunk(first.0, 0, b"x"));
    assert_ne!(transaction(&client, &server).0, first.0);
    server.shut_down().unwrap();
}

#[test]
fn intents_beyond_the_concurrency_wait_for_a_closed_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Process).unwrap();
    let mut server = Server::start(store, |config| {
        config.orchestrator.concurrency = Some(1);
        config.receivers.rules.quiet = Duration::from_millis(50);
    });
    let (first, second) = (client(), client());
    let (tid, _) = transaction(&first, &server);
    second.send_to(b"Type:0;", server.orchestrator).unwrap();
    server.wait_for(|stats| stats.queued == 1);
    send_all(&first, &server, tid, b"all of it");
    let text = answer(&second, server.orchestrator);
    assert!(text.starts_with("Type:1;TID:"));
    server.shut_down().unwrap();
}

#[test]
fn h10_h52_junk_gets_no_answer_from_any_socket() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(open_store(dir.path(), Durability::Process).unwrap(), |_| {});
    let client = client();
    for to in [server.orchestrator].iter().chain(&server.receivers) {
        for junk in [&b""[..], b"Type:", b"Type:3;TID:1;SEQ:0;", b"Type:255;", &[b'['; 9_000]] {
            client.send_to(junk, to).unwrap();
        }
    }
    client.send_to(b"Type:0;", server.receivers[0]).unwrap();
    client.send_to(b"Type:2;TID:1;SEQ:0;DATA:x", server.orchestrator).unwrap();
    // The first answer that comes is that to the first question that makes sense.
    let text = ask(&client, server.orchestrator, b"Type:0;");
    assert!(text.starts_with("Type:1;"), "{text}");
    server.shut_down().unwrap();
}
