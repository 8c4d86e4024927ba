//! Byte strings (H01–H13) to each of the three programs in the middle of its work.

use super::{assert_small, choices};
use crate::support::{Net, payload, run, text};
use mdalp_proto::wire::decode;
use std::net::UdpSocket;
use std::thread;

/// What is a message to nobody, or not to a server.
fn table() -> Vec<Vec<u8>> {
    let mut table: Vec<Vec<u8>> = [
        // H01, H02, H03
        "",
        "\0",
        "A",
        "T",
        "Type",
        "Type:",
        "Type:;",
        "Type:-1;",
        "Type:+2;",
        "Type: 2;",
        "Type:2.0;",
        "Type:0x2;",
        "Type:02;",
        "type:2;",
        "TYPE:2;",
        "Type:2;TID:\u{663};SEQ:0;DATA:x",
        // H04, H05, H06
        "Type:3;TID:18446744073709551616;SEQ:0;",
        "Type:3;TID:5;SEQ:4294967296",
        "Type:3;TID:5;",
        "Type:3;SEQ:5;",
        "Type:3;TID:;SEQ:;",
        "Type:3;SEQ:1;TID:2;",
        "Type:2;TID:1;SEQ:0",
        "Type:2;TID:1;SEQ:0;",
        "Type:2;TID:1;SEQ:1;DATA:",
        // H08, H10, H11
        "Type:2;TID:1\0;SEQ:0;DATA:x",
        "Type:4;",
        "Type:255;",
        "Type:1;TID:1;DATA:[]",
        "Type:3;TID:1;SEQ:0;Type:3;TID:1;SEQ:1;",
        "Type:5;TID:1;DATA:complete",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    for nines in [20, 21, 400, 1400] {
        table.push(format!("Type:3;TID:{};SEQ:0;", "9".repeat(nines)).into_bytes());
    }
    // H07, H08, H09
    for long in [1_201, 1_400, 65_483] {
        table.push([b"Type:2;TID:1;SEQ:0;DATA:", &vec![b'x'; long][..]].concat());
    }
    table.push(b"Type:2;TID:\xff\xfe;SEQ:0;DATA:x".to_vec());
    for byte in [b'[', b'9', b'T', 0xff] {
        table.push(vec![byte; 65_507]);
    }
    table.push(b"Type:1;".repeat(9_358));
    // H12: QUIC's long and short headers.
    table.push([&b"\xc3\0\0\0\x01\x08abcdefgh"[..], &[0; 1_100]].concat());
    table.push(b"\xc0\0\0\0\0\x15aaaaaaaaaaaaaaaaaaaaa".to_vec());
    table.push(b"Tabcdefgh\x01\x02".to_vec());
    // Beginnings of real messages.
    for whole in [&b"Type:2;TID:12;SEQ:0;DATA:"[..], b"Type:1;TID:12;DATA:["] {
        table.extend((0..whole.len() - 1).map(|len| whole[..len].to_vec()));
    }
    table
}

/// The table, and all of it again with one byte replaced where that makes no message.
fn junk() -> Vec<Vec<u8>> {
    let mut choose = choices(1);
    let mut all = table();
    for mut bytes in table() {
        if bytes.is_empty() {
            continue;
        }
        let at = choose() as usize % bytes.len();
        bytes[at] = choose() as u8;
        if decode(&bytes).is_err() {
            all.push(bytes);
        }
    }
    all
}

/// Sends all junk and then `question`; the first answer must be to that.
fn answers_only(socket: &UdpSocket, to: &(String, u16), question: &[u8]) -> Vec<u8> {
    for datagram in junk() {
        socket.send_to(&datagram, to).unwrap();
        // A full socket buffer would keep the question from getting through.
        if datagram.len() > 10_000 {
            thread::yield_now();
        }
    }
    socket.send_to(question, to).unwrap();
    let mut buffer = [0; 2048];
    let (len, _) = socket.recv_from(&mut buffer).unwrap();
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv_from(&mut buffer[len..]).is_err(), "one answer");
    socket.set_nonblocking(false).unwrap();
    buffer[..len].to_vec()
}

#[test]
fn h01_to_h12_servers_answer_no_junk_and_go_on() {
    let net = Net::new();
    let server = net.serve(&[]);
    let socket = UdpSocket::bind((net.ip(99), 0)).unwrap();
    let answer = answers_only(&socket, &(net.ip(1), 4650), b"Type:0;");
    assert!(answer.starts_with(b"Type:1;TID:"), "{}", answer.escape_ascii());
    for host in 2..5 {
        let chunk = b"Type:2;TID:4611686018427387904;SEQ:0;DATA:x";
        let answer = answers_only(&socket, &(net.ip(host), 4650), chunk);
        assert_eq!(text(&answer), "Type:3;TID:4611686018427387904;SEQ:0;");
    }
    assert_small(server.id());
    let bytes = payload(3000);
    let sent = run(&mut net.client(&net.file("payload", &bytes), &[]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    assert!(net.tids().iter().any(|&tid| tid != 1 << 62 && net.get(tid) == bytes));
}

#[test]
fn h01_to_h12_a_client_ignores_junk_from_everybody() {
    let net = Net::new();
    let orchestrator = UdpSocket::bind((net.ip(1), 4650)).unwrap();
    let receiver = UdpSocket::bind((net.ip(2), 4650)).unwrap();
    let stranger = UdpSocket::bind((net.ip(66), 0)).unwrap();
    let list = format!("Type:1;TID:3740;DATA:[{{'ip_address': '{}', 'name': 'A'}}]", net.ip(2));
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        let (_, client) = orchestrator.recv_from(&mut buffer).unwrap();
        for datagram in junk() {
            // An empty list would be an answer, if an unwelcome one.
            if !datagram.starts_with(b"Type:1;TID:1;DATA:[]") {
                orchestrator.send_to(&datagram, client).unwrap();
            }
        }
        orchestrator.send_to(list.as_bytes(), client).unwrap();
    });
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, client)) = receiver.recv_from(&mut buffer) {
            for datagram in junk().iter().filter(|datagram| datagram.len() < 2000) {
                for from in [&stranger, &receiver] {
                    from.send_to(datagram, client).unwrap();
                }
            }
            let header = text(&buffer[..len]);
            let ack = header.split("DATA:").next().unwrap().replace("Type:2", "Type:3");
            // A stranger's ack and one of another transaction do not count (H40).
            stranger.send_to(ack.as_bytes(), client).unwrap();
            receiver.send_to(ack.replace("3740", "3741").as_bytes(), client).unwrap();
            receiver.send_to(ack.as_bytes(), client).unwrap();
        }
    });
    let file = net.file("payload", &payload(1000));
    // No timeout on a busy machine: each datagram is to be counted.
    let patient = ["-m2", "--rto-initial", "60", "--rto-min", "60", "--rto-max", "60", "--json"];
    let sent = run(&mut net.client(&file, &patient));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let end = crate::support::json_lines(&sent.stdout).pop().unwrap();
    assert_eq!((&end["chunks"], &end["receivers"][0]["datagrams"]), (&10.into(), &10.into()));
}
