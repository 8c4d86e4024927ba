//! Forged receiver lists (H20–H30): each ends with its exit code, and nobody is sent anything.

use crate::support::{Net, json_lines, payload, run, text};
use std::net::UdpSocket;
use std::thread;

/// Sends to an orchestrator that says `list`; exit code and standard error.
fn asked(list: &str) -> (Option<i32>, String) {
    let net = Net::new();
    net.fake_orchestrator(Some(format!("Type:1;TID:3740;DATA:{list}").into_bytes()));
    let file = net.file("payload", b"x");
    let sent = run(&mut net.client(&file, &["--intent-timeout", "1", "--json"]));
    let end = json_lines(&sent.stdout).pop().unwrap();
    assert_eq!(end["exit_code"].as_i64(), sent.status.code().map(Into::into));
    (sent.status.code(), text(&sent.stderr))
}

fn entry(ip: &str) -> String {
    format!("[{{'ip_address': '{ip}', 'name': 'A'}}]")
}

#[test]
fn h20_to_h25_lists_that_are_no_lists_are_not_understood() {
    let deep = "[".repeat(500);
    let many = format!("[{}]", vec!["{}"; 10_000].join(","));
    let long = format!("[{{'ip_address': '192.0.2.1', 'name': '{}'}}]", "N".repeat(60_000));
    let twice = "[{'ip_address': '192.0.2.1', 'ip_address': '192.0.2.2'}]";
    let mut lists: Vec<String> = [
        "__import__('os').system('id');",
        "[0]*(10**7);",
        "f'{1}'",
        "[x for x in 'ab']",
        "[lambda: 1]",
        "{1, 2}",
        "b''",
        "1j",
        &deep,
        &many,
        &long,
        twice,
        "[{'ip_address': '192",
        "[{'ip_address': None}]",
        "[{'ip_address': True}]",
        "[1,2]",
        "[{'name':'a'}]",
        "[{'ip_address': 5}]",
        "{}",
        "[{'ip_address': '192.0.2.1'} # a comment\n]",
        "[{'ip_address': '192.' '0.2.1'}]",
        "[{'ip_address': '\\N{DIGIT ONE}.1.1.1'}]",
    ]
    .map(str::to_owned)
    .into();
    for ip in [
        "127.1",
        "0x7f000001",
        "2130706433",
        "010.0.0.1",
        "1.2.3.4 ",
        "-f",
        "-c1",
        "$(id)",
        "a.example",
        "::FFFF:1.2.3.4",
        "1.2.3.4\\x00",
    ] {
        lists.push(entry(ip));
    }
    // In parallel: each waits for its time to answer to be over.
    let runs: Vec<_> =
        lists.into_iter().map(|list| thread::spawn(move || (asked(&list), list))).collect();
    for run in runs {
        let ((code, stderr), list) = run.join().unwrap();
        assert_eq!(code, Some(4), "{list:.60} {stderr}");
        assert!(!stderr.contains("panicked"));
    }
    assert_eq!(asked("[]").0, Some(5));
}

#[test]
fn h31_a_list_of_more_receivers_is_sent_to_where_that_is_allowed() {
    let net = Net::new();
    net.assigning_orchestrator(65);
    for host in 2..67 {
        net.fake_receiver(host, u64::MAX);
    }
    let file = net.file("payload", &payload(65 * 100));
    let sent = run(&mut net.client(&file, &["--intent-timeout", "0.2"]));
    assert_eq!(sent.status.code(), Some(4));
    let hint = "answered, but not with an assignment: list of more than 64 receivers; \
                --max-receivers allows more";
    assert!(text(&sent.stderr).contains(hint), "{}", text(&sent.stderr));
    let sent = run(&mut net.client(&file, &["--max-receivers", "65", "--json"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let end = json_lines(&sent.stdout).pop().unwrap();
    let bytes = end["receivers"].as_array().unwrap().iter().map(|receiver| &receiver["bytes"]);
    assert!(bytes.clone().all(|bytes| bytes == 100) && bytes.count() == 65);
}

#[test]
fn h24_lists_of_forbidden_addresses_are_exit_code_11() {
    let forbidden = [
        "255.255.255.255",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "169.254.169.254",
        "::",
        "ff02::1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "::7f00:1",
    ];
    for ip in forbidden {
        let (code, stderr) = asked(&entry(ip));
        assert_eq!(code, Some(11), "{ip} {stderr}");
        assert!(stderr.contains("nothing is sent to"), "{stderr}");
    }
}

#[test]
fn h26_h29_h30_one_list_counts_each_receiver_once_and_names_are_escaped() {
    let net = Net::new();
    let orchestrator = UdpSocket::bind((net.ip(1), 4650)).unwrap();
    let stranger = UdpSocket::bind((net.ip(66), 4650)).unwrap();
    let victim = UdpSocket::bind((net.ip(77), 4650)).unwrap();
    net.fake_receiver(2, u64::MAX);
    let (honest, victims) = (net.ip(2), entry(&net.ip(77)));
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        let (_, client) = orchestrator.recv_from(&mut buffer).unwrap();
        let forged = format!("Type:1;TID:3741;DATA:{victims}");
        stranger.send_to(forged.as_bytes(), client).unwrap();
        let name = "\\x1b[31mred\\nType:0;";
        let one = format!("{{'ip_address': '{honest}', 'name': '{name}'}}");
        let list = format!("Type:1;TID:3740;DATA:[{one}, {one}, {one}]");
        orchestrator.send_to(list.as_bytes(), client).unwrap();
        // A second list is late, whatever it says.
        orchestrator.send_to(forged.as_bytes(), client).unwrap();
    });
    let file = net.file("payload", &payload(1000));
    let sent = run(&mut net.client(&file, &["-v", "--json"]));
    let (stdout, stderr) = (text(&sent.stdout), text(&sent.stderr));
    assert_eq!(sent.status.code(), Some(0), "{stderr}");
    assert!(!stdout.contains('\x1b') && !stderr.contains('\x1b'));
    let end = json_lines(&sent.stdout).pop().unwrap();
    assert_eq!((&end["tid"], end["receivers"].as_array().unwrap().len()), (&3740.into(), 1));
    victim.set_nonblocking(true).unwrap();
    assert!(victim.recv_from(&mut [0; 2048]).is_err(), "the victim got nothing");
}
