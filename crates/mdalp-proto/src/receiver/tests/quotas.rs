//! What counts against a quota and for how long, and what a refused sender is told.

use super::*;

/// The question about a payload of one chunk.
fn question(tid: u64, chunks: u64) -> Vec<u8> {
    let statement = Statement { chunks, bytes: 3 * chunks, blake3: [7; 32] };
    let mut out = Vec::new();
    crate::wire::encode_seal(&mut out, &Seal { tid: TransactionId(tid), statement, checked: true });
    out
}

fn refusals(world: &mut World) -> Vec<String> {
    let refusal = |reply: SealReply| {
        let mut out = Vec::new();
        reply.encode(&mut out);
        String::from_utf8(out).unwrap()
    };
    std::iter::from_fn(|| world.receiver.poll_refusal()).map(refusal).collect()
}

/// Sends a question, and has it answered.
fn ask(world: &mut World, tid: u64, verdict: Verdict) {
    assert_eq!(world.send(CLIENT, &question(tid, 1)), None);
    let asked = world.receiver.poll_seal().unwrap();
    world.receiver.handle_sealed(&asked, Some(verdict));
    assert!(world.receiver.poll_seal_reply().is_some());
}

#[test]
fn t3_finished_transactions_count_against_no_quota() {
    let mut world = World::new(Config { seals: true, ..Config::default() });
    for tid in TID..TID + 1000 {
        assert!(world.chunk(CLIENT, tid, 0).is_some(), "{}", tid - TID);
        let verdict = if tid % 2 == 0 { Verdict::Complete } else { Verdict::Recorded(ChunkCrc(9)) };
        ask(&mut world, tid, verdict);
    }
    assert_eq!(world.count("drop_source_quota"), 0);
}

#[test]
fn t3_a_transaction_that_is_not_whole_still_counts() {
    let mut world = World::new(Config { seals: true, ..Config::default() });
    for tid in TID..TID + 64 {
        assert!(world.chunk(CLIENT, tid, 0).is_some());
        ask(&mut world, tid, Verdict::Mismatch);
    }
    assert_eq!(world.chunk(CLIENT, TID + 64, 0), None);
    world.receiver.handle_finished(TransactionId(TID));
    assert!(world.chunk(CLIENT, TID + 65, 0).is_some(), "the shell knows that one is over");
}

#[test]
fn r40_a_sender_of_crcs_is_told_why_its_chunk_is_refused() {
    let mut world = World::new(Config { per_source: 1, ..Config::default() });
    assert!(world.chunk(CLIENT, TID, 0).is_some());
    world.events();
    assert_eq!(world.send(CLIENT, &data_with_crc(TID + 1, 0, b"0123456789")), None);
    let text = format!("Type:5;TID:{};DATA:refused source-quota", TID + 1);
    assert_eq!(refusals(&mut world), [text]);
    let (tid, from) = (TransactionId(TID + 1), CLIENT.parse().unwrap());
    let refused = Event::Refused { tid, from, why: Refusal::SourceQuota };
    assert_eq!(world.events(), [refused]);
    assert_eq!(world.chunk(CLIENT, TID + 1, 0), None);
    assert_eq!(refusals(&mut world), [""; 0], "classic peers know no such answer");
    assert_eq!(world.events(), [refused], "but the operator is told");
}

#[test]
fn r40_what_the_store_has_no_room_for_is_refused_by_name() {
    for (stored, word) in [(Stored::Crowded, "crowded"), (Stored::Full, "full")] {
        let mut world = World::new(Config::default());
        world.refusal = Some(stored);
        assert_eq!(world.send(CLIENT, &data_with_crc(TID, 0, b"0123456789")), None);
        assert_eq!(refusals(&mut world), [format!("Type:5;TID:{TID};DATA:refused {word}")]);
    }
    let mut world = World::new(Config::default());
    world.refusal = Some(Stored::Failed);
    assert_eq!(world.send(CLIENT, &data_with_crc(TID, 0, b"0123456789")), None);
    assert_eq!(
        refusals(&mut world),
        [""; 0],
        "it comes again, and nobody can do anything about it"
    );
}

#[test]
fn b16_questions_behind_chunks_that_are_being_stored_take_nobodys_place() {
    let unlimited = Config { per_source: 9_999, per_prefix: 9_999, ..Config::default() };
    let mut world = World::new(Config { seals: true, ..unlimited });
    let from = CLIENT.parse().unwrap();
    for tid in TID..TID + 300 {
        world.receiver.handle_datagram(world.now, Local(0), from, &data(tid, 0, b"abc"));
        assert!(world.receiver.poll_append().is_some(), "the store has not answered yet");
        assert_eq!(world.send(CLIENT, &question(tid, 1)), None);
    }
    assert_eq!(world.receiver.poll_seal(), None);
    assert_eq!(world.send(CLIENT, &question(TID + 999, 1)), None);
    let asked = world.receiver.poll_seal().unwrap();
    assert_eq!(asked.seal.tid, TransactionId(TID + 999));
    assert_eq!(world.count("drop_seal"), 45, "the oldest gave way");
}

#[test]
fn b16_the_store_is_asked_no_more_than_256_questions_at_once() {
    let mut world = World::new(Config { seals: true, ..Config::default() });
    let asked: Vec<_> = (TID..TID + 300)
        .filter_map(|tid| {
            assert_eq!(world.send(CLIENT, &question(tid, 1)), None);
            world.receiver.poll_seal()
        })
        .collect();
    assert_eq!(asked.len(), 256);
    world.receiver.handle_sealed(&asked[0], None);
    assert!(world.receiver.poll_seal().is_some());
    assert_eq!(world.receiver.poll_seal(), None);
}

#[test]
fn statements_of_empty_payloads_begin_no_more_transactions_than_chunks_do() {
    let mut world = World::new(Config { seals: true, ..Config::default() });
    for tid in TID..TID + 200 {
        assert_eq!(world.send(CLIENT, &question(tid, 0)), None);
        if let Some(asked) = world.receiver.poll_seal() {
            world.receiver.handle_sealed(&asked, Some(Verdict::Recorded(ChunkCrc(1))));
        }
    }
    let answers = std::iter::from_fn(|| world.receiver.poll_seal_reply()).count();
    assert_eq!(answers, 64, "they count also when they are recorded");
}

#[test]
fn h47_a_stranger_who_guesses_an_id_states_nothing_of_it() {
    let mut world = World::new(Config { seals: true, ..Config::default() });
    let stranger = "203.0.113.9:5000";
    for chunks in [0, 2] {
        assert_eq!(world.send(stranger, &question(3740, chunks)), None);
        assert_eq!(world.receiver.poll_seal(), None, "before its client has sent anything");
    }
    assert!(world.chunk(CLIENT, 3740, 0).is_some());
    assert_eq!(world.send(stranger, &question(3740, 2)), None);
    assert_eq!((world.receiver.poll_seal(), world.count("drop_not_owner")), (None, 3));
    assert_eq!(world.send(CLIENT, &question(3740, 1)), None);
    assert!(world.receiver.poll_seal().is_some(), "its client does");
}
