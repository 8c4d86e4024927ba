//! Receipts, verification, and going on after an end.

use crate::support::{
    Net, Watched, json_lines, mdalp, payload, run, run_with_input, send_signal, text,
};
use rustix::process::Signal;
use std::process::Command;

#[test]
fn our_own_servers_confirm_the_payload_and_the_receipt_can_be_checked() {
    let net = Net::new();
    let _server = net.serve(&[]);
    let bytes = payload(50_000);
    let file = net.file("payload", &bytes);
    let receipt = net.path("receipt.json");
    let receipt = receipt.to_str().unwrap();
    let sent = run(&mut net.client(&file, &["--receipt", receipt, "--require-verified", "--json"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let end = json_lines(&sent.stdout).pop().unwrap();
    assert_eq!((&end["verified"], &end["total_chunks"]), (&true.into(), &42.into()));
    let tid = end["tid"].as_u64().unwrap();
    assert_eq!(net.get(tid), bytes);

    let (tid, data) = (tid.to_string(), net.data());
    let held = || run(&mut mdalp(&["verify", &file, &tid, "--data", &data])).status.code();
    let by = |receipt| run(&mut mdalp(&["verify", &file, receipt])).status.code();
    assert_eq!((held(), by(receipt)), (Some(0), Some(0)));
    std::fs::write(&file, b"something else").unwrap();
    assert_eq!((held(), by(receipt), by("/none")), (Some(7), Some(7), Some(9)));
    let both = run(&mut mdalp(&["verify", &file, receipt, "--data", &data]));
    assert_eq!(both.status.code(), Some(2), "T29: --data would be ignored");
}

#[test]
fn classic_servers_confirm_nothing_and_that_can_be_a_failure() {
    let net = Net::new();
    let _server = net.serve(&["--classic"]);
    let file = net.file("payload", &payload(500));
    let sent = run(&mut net.client(&file, &["--require-verified"]));
    assert_eq!(sent.status.code(), Some(7), "{}", text(&sent.stderr));
    assert!(text(&sent.stderr).contains("no server confirmed the whole"));
    assert!(!text(&sent.stderr).contains("--resume"), "it would end in the same way");
    assert!(!mdalp::journal_beside(file.as_ref()).unwrap().exists());
}

#[test]
fn f21_a_killed_client_goes_on_where_it_was() {
    let net = Net::new();
    let _server = net.serve(&["--classic"]);
    let bytes = payload(20_000);
    let file = net.file("payload", &bytes);
    let mut client = Watched::start(&mut net.client(&file, &["-vv", "--latencies", "1,1,1"]));
    for _ in 0..60 {
        client.wait_for(|event| event["type"] == "datagram" && event["direction"] == "received");
    }
    client.kill();
    let again = run(&mut net.client(&file, &["--resume", "--json"]));
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    let events = json_lines(&again.stdout);
    let resumed = events.iter().find(|event| event["type"] == "resume").unwrap();
    let before = resumed["bytes"].as_u64().unwrap() / 100;
    assert!(before >= 40, "{resumed}");
    let end = events.last().unwrap();
    let sent: u64 =
        end["receivers"].as_array().unwrap().iter().map(|r| r["datagrams"].as_u64().unwrap()).sum();
    assert!(sent - end["total_chunks"].as_u64().unwrap().saturating_sub(before) < 50, "{end}");
    assert_eq!(net.get(end["tid"].as_u64().unwrap()), bytes);

    assert!(
        !mdalp::journal_beside(file.as_ref()).unwrap().exists(),
        "nothing is left to go on with"
    );
    let third = run(&mut net.client(&file, &["--resume"]));
    assert_eq!(third.status.code(), Some(0));
    assert!(text(&third.stderr).contains("there is no journal at"), "{}", text(&third.stderr));
}

/// A send of `file` that was killed after sixty acks.
fn cut_off(net: &Net, file: &str, extra: &[&str]) {
    let mut client = net.client(file, &["-vv", "--latencies", "1,1,1"]);
    let mut client = Watched::start(client.args(extra));
    for _ in 0..60 {
        client.wait_for(|event| event["type"] == "datagram" && event["direction"] == "received");
    }
    client.kill();
}

#[test]
fn b10_t14_copies_survive_resume() {
    let net = Net::new();
    let _server = net.serve(&["--classic"]);
    let file = net.file("payload", &payload(20_000));
    cut_off(&net, &file, &["--copies", "2"]);
    let sent = run(&mut net.client(&file, &["--resume", "--json"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let end = json_lines(&sent.stdout).pop().unwrap();
    let taken: u64 = end["receivers"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|receiver| receiver["ranges"].as_str().unwrap().split(','))
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            last.parse::<u64>().unwrap() - first.parse::<u64>().unwrap() + 1
        })
        .sum();
    assert_eq!(taken, 2 * end["total_chunks"].as_u64().unwrap(), "{end}");
}

#[test]
fn t9_an_interrupted_send_says_with_which_command_it_goes_on() {
    let net = Net::new();
    let _server = net.serve(&["--classic"]);
    let file = net.file("payload", &payload(20_000));
    let mut client = Watched::start(&mut net.client(&file, &["-vv", "--latencies", "1,1,1"]));
    for _ in 0..60 {
        client.wait_for(|event| event["type"] == "datagram" && event["direction"] == "received");
    }
    send_signal(&client.child, Signal::INT);
    let (status, events, stderr) = client.finish();
    assert_eq!(status.code(), Some(130));
    let journal = events.last().unwrap()["journal"].as_str().unwrap();
    assert_eq!(journal, mdalp::journal_beside(file.as_ref()).unwrap().to_str().unwrap());
    let command = stderr.lines().find_map(|line| line.strip_prefix("to go on where it was: "));
    let command = command.unwrap_or_else(|| panic!("{stderr}"));
    assert!(stderr.contains(journal), "{stderr}");
    let resumed = run(Command::new("sh").args(["-c", command]).env("MDALP_PROBE", "none"));
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    assert_eq!(json_lines(&resumed.stdout).iter().filter(|e| e["type"] == "resume").count(), 1);
    assert!(!std::path::Path::new(journal).exists());
}

#[test]
fn f21_a_changed_file_is_not_gone_on_with() {
    let net = Net::new();
    let _server = net.serve(&["--classic"]);
    let file = net.file("payload", &payload(20_000));
    cut_off(&net, &file, &[]);
    std::fs::write(&file, b"changed").unwrap();
    let refused = run(&mut net.client(&file, &["--resume"]));
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("the payload has changed since"));
}

#[test]
fn t29_resume_with_nothing_to_go_on_with_says_so_and_sends() {
    let net = Net::new();
    let _server = net.serve(&[]);
    let file = net.file("payload", &payload(500));
    let journal = mdalp::journal_beside(file.as_ref()).unwrap();
    // What a power cut leaves of a journal counts as none.
    std::fs::write(&journal, b"").unwrap();
    let sent = run(&mut net.client(&file, &["--resume"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    assert!(text(&sent.stderr).contains("there is no journal at"), "{}", text(&sent.stderr));
    assert!(!journal.exists());
    let sent = run_with_input(&mut net.client("-", &["--resume"]), b"some bytes");
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let says = "no journal is kept of standard input";
    assert!(text(&sent.stderr).contains(says), "{}", text(&sent.stderr));
}

#[test]
fn a_dry_run_sends_nothing() {
    let net = Net::new();
    let _server = net.serve(&[]);
    let file = net.file("payload", &payload(5000));
    let ran = run(&mut net.client(&file, &["--dry-run", "--json", "--latencies", "30,20,10"]));
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    let events = json_lines(&ran.stdout);
    let predicted = events.iter().find(|event| event["type"] == "prediction").unwrap();
    assert_eq!(predicted["policies"].as_array().unwrap().len(), 5);
    assert_eq!(events.last().unwrap()["reason"], "dry_run");
    assert!(!events.iter().any(|event| event["type"] == "receiver_state"));
}

#[test]
fn copies_are_held_by_as_many_receivers() {
    let net = Net::new();
    let _server = net.serve(&[]);
    let file = net.file("payload", &payload(5000));
    let sent = run(&mut net.client(&file, &["--copies", "2", "--json", "-m1"]));
    let end = json_lines(&sent.stdout).pop().unwrap();
    let taken: u64 =
        end["receivers"].as_array().unwrap().iter().map(|r| r["chunks"].as_u64().unwrap()).sum();
    let chunks = end["total_chunks"].as_u64().unwrap();
    assert_eq!((taken, &end["bytes"]), (2 * chunks, &5000.into()));
}

#[test]
fn b2_a_lost_segment_is_damage_to_verify_before_and_after_the_server_has_seen_it() {
    let net = Net::new();
    let server = net.serve(&[]);
    let file = net.file("payload", &payload(50_000));
    let sent = run(&mut net.client(&file, &["--require-verified"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    assert!(server.terminate(Signal::TERM).success());
    let data = net.data();
    let verify = || run(&mut mdalp(&["verify", "--data", &data]));
    assert_eq!(verify().status.code(), Some(0));
    let segments = || {
        let files = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|ext| ext == "seg"))
    };
    let first = segments().min().unwrap();
    std::fs::remove_file(first).unwrap();
    let told = verify();
    assert_eq!(told.status.code(), Some(7), "{}", text(&told.stderr));
    assert!(text(&told.stdout).contains("it is gone"), "{}", text(&told.stdout));
    // The server records what is lost: then all bytes are as written, and the payload is not there.
    drop(net.serve(&[]));
    let told = verify();
    assert_eq!(told.status.code(), Some(7), "{}", text(&told.stderr));
    assert!(text(&told.stdout).contains("is damaged; send it again"));
    assert!(text(&told.stderr).contains("1 transaction damaged"), "{}", text(&told.stderr));
}
