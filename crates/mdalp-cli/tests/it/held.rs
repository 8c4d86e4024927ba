//! `ls`, `show` and `get`, while a server runs and after it.

use crate::support::{Net, json_lines, mdalp, payload, run, text};
use serde_json::json;
use std::net::UdpSocket;

/// A client by hand.
fn client() -> UdpSocket {
    UdpSocket::bind(("127.0.0.1", 0)).unwrap()
}

/// Sends chunks of transaction 77 and waits until each is acknowledged.
fn put(client: &UdpSocket, net: &Net, chunks: &[(u64, &str)]) {
    for (seq, data) in chunks {
        let datagram = format!("Type:2;TID:77;SEQ:{seq};DATA:{data}");
        client.send_to(datagram.as_bytes(), (net.ip(2), 4650)).unwrap();
        let mut ack = [0; 64];
        let (len, _) = client.recv_from(&mut ack).unwrap();
        assert!(text(&ack[..len]).starts_with(&format!("Type:3;TID:77;SEQ:{seq}")));
    }
}

#[test]
fn gaps_are_named_and_a_payload_with_gaps_is_not_given_out_as_whole() {
    let net = Net::new();
    let _server = net.serve(&[]);
    // A transaction belongs to the address that began it.
    let client = client();
    put(&client, &net, &[(0, "zero"), (2, "two"), (5, "five")]);
    let listed = json_lines(&run(&mut mdalp(&["ls", "--json", "--data", &net.data()])).stdout);
    let [one] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(
        [
            &one["tid"],
            &one["state"],
            &one["bytes"],
            &one["chunks"],
            &one["blake3"],
            &one["missing"]
        ],
        [&json!(77), &json!("open"), &json!(11), &json!(3), &json!(null), &json!([[1, 1], [3, 4]])]
    );
    let address = format!("{}:4650", net.ip(2));
    assert_eq!(
        one["receivers"],
        json!([{"name": "A", "address": address, "chunks": 3, "bytes": 11, "ranges": [[0, 0], [2, 2], [5, 5]]}])
    );
    let shown = text(&run(&mut mdalp(&["show", "77", "--data", &net.data()])).stdout);
    assert!(shown.contains("missing     1,3-4\n"), "{shown}");

    let target = net.file("out", b"what was there before");
    let get = |extra: &[&str]| {
        run(mdalp(&["get", "77", "-o", &target, "--data", &net.data()]).args(extra))
    };
    let refused = get(&[]);
    assert_eq!(refused.status.code(), Some(6));
    assert!(
        text(&refused.stderr).contains("chunks 1,3-4 are missing"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(std::fs::read(&target).unwrap(), b"what was there before");
    assert_eq!(get(&["--partial"]).status.code(), Some(6));
    assert_eq!(std::fs::read(&target).unwrap(), b"zerotwofive");

    put(&client, &net, &[(1, "one"), (3, "three"), (4, "four")]);
    let unknown = get(&[]);
    assert_eq!(unknown.status.code(), Some(6), "t1: there may have been more");
    assert!(text(&unknown.stderr).contains("nobody knows whether"), "{}", text(&unknown.stderr));
    assert_eq!(get(&["--partial"]).status.code(), Some(6));
    assert_eq!(std::fs::read(&target).unwrap(), b"zeroonetwothreefourfive");
    let left: Vec<_> =
        std::fs::read_dir(net.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{left:?}");
}

#[test]
fn a_complete_transaction_shows_the_hash_of_its_payload() {
    let net = Net::new();
    let server = net.serve(&["--quiet-time", "0.01"]);
    let file = net.file("payload", &payload(777));
    assert!(run(&mut net.client(&file, &[])).status.success());
    let tid = net.tids()[0].to_string();
    // The shutdown waits for nothing, so wait for the state.
    let show = || {
        json_lines(&run(&mut mdalp(&["show", &tid, "--json", "--data", &net.data()])).stdout)
            .remove(0)
    };
    while show()["state"] == "open" {
        std::thread::yield_now();
    }
    server.terminate(rustix::process::Signal::INT);
    let shown = show();
    assert_eq!((&shown["state"], &shown["missing"]), (&json!("complete"), &json!([])));
    let hash = run(&mut mdalp(&["get", &tid, "-o", "-", "--data", &net.data()]));
    assert_eq!(hash.stdout, payload(777));
    assert!(text(&hash.stderr).contains(shown["blake3"].as_str().unwrap()));
    for field in ["begun", "last_append", "client"] {
        assert!(shown[field].is_string(), "{shown}");
    }
}

#[test]
fn what_is_not_there_is_said_with_its_exit_code() {
    let net = Net::new();
    let _server = net.serve(&[]);
    for (args, code, words) in [
        (&["show", "5"][..], 2, "has no transaction 5"),
        (&["get", "5", "-o", "-"], 2, "has no transaction 5"),
        (&["get", "x", "-o", "-"], 2, "invalid value 'x'"),
        (&["get", "5"], 2, "--output"),
    ] {
        let output = run(mdalp(args).args(["--data", &net.data()]));
        assert_eq!(output.status.code(), Some(code));
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
    let output = run(&mut mdalp(&["ls", "--data", "/nonexistent"]));
    assert_eq!(output.status.code(), Some(9));
    assert!(text(&output.stderr).contains("data directory /nonexistent"));
}

#[test]
fn transactions_are_removed_where_no_server_is_and_their_space_is_given_back() {
    let net = Net::new();
    let server = net.serve(&[]);
    put(&client(), &net, &[(0, "zero")]);
    let rm = |tids: &[&str]| run(mdalp(&["rm", "--data", &net.data()]).args(tids));
    let locked = rm(&["77"]);
    assert_eq!(locked.status.code(), Some(9));
    assert!(text(&locked.stderr).contains("in use by another server"), "{}", text(&locked.stderr));
    drop(server);
    let unknown = rm(&["77", "78"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("has no transaction 78"), "{}", text(&unknown.stderr));
    let get = || run(&mut mdalp(&["get", "77", "-o", "/dev/null", "--data", &net.data()]));
    assert!(text(&get().stderr).contains("nobody knows whether"));
    let removed = rm(&["77"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    assert_eq!(text(&removed.stderr), "1 transaction removed\n");
    assert!(text(&get().stderr).contains("its chunks are not kept"));
    assert_eq!(rm(&["77"]).status.code(), Some(2));
}

#[test]
fn output_goes_through_links_and_into_devices_without_replacing_them() {
    let net = Net::new();
    let _server = net.serve(&[]);
    put(&client(), &net, &[(0, "zero")]);
    let file = net.file("target", b"");
    let link = net.path("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for output in [link.to_str().unwrap(), "/dev/null"] {
        let get = ["get", "77", "--partial", "-o", output, "--data", &net.data()];
        assert_eq!(run(&mut mdalp(&get)).status.code(), Some(6));
    }
    assert!(link.is_symlink());
    assert_eq!(std::fs::read(&file).unwrap(), b"zero");
    let refused = run(&mut mdalp(&[
        "get",
        "77",
        "--partial",
        "-o",
        "/nonexistent/file",
        "--data",
        &net.data(),
    ]));
    assert_eq!(refused.status.code(), Some(9));
}

#[test]
fn a_second_server_is_refused_the_data_and_the_address() {
    let net = Net::new();
    let _server = net.serve(&[]);
    let (listen, spare) = (net.ip(1), net.ip(9));
    let taken =
        run(&mut mdalp(&["orchestrator", "--listen", &listen, "--receiver", "A=127.0.0.2"]));
    assert_eq!(taken.status.code(), Some(10));
    assert!(
        text(&taken.stderr).contains("another process listens there"),
        "{}",
        text(&taken.stderr)
    );
    let locked = run(&mut mdalp(&["receiver", "--listen", &spare, "--data", &net.data()]));
    assert_eq!(locked.status.code(), Some(9));
    assert!(text(&locked.stderr).contains("in use by another server"), "{}", text(&locked.stderr));
}
