//! Demo, lab, comparison and captures, as users run them.

use crate::support::{Net, mdalp, run, text};
use std::fs;

/// Fast, with a loss and an ack that is withheld.
const NETWORK: &str = "name = 'quick'\npayload_bytes = 700\n[orchestrator]\nrtt_ms = 2\n\
    [[receiver]]\nname = 'near'\nrtt_ms = 10\nup = { lose = [2] }\n\
    [[receiver]]\nname = 'far'\nrtt_ms = 20\nacks = { drop = [5] }\n";

#[test]
fn the_demo_ends_well_and_leaves_nothing_behind() {
    let net = Net::new();
    let output = run(mdalp(&["demo"]).env("TMPDIR", net.dir.path()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    assert!(out.contains("a text of 5,000 bytes") && out.contains("Every byte arrived"), "{out}");
    assert!(out.contains("times as fast as the best receiver alone"), "{out}");
    assert_eq!(fs::read_dir(net.dir.path()).unwrap().count(), 0);
    let empty = run(mdalp(&["demo", &net.file("empty", b"")]).env("TMPDIR", net.dir.path()));
    assert_eq!(empty.status.code(), Some(0), "{}", text(&empty.stderr));
    let missing = run(&mut mdalp(&["demo", "no such file"]));
    assert_eq!(missing.status.code(), Some(9));
}

#[test]
fn a_client_in_the_lab_is_told_where_it_is_and_pings_see_the_emulated_network() {
    let net = Net::new();
    let scenario = net.file("quick.toml", NETWORK.as_bytes());
    let binary = env!("CARGO_BIN_EXE_mdalp");
    // The receivers' addresses follow the orchestrator's.
    let script = "b=$1; ping $(echo $b | sed 's/[0-9]*$/3/') -n -c 1; \
        $2 send -a $b -p $3 -f $4 -m 1 --rto-initial 0.2 -v; exit $(( $? + 7 ))";
    let mut lab = mdalp(&["lab", "--scenario", &scenario, "--data", &net.data(), "--"]);
    lab.args(["sh", "-c", script, "x", "{addr}", binary, "{port}", "{file}"]);
    let output = run(&mut lab);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("rtt min/avg/max/mdev = 20.000/20.000/20.000/0.000 ms"));
    let log = text(&output.stderr);
    assert!(log.contains("transfer 1 from") && log.contains("8 chunks, 700 bytes, without a gap"));
    let tids = net.tids();
    assert_eq!(net.get(tids[0]).len(), 700);
}

#[test]
fn a_path_that_swallows_large_datagrams_costs_some_seconds_and_no_byte() {
    let net = Net::new();
    // The last chunk is short enough for the path.
    let narrow = "payload_bytes = 5000\n[paths]\nmtu_bytes = 576\n\
        [[receiver]]\nname = 'a'\nrtt_ms = 10\n[[receiver]]\nname = 'b'\nrtt_ms = 10\n";
    let scenario = net.file("narrow.toml", narrow.as_bytes());
    let caps = ["--caps", "crc seal window=32 chunk=1200", "--data", &net.data()];
    let mut lab = mdalp(&["lab", "--scenario", &scenario]);
    lab.args(caps).args(["--", env!("CARGO_BIN_EXE_mdalp"), "-a", "{addr}", "-f", "{file}", "-v"]);
    let output = run(&mut lab);
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("starting again with small ones"), "{log}");
    assert!(log.contains("5000 bytes in 50 chunks") && log.contains("verified"), "{log}");
}

#[test]
fn a_lab_that_cannot_be_is_refused() {
    let net = Net::new();
    for (args, code, why) in [
        (["--scenario", "sede"], 2, "no scenario is called"),
        (["--scenario", "./sede.toml"], 9, "sede.toml"),
        (["--listen", "192.0.2.1"], 10, "does not have that address"),
        (["--caps", "speed"], 2, "speed"),
    ] {
        let output = run(mdalp(&["lab"]).args(args).args(["--", "true"]));
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
    let bad = net.file("bad.toml", b"sede = 1\n[[receiver]]\nname = 'a'\n");
    let output = run(&mut mdalp(&["lab", "--scenario", &bad, "--", "true"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("bad.toml:1:1: unknown field `sede`"));
    let gone = run(&mut mdalp(&["lab", "--scenario", "p0", "--", "/no/such/client", "{addr}"]));
    assert_eq!(gone.status.code(), Some(9));
}

#[test]
fn captures_of_both_ends_and_the_middle_are_pcapng() {
    let net = Net::new();
    let scenario = net.file("quick.toml", NETWORK.as_bytes());
    let (lab, send) = (net.path("lab.pcapng"), net.path("send.pcapng"));
    let mut command = mdalp(&["lab", "--scenario", &scenario, "--capture"]);
    command.arg(&lab).args(["--", env!("CARGO_BIN_EXE_mdalp"), "-a", "{addr}", "-f", "{file}"]);
    let output = run(command.arg("--capture").arg(&send));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for path in [lab, send] {
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        assert!(bytes.windows(7).any(|window| window == b"Type:0;"));
        assert!(text(&bytes).contains("retransmission of SEQ"), "{}", path.display());
    }
    let nowhere = net.path("no such directory/a.pcapng");
    let mut send = mdalp(&["-a", "127.0.0.1", "-f", "Cargo.toml", "--json", "--capture"]);
    let output = run(send.arg(nowhere));
    assert_eq!(output.status.code(), Some(9));
    assert!(text(&output.stdout).contains(r#""reason":"local_io""#));
}

#[test]
fn a_comparison_in_real_time_measures_every_client_from_outside() {
    let net = Net::new();
    let scenario = net.file("quick.toml", NETWORK.as_bytes());
    let out = net.path("report");
    let client = format!("mine={} -a {{addr}} -f {{file}} -m 1", env!("CARGO_BIN_EXE_mdalp"));
    let mut compare = mdalp(&["compare", "--scenario", &scenario, "--runs", "2", "--out"]);
    compare.arg(&out).args(["--client", &client, "--client", "liar=true", "--modes", "balanced"]);
    let output = run(&mut compare);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let json = fs::read(out.join("comparison.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let samples = json["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 6);
    for sample in samples {
        if sample["way"] == "liar" {
            assert_eq!(sample["failed"], "no assignment");
        } else {
            assert_eq!(
                (&sample["failed"], &sample["chunks"]),
                (&serde_json::Value::Null, &8.into())
            );
        }
    }
    for name in ["comparison.md", "comparison.csv", "comparison.html"] {
        assert!(fs::read_to_string(out.join(name)).unwrap().contains("liar"), "{name}");
    }
}

#[test]
fn a_comparison_that_misses_its_threshold_says_so() {
    let compare = |args: &[&str]| {
        let base = ["compare", "--simulated", "--scenario", "p0", "--runs", "3"];
        run(mdalp(&base).args(args))
    };
    let good = compare(&["--at-most", "balanced=1", "--at-most", "single-3=3"]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(text(&good.stdout).contains("| single-1 | 5th Receiver | 340.148 |"));
    let bad = compare(&["--at-most", "single-1=2"]);
    assert_eq!(bad.status.code(), Some(12));
    assert!(text(&bad.stderr).contains("single-1 in p0"), "{}", text(&bad.stderr));
    for args in [["--reference", "nobody"], ["--modes", "single-9"], ["--at-most", "balanced=no"]] {
        assert_eq!(compare(&args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn the_dissector_is_printed() {
    let output = run(&mut mdalp(&["wireshark"]));
    assert_eq!(text(&output.stdout), include_str!("../../../../contrib/wireshark/mdalp.lua"));
}
