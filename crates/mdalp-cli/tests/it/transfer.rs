//! Payloads of all kinds, from the classic command line through real servers and back to a file.

use crate::support::{Net, json_lines, mdalp, payload, run, run_with_input, text};
use rustix::process::Signal;

#[test]
fn any_file_comes_back_byte_for_byte_in_both_modes() {
    let net = Net::new();
    let server = net.serve(&[]);
    let mut known = Vec::new();
    for bytes in [&b""[..], b"x", b"a\r\nb\r\n", &payload(100), &payload(5000)] {
        let file = net.file("payload", bytes);
        for mode in [&["-m", "1"][..], &["-m", "2", "-s", "3"]] {
            let sent = run(&mut net.client(&file, mode));
            assert!(sent.status.success(), "{}", text(&sent.stderr));
            assert!(
                text(&sent.stderr).contains(&format!("{} byte", bytes.len())),
                "{}",
                text(&sent.stderr)
            );
            let tid = net.tids().into_iter().find(|tid| !known.contains(tid)).unwrap();
            known.push(tid);
            assert_eq!(net.get(tid), bytes);
        }
    }
    assert_eq!(server.terminate(Signal::TERM).code(), Some(0));
}

#[test]
fn mode_2_sends_everything_to_the_named_receiver() {
    let net = Net::new();
    let _server = net.serve(&[]);
    let file = net.file("payload", &payload(950));
    let sent = run(&mut net.client(&file, &["-m2", "-s2", "--json"]));
    let end = json_lines(&sent.stdout).pop().unwrap();
    let receivers = end["receivers"].as_array().unwrap();
    assert_eq!(receivers.len(), 1);
    assert_eq!((&receivers[0]["name"], &receivers[0]["chunks"]), (&"B".into(), &10.into()));
    assert_eq!(receivers[0]["first_seq"], 0);
}

#[test]
fn given_latencies_make_the_published_plan() {
    let net = Net::new();
    let _server = net.serve(&[]);
    let file = net.file("payload", &payload(5000));
    let sent = run(&mut net.client(&file, &["--latencies", "335.148,162.844,156.857", "--json"]));
    let events = json_lines(&sent.stdout);
    let plan = events.iter().find(|event| event["type"] == "plan").unwrap();
    let figures: Vec<_> = plan["shares"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| ["bytes", "chunks", "first_seq"].map(|field| s[field].as_u64().unwrap()))
        .collect();
    assert_eq!(figures, [[963, 10, 0], [1981, 20, 10], [2056, 21, 30]]);

    let offline = run(&mut mdalp(&[
        "plan",
        "--bytes",
        "5000",
        "--latencies",
        "335.148,162.844,156.857",
        "--json",
    ]));
    assert_eq!(
        text(&offline.stdout),
        "{\"shares\":[{\"bytes\":963,\"chunks\":10,\"first_seq\":0},\
         {\"bytes\":1981,\"chunks\":20,\"first_seq\":10},\
         {\"bytes\":2056,\"chunks\":21,\"first_seq\":30}]}\n"
    );
}

#[test]
fn standard_input_is_a_payload() {
    let net = Net::new();
    let _server = net.serve(&[]);
    // Nothing, of which only the seal is sent; and more than is kept in memory.
    for len in [0, 3, (1 << 20) + 17] {
        let bytes = payload(len);
        let before = net.tids();
        let sent = run_with_input(&mut net.client("-", &[]), &bytes);
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        let tid = net.tids().into_iter().find(|tid| !before.contains(tid)).unwrap();
        assert_eq!(net.get(tid), bytes);
    }
}

#[test]
fn capabilities_are_used_where_they_are_advertised_and_not_where_classic_is_asked_for() {
    let net = Net::new();
    let _server = net.serve(&["--caps", "crc window=32 chunk=1200"]);
    let file = net.file("payload", &payload(50_000));
    for (extra, chunk) in [(&["--json"][..], 1200), (&["--json", "--classic"], 100)] {
        let sent = run(&mut net.client(&file, extra));
        let events = json_lines(&sent.stdout);
        let plan = events.iter().find(|event| event["type"] == "plan").unwrap();
        assert_eq!(plan["chunk_bytes"], chunk);
        assert_eq!(events.last().unwrap()["reason"], "complete");
    }
    for tid in net.tids() {
        assert_eq!(net.get(tid), payload(50_000));
    }
}

#[test]
fn orchestrator_and_receivers_run_as_separate_processes() {
    use crate::support::Server;
    let net = Net::new();
    let strings = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (ips, dirs) =
        ([net.ip(2), net.ip(3)], ["a", "b"].map(|d| net.path(d).to_str().unwrap().to_owned()));
    let receivers = ["A", "B"].iter().zip(ips.iter().zip(&dirs)).map(|(name, (ip, dir))| {
        Server::start(&strings(&["receiver", "--name", name, "--listen", ip, "--data", dir]))
    });
    let _receivers: Vec<Server> = receivers.collect();
    let (a, b) = (format!("A={}", ips[0]), format!("B={}", ips[1]));
    let _orchestrator = Server::start(&strings(&[
        "orchestrator",
        "--listen",
        &net.ip(1),
        "--caps",
        "crc record window=32 chunk=1200",
        "--receiver",
        &a,
        "--receiver",
        &b,
    ]));
    let file = net.file("payload", &payload(3000));
    let sent = run(&mut net.client(&file, &["-m", "1", "--require-verified"]));
    assert!(sent.status.success(), "t6: {}", text(&sent.stderr));

    let data = ["--data", &dirs[0], "--data", &dirs[1]];
    let listed = json_lines(&run(mdalp(&["ls", "--json"]).args(data)).stdout);
    assert_eq!(
        (&listed[0]["bytes"], &listed[0]["missing"]),
        (&3000.into(), &serde_json::json!([]))
    );
    let names: Vec<_> =
        listed[0]["receivers"].as_array().unwrap().iter().map(|r| r["name"].clone()).collect();
    assert_eq!(names, ["A", "B"]);
    let tid = listed[0]["tid"].to_string();
    let got = run(mdalp(&["get", &tid, "-o", "-"]).args(data));
    assert_eq!(got.stdout, payload(3000));
    let half = run(&mut mdalp(&["get", &tid, "-o", "-", "--data", &dirs[1]]));
    assert_eq!(half.status.code(), Some(6));
    assert!(text(&half.stderr).contains("chunks 0-14 are missing"), "{}", text(&half.stderr));
}
