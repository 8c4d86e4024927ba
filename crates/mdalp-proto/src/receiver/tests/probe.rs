//! Probes of orchestrators.

use super::*;
use crate::ids::Nonce;
use crate::wire::{Capabilities, encode_probe};

const CAPS: &str = "crc record window=32 chunk=1200";

fn world() -> World {
    World::new(Config {
        probed: vec![Capabilities::default(), Capabilities::parse(CAPS)],
        ..Config::default()
    })
}

fn probe(nonce: u64, len: usize) -> Vec<u8> {
    let mut probe = Vec::new();
    encode_probe(&mut probe, Nonce(nonce), len);
    probe
}

fn replies(world: &mut World) -> Vec<ProbeReply> {
    std::iter::from_fn(|| world.receiver.poll_probe_reply()).collect()
}

#[test]
fn each_receiver_answers_with_its_own_capabilities() {
    let mut world = world();
    for (local, caps) in [(1, CAPS), (0, "")] {
        assert_eq!(world.send_to(local, CLIENT, &probe(7, 160)), None);
        let all = replies(&mut world);
        let [reply] = &*all else { panic!("{all:?}") };
        assert_eq!((reply.local, reply.to.to_string().as_str()), (Local(local), CLIENT));
        let caps = Capabilities::parse(caps);
        assert_eq!(decode(&reply.datagram), Ok(Message::ProbeReply { nonce: Nonce(7), caps }));
    }
    assert_eq!(world.send_to(2, CLIENT, &probe(7, 160)), None);
    assert_eq!((replies(&mut world).len(), world.count("drop_unexpected")), (0, 1));
    assert_eq!(world.count("probes"), 2);
}

#[test]
fn h51_a_probe_gets_no_longer_answer_than_it_is_itself() {
    let mut world = world();
    for len in 0..120 {
        let probe = probe(7, len);
        world.send_to(1, CLIENT, &probe);
        assert!(replies(&mut world).iter().all(|reply| reply.datagram.len() <= probe.len()));
    }
    assert!(world.count("drop_probe") > 0 && world.count("probes") > 0);
}

#[test]
fn a_flood_of_probes_is_answered_at_a_rate() {
    let mut world = world();
    let mut answered = 0;
    for nonce in 0..20_000 {
        world.send_to(1, CLIENT, &probe(nonce, 160));
        world.now = world.now + Duration::from_micros(50);
        answered += replies(&mut world).len();
    }
    assert!((2000..=2200).contains(&answered), "{answered} in a second");
}

#[test]
fn without_capabilities_to_tell_no_probe_is_answered() {
    let mut world = World::new(Config::default());
    world.send_to(0, CLIENT, &probe(7, 160));
    assert_eq!((replies(&mut world).len(), world.count("drop_unexpected")), (0, 1));
}
