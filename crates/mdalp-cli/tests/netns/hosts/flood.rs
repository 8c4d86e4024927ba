//! Floods of messages that are in order, from everywhere (H45, H46, H49, F25, F32).

use super::{Strangers, choices, far, hosts, peak_memory};
use crate::support::{assert_small, json_lines, payload, run, text};

fn chunk(tid: u64, seq: u64) -> Vec<u8> {
    format!("Type:2;TID:{tid};SEQ:{seq};DATA:x").into_bytes()
}

/// Numbers with 63 bits, as orchestrators give them.
fn random_id(choose: &mut impl FnMut() -> u64) -> u64 {
    1 << 62 | choose() << 31 | choose()
}

pub(super) fn h45_numbers_with_gaps_between_them_take_bounded_memory() {
    let net = hosts();
    let server = net.serve(&["--durability", "process"]);
    let strangers = Strangers::new();
    let mut choose = choices(2);
    let mut acks = 0;
    // As many transactions as one network may have, each with as many gaps as it may have.
    for host in 0..64 {
        let tid = random_id(&mut choose);
        for group in 0..16 {
            let chunks: Vec<_> = (0..64).map(|n| chunk(tid, 2 * (64 * group + n))).collect();
            acks += strangers.ask(host, &chunks, far(2));
        }
        let beyond = [4096, 4098, 1 << 24, 1 << 32, (1 << 32) + 2].map(|seq| chunk(tid, seq));
        if host < 8 {
            assert_eq!(strangers.ask(host, &beyond, far(2)), 0);
        }
    }
    println!("{acks} acks, peak {} KiB", peak_memory(server.id()));
    // A busy machine may lose some.
    assert!((60_000..=64 * 1024).contains(&acks), "{acks}");
    assert_small(server.id());
    let sent = run(&mut net.client(&net.file("payload", &payload(3000)), &[]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
}

pub(super) fn h46_h49_f25_ids_from_everywhere_take_bounded_memory() {
    let net = hosts();
    let server = net.serve(&["--durability", "process"]);
    let strangers = Strangers::new();
    let mut choose = choices(3);
    // That strangers are served at all; the flood's own acks may come late on a busy machine.
    let first = [chunk(random_id(&mut choose), 0)];
    assert!((0..100).any(|_| strangers.ask(0, &first, far(2)) == 1));
    let (mut acks, mut sent) = (0, 0);
    for _ in 0..2000 {
        for _ in 0..20 {
            let (who, id) = (choose() as u32, random_id(&mut choose));
            strangers.send(who, &chunk(id, choose() % 3), far(2 + (choose() % 3) as u8));
            sent += 1;
        }
        acks += strangers.answers().len();
    }
    println!("{acks} acks of {sent} chunks, peak {} KiB", peak_memory(server.id()));
    assert!(acks <= sent);
    assert_small(server.id());
    // Whoever is told that nobody listens any more goes on too.
    drop(strangers);
    let bytes = payload(3000);
    let sent = run(&mut net.client(&net.file("payload", &bytes), &["--json"]));
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let tid = json_lines(&sent.stdout).pop().unwrap()["tid"].as_u64().unwrap();
    assert!(net.get(tid) == bytes);
}
