//! Each way in which a send fails: its exit code, one clear line, and an `end` event.

use crate::events::check;
use crate::support::{
    Net, Watched, json_lines, mdalp, payload, run, run_with_input, send_signal, text,
};
use rustix::process::Signal;
use serde_json::Value;
use std::process::Command;

/// Runs with `--json`; the last event, which must match the exit code, and standard error.
fn fails_with(command: &mut Command, code: i32) -> (Value, String) {
    let output = run(command.arg("--json"));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let events = json_lines(&output.stdout);
    check(&events);
    let end = events.last().unwrap().clone();
    assert_eq!((&end["type"], end["exit_code"].as_i64()), (&"end".into(), Some(code.into())));
    (end, stderr)
}

#[test]
fn a_silent_orchestrator_is_exit_code_3() {
    let net = Net::new();
    net.fake_orchestrator(None);
    let file = net.file("payload", b"x");
    let (end, stderr) = fails_with(&mut net.client(&file, &["--intent-timeout", "0.3"]), 3);
    assert_eq!(end["reason"], "no_orchestrator");
    assert!(
        stderr.contains(&format!("orchestrator {}:4650 did not answer within 0.3 s", net.ip(1))),
        "{stderr}"
    );
}

#[test]
fn t24_an_orchestrator_that_is_not_there_is_named_at_once_and_not_waited_for_to_the_end() {
    let net = Net::new();
    let file = net.file("payload", b"x");
    let mut client = Watched::start(&mut net.client(&file, &["--intent-timeout", "60"]));
    client.wait_for(|event| event["type"] == "waiting");
    let waiting = client.seen.last().unwrap();
    assert!(waiting["t_ns"].as_u64().unwrap() < 1_000_000_000, "{waiting}");
    assert_eq!(waiting["problem"], "connection refused");
    assert_eq!(waiting["addresses"][0], format!("{}:4650", net.ip(1)));
    let (status, events, stderr) = client.finish();
    assert_eq!(status.code(), Some(3));
    assert_eq!(events.last().unwrap()["reason"], "no_orchestrator");
    assert!(events.last().unwrap()["t_ns"].as_u64().unwrap() < 20_000_000_000);
    assert!(stderr.contains("nobody listens there"), "{stderr}");
}

#[test]
fn t24_whom_a_send_waits_for_is_said_within_two_seconds() {
    let net = Net::new();
    let file = net.file("payload", b"x");
    net.assigning_orchestrator(1);
    // A receiver that takes everything and says nothing.
    net.fake_receiver(2, 0);
    let mut client = Watched::start(&mut net.client(&file, &[]));
    client.wait_for(|event| event["type"] == "waiting");
    let waiting = client.seen.last().unwrap();
    assert!(waiting["t_ns"].as_u64().unwrap() < 2_500_000_000, "{waiting}");
    let expected = (&"receivers".into(), &format!("{}:4650", net.ip(2)).into());
    assert_eq!((&waiting["what"], &waiting["addresses"][0]), expected);
    client.kill();

    let silent = Net::new();
    silent.fake_orchestrator(None);
    let mut client = Watched::start(&mut silent.client(&file, &[]));
    client.wait_for(|event| event["type"] == "waiting");
    assert_eq!(client.seen.last().unwrap()["what"], "orchestrator");
    client.kill();
}

#[test]
fn t29_an_address_of_no_host_is_a_usage_error() {
    let net = Net::new();
    let file = net.file("payload", b"x");
    for addr in ["0.0.0.0", "::", "[::]", "255.255.255.255"] {
        let (_, stderr) = fails_with(&mut mdalp(&["-a", addr, "-f", &file]), 2);
        assert!(stderr.contains("no single host has this address"), "{stderr}");
    }
}

#[test]
fn t2_an_orchestrator_that_echoed_before_is_believed_only_with_an_echo() {
    let net = Net::new();
    net.assigning_orchestrator(1);
    let file = net.file("payload", b"x");
    let home = net.path("home");
    std::fs::create_dir(&home).unwrap();
    let known = home.join("orchestrators");
    std::fs::write(&known, format!("192.0.2.1:4650\n{}:4650\n", net.ip(1))).unwrap();
    let mut client = net.client(&file, &["--intent-timeout", "0.5"]);
    let (end, stderr) = fails_with(client.env("MDALP_HOME", &home), 11);
    assert_eq!((&end["reason"], &end["tid"]), (&"security".into(), &Value::Null));
    assert!(stderr.contains(&format!("out of {}", known.display())), "{stderr}");

    let (_, stderr) =
        fails_with(&mut net.client(&file, &["--intent-timeout", "0.5", "--require-echo"]), 11);
    assert!(stderr.contains("no assignment echoed this client's nonce"), "{stderr}");
}

#[test]
fn t2_two_different_assignments_are_named_and_exit_code_11_where_all_must_be_verified() {
    let net = Net::new();
    let list = |tid: u64, host| {
        let ip = net.ip(host);
        format!("Type:1;TID:{tid};DATA:[{{'ip_address': '{ip}', 'name': 'R'}}]").into_bytes()
    };
    net.fake_orchestrator([list(7, 2), list(66, 3)]);
    net.fake_receiver(2, 100);
    let file = net.file("payload", b"x");
    let both =
        format!("transaction 7 at {}:4650, and transaction 66 at {}:4650", net.ip(2), net.ip(3));
    let output = run(&mut net.client(&file, &[]));
    let stderr = text(&output.stderr);
    assert!(output.status.success() && stderr.contains(&both), "{stderr}");
    let (end, stderr) = fails_with(&mut net.client(&file, &["--require-verified"]), 11);
    assert_eq!((&end["reason"], &end["bytes"]), (&"security".into(), &0.into()));
    assert!(stderr.contains(&both), "{stderr}");
}

#[test]
fn a_broken_file_of_orchestrators_is_a_warning_and_is_not_used() {
    let net = Net::new();
    let _server = net.serve(&[]);
    let file = net.file("payload", b"x");
    std::fs::write(net.path("orchestrators"), "no address\n").unwrap();
    let output = run(net.client(&file, &[]).env("MDALP_HOME", net.dir.path()));
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("orchestrators: line 1 is no address and port; not used"), "{stderr}");
}

#[test]
fn an_answer_that_is_no_assignment_is_exit_code_4() {
    let net = Net::new();
    net.fake_orchestrator(Some(b"Type:1;TID:1;DATA:[0]*(10**7);".to_vec()));
    let file = net.file("payload", b"x");
    let (end, _) = fails_with(&mut net.client(&file, &["--intent-timeout", "0.3"]), 4);
    assert_eq!(end["reason"], "not_understood");
}

#[test]
fn an_empty_list_is_exit_code_5() {
    let net = Net::new();
    net.fake_orchestrator(Some(b"Type:1;TID:1;DATA:[];".to_vec()));
    let file = net.file("payload", b"x");
    let (end, _) = fails_with(&mut net.client(&file, &[]), 5);
    assert_eq!(end["reason"], "no_receiver");
}

#[test]
fn a_receiver_that_never_answers_is_exit_code_8() {
    let net = Net::new();
    net.assigning_orchestrator(1);
    let file = net.file("payload", b"x");
    let (end, stderr) = fails_with(&mut net.client(&file, &["-m2", "--fail-after", "0.3"]), 8);
    assert_eq!((&end["reason"], &end["tid"]), (&"deadline".into(), &3740.into()));
    assert!(stderr.contains(&format!("silent: {}:4650 (R2)", net.ip(2))), "{stderr}");
}

#[test]
fn a_receiver_that_stops_halfway_is_exit_code_6() {
    let net = Net::new();
    net.assigning_orchestrator(1);
    net.fake_receiver(2, 5);
    let file = net.file("payload", &payload(1000));
    let (end, stderr) = fails_with(&mut net.client(&file, &["-m2", "--fail-after", "0.3"]), 6);
    assert_eq!(
        (&end["reason"], &end["bytes"], &end["chunks"]),
        (&"partial".into(), &500.into(), &5.into())
    );
    assert!(stderr.contains("500 of 1000 bytes, 5 of 10 chunks"), "{stderr}");
}

#[test]
fn s5_with_other_receivers_one_that_stops_is_no_failure() {
    let net = Net::new();
    net.assigning_orchestrator(2);
    net.fake_receiver(2, 2);
    net.fake_receiver(3, u64::MAX);
    let file = net.file("payload", &payload(2000));
    let sent = run(&mut net.client(&file, &["-m1", "--suspect-after", "0.3", "--json"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let events = json_lines(&sent.stdout);
    check(&events);
    assert!(events.iter().any(|event| event["type"] == "replan"));
    assert!(text(&sent.stderr).contains("R2) does not answer"), "{}", text(&sent.stderr));
}

/// Elsewhere nobody tells: its share moves when it has been silent for long.
#[cfg(target_os = "linux")]
#[test]
fn f25_a_closed_port_loses_its_share_long_before_its_silence_would_tell() {
    let net = Net::new();
    net.assigning_orchestrator(2);
    net.fake_receiver(3, u64::MAX);
    let file = net.file("payload", &payload(2000));
    let patience = ["--suspect-after", "600", "--fail-after", "600", "--deadline", "300"];
    let sent = run(net.client(&file, &patience).args(["-m1", "--json"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let events = json_lines(&sent.stdout);
    check(&events);
    let refused = format!("{}:4650", net.ip(2));
    let suspects: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "receiver_state" && event["state"] == "suspect")
        .map(|event| &event["address"])
        .collect();
    assert_eq!(suspects, [&Value::from(refused)]);
}

#[test]
fn t28_an_unreadable_file_a_directory_and_an_endless_device_are_exit_code_9_and_nothing_is_sent() {
    let net = Net::new();
    for path in ["/nonexistent/file", "/", "/dev/zero"] {
        let (end, stderr) = fails_with(&mut net.client(path, &[]), 9);
        assert_eq!((&end["reason"], &end["tid"]), (&"local_io".into(), &Value::Null));
        assert!(
            stderr.starts_with(&format!("mdalp: {path}: ")) && stderr.contains("nothing was sent"),
            "{stderr}"
        );
    }
}

#[test]
fn a_receiver_that_is_not_listed_is_a_usage_error_that_names_those_that_are() {
    let net = Net::new();
    net.assigning_orchestrator(2);
    let file = net.file("payload", b"x");
    for index in ["9", "0"] {
        let (end, stderr) = fails_with(&mut net.client(&file, &["-m", "2", "-s", index]), 2);
        assert_eq!(end["reason"], "usage");
        assert!(stderr.contains("1 = R2, 2 = R3"), "{stderr}");
    }
}

#[test]
fn usage_errors_end_with_an_event_too() {
    let net = Net::new();
    let file = net.file("payload", b"x");
    for extra in [
        &["--latencies", "5,0"][..],
        &["--latencies", "5,x"],
        &["-m", "4"],
        &["--deadline", "-1"],
        &["--no-such-option"],
        &["--rto-min", "2", "--rto-max", "1"],
    ] {
        let (end, stderr) = fails_with(&mut net.client(&file, extra), 2);
        assert_eq!(end["reason"], "usage");
        assert!(!stderr.is_empty());
    }
    assert_eq!(run(&mut mdalp(&["sned"])).status.code(), Some(2));
    assert_eq!(run(&mut mdalp(&[])).status.code(), Some(2));
}

#[test]
fn receivers_that_must_not_be_sent_to_are_exit_code_11() {
    let net = Net::new();
    net.fake_orchestrator(Some(
        b"Type:1;TID:1;DATA:[{'ip_address': '224.0.0.1', 'name': 'everybody'}]".to_vec(),
    ));
    let file = net.file("payload", b"x");
    let (end, stderr) = fails_with(&mut net.client(&file, &[]), 11);
    assert_eq!(end["reason"], "security");
    assert!(stderr.contains("nothing is sent to 224.0.0.1:4650 (everybody)"), "{stderr}");
}

#[test]
fn a_deadline_is_exit_code_8() {
    let net = Net::new();
    net.assigning_orchestrator(1);
    let file = net.file("payload", b"x");
    let (end, stderr) = fails_with(&mut net.client(&file, &["--deadline", "0.2"]), 8);
    assert_eq!(end["reason"], "deadline");
    assert!(stderr.contains("deadline of 0.2 s exceeded"), "{stderr}");
}

#[test]
fn signals_end_a_send_with_an_event() {
    for (signal, code, reason) in
        [(Signal::INT, 130, "interrupted"), (Signal::TERM, 143, "terminated")]
    {
        let net = Net::new();
        net.assigning_orchestrator(1);
        let file = net.file("payload", b"x");
        let mut client = Watched::start(&mut net.client(&file, &[]));
        client.wait_for(|event| event["type"] == "plan");
        send_signal(&client.child, signal);
        let (status, events, stderr) = client.finish();
        assert_eq!(status.code(), Some(code), "{stderr}");
        check(&events);
        assert_eq!(events.last().unwrap()["reason"], reason);
        assert!(stderr.contains(reason), "{stderr}");
    }
}

#[test]
fn a_signal_while_standard_input_is_read_ends_the_send_too() {
    let net = Net::new();
    let mut command = net.client("-", &[]);
    command.stdin(std::process::Stdio::piped());
    let client = Watched::start(&mut command);
    // Wait until the signal is handled: the process says so in its status.
    let status = format!("/proc/{}/status", client.child.id());
    loop {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        if u64::from_str_radix(caught, 16).unwrap() & (1 << 14) != 0 {
            break;
        }
        std::thread::yield_now();
    }
    send_signal(&client.child, Signal::TERM);
    let (status, events, _) = client.finish();
    assert_eq!(status.code(), Some(143));
    check(&events);
    assert_eq!(events.len(), 1);
}

#[test]
fn readers_that_go_away_are_no_error() {
    let net = Net::new();
    net.assigning_orchestrator(1);
    net.fake_receiver(2, u64::MAX);
    let file = net.file("payload", b"x");
    for command in [
        &mut net.client(&file, &["--json"]),
        &mut mdalp(&["plan", "--bytes", "1", "--latencies", "1"]),
        &mut mdalp(&["--help"]),
        &mut mdalp(&["completions", "bash"]),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command
            .stdout(writer)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("panicked"));
    }
}

#[test]
fn a_payload_that_is_a_pipe_is_sent() {
    let net = Net::new();
    net.assigning_orchestrator(1);
    net.fake_receiver(2, u64::MAX);
    let sent = run_with_input(&mut net.client("/dev/stdin", &["--json"]), b"through a pipe");
    assert_eq!(json_lines(&sent.stdout).last().unwrap()["bytes"], 14);
}

#[test]
fn what_a_send_writes_is_never_the_file_that_it_sends() {
    let net = Net::new();
    let _server = net.serve(&[]);
    let bytes = payload(5000);
    let file = net.file("payload", &bytes);
    let link = net.path("link").to_str().unwrap().to_owned();
    std::fs::hard_link(&file, &link).unwrap();
    let journal = net.path(".payload.mdalp-journal").to_str().unwrap().to_owned();
    for option in ["--receipt", "--capture"] {
        for path in [&file, &link] {
            let (_, stderr) = fails_with(&mut net.client(&file, &[option, path]), 2);
            assert!(stderr.contains("is the file that is sent"), "{stderr}");
            assert!(std::fs::read(&file).unwrap() == bytes);
        }
        let (_, stderr) = fails_with(&mut net.client(&file, &[option, &journal]), 2);
        assert!(stderr.contains("is the journal of this send"), "{stderr}");
    }
    assert!(net.tids().is_empty(), "nothing was sent");
}

#[test]
fn options_that_contradict_each_other_are_usage_errors() {
    let net = Net::new();
    let file = net.file("payload", b"x");
    for both in [["--resume", "--dry-run"], ["--classic", "--require-verified"]] {
        let output = run(&mut net.client(&file, &both));
        assert_eq!(output.status.code(), Some(2), "{both:?}");
    }
}
