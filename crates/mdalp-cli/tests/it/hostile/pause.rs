//! Processes that stand still for a while (F18).

use crate::support::{Net, Watched, payload, send_signal};
use rustix::process::Signal;
use serde_json::Value;

fn received(event: &Value) -> bool {
    event["type"] == "datagram" && event["direction"] == "received"
}

fn sent_datagrams(end: &Value) -> u64 {
    let receivers = end["receivers"].as_array().unwrap();
    receivers.iter().map(|receiver| receiver["datagrams"].as_u64().unwrap()).sum()
}

#[test]
fn f18_servers_that_stand_still_get_probes_and_no_storm() {
    let net = Net::new();
    let server = net.serve(&["--classic"]);
    let bytes = payload(20_000);
    let file = net.file("payload", &bytes);
    let mut client = Watched::start(
        &mut net.client(&file, &["-vv", "--latencies", "1,1,1", "--rto-min", "0.2"]),
    );
    for _ in 0..30 {
        client.wait_for(received);
    }
    server.signal(Signal::STOP);
    let mut retransmitted = 0;
    while retransmitted < 6 {
        client.wait_for(|event| event["type"] == "retransmit");
        retransmitted += 1;
    }
    server.signal(Signal::CONT);
    let (status, events, stderr) = client.finish();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let end = events.last().unwrap();
    let timeouts = events.iter().filter(|event| event["type"] == "retransmit").count() as u64;
    // One datagram more for each timeout, and nothing else.
    assert!(sent_datagrams(end) <= 201 + timeouts, "{end}");
    assert_eq!(net.get(end["tid"].as_u64().unwrap()), bytes);
}

#[test]
fn f18_f20_an_orchestrator_that_stands_still_gives_one_transaction() {
    let net = Net::new();
    let server = net.serve(&[]);
    server.signal(Signal::STOP);
    let bytes = payload(2000);
    let file = net.file("payload", &bytes);
    let mut client = Watched::start(&mut net.client(&file, &["-vv"]));
    for _ in 0..2 {
        client.wait_for(|event| event["type"] == "datagram" && event["direction"] == "sent");
    }
    server.signal(Signal::CONT);
    let (status, _, stderr) = client.finish();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let tids = net.tids();
    assert_eq!(tids.len(), 1);
    assert_eq!(net.get(tids[0]), bytes);
}

#[test]
fn f18_a_client_that_stands_still_goes_on() {
    let net = Net::new();
    let _server = net.serve(&["--classic"]);
    let bytes = payload(20_000);
    let file = net.file("payload", &bytes);
    let mut client = Watched::start(&mut net.client(&file, &["-vv", "--latencies", "1,1,1"]));
    for _ in 0..30 {
        client.wait_for(received);
    }
    send_signal(&client.child, Signal::STOP);
    // For as long as it takes another client to send everything.
    let other = crate::support::run(&mut net.client(&net.file("other", &bytes), &[]));
    assert!(other.status.success());
    send_signal(&client.child, Signal::CONT);
    let (status, events, stderr) = client.finish();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!(net.get(events.last().unwrap()["tid"].as_u64().unwrap()), bytes);
}
