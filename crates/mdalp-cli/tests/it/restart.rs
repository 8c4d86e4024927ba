//! What was acknowledged survives the death of the server.

use crate::support::{Net, Watched, payload};

#[test]
fn a_transfer_goes_on_after_the_server_was_killed_and_started_again() {
    let net = Net::new();
    let mut server = net.serve(&["--classic"]);
    let bytes = payload(20_000);
    let file = net.file("payload", &bytes);
    let mut client = Watched::start(
        &mut net.client(&file, &["-vv", "--rto-max", "0.2", "--latencies", "1,1,1"]),
    );
    for _ in 0..30 {
        client.wait_for(|event| event["type"] == "datagram" && event["direction"] == "received");
    }
    server.kill();
    client.wait_for(|event| event["type"] == "retransmit");
    let _server = net.serve(&["--classic"]);
    let (status, events, stderr) = client.finish();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let end = events.last().unwrap();
    assert_eq!(end["chunks"], end["total_chunks"]);
    assert_eq!(net.get(end["tid"].as_u64().unwrap()), bytes);
}
