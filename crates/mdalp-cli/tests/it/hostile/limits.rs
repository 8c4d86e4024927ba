//! What the system does not give (F31, F32).

use crate::support::{Net, Server, json_lines, payload, run, text};
use std::process::Command;

/// A shell that lowers one of its limits and becomes `mdalp`.
fn limited(limit: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_mdalp")).args(args).env("MDALP_PROBE", "none");
    command
}

#[test]
fn f31_servers_do_not_start_with_too_few_file_descriptors() {
    let net = Net::new();
    let receiver = format!("A={}", net.ip(2));
    let (one, two, data) = (net.ip(1), net.ip(2), net.data());
    for args in [
        &["serve", "--data", &data, "--listen", &one, "--receiver", &receiver][..],
        &["orchestrator", "--listen", &one, "--receiver", &receiver],
        &["receiver", "--listen", &two, "--data", &data],
    ] {
        let output = run(&mut limited("-n 32", args));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(10), "{stderr}");
        assert!(stderr.contains("32 open files") && stderr.contains("ulimit -n"), "{stderr}");
    }
}

#[test]
fn f31_few_file_descriptors_are_enough_for_client_and_servers() {
    let net = Net::new();
    let _server = net.serve(&[]);
    let file = net.file("payload", &payload(5000));
    let one = net.ip(1);
    let sent = run(&mut limited("-n 32", &["send", "-a", &one, "-f", &file]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
}

#[test]
fn f32_128_mebibytes_of_addresses_are_enough_for_client_and_servers() {
    const LIMIT: &str = "-v 131072";
    let net = Net::new();
    let (one, data, receiver) = (net.ip(1), net.data(), format!("A={}", net.ip(2)));
    let serve = ["serve", "--listen", &one, "--data", &data, "--receiver", &receiver];
    let _server = Server::listening(&mut limited(LIMIT, &serve), Server::TOGETHER);
    let bytes = payload(200_000);
    let file = net.file("payload", &bytes);
    let sent = run(&mut limited(LIMIT, &["send", "-a", &one, "-f", &file, "--json"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let end = json_lines(&sent.stdout).pop().unwrap();
    assert!(net.get(end["tid"].as_u64().unwrap()) == bytes);
}
