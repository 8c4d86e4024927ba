//! Intents with nonces over real sockets, and what a flood of them costs.

use crate::support::{Server, answer, ask, bytes, client, payload, send_all, summary};
use mdalp_proto::ids::{Nonce, TransactionId};
use mdalp_proto::wire::{Message, decode, encode_nonced_intent};
use mdalp_server::open_store;
use mdalp_store::Durability;
use std::time::Duration;

fn nonced(nonce: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_nonced_intent(&mut out, Nonce(nonce), 400);
    out
}

/// The transaction, and the nonce that was echoed.
fn assigned(datagram: &str) -> (TransactionId, Option<u64>) {
    let message = decode(datagram.as_bytes()).unwrap();
    let Message::Assignment { tid, nonce, .. } = message else { unreachable!("{message:?}") };
    (tid, nonce.map(|nonce| nonce.0))
}

#[test]
fn t2_two_sends_at_once_from_one_port_get_two_transactions_and_both_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Process).unwrap();
    let server = Server::start(store.clone(), |_| {});
    let client = client();
    for nonce in [1, 2, 1] {
        client.send_to(&nonced(nonce), server.orchestrator).unwrap();
    }
    let mut got = [1, 2, 3].map(|_| assigned(&answer(&client, server.orchestrator)));
    // Answers that are ready together may leave in another order.
    got.sort_by_key(|(_, nonce)| *nonce);
    assert_eq!(got.map(|(_, nonce)| nonce), [Some(1), Some(1), Some(2)]);
    assert_eq!(got[0], got[1], "the same again");
    let got = [got[0], got[2]];
    assert_ne!(got[0].0, got[1].0);
    send_all(&client, &server, got[0].0, b"the first one's");
    send_all(&client, &server, got[1].0, &bytes());
    assert_eq!(payload(&*store, got[0].0).unwrap(), b"the first one's");
    assert_eq!(payload(&*store, got[1].0).unwrap(), bytes());
    for (tid, _) in got {
        let client = client.local_addr().unwrap().to_string();
        assert_eq!(summary(&*store, tid).info.unwrap().client, client);
    }
    server.shut_down().unwrap();
}

#[test]
fn r38_a_send_that_must_wait_is_told_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Process).unwrap();
    let server = Server::start(store, |config| config.orchestrator.concurrency = Some(0));
    let client = client();
    for nonce in 1..=3 {
        let said = ask(&client, server.orchestrator, &nonced(nonce));
        assert_eq!(said, format!("Type:6;NONCE:{nonce:016x};DATA:{nonce}"));
    }
    server.shut_down().unwrap();
}

#[test]
fn b3_t15_padded_intents_leave_nothing_in_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Fsync).unwrap();
    let mut server = Server::start(store.clone(), |config| {
        config.orchestrator.live = 100;
        config.receivers.rules.quiet = Duration::from_millis(50);
    });
    let client = client();
    for nonce in 0..1_000 {
        let (_, echoed) = assigned(&ask(&client, server.orchestrator, &nonced(nonce)));
        assert_eq!(echoed, Some(nonce));
    }
    assert_eq!(store.list().unwrap().len(), 0);
    server.wait_for(|stats| stats.orchestrator.is_some_and(|counters| counters.evicted == 900));
    let (tid, _) = assigned(&ask(&client, server.orchestrator, &nonced(1_000)));
    send_all(&client, &server, tid, &bytes());
    assert_eq!(store.list().unwrap().len(), 1);
    server.shut_down().unwrap();
}
