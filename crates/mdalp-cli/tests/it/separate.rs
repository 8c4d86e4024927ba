//! Receivers as processes of their own, with directories of their own: the deployment on several
//! machines.

use crate::support::{Net, Server, Watched, json_lines, mdalp, payload, run, text};
use std::io::Write as _;
use std::net::UdpSocket;
use std::process::Output;

/// Three receivers and an orchestrator, each a process.
struct Separate {
    net: Net,
    receivers: Vec<Server>,
    _orchestrator: Server,
}

fn strings(args: &[&str]) -> Vec<String> {
    args.iter().map(ToString::to_string).collect()
}

impl Separate {
    fn start() -> Self {
        let net = Net::new();
        let mut args = strings(&["orchestrator", "--listen", &net.ip(1)]);
        for host in 2..5 {
            args.extend(["--receiver".to_owned(), format!("R{host}={}", net.ip(host))]);
        }
        let receivers = (2..5).map(|host| Self::receiver(&net, host)).collect();
        Self { receivers, _orchestrator: Server::start(&args), net }
    }

    fn receiver(net: &Net, host: u8) -> Server {
        let (name, ip, dir) = (format!("R{host}"), net.ip(host), Self::dir(net, host));
        let mut args = strings(&["receiver", "--name", &name, "--listen", &ip, "--data", &dir]);
        args.extend(strings(&["--quiet-time", "1", "--expire", "1", "--expire-assigned", "1"]));
        Server::start(&args)
    }

    fn dir(net: &Net, host: u8) -> String {
        net.path(&format!("r{host}")).to_str().unwrap().to_owned()
    }

    /// kill -9, and started again.
    fn restart(&mut self) {
        for (receiver, host) in self.receivers.iter_mut().zip(2..) {
            receiver.kill();
            *receiver = Self::receiver(&self.net, host);
        }
    }

    /// Runs a command that reads over the directories of these receivers.
    fn read(&self, args: &[&str], hosts: &[u8]) -> Output {
        let mut command = mdalp(args);
        for &host in hosts {
            command.args(["--data", &Self::dir(&self.net, host)]);
        }
        run(&mut command)
    }

    /// Lets every retention pass: a chunk of a sender who never states the whole is there, and then it
    /// is not.
    fn outlive_every_retention(&self) {
        let client = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        for host in 2..5 {
            let to = (self.net.ip(host), 4650);
            client.send_to(b"Type:2;TID:77;SEQ:1;DATA:x", to).unwrap();
            client.recv_from(&mut [0; 64]).unwrap();
            let state = || {
                let shown = self.read(&["show", "77", "--json"], &[host]);
                json_lines(&shown.stdout)[0]["state"].clone()
            };
            while state() != "expired" {}
        }
    }
}

#[test]
fn b1_shares_outlive_every_retention_and_kills_and_only_all_of_them_are_the_payload() {
    let mut servers = Separate::start();
    let mut sent = Vec::new();
    for len in [5000, 1_000_000] {
        let bytes = payload(len);
        let file = servers.net.file("payload", &bytes);
        let done =
            run(&mut servers.net.client(&file, &["-m", "1", "--require-verified", "--json"]));
        assert_eq!(done.status.code(), Some(0), "t6: {}", text(&done.stderr));
        let tid = json_lines(&done.stdout).last().unwrap()["tid"].to_string();
        sent.push((tid, bytes));
        servers.restart();
    }
    servers.outlive_every_retention();
    servers.restart();
    for (tid, bytes) in &sent {
        let got = servers.read(&["get", tid, "-o", "-"], &[2, 3, 4]);
        assert_eq!(got.status.code(), Some(0), "{}", text(&got.stderr));
        assert!(got.stdout == *bytes, "byte for byte");
        for two in [[2, 3], [2, 4], [3, 4]] {
            let part = servers.read(&["get", tid, "-o", "-"], &two);
            assert_eq!(part.status.code(), Some(6));
            assert!(text(&part.stderr).contains("are missing"), "{}", text(&part.stderr));
            assert!(part.stdout.is_empty(), "nothing is handed out as the whole");
            let listed = json_lines(&servers.read(&["ls", "--json"], &two).stdout);
            let one = listed.iter().find(|one| one["tid"].as_u64() == tid.parse().ok()).unwrap();
            assert_eq!(one["state"], "share");
            assert_eq!(one["stated"]["bytes"], bytes.len());
        }
        let whole = servers.read(&["show", tid, "--json"], &[2, 3, 4]);
        assert_eq!(json_lines(&whole.stdout)[0]["state"], "complete");
    }
}

#[test]
fn t25_a_receiver_says_who_sent() {
    let servers = Separate::start();
    let file = servers.net.file("payload", &payload(5000));
    assert!(run(&mut servers.net.client(&file, &[])).status.success());
    let listed = json_lines(&servers.read(&["ls", "--json"], &[2]).stdout);
    let client = listed[0]["client"].as_str().unwrap();
    assert!(client.starts_with("127."), "{client}");
}

#[test]
fn a_lone_receiver_refuses_to_promise_what_it_cannot_see() {
    let net = Net::new();
    let args = ["receiver", "--listen", &net.ip(2), "--caps", "crc seal", "--data", &net.data()];
    let refused = run(&mut mdalp(&args));
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("use record instead"), "{}", text(&refused.stderr));
}

#[test]
fn a_file_that_is_written_to_while_it_is_sent_is_not_verified_where_nobody_compares_the_whole() {
    let servers = Separate::start();
    let bytes = payload(1_000_000);
    for (extra, code) in [(&["--require-verified"][..], 7), (&[], 0)] {
        let file = servers.net.file("payload", &bytes);
        let mut args = vec!["--window", "1"];
        args.extend(extra);
        let mut client = Watched::start(&mut servers.net.client(&file, &args));
        client.wait_for(|event| event["type"] == "plan");
        let mut open = std::fs::File::options().append(true).open(&file).unwrap();
        open.write_all(b"more").unwrap();
        let (status, events, stderr) = client.finish();
        assert_eq!(status.code(), Some(code), "{stderr}");
        assert_eq!(events.last().unwrap()["verified"], false);
        assert!(stderr.contains("was written to while it was sent"), "{stderr}");
    }
}
