//! Asking whether a payload is whole.

use crate::support::*;
use mdalp_proto::ids::TransactionId;
use mdalp_server::open_store;
use mdalp_store::{Durability, State};

#[test]
fn the_servers_say_what_is_missing_and_give_a_receipt_when_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Fsync).unwrap();
    let server = Server::start(store.clone(), |config| config.receivers.rules.seals = true);
    let client = client();
    let (tid, _) = transaction(&client, &server);
    ask(&client, server.receivers[0], &chunk(tid, 0, b"abc"));
    ask(&client, server.receivers[1], &chunk(tid, 3, b"jkl"));
    let whole = question(tid, 4, b"abcdefghijkl");
    let verdict = |word: &str| format!("Type:5;TID:{tid};DATA:{word}");
    assert_eq!(ask(&client, server.receivers[2], &whole), verdict("missing 1-2"));
    // Whatever else a server holds than it is asked about is no reason to lie.
    let short = question(tid, 1, b"abc");
    assert_eq!(ask(&client, server.receivers[0], &short), verdict("mismatch"));
    ask(&client, server.receivers[0], &chunk(tid, 1, b"def"));
    ask(&client, server.receivers[0], &chunk(tid, 2, b"ghi"));
    let other = question(tid, 4, b"abcdefghijkL");
    assert_eq!(ask(&client, server.receivers[0], &other), verdict("mismatch"));
    assert_eq!(summary(&*store, tid).state, State::Open);
    // From whichever receiver, as often as it is asked.
    for receiver in &server.receivers {
        assert_eq!(ask(&client, *receiver, &whole), verdict("complete"));
    }
    let closed = summary(&*store, tid);
    assert_eq!((closed.state, closed.receipt.unwrap().bytes), (State::Complete, 12));
    server.shut_down().unwrap();
}

#[test]
fn an_empty_payload_can_be_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Process).unwrap();
    let server = Server::start(store, |config| config.receivers.rules.seals = true);
    let client = client();
    let (tid, _) = transaction(&client, &server);
    let answer = ask(&client, server.receivers[0], &question(tid, 0, b""));
    assert_eq!(answer, format!("Type:5;TID:{tid};DATA:complete"));
    server.shut_down().unwrap();
}

#[test]
fn unknown_transactions_and_receivers_that_do_not_seal_are_silent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Process).unwrap();
    let mut server = Server::start(store, |config| config.receivers.rules.seals = true);
    let client = client();
    client.send_to(&question(TransactionId(5 << 40), 1, b"x"), server.receivers[0]).unwrap();
    let stats = server
        .wait_for(|stats| stats.receivers.as_ref().is_some_and(|counters| counters.drop_seal == 1));
    assert_eq!(stats.receivers.unwrap().seals, 1);
    // The next answer is that to the next question.
    let ack = ask(&client, server.receivers[0], &chunk(TransactionId(5 << 40), 0, b"x"));
    assert_eq!(ack, format!("Type:3;TID:{};SEQ:0;", 5_u64 << 40));
    server.shut_down().unwrap();
}
