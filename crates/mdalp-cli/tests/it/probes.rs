//! An orchestrator that asks its receivers if they are there, all of them processes.

use crate::support::{Net, Server, json_lines, mdalp, payload, run, text};
use serde_json::Value;

/// Starts receiver `host`, which is called R and its number.
fn receiver(net: &Net, host: u8) -> Server {
    let dir = net.path(&format!("r{host}")).to_str().unwrap().to_owned();
    let (name, ip) = (format!("R{host}"), net.ip(host));
    let args = ["receiver", "--name", &name, "--listen", &ip, "--data", &dir];
    Server::start(&args.map(str::to_owned))
}

/// An orchestrator for receivers 2 to 4, with nothing typed but where they are.
fn orchestrator(net: &Net) -> Server {
    let mut args = ["orchestrator", "--listen", &net.ip(1)].map(str::to_owned).to_vec();
    for host in 2..5 {
        args.extend(["--receiver".to_owned(), format!("R{host}={}", net.ip(host))]);
    }
    Server::start(&args)
}

/// Sends, reads it back over all directories, and returns how the client ended.
fn send(net: &Net) -> Value {
    let bytes = payload(20_000);
    let sent = run(&mut net.client(&net.file("payload", &bytes), &["--json"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let end = json_lines(&sent.stdout).pop().unwrap();
    let mut get = mdalp(&["get", &end["tid"].to_string(), "-o", "-"]);
    let dirs = (2..5).map(|host| net.path(&format!("r{host}")));
    for dir in dirs.filter(|dir| dir.exists()) {
        get.arg("--data").arg(dir);
    }
    let got = run(&mut get);
    assert!(got.status.success() && got.stdout == bytes, "{}", text(&got.stderr));
    end
}

fn names(end: &Value) -> Vec<&str> {
    let receivers = end["receivers"].as_array().unwrap();
    receivers.iter().map(|receiver| receiver["name"].as_str().unwrap()).collect()
}

#[test]
fn t4_t5_t26_receivers_say_what_they_speak_and_a_killed_one_is_handed_out_when_it_is_back() {
    let net = Net::new();
    let mut receivers: Vec<_> = (2..5).map(|host| receiver(&net, host)).collect();
    let orchestrator = orchestrator(&net);
    let says = |what: &'static str| {
        orchestrator.wait_for(move |line| line.contains(what) && line.contains("name=\"R3\""));
    };
    says("INFO receiver answers");
    let end = send(&net);
    assert_eq!(names(&end), ["R2", "R3", "R4"]);
    assert_eq!((&end["chunks"], &end["verified"]), (&17.into(), &true.into()), "{end}");

    receivers[1].kill();
    says("WARN receiver is gone");
    assert_eq!(names(&send(&net)), ["R2", "R4"]);

    receivers[1] = receiver(&net, 3);
    says("WARN receiver is back");
    assert_eq!(names(&send(&net)), ["R2", "R3", "R4"]);
}

#[test]
fn a_client_that_comes_before_the_receivers_gets_those_that_are_there_a_second_later() {
    let net = Net::new();
    let _receiver = receiver(&net, 4);
    let orchestrator = orchestrator(&net);
    assert_eq!(names(&send(&net)), ["R4"]);
    orchestrator.wait_for(|line| line.contains("never answered") && line.contains("name=\"R2\""));
}
