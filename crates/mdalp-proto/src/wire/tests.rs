//! What datagrams mean, byte by byte; the ids are those of the reliability matrix.

mod vectors;

use super::list::{Entry, ListError, parse, parse_up_to};
use super::*;
use proptest::prelude::*;

const TID: TransactionId = TransactionId(3740);

fn seq(n: u64) -> SequenceNumber {
    SequenceNumber(n)
}

fn encoded(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_seeds_own_datagrams_are_read() {
    assert_eq!(decode(b"Type:0;"), Ok(Message::Intent { nonce: None }));
    assert_eq!(decode(b"Type:0"), Ok(Message::Intent { nonce: None }));
    let (tid, crc) = (TID, None);
    assert_eq!(decode(b"Type:3;TID:3740;SEQ:30;"), Ok(Message::Ack { tid, seq: seq(30), crc }));
    assert_eq!(decode(b"Type:3;TID:3740;SEQ:30"), Ok(Message::Ack { tid, seq: seq(30), crc }));
    let text = b"Type:1;TID:3740;DATA:[{'ip_address': '177.71.168.45', 'name': '5th Receiver'}, \
        {'ip_address': '54.200.52.112', 'name': '4th Receiver'}, \
        {'ip_address': '18.134.193.153', 'name': '2nd Receiver'}]";
    let Ok(Message::Assignment { tid: TID, list, .. }) = decode(text) else { panic!() };
    let entries = parse(list).unwrap();
    let named: Vec<_> = entries.iter().map(|e| (e.ip.to_string(), e.name.as_str())).collect();
    assert_eq!(named[0], ("177.71.168.45".to_owned(), "5th Receiver"));
    assert_eq!(named[2], ("18.134.193.153".to_owned(), "2nd Receiver"));
    // And spelled back, it is the same, byte for byte.
    let again = encoded(|out| encode_assignment(out, TID, None, &entries));
    assert_eq!(again.as_bytes(), text);
}

#[test]
fn data_is_everything_after_the_colon() {
    for data in [&b"a;b;"[..], b"", b"\r\n\0\xff;", b"DATA:", b"Type:2;TID:1;SEQ:0;DATA:x;"] {
        let datagram = [b"Type:2;TID:3740;SEQ:7;DATA:", data].concat();
        let expected = Message::Data { tid: TID, seq: seq(7), crc: None, data };
        assert_eq!(decode(&datagram), Ok(expected));
    }
}

#[test]
fn h01_h05_damaged_headers_are_dropped() {
    let bad: [&[u8]; 34] = [
        b"",
        b"\0",
        b"A",
        b"T",
        b"Type",
        b"Type:",
        b"Type:;",
        b"Type:-1;",
        b"Type:+2;",
        b"Type: 2;",
        b"Type:2.0;",
        b"Type:0x2;",
        b"Type:02;",
        b"type:2;",
        b"TYPE:2;",
        "Type:2;TID:\u{663};SEQ:0;DATA:x".as_bytes(),
        b"Type:3;TID:18446744073709551616;SEQ:0;",
        b"Type:3;TID:99999999999999999999;SEQ:0;",
        b"Type:3;TID:999999999999999999999;SEQ:0;",
        b"Type:3;TID:5;",
        b"Type:3;SEQ:5;",
        b"Type:3;TID:;SEQ:;",
        b"Type:3;SEQ:1;TID:2;",
        b"Type:2;TID:1;SEQ:0",
        b"Type:2;TID:1;SEQ:0;",
        b"Type:2;TID:1;DATA:x",
        b"Type:2;\xff\xfe;TID:1;SEQ:0;DATA:",
        b"Type:2;TID:1\0;SEQ:0;DATA:",
        b"Type:2;TID:007;SEQ:0;DATA:",
        b"Type:3;TID:1;SEQ:-1;",
        b"Type:255;",
        b"Type:6;TID:1;",
        b"Type:4;",
        b"Type:5;TID:1;DATA:perhaps",
    ];
    for datagram in bad {
        assert!(decode(datagram).is_err(), "{}", datagram.escape_ascii());
    }
    let many_nines = [b"Type:3;TID:".to_vec(), vec![b'9'; 1400], b";SEQ:0;".to_vec()].concat();
    assert_eq!(decode(&many_nines), Err(DecodeError::BadNumber("TID")));
    assert!(decode(b"Type:3;TID:18446744073709551615;SEQ:18446744073709551615").is_ok());
}

#[test]
fn h11_of_two_messages_in_a_datagram_the_first_counts() {
    let both = b"Type:3;TID:1;SEQ:0;Type:3;TID:1;SEQ:1;";
    let first = Message::Ack { tid: TransactionId(1), seq: seq(0), crc: None };
    assert_eq!(decode(both), Ok(first));
}

#[test]
fn an_ack_may_carry_a_crc_and_anything_after_it() {
    let ack = |crc| Ok(Message::Ack { tid: TransactionId(1), seq: seq(2), crc });
    assert_eq!(decode(b"Type:3;TID:1;SEQ:2;CRC:00c0ffee;"), ack(Some(ChunkCrc(0x00c0_ffee))));
    assert_eq!(decode(b"Type:3;TID:1;SEQ:2;CRC:00c0ffee"), ack(Some(ChunkCrc(0x00c0_ffee))));
    for odd in ["CRC:00C0FFEE;", "CRC:c0ffee;", "CRC:", "CRC:00c0ffee0;", "X:1;"] {
        assert_eq!(decode(format!("Type:3;TID:1;SEQ:2;{odd}").as_bytes()), ack(None), "{odd}");
    }
    assert_eq!(decode(b"Type:2;TID:1;SEQ:2;CRC:00C0FFEE;DATA:x"), Err(DecodeError::BadCrc));
}

#[test]
fn a_crc_covers_the_numbers_and_the_data() {
    let crc = ChunkCrc::of(TID, seq(1), b"data");
    assert_ne!(crc, ChunkCrc::of(TID, seq(2), b"data"));
    assert_ne!(crc, ChunkCrc::of(TransactionId(1), seq(1), b"data"));
    assert_ne!(crc, ChunkCrc::of(TID, seq(1), b"dat4"));
    // The check value of CRC-32C, over the same number of bytes as two numbers and nothing.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn seals_and_their_answers_are_read_back() {
    let statement = Statement { chunks: 51, bytes: 5000, blake3: [0xab; 32] };
    let seal = Seal { tid: TID, statement, checked: false };
    let text = encoded(|out| encode_seal(out, &seal));
    assert_eq!(text, format!("Type:4;TID:3740;SEQ:51;DATA:5000 {}", "ab".repeat(32)));
    assert_eq!(decode(text.as_bytes()), Ok(Message::Seal(seal)));
    let missing: RangeSet = [3..=9, 14..=14].into_iter().collect();
    let verdicts = [Verdict::Complete, Verdict::Mismatch, Verdict::Missing(missing)];
    for (verdict, words) in verdicts.into_iter().zip(["complete", "mismatch", "missing 3-9,14"]) {
        let text = encoded(|out| encode_seal_reply(out, TID, &verdict, 1200));
        assert_eq!(text, format!("Type:5;TID:3740;DATA:{words}"));
        assert_eq!(decode(text.as_bytes()), Ok(Message::SealReply { tid: TID, verdict }));
    }
    for bad in ["missing ", "missing 5-3", "missing 3,3", "missing 9,1", "missing 1-", "missing a"]
    {
        let text = format!("Type:5;TID:3740;DATA:{bad}");
        assert_eq!(decode(text.as_bytes()), Err(DecodeError::BadSeal), "{bad}");
    }
}

#[test]
fn a_checked_seal_is_read_only_if_its_crc_holds_and_its_answer_names_it() {
    let statement = Statement { chunks: 51, bytes: 5000, blake3: [0xab; 32] };
    let seal = Seal { tid: TID, statement, checked: true };
    let text = encoded(|out| encode_seal(out, &seal));
    let hash = "ab".repeat(32);
    let crc = ChunkCrc::of(TID, seq(51), format!("5000 {hash}").as_bytes());
    assert_eq!(text, format!("Type:4;TID:3740;SEQ:51;CRC:{:08x};DATA:5000 {hash}", crc.0));
    assert_eq!(decode(text.as_bytes()), Ok(Message::Seal(seal)));
    let damaged = text.replace("SEQ:51", "SEQ:50");
    assert_eq!(decode(damaged.as_bytes()), Err(DecodeError::BadCrc));
    let words = format!("recorded {:08x}", crc.0);
    let refused =
        Refusal::ALL.map(|why| (Verdict::Refused(why), format!("refused {}", why.word())));
    for (verdict, words) in [(Verdict::Recorded(crc), words)].into_iter().chain(refused) {
        let text = encoded(|out| encode_seal_reply(out, TID, &verdict, 100));
        assert_eq!(text, format!("Type:5;TID:3740;DATA:{words}"));
        assert_eq!(decode(text.as_bytes()), Ok(Message::SealReply { tid: TID, verdict }));
    }
    for bad in ["recorded 123", "recorded 1234567G", "refused ", "refused because"] {
        let text = format!("Type:5;TID:3740;DATA:{bad}");
        assert_eq!(decode(text.as_bytes()), Err(DecodeError::BadSeal), "{bad}");
    }
}

#[test]
fn nonces_are_read_where_they_stand_and_ignored_where_classic_peers_never_look() {
    let nonce = Nonce(0x0123_4567_89ab_cdef);
    let intent = encoded(|out| encode_nonced_intent(out, nonce, 60));
    assert_eq!(intent.len(), 60);
    assert!(intent.starts_with("Type:0;NONCE:0123456789abcdef;PAD:000"), "{intent}");
    assert_eq!(decode(intent.as_bytes()), Ok(Message::Intent { nonce: Some(nonce) }));
    for other in ["Type:0;NONCE:12;", "Type:0;NONCE:0123456789ABCDEF;", "Type:0;X:1;"] {
        assert_eq!(decode(other.as_bytes()), Ok(Message::Intent { nonce: None }), "{other}");
    }
    let text = encoded(|out| encode_assignment(out, TID, Some(nonce), &[]));
    assert_eq!(text, "Type:1;TID:3740;NONCE:0123456789abcdef;DATA:[]");
    let list = &b"[]"[..];
    let message = Message::Assignment { tid: TID, nonce: Some(nonce), list };
    assert_eq!(decode(text.as_bytes()), Ok(message));
    let queued = encoded(|out| encode_queued(out, nonce, 5));
    assert_eq!(queued, "Type:6;NONCE:0123456789abcdef;DATA:5");
    assert_eq!(decode(queued.as_bytes()), Ok(Message::Queued { nonce, position: 5 }));
    let probe = encoded(|out| encode_probe(out, nonce, 0));
    assert_eq!(probe, "Type:7;NONCE:0123456789abcdef;");
    assert_eq!(decode(probe.as_bytes()), Ok(Message::Probe { nonce }));
    let caps = Capabilities::parse("crc record window=32 chunk=1200");
    let reply = encoded(|out| encode_probe_reply(out, nonce, caps));
    assert_eq!(reply, "Type:8;NONCE:0123456789abcdef;DATA:crc record window=32 chunk=1200");
    assert_eq!(decode(reply.as_bytes()), Ok(Message::ProbeReply { nonce, caps }));
}

#[test]
fn an_answer_with_too_many_gaps_says_the_first_ones() {
    let gaps: RangeSet = (0..1000).map(|n| n * 2..=n * 2).collect();
    let text = encoded(|out| encode_seal_reply(out, TID, &Verdict::Missing(gaps), 200));
    assert!(text.len() <= 200 && text.len() > 190);
    assert!(matches!(
        decode(text.as_bytes()),
        Ok(Message::SealReply { verdict: Verdict::Missing(some), .. }) if some.contains(10)
    ));
}

#[test]
fn lists_are_read_in_python_and_json_spelling() {
    let spellings = [
        "[{'ip_address': '10.0.0.1', 'name': 'A B'}]",
        r#"[{"ip_address": "10.0.0.1", "name": "A B"}];"#,
        r#"[{"name":"A B","ip_address":"10.0.0.1","weight":3}]"#,
        "[ {'ip_address':'10.0.0.1','name':'\\x41\\u0020B', 'caps': 'later=9'} ] ;",
    ];
    for text in spellings {
        let entries = parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
        let ip = "10.0.0.1".parse().unwrap();
        assert_eq!(entries, [Entry { ip, name: "A B".into(), caps: Capabilities::default() }]);
    }
    assert_eq!(parse(b"[]"), Ok(vec![]));
    assert_eq!(parse(b"[];"), Ok(vec![]));
}

#[test]
fn h20_h23_what_is_not_a_flat_literal_is_refused() {
    let deep = "[".repeat(30_000);
    let crowd = format!("[{}]", vec!["{'ip_address': '10.0.0.1'}"; 65].join(", "));
    let dicts = format!("[{}]", vec!["{}"; 10_000].join(","));
    let long = format!("[{{'ip_address': '10.0.0.1', 'name': '{}'}}]", "n".repeat(256));
    let bad = [
        "__import__('os').system('id')",
        "[0]*(10**7)",
        "[f'{1}']",
        "[lambda: 1]",
        "{1, 2}",
        "[b'x']",
        "[1,2]",
        "{}",
        "[{'name': 'a'}]",
        "[{'ip_address': 5}]",
        "[{}]",
        "[True]",
        "[{'ip_address': '1.1.1.1', 'ip_address': '1.1.1.2'}]",
        "[{'ip_address': ['1.1.1.1']}]",
        "[{'ip_address': '1.1.1.1'} {'ip_address': '1.1.1.2'}]",
        "[{'a': 'b' 'c'}]",
        "[] # x",
        "[{'ip_address': '\\N{DIGIT ONE}'}]",
        "[{'ip_address': '1.1.1.1",
        "",
        ";",
        "[,]",
        "[{'a': 01, 'ip_address': '1.1.1.1'}]",
        "[{'ip_address': '1.1.1.1'},]",
        "[{'ip_address': '1.1.1.1',}]",
        &deep,
        &crowd,
        &dicts,
        &long,
    ];
    for text in bad {
        assert!(parse(text.as_bytes()).is_err(), "{}", &text[..text.len().min(80)]);
    }
    assert_eq!(parse(crowd.as_bytes()), Err(ListError::TooMany(64)));
    assert_eq!(parse(&[b' '; 8193]), Err(ListError::TooLong { bytes: 8193, most: 8192 }));
    assert!(parse(b"[{'name': '\xff'}]").is_err());
}

#[test]
fn h21_h31_longer_lists_are_read_where_they_are_allowed_and_no_longer_ones() {
    let list = |count: usize| {
        let entry = |n: usize| {
            format!("{{'ip_address': '10.100.{}.{}', 'name': 'R{n}'}}", 100 + n / 256, n % 256)
        };
        format!("[{}];", (0..count).map(entry).collect::<Vec<_>>().join(", ")).into_bytes()
    };
    let count = |limit, list: &[u8]| parse_up_to(limit, list).map(|entries| entries.len());
    assert!(list(1024).len() > 50_000);
    assert_eq!(count(1000, &list(1000)), Ok(1000));
    assert_eq!(count(1000, &list(1001)), Err(ListError::TooMany(1000)));
    assert_eq!(count(usize::MAX, &list(1024)), Ok(1024));
    assert_eq!(count(usize::MAX, &list(1025)), Err(ListError::TooMany(1024)));
    assert_eq!(count(2, &list(3)), Err(ListError::TooMany(2)));
    let spaces = |limit, len| parse_up_to(limit, &vec![b' '; len]);
    assert_eq!(spaces(2, 8192), Err(ListError::Syntax(0)));
    assert_eq!(spaces(100, 12_801), Err(ListError::TooLong { bytes: 12_801, most: 12_800 }));
    assert_eq!(spaces(1024, 65_507), Err(ListError::Syntax(0)));
    assert_eq!(spaces(1024, 65_508), Err(ListError::TooLong { bytes: 65_508, most: 65_507 }));
}

#[test]
fn h25_addresses_have_one_spelling() {
    for ip in [
        "127.1",
        "0x7f000001",
        "2130706433",
        "010.0.0.1",
        "1.2.3.4 ",
        "-f",
        "$(id)",
        "a.example",
        "1.2.3.4\\0",
        "::0001",
        "::FFFF:1",
        "[::1]",
        "fe80::1%eth0",
    ] {
        let text = format!("[{{'ip_address': '{ip}', 'name': 'x'}}]");
        assert!(parse(text.as_bytes()).is_err(), "{ip}");
    }
    assert!(parse(b"[{'ip_address': '2001:db8::1', 'name': 'x'}]").is_ok());
}

#[test]
fn capabilities_follow_the_name_and_unknown_ones_are_ignored() {
    let caps = Capabilities::parse("port=4651 crc seal window=32 chunk=1200");
    assert_eq!(caps.to_string(), "port=4651 crc seal window=32 chunk=1200");
    let entry = Entry { ip: "127.0.0.2".parse().unwrap(), name: "A".into(), caps };
    let text = encoded(|out| encode_assignment(out, TID, None, std::slice::from_ref(&entry)));
    assert_eq!(
        text,
        "Type:1;TID:3740;DATA:[{'ip_address': '127.0.0.2', 'name': 'A', \
         'caps': 'port=4651 crc seal window=32 chunk=1200'}]"
    );
    let Ok(Message::Assignment { list, .. }) = decode(text.as_bytes()) else { panic!() };
    assert_eq!(parse(list), Ok(vec![entry]));
    assert_eq!(
        Capabilities::parse("quic  zstd=9 crc=1 seal"),
        Capabilities { seal: true, ..Default::default() }
    );
}

#[test]
fn h28_ports_windows_and_chunks_out_of_range_are_not_believed() {
    for port in ["53", "0", "22", "70000", "-1", "+4651", ""] {
        assert_eq!(Capabilities::parse(&format!("port={port}")).port, None, "{port}");
    }
    let caps = Capabilities::parse("window=65535 chunk=9000");
    assert_eq!((caps.window, caps.chunk), (Some(256), Some(1200)));
    let caps = Capabilities::parse("window=0 chunk=1");
    assert_eq!((caps.window, caps.chunk), (Some(1), Some(100)));
}

#[test]
fn names_that_classic_clients_trip_over_are_cleaned_when_written() {
    let entry = Entry {
        ip: "127.0.0.2".parse().unwrap(),
        name: "a;b'c}d\\e\u{e9}\n".into(),
        caps: Capabilities::default(),
    };
    let text = encoded(|out| encode_assignment(out, TID, None, &[entry]));
    assert!(text.ends_with("'name': 'abcde'}]"), "{text}");
}

fn message_parts() -> impl Strategy<Value = (u64, u64, Option<u32>, Vec<u8>)> {
    (
        any::<u64>(),
        any::<u64>(),
        any::<Option<u32>>(),
        proptest::collection::vec(any::<u8>(), 0..200),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_encoded_is_decoded_the_same((tid, n, crc, data) in message_parts()) {
        let (tid, seq, crc) = (TransactionId(tid), SequenceNumber(n), crc.map(ChunkCrc));
        let mut out = Vec::new();
        encode_data_header(&mut out, tid, seq, crc);
        prop_assert!(out.len() <= MAX_DATA_HEADER);
        out.extend_from_slice(&data);
        prop_assert_eq!(decode(&out), Ok(Message::Data { tid, seq, crc, data: &data }));
        out.clear();
        encode_ack(&mut out, tid, seq, crc);
        prop_assert_eq!(decode(&out), Ok(Message::Ack { tid, seq, crc }));
    }

    #[test]
    fn no_bytes_make_the_readers_panic(
        start in proptest::sample::select(vec!["", "Type:", "Type:3;TID:1;SEQ:",
            "Type:5;TID:1;DATA:missing ", "Type:4;TID:1;SEQ:1;DATA:"]),
        rest in proptest::collection::vec(
            prop_oneof![any::<u8>(), Just(b';'), Just(b'-'), Just(b','), b'0'..=b'9'], 0..80),
    ) {
        let _ = decode(&[start.as_bytes(), &rest].concat());
        let _ = parse(&rest);
    }

    #[test]
    fn no_list_makes_the_parser_panic(text in r"\[(\{|\}|'|,|:|ip_address|1|\.|\\|x|u| |\[|\]){0,60}") {
        let _ = parse(text.as_bytes());
    }
}
