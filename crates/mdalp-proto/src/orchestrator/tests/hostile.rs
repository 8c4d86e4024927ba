//! Input that nobody should send.

use super::*;

/// Every drop is counted and answered by nothing.
fn dropped(world: &mut World, from: &str, bytes: &[u8], counter: &str) {
    let before = world.count(counter);
    assert_eq!(world.send(from, bytes), [], "{bytes:?}");
    assert_eq!(world.count(counter), before + 1, "{bytes:?}");
    assert_eq!((world.orchestrator.queued(), world.events()), (0, vec![]));
}

#[test]
fn h01_fragments_of_messages_are_dropped() {
    let mut world = World::three();
    for bytes in [&b""[..], b"\0", b"A", b"T", b"Type"] {
        dropped(&mut world, CLIENT, bytes, "drop_not_mdalp");
    }
    dropped(&mut world, CLIENT, b"Type:", "drop_malformed");
    for whole in [&b"Type:2;TID:1;SEQ:0;DATA:"[..], b"Type:3;TID:1;SEQ:0"] {
        for len in 0..whole.len() {
            assert_eq!(world.send(CLIENT, &whole[..len]), []);
        }
    }
}

#[test]
fn h02_h03_types_that_are_not_plain_numbers_are_dropped() {
    let mut world = World::three();
    for bytes in ["Type:;", "Type:-0;", "Type:+0;", "Type: 0;", "Type:0.0;", "Type:0x0;"] {
        dropped(&mut world, CLIENT, bytes.as_bytes(), "drop_malformed");
    }
    for bytes in ["Type:00;", "Type:\u{660};", "Type:0\0;"] {
        dropped(&mut world, CLIENT, bytes.as_bytes(), "drop_malformed");
    }
    for bytes in ["type:0;", "TYPE:0;"] {
        dropped(&mut world, CLIENT, bytes.as_bytes(), "drop_not_mdalp");
    }
}

#[test]
fn h04_h05_h10_h40_messages_for_others_are_dropped() {
    let mut world = World::three();
    for bytes in [
        "Type:1;TID:1;DATA:[];",
        "Type:2;TID:1;SEQ:0;DATA:x",
        "Type:3;TID:1;SEQ:0;",
        "Type:5;TID:1;DATA:complete",
    ] {
        dropped(&mut world, CLIENT, bytes.as_bytes(), "drop_unexpected");
    }
    for bytes in ["Type:4;", "Type:255;", "Type:3;TID:5;", "Type:3;TID:18446744073709551616;SEQ:0;"]
    {
        dropped(&mut world, CLIENT, bytes.as_bytes(), "drop_malformed");
    }
}

#[test]
fn h08_h09_h12_junk_of_any_size_is_dropped() {
    let mut world = World::three();
    for byte in [b'[', b'9', 0xff, 0, b'T'] {
        dropped(&mut world, CLIENT, &vec![byte; 65_507], "drop_not_mdalp");
    }
    dropped(&mut world, CLIENT, &b"Type:1;".repeat(9_000), "drop_malformed");
    dropped(
        &mut world,
        CLIENT,
        format!("Type:{}", "9".repeat(60_000)).as_bytes(),
        "drop_malformed",
    );
    // QUIC packets: a long header, a short one that begins with T.
    dropped(&mut world, CLIENT, b"\xc3\0\0\0\x01\x08abcdefgh", "drop_not_mdalp");
    dropped(&mut world, CLIENT, b"Tabcdefgh\x01\x02", "drop_not_mdalp");
}

#[test]
fn h11_what_follows_an_intent_is_ignored() {
    let mut world = World::three();
    assert_eq!(world.send(CLIENT, b"Type:0;Type:0;").len(), 1);
    assert_eq!(world.orchestrator.live(), 1);
}

#[test]
fn h13_sources_that_cannot_be_answered_are_dropped() {
    let own: SocketAddr = "198.51.100.1:4650".parse().unwrap();
    let mut world = World::new(Config { own: vec![own], ..Config::new(entries(3, "R", "")) });
    for from in [
        "198.51.100.1:4650",
        "198.51.100.7:0",
        "224.0.0.1:9",
        "255.255.255.255:9",
        "[::ffff:198.51.100.7]:9",
    ] {
        dropped(&mut world, from, b"Type:0;", "drop_bad_source");
    }
}

#[test]
fn h41_h47_ids_are_63_bits_never_zero_and_never_in_use() {
    let mut script = [0, u64::MAX, u64::MAX, 1 << 63, 7, 7, u64::MAX >> 1, 9].into_iter();
    let random = Box::new(move || script.next().unwrap_or(7));
    let mut orchestrator = Orchestrator::new(Config::new(entries(1, "R", "")), random);
    let mut assigned = |port: u16, now: Instant| {
        orchestrator.handle_datagram(now, ([198, 51, 100, 7], port).into(), b"Type:0;");
        let tid = orchestrator.poll_transmit().unwrap().tid.unwrap();
        orchestrator.transaction_ended(now, tid);
        tid.0
    };
    let now = Instant::ZERO;
    assert_eq!([1, 2, 3].map(|port| assigned(port, now)), [u64::MAX >> 1, 7, 9]);
    // The source is stuck at 7, which was used recently, and is again after ten minutes.
    assert_eq!(assigned(4, now), 8);
    assert_eq!(assigned(5, now + 599 * SECOND), 10);
    assert_eq!(assigned(6, now + 600 * SECOND), 7);
}

#[test]
fn h44_quotas_per_source_prefix_and_in_total() {
    let config = Config { concurrency: Some(0), ..Config::new(entries(3, "R", "")) };
    let mut world = World::new(config);
    for port in 1..=9 {
        world.intent(&format!("198.51.100.7:{port}"));
    }
    assert_eq!((world.orchestrator.queued(), world.count("drop_source_quota")), (8, 1));
    for host in 8..=15 {
        for port in 1..=8 {
            world.intent(&format!("198.51.100.{host}:{port}"));
        }
    }
    assert_eq!((world.orchestrator.queued(), world.count("drop_prefix_quota")), (64, 8));
    for port in 1..=65 {
        world.intent(&format!("127.0.0.1:{port}"));
    }
    assert_eq!((world.orchestrator.queued(), world.count("drop_source_quota")), (128, 2));
    for n in 0..5_000 {
        world.intent(&format!("10.{}.{}.1:7", n / 256, n % 256));
    }
    assert_eq!((world.orchestrator.queued(), world.count("drop_queue_full")), (4096, 1032));
    world.events();
    // A repeat needs no new place.
    world.intent("198.51.100.7:1");
    assert_eq!(world.count("repeated_waiting"), 1);
}

#[test]
fn h44_a_padded_intent_is_answered_although_strangers_fill_the_queue() {
    let mut world = World::three();
    for n in 0..6_000 {
        world.intent(&format!("10.{}.{}.1:7", n / 256, n % 256));
    }
    world.events();
    assert_eq!(world.orchestrator.queued(), 4096);
    assert_eq!(world.intent("198.51.100.7:1").len(), 0);
    assert_eq!(world.send("198.51.100.7:2", &padded(80)).len(), 1);
    assert_eq!(world.orchestrator.queued(), 4096);
    // If all wait for a free place instead, nobody is let through.
    let config = Config { concurrency: Some(0), queue: 1, ..Config::new(entries(3, "R", "")) };
    let mut world = World::new(config);
    world.intent("198.51.100.7:1");
    assert_eq!(world.send("198.51.100.7:2", &padded(80)).len(), 0);
    assert_eq!(world.count("drop_queue_full"), 1);
}

#[test]
fn h44_a_waiting_intent_costs_less_than_256_bytes() {
    // Sorted maps and queues are at least half full.
    let place = size_of::<Asker>();
    assert!(2 * (place + size_of::<Waiting>()) + 2 * place <= 256);
}

#[test]
fn s16_h44_bare_intents_are_answered_at_five_a_second_per_prefix_and_none_is_lost() {
    let mut world = World::three();
    for port in 1..=8 {
        for host in 1..=3 {
            world.intent(&format!("198.51.100.{host}:{port}"));
        }
    }
    assert_eq!((world.orchestrator.live(), world.orchestrator.queued()), (10, 14));
    assert_eq!(world.intent("203.0.113.1:7").len(), 1, "another prefix does not wait for them");
    world.wait(SECOND);
    assert_eq!(world.sent().len(), 5);
    world.wait(2 * SECOND);
    assert_eq!((world.sent().len(), world.orchestrator.queued()), (9, 0));
}

#[test]
fn s16_padded_intents_are_not_limited() {
    let mut world = World::three();
    let question = padded(80);
    for port in 1..=200 {
        let sent = world.send(&format!("198.51.100.7:{port}"), &question);
        assert!(sent[0].datagram.len() <= 3 * question.len());
    }
    // And a padded repeat helps a bare intent that waits.
    let others: Vec<_> = (1..=20).map(|host| format!("192.0.2.{host}:7")).collect();
    let answered: Vec<_> = others.iter().map(|from| world.intent(from).len()).collect();
    assert_eq!(answered.iter().sum::<usize>(), 10);
    assert_eq!(world.send(&others[19], &question).len(), 1);
}

#[test]
fn s16_repeated_answers_count_against_the_limit() {
    let mut world = World::three();
    let answers: usize = (0..100).map(|_| world.intent(CLIENT).len()).sum();
    assert_eq!((answers, world.count("drop_repeat_limited")), (10, 90));
    assert_eq!(world.wait(SECOND).intent(CLIENT).len(), 1);
}

#[test]
fn h44_a_flood_from_everywhere_gets_a_megabit_a_second() {
    let mut world = World::three();
    let mut bytes = 0;
    for n in 0_u32..10_000 {
        let from = format!("{}.{}.{}.1:7", 11 + n % 100, (n / 100) % 256, n / 5_000);
        world.send(&from, b"Type:0;").iter().for_each(|t| bytes += t.datagram.len());
        world.wait(Duration::from_micros(100));
        world.sent().iter().for_each(|t| bytes += t.datagram.len());
        world.events();
    }
    // In 1 s, with the first tenth of a second's worth.
    assert!((100_000..=137_500).contains(&bytes), "{bytes}");
}
