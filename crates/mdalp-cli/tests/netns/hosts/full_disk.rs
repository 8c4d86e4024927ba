//! A disk without room (F28).

use super::{hosts, shell};
use crate::support::{Watched, json_lines, mdalp, payload, run, text};

use std::fs;

/// A small disk where the servers keep what they receive.
fn mount(data: &str, size: &str) {
    fs::create_dir(data).unwrap();
    shell(&format!("mount -t tmpfs -o size={size} none {data}"));
}

pub(super) fn f28_on_a_full_disk_nothing_is_taken_until_there_is_room_again() {
    let net = hosts();
    let data = net.data();
    mount(&data, "450m");
    let _server = net.serve(&[]);
    let (first, second) = (payload(3000), payload(5000));
    let sent = run(&mut net.client(&net.file("first", &first), &["--json"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let tid = json_lines(&sent.stdout).pop().unwrap()["tid"].as_u64().unwrap();

    let filler = format!("{data}/filler");
    shell(&format!("fallocate -l 200M {filler}"));
    let mut client = Watched::start(&mut net.client(&net.file("second", &second), &[]));
    client.wait_for(|event| event["type"] == "refused" && event["why"] == "full");
    assert!(net.get(tid) == first);
    fs::remove_file(filler).unwrap();
    let (status, events, stderr) = client.finish();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(net.get(events.last().unwrap()["tid"].as_u64().unwrap()) == second);
    assert!(net.get(tid) == first);
}

pub(super) fn f28_on_a_disk_of_a_mebibyte_a_server_ends_with_a_clear_error() {
    let net = hosts();
    mount(&net.data(), "1m");
    let args = ["receiver", "--listen", "127.0.0.1", "--data", &net.data()];
    let ended = run(&mut mdalp(&args));
    assert_eq!(ended.status.code(), Some(9));
    let said = text(&ended.stderr);
    assert!(said.contains("320 MiB must be free"), "{said}");
    assert!(!said.contains("listening"), "T13: {said}");
}
