//! Independent implementations: the original Python client and small Python servers. Skipped, with a
//! word, where they are not there.

use crate::support::{Net, payload, run, shared, text};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The directory of the peers, if they and Python are here.
fn peers() -> Option<PathBuf> {
    let python = Command::new("python3").arg("--version").output().is_ok();
    let place = shared().filter(|_| python);
    if place.is_none() {
        eprintln!("skipped: no peers at ../shared or MDALP_SHARED, or no python3");
    }
    place
}

/// A process that is killed when dropped.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The original client, taken from its document, and a `ping` that prints the published figures.
fn original(net: &Net, shared: &Path) -> PathBuf {
    let client = net.path("original.py");
    let extract = Command::new("python3")
        .arg(shared.join("peer/extract_client.py"))
        .arg(shared.join("seed/mdalp-client.md"))
        .arg(&client)
        .output()
        .unwrap();
    assert!(extract.status.success(), "{}", text(&extract.stderr));
    let ping = net.file("ping", b"#!/bin/sh\necho 'rtt min/avg/max/mdev = 1.0/2.5/3.0/0.1 ms'\n");
    std::fs::set_permissions(ping, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    client
}

#[test]
fn the_original_client_completes_in_both_modes() {
    let Some(shared) = peers() else { return };
    let net = Net::new();
    let client = original(&net, &shared);
    let _server = net.serve(&[]);
    // The original reads text.
    let bytes: Vec<u8> = (0..5000_u32).map(|i| b' ' + (i % 90) as u8).collect();
    let file = net.file("payload", &bytes);
    let path = format!("{}:{}", net.dir.path().display(), std::env::var("PATH").unwrap());
    for mode in [&["-m", "1"][..], &["-m", "2", "-s", "2"]] {
        let before = net.tids();
        let sent = Command::new("python3")
            .arg(&client)
            .args(["-a", &net.ip(1), "-p", "4650", "-f", &file, "-vv"])
            .args(mode)
            .env("PATH", &path)
            .output()
            .unwrap();
        let log = text(&sent.stderr);
        assert!(sent.status.success() && log.contains("return: 5000 | data length: 5000"), "{log}");
        let tid = net.tids().into_iter().find(|tid| !before.contains(tid)).unwrap();
        assert_eq!(net.get(tid), bytes);
    }
}

/// Peer servers: an orchestrator and receivers with these options each.
fn peer_servers(net: &Net, shared: &Path, receivers: &[&[&str]]) -> Vec<Peer> {
    let spawn = |script: &str, host: u8, args: &[String]| {
        let mut command = Command::new("python3");
        command.arg(shared.join("peer").join(script)).args(args).stdout(Stdio::null());
        let peer = Peer(command.spawn().unwrap());
        let ip: std::net::Ipv4Addr = net.ip(host).parse().unwrap();
        // As in the kernel's list of sockets that are bound.
        let bound = format!(" {:08X}:122A ", u32::from_le_bytes(ip.octets()));
        while !std::fs::read_to_string("/proc/net/udp").unwrap().contains(&bound) {
            std::thread::yield_now();
        }
        peer
    };
    let strings = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut list = Vec::new();
    let mut peers = Vec::new();
    for (options, host) in receivers.iter().zip(2..) {
        let bind = format!("{}:4650", net.ip(host));
        let out = net.path(&format!("{host}.chunks"));
        list.push(format!("{}=Receiver {host}", net.ip(host)));
        let mut args = strings(&["--bind", &bind, "--out", out.to_str().unwrap()]);
        args.extend(strings(options));
        peers.push(spawn("receiver.py", host, &args));
    }
    let bind = format!("{}:4650", net.ip(1));
    peers.push(spawn(
        "orchestrator.py",
        1,
        &strings(&["--bind", &bind, "--receivers", &list.join(",")]),
    ));
    peers
}

/// What the peer receivers wrote down, put together.
fn assembled(net: &Net, receivers: u8) -> Vec<u8> {
    let mut chunks = std::collections::BTreeMap::new();
    for host in 2..2 + receivers {
        for line in std::fs::read_to_string(net.path(&format!("{host}.chunks"))).unwrap().lines() {
            let mut fields = line.split(' ').skip(1);
            let seq: u64 = fields.next().unwrap().parse().unwrap();
            let hex = fields.next().unwrap();
            let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
            chunks.insert(seq, (0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>());
        }
    }
    chunks.into_values().flatten().collect()
}

#[test]
fn independent_receivers_that_lose_delay_and_repeat_get_every_byte() {
    let Some(shared) = peers() else { return };
    let net = Net::new();
    let _peers = peer_servers(
        &net,
        &shared,
        &[
            &["--drop", "0.1"],
            &["--ack-delay", "0.02", "--ack-jitter", "0.02"],
            &["--drop-seqs", "20,21,22", "--semicolon"],
        ],
    );
    let bytes = payload(3000);
    let sent = run(&mut net.client(&net.file("payload", &bytes), &["--rto-max", "0.2"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    assert_eq!(assembled(&net, 3), bytes);
}

#[test]
fn s5_an_independent_receiver_that_stops_for_good_costs_mode_1_nothing_but_time() {
    let Some(shared) = peers() else { return };
    let net = Net::new();
    let _peers = peer_servers(&net, &shared, &[&["--stop-at", "3"], &[], &[]]);
    let bytes = payload(3000);
    let file = net.file("payload", &bytes);
    let sent = run(&mut net.client(&file, &["-m1", "--suspect-after", "0.5"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    assert_eq!(assembled(&net, 3), bytes);
    let single = run(&mut net.client(&file, &["-m2", "-s1", "--fail-after", "0.5"]));
    assert_eq!(single.status.code(), Some(6), "{}", text(&single.stderr));
}
