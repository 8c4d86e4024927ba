//! Several network loops for the same receivers.

use crate::support::*;
use mdalp_proto::ids::TransactionId;
use mdalp_server::{ConfigError, ServerError, open_store};
use mdalp_store::{Durability, State};
use nix::sys::socket::{setsockopt, sockopt};
use std::time::Duration;

#[test]
fn transactions_of_all_shards_are_received_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Fsync).unwrap();
    let mut server = Server::start(store.clone(), |config| {
        config.receivers.shards = SHARDS;
        config.receivers.rules.quiet = Duration::from_millis(50);
    });
    let client = client();
    // One client, one file after the other: each has an id of its own, drawn at random.
    let ids: Vec<_> = (0..12)
        .map(|n| {
            let (tid, _) = transaction(&client, &server);
            send_all(&client, &server, tid, &bytes()[n..]);
            tid
        })
        .collect();
    let stats = server.wait_for(|stats| {
        stats.live == 0 && stats.receivers.is_some_and(|counters| counters.stored == 12 * 50)
    });
    assert_eq!(stats.receivers.map(|counters| counters.stored), Some(12 * 50));
    for (n, tid) in ids.into_iter().enumerate() {
        assert_eq!(summary(&*store, tid).state, State::Open);
        assert_eq!(payload(&*store, tid).unwrap(), &bytes()[n..]);
    }
    let stats = server.shut_down().unwrap().stats;
    assert_eq!(stats.receivers.map(|counters| counters.acks), Some(12 * 50));
}

#[test]
fn chunks_that_the_sender_joined_reach_the_shards_of_their_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path(), Durability::Process).unwrap();
    let server = Server::start(store.clone(), |config| config.receivers.shards = SHARDS);
    let client = client();
    // The kernel carries all of them in one piece, and can bring it to one socket only.
    let ids = 11..=40_u64;
    let joined: Vec<u8> = ids.clone().flat_map(|n| chunk(TransactionId(n), 0, b"data")).collect();
    let each = joined.len() / ids.clone().count();
    setsockopt(&client, sockopt::UdpGsoSegment, &i32::try_from(each).unwrap()).unwrap();
    client.send_to(&joined, server.receivers[0]).unwrap();
    let mut acked: Vec<_> = ids.clone().map(|_| answer(&client, server.receivers[0])).collect();
    acked.sort();
    assert_eq!(acked, ids.clone().map(|n| format!("Type:3;TID:{n};SEQ:0;")).collect::<Vec<_>>());
    for n in ids {
        assert_eq!(payload(&*store, TransactionId(n)).unwrap(), b"data");
    }
    server.shut_down().unwrap();
}

#[test]
fn a_number_of_shards_that_cannot_be_is_refused() {
    for shards in [0, 65] {
        let dir = tempfile::tempdir().unwrap();
        let store = open_store(dir.path(), Durability::Process).unwrap();
        let server = Server::start(store, |config| config.receivers.shards = shards);
        let error = server.ended().unwrap_err();
        assert!(matches!(error, ServerError::Config(ConfigError::Shards(_))), "{error}");
    }
}
