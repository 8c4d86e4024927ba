//! Captures and the dissector, as Wireshark's own tshark reads them.
//!
//! Skipped, with a line that says so, where tshark is not installed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use mdalp_capture::{CaptureFile, Interface, Packet};

const DISSECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contrib/wireshark/mdalp.lua");
const CLIENT: &str = "192.0.2.1:50000";
const ORCHESTRATOR: &str = "192.0.2.9:4650";
const RECEIVER: &str = "192.0.2.2:4650";

/// Whether tshark can be run; if not, says that the test is skipped.
fn tshark_is_here() -> bool {
    let here = Command::new("tshark").arg("--version").output().is_ok();
    if !here {
        eprintln!("skipped: tshark is not installed");
    }
    here
}

/// A capture of `datagrams`, from whom to whom and what, a millisecond apart. A `!` before the
/// sender means that it was lost on the way.
fn capture(path: &Path, datagrams: &[(&str, &str, &[u8])]) {
    let file = CaptureFile::create(path, "test").expect("a file");
    for (n, (from, to, bytes)) in datagrams.iter().enumerate() {
        let at = UNIX_EPOCH + Duration::new(1_700_000_000, n as u32 * 1_000_000 + 1);
        let addr = |text: &str| text.trim_start_matches('!').parse::<SocketAddr>().expect("addr");
        let interface = if from.starts_with('!') { Interface::Lost } else { Interface::Seen };
        file.write(&Packet { at, from: addr(from), to: addr(to), bytes, interface }, None);
    }
    file.finish().expect("all written");
}

/// The values of `fields` in each packet of `path` that `filter` lets through.
fn read(path: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut tshark = Command::new("tshark");
    tshark.args(["-X", &format!("lua_script:{DISSECTOR}"), "-2", "-T", "fields", "-Y", filter]);
    tshark.args(["-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-r"]).arg(path);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = tshark.output().expect("tshark runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("Lua"), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// One row as `read` returns it.
fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

#[test]
fn a_capture_has_valid_headers_stamps_and_comments() {
    if !tshark_is_here() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.pcapng");
    let v6 = ("[2001:db8::1]:1", "[2001:db8::2]:4650");
    let chunk = b"Type:2;TID:3740;SEQ:31;DATA:x;\ny\0".as_slice();
    capture(&path, &[(CLIENT, RECEIVER, chunk), (v6.0, v6.1, chunk), (CLIENT, RECEIVER, chunk)]);
    let fields = ["frame.time_epoch", "ip.checksum.status", "udp.checksum.status", "frame.comment"];
    let rows = read(&path, "udp", &fields);
    let again = "retransmission of SEQ 31, time 2, 0.002000 s after the first";
    assert_eq!(rows[0][..3], row(&["1700000000.000000001", "1", "1"]));
    assert_eq!(rows[1][1..3], row(&["", "1"]));
    assert_eq!(rows[2], row(&["1700000000.002000001", "1", "1", again]));
}

#[test]
fn every_message_is_dissected_into_fields() {
    if !tshark_is_here() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.pcapng");
    let list = b"Type:1;TID:18446744073709551615;DATA:[{'ip_address': '192.0.2.2', 'name': \
        '5th Receiver', 'caps': 'crc window=32'}, {\"ip_address\": \"192.0.2.3\", \"name\": \"B\"}]";
    let hash = "ab".repeat(32);
    let seal = format!("Type:4;TID:7;SEQ:50;DATA:5000 {hash}");
    capture(
        &path,
        &[
            (CLIENT, ORCHESTRATOR, b"Type:0;"),
            (ORCHESTRATOR, CLIENT, list),
            (CLIENT, RECEIVER, b"Type:2;TID:7;SEQ:31;CRC:0000cafe;DATA:hello"),
            (RECEIVER, CLIENT, b"Type:3;TID:7;SEQ:31;CRC:0000cafe;"),
            (CLIENT, RECEIVER, seal.as_bytes()),
            (RECEIVER, CLIENT, b"Type:5;TID:7;DATA:missing 3-9,14"),
            (CLIENT, RECEIVER, b"Type:9;"),
            (CLIENT, RECEIVER, b"Type:2;TID:x;"),
            (CLIENT, "192.0.2.2:4651", b"Type:2;TID:7;SEQ:32;DATA:"),
        ],
    );
    let some = |filter: &str, fields: &[&str]| read(&path, filter, fields);
    let types: Vec<_> = some("mdalp", &["mdalp.type"]).into_iter().flatten().collect();
    assert_eq!(types, ["0", "1", "2", "3", "4", "5", "", "2", "2"]);
    assert_eq!(
        some("mdalp.list", &["mdalp.tid", "mdalp.receiver.address", "mdalp.receiver.name"]),
        [row(&["18446744073709551615", "192.0.2.2,192.0.2.3", "5th Receiver,B"])]
    );
    assert_eq!(some("mdalp.receiver.caps", &["mdalp.receiver.caps"]), [row(&["crc window=32"])]);
    assert_eq!(
        some("mdalp.crc == 0xcafe", &["mdalp.seq", "mdalp.data", "mdalp.data.len"]),
        [row(&["31", "68656c6c6f", "5"]), row(&["31", "", ""])]
    );
    assert_eq!(
        some("mdalp.seal.bytes", &["mdalp.chunks", "mdalp.seal.bytes", "mdalp.seal.blake3"]),
        [row(&["50", "5000", &hash])]
    );
    let verdict = some("mdalp.seal.verdict", &["mdalp.seal.verdict"]);
    assert_eq!(verdict, [row(&["missing 3-9,14"])]);
    assert_eq!(some("mdalp.malformed", &["frame.number"]), [row(&["7"]), row(&["8"])]);
    assert_eq!(some("udp.port == 4651", &["mdalp.seq"]), [row(&["32"])]);
}

#[test]
fn messages_of_the_extensions_are_dissected_too() {
    if !tshark_is_here() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.pcapng");
    let seal = format!("Type:4;TID:7;SEQ:50;CRC:0000cafe;DATA:5000 {}", "ab".repeat(32));
    capture(
        &path,
        &[
            (CLIENT, ORCHESTRATOR, b"Type:0;NONCE:0123456789abcdef;PAD:000;"),
            (ORCHESTRATOR, CLIENT, b"Type:6;NONCE:0123456789abcdef;DATA:12"),
            (ORCHESTRATOR, CLIENT, b"Type:1;TID:7;NONCE:0123456789abcdef;DATA:[]"),
            (CLIENT, RECEIVER, seal.as_bytes()),
            (RECEIVER, CLIENT, b"Type:5;TID:7;DATA:recorded 0000cafe"),
            (ORCHESTRATOR, RECEIVER, b"Type:7;NONCE:00000000000000ff;PAD:000;"),
            (RECEIVER, ORCHESTRATOR, b"Type:8;NONCE:00000000000000ff;DATA:crc window=32"),
        ],
    );
    let some = |filter: &str, fields: &[&str]| read(&path, filter, fields);
    assert!(some("mdalp.malformed", &["frame.number"]).is_empty());
    let with_nonce: Vec<_> = some("mdalp.nonce", &["mdalp.type"]).into_iter().flatten().collect();
    assert_eq!(with_nonce, ["0", "6", "1", "7", "8"]);
    assert_eq!(some("mdalp.type == 6", &["mdalp.queued.position"]), [row(&["12"])]);
    assert_eq!(some("mdalp.type == 4", &["mdalp.seal.bytes"]), [row(&["5000"])]);
    assert_eq!(some("mdalp.type == 8", &["mdalp.receiver.caps"]), [row(&["crc window=32"])]);
    assert_eq!(some("mdalp.type == 8", &["mdalp.request_in"]), [row(&["6"])]);
}

#[test]
fn requests_and_answers_are_linked_and_repetitions_marked() {
    if !tshark_is_here() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.pcapng");
    let (chunk, ack) = (b"Type:2;TID:7;SEQ:31;DATA:hello".as_slice(), b"Type:3;TID:7;SEQ:31;");
    let lost = format!("!{RECEIVER}");
    capture(
        &path,
        &[
            (CLIENT, ORCHESTRATOR, b"Type:0;"),
            (ORCHESTRATOR, CLIENT, b"Type:1;TID:7;DATA:[]"),
            (CLIENT, RECEIVER, chunk),
            (&lost, CLIENT, ack),
            (CLIENT, RECEIVER, chunk),
            (RECEIVER, CLIENT, ack),
            (RECEIVER, CLIENT, ack),
            (CLIENT, "192.0.2.3:4650", chunk),
        ],
    );
    let fields = ["frame.number", "mdalp.response_in", "mdalp.request_in", "mdalp.response_time"];
    let rows = read(&path, "mdalp", &fields);
    let links: Vec<_> = rows.iter().map(|row| (&*row[1], &*row[2])).collect();
    assert_eq!(
        links,
        [("2", ""), ("", "1"), ("6", ""), ("", ""), ("6", ""), ("", "5"), ("", "5"), ("", "")]
    );
    assert_eq!(rows[1][3], "0.001");
    let numbers = |filter: &str| -> Vec<String> {
        read(&path, filter, &["frame.number"]).into_iter().flatten().collect()
    };
    assert_eq!(numbers("mdalp.retransmission"), ["5"]);
    assert_eq!(numbers("mdalp.retransmission_of == 3"), ["5"]);
    assert_eq!(numbers("mdalp.duplicate"), ["7"]);
    assert_eq!(numbers("mdalp.lost"), ["4"]);
}
