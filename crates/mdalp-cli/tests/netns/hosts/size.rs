//! Cables that take only short datagrams (F26).

use super::{counter, hosts, shell};
use crate::support::{Server, json_lines, payload, run, text};
use std::process::Command;

/// Pieces of datagrams made by either host.
fn fragments() -> u64 {
    counter("", "Ip", "FragCreates") + counter("ip netns exec far", "Ip", "FragCreates")
}

pub(super) fn f26_classic_datagrams_fit_everywhere_and_long_chunks_arrive() {
    let net = hosts();
    let _server = net.serve(&[]);
    let bytes = payload(30_000);
    let file = net.file("payload", &bytes);
    for mtu in [1500, 1280, 576] {
        shell(&format!("ip link set home mtu {mtu}; ip -n far link set far mtu {mtu}"));
        for options in [&["--classic"][..], &["--chunk", "1200"]] {
            let before = fragments();
            let sent = run(net.client(&file, options).arg("--json"));
            assert_eq!(sent.status.code(), Some(0), "{mtu}: {}", text(&sent.stderr));
            let end = json_lines(&sent.stdout).pop().unwrap();
            assert!(net.get(end["tid"].as_u64().unwrap()) == bytes);
            let made = fragments() - before;
            println!("MTU {mtu}, {options:?}: {} chunks, {made} fragments", end["chunks"]);
            // A chunk of 1,200 bytes is a packet of up to 1,300.
            let fits = options == ["--classic"] || mtu == 1500;
            assert_eq!(made == 0, fits, "MTU {mtu}, {options:?}: {made} fragments");
        }
    }
}

pub(super) fn f26_a_list_longer_than_the_cable_takes_arrives() {
    let net = hosts();
    shell("ip link set home mtu 576; ip -n far link set far mtu 576");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "far", env!("CARGO_BIN_EXE_mdalp"), "serve", "--data"]);
    command.args([&net.data(), "--listen", &net.ip(1)]);
    for host in 2..18 {
        command.args(["--receiver", &format!("Receiver {host}={}", net.ip(host))]);
    }
    let _server = Server::listening(&mut command, Server::TOGETHER);
    let bytes = payload(3000);
    let sent =
        run(&mut net.client(&net.file("payload", &bytes), &["--json", "--intent-timeout", "20"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let end = json_lines(&sent.stdout).pop().unwrap();
    assert_eq!(end["receivers"].as_array().unwrap().len(), 16);
    assert!(net.get(end["tid"].as_u64().unwrap()) == bytes);
}
