//! A whole lab: the servers behind the network, and clients of both kinds.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use mdalp::{Mode, Options, Payload};
use mdalp_lab::command::{ClientRoom, exit_code, pings_of};
use mdalp_lab::{Addresses, Lab, LabConfig, made_up_text};
use mdalp_netem::Scenario;
use mdalp_proto::ids::TransactionId;

/// Two receivers, a loss each way and one ack withheld.
const NETWORK: &str = "[orchestrator]\nrtt_ms = 4\n\
    [[receiver]]\nname = 'near'\nrtt_ms = 10\nup = { lose = [3] }\nacks = { drop = [1] }\n\
    [[receiver]]\nname = 'far'\nrtt_ms = 30\nping_ms = 40\ndown = { lose = [2] }\n";

fn lab() -> Lab {
    let scenario = Scenario::parse(NETWORK, "test").expect("a good scenario");
    let config = LabConfig { addresses: Addresses::Free, ..LabConfig::new(scenario) };
    Lab::start(config, Vec::new()).expect("a lab")
}

#[tokio::test]
async fn a_transfer_through_the_lab_arrives_and_is_measured() {
    let lab = lab();
    let to = lab.orchestrator();
    let text = made_up_text(1000);
    let payload = Payload::from(text.clone().into_bytes());
    let mut options = Options {
        mode: Mode::Latency,
        latencies: Some(vec![10.0, 40.0]),
        extensions: false,
        ..Options::default()
    };
    options.transfer.rto.initial = Duration::from_millis(100);
    options.transfer.rto.min = Duration::from_millis(100);
    let never = std::future::pending();
    let host = to.ip().to_string();
    let report = mdalp::send(&host, to.port(), &payload, &options, never, |_| {}).await;
    assert_eq!(report.exit_code, 0, "{:?}", report.error);
    let tid = report.tid.expect("assigned");

    let mut held = Vec::new();
    let done = mdalp_store::assemble(lab.store().as_ref(), TransactionId(tid), &mut held);
    assert_eq!(done.expect("whole").bytes, 1000);
    assert_eq!(held, text.as_bytes());

    let flow = lab.ledger().flows().remove(0);
    assert_eq!(flow.tid, Some(tid));
    let lanes = flow.lanes.iter().map(|l| (l.chunks, l.acked, l.lost_up, l.lost_down));
    assert_eq!(lanes.collect::<Vec<_>>(), [(8, 8, 1, 1), (2, 2, 0, 1)]);
    // Three datagrams were lost, so three at least were sent again; and 8 chunks of 10 ms and two
    // timeouts of 100 ms are the least that the near one took.
    assert!(flow.retransmissions() >= 3);
    assert!(flow.elapsed() >= Some(Duration::from_millis(280)));
    let resent: u64 = report.receivers.iter().map(|receiver| receiver.retransmissions).sum();
    assert_eq!(flow.retransmissions(), resent);
    lab.stop().await.expect("servers that end well");
}

#[tokio::test]
async fn a_command_is_told_where_the_lab_is_and_finds_the_payload() {
    let lab = lab();
    let pings = pings_of(&lab);
    let mut expected: Vec<_> = lab.receivers().iter().map(std::net::SocketAddr::ip).collect();
    expected.insert(0, lab.orchestrator().ip());
    let figures = [4, 10, 40].map(|ms| Some(Duration::from_millis(ms)));
    assert_eq!(pings, expected.into_iter().zip(figures).collect::<BTreeMap<_, _>>());

    // In the place of `mdalp` something that shows how it was called.
    let room = ClientRoom::new("/bin/echo".as_ref(), &pings, b"hello").expect("a room");
    let script = "ping -c 3 host; cat {file}; echo; echo {addr} {port} $MDALP_PROBE; exit 5";
    let command = ["sh", "-c", script].map(str::to_owned);
    let mut client = room.command(lab.orchestrator(), &command).expect("a command");
    let output = client.stdout(Stdio::piped()).output().await.expect("it runs");
    assert_eq!(exit_code(output.status), 5);
    let to = lab.orchestrator();
    let table = mdalp_lab::ping::to_text(&pings);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("lab --pings {table} -- -c 3 host\nhello\n{} {} command\n", to.ip(), to.port())
    );
    assert!(room.command(to, &[]).is_none());
}

#[tokio::test]
async fn a_command_that_a_signal_ends_has_the_exit_code_of_a_shell() {
    let status = tokio::process::Command::new("sh").args(["-c", "kill -9 $$"]).status().await;
    assert_eq!(exit_code(status.expect("it runs")), 137);
}
