//! Input that nobody should send.

use super::*;

/// Every drop is counted, answered by nothing and stored nowhere.
fn dropped(world: &mut World, from: &str, bytes: &[u8], counter: &str) {
    let (before, appends) = (world.count(counter), world.appends);
    assert_eq!(world.send(from, bytes), None, "{bytes:?}");
    assert_eq!((world.count(counter), world.appends), (before + 1, appends), "{bytes:?}");
}

fn client(n: u64) -> String {
    format!("{}.{}.{}.1:7", 11 + n / 65_536, n / 256 % 256, n % 256)
}

#[test]
fn h01_fragments_of_messages_are_dropped() {
    let mut world = World::new(Config::default());
    for bytes in [&b""[..], b"\0", b"A", b"T", b"Type"] {
        dropped(&mut world, CLIENT, bytes, "drop_not_mdalp");
    }
    let whole = b"Type:2;TID:3740;SEQ:31;CRC:00000000;DATA:";
    for len in 5..whole.len() {
        dropped(&mut world, CLIENT, &whole[..len], "drop_malformed");
    }
    assert_eq!(world.receiver.transactions(), 0);
}

#[test]
fn h02_h03_h04_h05_headers_that_are_not_plain_are_dropped() {
    let mut world = World::new(Config::default());
    for bytes in [
        "Type:;",
        "Type:-2;TID:1;SEQ:0;DATA:x",
        "Type: 2;TID:1;SEQ:0;DATA:x",
        "Type:02;TID:1;SEQ:0;DATA:x",
        "Type:2;TID:\u{663};SEQ:0;DATA:x",
        "Type:2;TID:18446744073709551616;SEQ:0;DATA:x",
        "Type:2;TID:;SEQ:0;DATA:x",
        "Type:2;SEQ:0;TID:1;DATA:x",
        "Type:2;TID:1;DATA:x",
        "Type:2;TID:1;SEQ:0;CRC:0000000G;DATA:x",
    ] {
        dropped(&mut world, CLIENT, bytes.as_bytes(), "drop_malformed");
    }
    dropped(&mut world, CLIENT, b"type:2;TID:1;SEQ:0;DATA:x", "drop_not_mdalp");
}

#[test]
fn h04_h45_numbers_from_the_limit_on_are_dropped() {
    let mut world = World::new(Config::default());
    for seq in [16_777_216, 1 << 32, u64::MAX] {
        dropped(&mut world, CLIENT, &data(TID, seq, b"x"), "drop_seq_limit");
    }
    assert!(world.chunk(CLIENT, TID, 16_777_215).is_some());
    assert!(world.chunk(CLIENT, u64::MAX, 0).is_some());
}

#[test]
fn h06_an_empty_chunk_can_only_be_the_whole_payload() {
    let mut world = World::new(Config::default());
    dropped(&mut world, CLIENT, b"Type:2;TID:1;SEQ:0", "drop_malformed");
    dropped(&mut world, CLIENT, b"Type:2;TID:1;SEQ:0;", "drop_malformed");
    dropped(&mut world, CLIENT, b"Type:2;TID:1;SEQ:1;DATA:", "drop_empty");
    assert!(world.send(CLIENT, b"Type:2;TID:1;SEQ:0;DATA:").is_some());
    assert!(world.send(CLIENT, b"Type:2;TID:2;SEQ:0;DATA:a;b;").is_some());
    assert_eq!(world.stored[&(2, 0)], b"a;b;");
}

#[test]
fn h07_chunks_over_the_limit_are_dropped() {
    let mut world = World::new(Config::default());
    for len in [101, 1200] {
        assert!(world.send(CLIENT, &data(TID, len, &vec![7; len as usize])).is_some());
    }
    for len in [1201, 1400, 65_483] {
        dropped(&mut world, CLIENT, &data(TID, 0, &vec![7; len]), "drop_too_long");
    }
}

#[test]
fn h08_bytes_outside_ascii_are_data_or_nothing() {
    let mut world = World::new(Config::default());
    dropped(&mut world, CLIENT, b"Type:2;\xff\xfe;TID:1;SEQ:0;DATA:x", "drop_malformed");
    dropped(&mut world, CLIENT, b"Type:2;TID:1\0;SEQ:0;DATA:x", "drop_malformed");
    let all: Vec<u8> = (0..=255).collect();
    assert!(world.send(CLIENT, &data(TID, 0, &all)).is_some());
    assert_eq!(world.stored[&(TID, 0)], all);
}

#[test]
fn h09_h10_h12_h52_what_is_not_for_receivers_is_dropped() {
    let mut world = World::new(Config::default());
    for byte in [b'[', b'9', 0xff] {
        dropped(&mut world, CLIENT, &vec![byte; 65_507], "drop_not_mdalp");
    }
    dropped(&mut world, CLIENT, b"\xc3\0\0\0\x01\x08abcdefgh", "drop_not_mdalp");
    dropped(&mut world, CLIENT, b"Tabcdefgh\x01\x02", "drop_not_mdalp");
    for bytes in
        ["Type:0;", "Type:1;TID:1;DATA:[];", "Type:3;TID:1;SEQ:0;", "Type:5;TID:1;DATA:complete"]
    {
        dropped(&mut world, CLIENT, bytes.as_bytes(), "drop_unexpected");
    }
    for bytes in ["Type:4;", "Type:255;"] {
        dropped(&mut world, CLIENT, bytes.as_bytes(), "drop_malformed");
    }
    let seal = format!("Type:4;TID:1;SEQ:1;DATA:1 {}", "0".repeat(64));
    dropped(&mut world, CLIENT, seal.as_bytes(), "drop_seal");
    assert_eq!((world.receiver.transactions(), world.events()), (0, vec![]));
}

#[test]
fn h11_a_second_message_in_a_datagram_is_data() {
    let mut world = World::new(Config::default());
    let ack = world.send(CLIENT, b"Type:2;TID:1;SEQ:0;DATA:xType:2;TID:1;SEQ:1;DATA:y").unwrap();
    assert_eq!(ack.seq, SequenceNumber(0));
    assert_eq!(world.stored.keys().collect::<Vec<_>>(), [&(1, 0)]);
}

#[test]
fn h13_sources_that_cannot_be_answered_are_dropped() {
    let own = vec!["198.51.100.1:4650".parse().unwrap()];
    let mut world = World::new(Config { own, ..Config::default() });
    let chunk = data(TID, 0, b"x");
    for from in ["198.51.100.1:4650", "198.51.100.7:0", "224.0.0.1:9", "[::ffff:10.0.0.1]:9"] {
        dropped(&mut world, from, &chunk, "drop_bad_source");
    }
}

#[test]
fn h40_f23_a_random_id_may_move_and_acks_follow_its_sender() {
    let mut world = World::new(Config::default());
    let mut acks = 0;
    // A minute with a new port every two seconds, as a restless NAT would do.
    for seq in 0..30 {
        let from = format!("198.51.100.7:{}", 1000 + seq);
        let ack = world.chunk(&from, TID, seq).unwrap();
        assert_eq!(ack.to, from.parse().unwrap());
        acks += 1;
        world.wait(2 * SECOND);
    }
    assert_eq!(acks, 30);
    // Nobody needs more than 30 changes at once.
    let mut world = World::new(Config::default());
    for seq in 0..50 {
        world.chunk(&format!("198.51.100.7:{}", 1000 + seq), TID, seq);
    }
    assert_eq!((world.count("stored"), world.count("drop_restless")), (31, 19));
}

#[test]
fn h47_a_short_id_belongs_to_the_first_address_until_it_is_idle() {
    let mut world = World::new(Config::default());
    assert!(world.chunk(CLIENT, 3740, 0).is_some());
    for other in ["198.51.100.7:40001", "198.51.100.8:40000"] {
        dropped(&mut world, other, &data(3740, 1, b"x"), "drop_not_owner");
        dropped(&mut world, other, &data(3740, 0, b"abc"), "drop_not_owner");
    }
    // A client may use another socket for another receiver.
    assert!(world.send_to(1, "198.51.100.7:40001", &data(3740, 1, b"x")).is_some());
    world.wait(60 * SECOND);
    assert!(world.chunk(CLIENT, 3740, 0).is_some(), "duplicates keep it as well");
    world.wait(119 * SECOND);
    dropped(&mut world, "198.51.100.8:40000", &data(3740, 1, b"x"), "drop_not_owner");
    world.wait(SECOND);
    assert!(world.chunk("198.51.100.8:40000", 3740, 2).is_some());
}

#[test]
fn h45_every_other_number_opens_no_more_than_1024_ranges() {
    let mut world = World::new(Config::default());
    for n in 0..5_000 {
        let ack = world.chunk(CLIENT, TID, 2 * n);
        assert_eq!(ack.is_some(), n < 1024, "{n}");
    }
    assert_eq!((world.receiver.ranges(), world.count("drop_ranges")), (1024, 5_000 - 1024));
    // What fills a gap is welcome, and makes room.
    assert!(world.chunk(CLIENT, TID, 1).is_some());
    assert!(world.chunk(CLIENT, TID, 4_000).is_some());
    assert_eq!(world.chunk(CLIENT, TID, 4_002), None);
}

#[test]
fn h45_chunks_under_way_count_as_ranges() {
    let mut world = World::new(Config { ranges: 4, ..Config::default() });
    let from = CLIENT.parse().unwrap();
    let taken = (0..10).filter(|n| {
        let datagram = data(TID, 2 * n, b"x");
        world.receiver.handle_datagram(world.now, Local(0), from, &datagram);
        world.receiver.poll_append().is_some()
    });
    assert_eq!(taken.count(), 4);
}

#[test]
fn h45_f29_a_run_of_chunks_under_way_is_one_range() {
    let mut world = World::new(Config { ranges: 2, ..Config::default() });
    let from = CLIENT.parse().unwrap();
    for seq in 0..5_000 {
        let datagram = data(TID, seq, b"x");
        world.receiver.handle_datagram(world.now, Local(0), from, &datagram);
        assert!(world.receiver.poll_append().is_some(), "{seq}");
    }
}

#[test]
fn h45_all_transactions_together_hold_a_bounded_number_of_ranges() {
    let mut world = World::new(Config { ranges_total: 2_000, ..Config::default() });
    for tid in 0..4 {
        for n in 0..1024 {
            world.chunk(&client(tid), TID + tid, 2 * n);
        }
    }
    assert_eq!(world.receiver.ranges(), 1024 + 976 + 64 + 64);
}

#[test]
fn h49_an_idle_transaction_gives_its_ranges_back_but_not_its_right_to_more() {
    let mut world = World::new(Config::default());
    for n in 0..1024 {
        world.chunk(CLIENT, TID, 2 * n);
    }
    world.wait(30 * SECOND);
    assert_eq!((world.receiver.ranges(), world.receiver.transactions()), (0, 1));
    assert_eq!(world.chunk(CLIENT, TID, 9_000), None);
}

#[test]
fn h46_quotas_per_source_and_prefix_but_not_for_loopback() {
    let mut world = World::new(Config::default());
    for tid in 0..65 {
        world.chunk(CLIENT, TID + tid, 0);
    }
    assert_eq!((world.receiver.transactions(), world.count("drop_source_quota")), (64, 1));
    for tid in 65..272 {
        world.chunk(&format!("198.51.100.{}:7", tid % 200 + 20), TID + tid, 0);
    }
    assert_eq!((world.receiver.transactions(), world.count("drop_prefix_quota")), (256, 15));
    for tid in 300..500 {
        world.chunk("127.0.0.1:7", TID + tid, 0);
    }
    assert_eq!(world.receiver.transactions(), 456);
    // Half a minute later idle ones make room for those who go on.
    world.events();
    world.wait(30 * SECOND);
    assert!(world.chunk(CLIENT, TID + 999, 0).is_some());
    assert_eq!((world.receiver.transactions(), world.count("evicted")), (456, 1));
}

#[test]
fn h46_h49_the_idle_go_first_then_those_with_the_least_progress() {
    let mut world = World::new(Config { transactions: 64, ..Config::default() });
    for n in 0..32 {
        world.chunk(&client(n), TID + n, 0);
    }
    world.wait(30 * SECOND);
    for n in 32..64 {
        world.chunk(&client(n), TID + n, 0);
        world.chunk(&client(n), TID + n, 1);
    }
    world.events();
    let mut evicted = vec![];
    for n in 64..128 {
        assert!(world.chunk(&client(n), TID + n, 0).is_some(), "a newcomer is never refused");
        evicted.extend(world.events().into_iter().filter_map(|event| match event {
            Event::Evicted { tid } => Some(tid.0 - TID),
            _ => None,
        }));
        assert!(world.receiver.transactions() <= 64);
    }
    assert_eq!(evicted[..32], (0..32).collect::<Vec<_>>(), "the idle ones");
    assert!(evicted[32..].iter().all(|n| *n >= 64), "then newcomers that have done nothing");
    // Whoever had to go, lost nothing.
    assert!(world.chunk(&client(0), TID, 0).is_some());
    assert_eq!(world.stored.iter().filter(|((tid, _), _)| *tid == TID).count(), 1);
}

#[test]
fn h46_h32_a_flood_of_ids_takes_no_more_memory_than_its_quota() {
    let mut world = World::new(Config::default());
    for n in 0..20_000 {
        world.chunk(&client(n), TID + n, 0);
        world.events();
    }
    assert!((4_000..=4_096).contains(&world.receiver.transactions()));
}

#[test]
fn h50_a_replay_has_no_effect() {
    let mut world = World::new(Config::default());
    let transfer: Vec<_> = (0..50).map(|seq| data(TID, seq, &[seq as u8; 100])).collect();
    for chunk in &transfer {
        assert!(world.send(CLIENT, chunk).is_some());
    }
    let stored = world.stored.clone();
    world.wait(600 * SECOND);
    for chunk in &transfer {
        assert!(world.send(CLIENT, chunk).is_some());
    }
    assert_eq!((world.stored == stored, world.count("conflicts")), (true, 0));
}
