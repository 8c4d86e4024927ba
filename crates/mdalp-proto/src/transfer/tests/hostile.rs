//! Acks that nobody should believe (H40 and its kin).

use super::*;

fn ack(tid: u64, seq: u64) -> Vec<u8> {
    format!("Type:3;TID:{tid};SEQ:{seq};").into_bytes()
}

/// A transfer of ten chunks to one receiver and ten to another, its first two chunks in flight.
fn fresh() -> Net {
    let mut net = Net::new(2000, vec![steady(100), steady(100)]);
    net.drain();
    net
}

/// Feeds a datagram; says whether anything at all came of it.
fn changes(net: &mut Net, from: SocketAddr, datagram: &[u8]) -> bool {
    let (sent, timer) = (net.sent.len(), net.transfer.poll_timeout());
    let (bytes, events) = (net.transfer.acked_bytes(), net.events.len());
    net.transfer.handle_datagram(net.now, from, datagram);
    net.drain();
    let after = (net.transfer.poll_timeout(), net.transfer.acked_bytes(), net.events.len());
    (sent, timer, bytes, events) != (net.sent.len(), after.0, after.1, after.2)
}

#[test]
fn h40_acks_that_are_not_of_a_chunk_in_flight_change_nothing() {
    let mut net = fresh();
    let stranger: SocketAddr = "10.0.0.9:4650".parse().unwrap();
    let wrong_port: SocketAddr = "10.0.0.1:4651".parse().unwrap();
    assert!(!changes(&mut net, stranger, &ack(3740, 0)));
    assert!(!changes(&mut net, wrong_port, &ack(3740, 0)));
    assert!(!changes(&mut net, addr(0), &ack(3741, 0)));
    for never_sent_here in [1, 9, 10, 19, 20, u64::MAX] {
        assert!(!changes(&mut net, addr(0), &ack(3740, never_sent_here)));
    }
    assert!(changes(&mut net, addr(0), &ack(3740, 0)));
    assert!(!changes(&mut net, addr(0), &ack(3740, 0)));
    let (stats, ignored) = (net.transfer.stats(0), net.transfer.ignored());
    assert_eq!((stats.optimistic_acks, stats.duplicate_acks), (6, 1));
    assert_eq!((ignored.strangers, ignored.wrong_tid), (2, 1));
}

#[test]
fn s13_h01_h10_junk_and_messages_for_others_change_nothing() {
    let mut net = fresh();
    let junk: [&[u8]; 12] = [
        b"",
        b"Type",
        b"Type:3;TID:3740;",
        b"Type:3;SEQ:0;",
        b"Type:3;TID:3740;SEQ:-1;",
        b"Type:3;TID:3740;SEQ:18446744073709551616;",
        b"\xff\xfe",
        b"Type:0;",
        b"Type:2;TID:3740;SEQ:0;DATA:x",
        b"Type:1;TID:3740;DATA:[]",
        b"Type:255;",
        b"Type:5;TID:3740;DATA:complete",
    ];
    for datagram in junk {
        assert!(!changes(&mut net, addr(0), datagram), "{}", datagram.escape_ascii());
    }
    let ignored = net.transfer.ignored();
    assert_eq!(ignored.undecodable + ignored.not_an_ack, 12);
    net.run_complete();
    assert_eq!(net.sent.len(), 20);
}

#[test]
fn h40_a_receiver_that_acks_what_it_was_never_sent_becomes_suspect() {
    let mut net = fresh();
    for seq in 100..115 {
        assert!(!changes(&mut net, addr(0), &ack(3740, seq)));
    }
    assert!(changes(&mut net, addr(0), &ack(3740, 115)));
    assert_eq!(net.transfer.state(0), LaneState::Suspect);
    // It cannot be told from forgery, so it is not fatal: an honest ack brings it back.
    net.run_complete();
}

#[test]
fn h11_the_second_ack_in_a_datagram_does_not_count() {
    let mut net = fresh();
    net.transfer.handle_datagram(net.now, addr(0), b"Type:3;TID:3740;SEQ:0;Type:3;TID:3740;SEQ:1;");
    net.drain();
    assert_eq!(net.transfer.acked().to_string(), "0");
}

#[test]
fn with_crc_only_the_ack_of_the_bytes_that_were_sent_counts() {
    let addr0 = ReceiverAddr(addr(0));
    let target =
        Target { addr: addr0, latency: 1.0, window: 1, crc: true, seal: false, record: false };
    let plan = Plan::new(net::TID, 100, 100, &[target], &Latency);
    let now = Instant::ZERO;
    let mut transfer =
        Transfer::new(now, TransferConfig::default(), &plan, &[target], Box::new(Latency));
    let transmit = transfer.poll_transmit().unwrap();
    let mut out = Vec::new();
    transfer.encode(&transmit, &[7; 100], &mut out);
    let Ok(Message::Data { tid, seq, crc: Some(crc), .. }) = decode(&out) else { panic!() };
    for wrong in ["", "CRC:00000000;"] {
        let text = format!("Type:3;TID:{tid};SEQ:{seq};{wrong}");
        transfer.handle_datagram(now, addr(0), text.as_bytes());
    }
    assert_eq!((transfer.outcome(), transfer.stats(0).crc_mismatches), (None, 2));
    let mut right = Vec::new();
    crate::wire::encode_ack(&mut right, tid, seq, Some(crc));
    transfer.handle_datagram(now, addr(0), &right);
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: false }));
}

#[test]
fn what_was_acknowledged_before_it_left_is_not_sent() {
    // Sixteen optimistic acks make the first receiver suspect, its chunks go to the second, and then
    // its real acks come, all in one burst.
    let mut net = Net::new(400, vec![dead(), steady(10)]);
    net.drain();
    let ack = |seq: u64| {
        let mut ack = Vec::new();
        crate::wire::encode_ack(&mut ack, net::TID, SequenceNumber(seq), None);
        ack
    };
    let now = net.now + ms(20);
    net.transfer.handle_datagram(now, addr(1), &ack(2));
    (0..16).for_each(|_| net.transfer.handle_datagram(now, addr(0), &ack(99)));
    net.transfer.handle_datagram(now, addr(0), &ack(0));
    let mut sent = 0;
    while let Some(transmit) = net.transfer.poll_transmit() {
        assert_ne!(transmit.seq.0, 0);
        sent += 1;
    }
    let counted: u64 = (0..2).map(|lane| net.transfer.stats(lane).datagrams).sum();
    assert_eq!(counted, 2 + sent, "what did not leave does not count");
}

#[test]
fn h40_a_receiver_that_answers_again_is_not_suspect_for_a_duplicate() {
    let mut net = fresh();
    let from = addr(0);
    (0..16).for_each(|_| {
        changes(&mut net, from, &ack(3740, 99));
    });
    assert_eq!(net.transfer.state(0), LaneState::Suspect);
    net.transfer.handle_datagram(net.now, from, &ack(3740, 0));
    net.drain();
    let state = net.transfer.state(0);
    assert_ne!(state, LaneState::Suspect);
    net.transfer.handle_datagram(net.now, from, &ack(3740, 0));
    assert_eq!(net.transfer.state(0), state, "a duplicate ack");
}

#[test]
fn a_late_ack_that_cancels_anothers_only_chunk_in_flight_makes_room_for_its_next_one() {
    let mut net = Net::new(2000, vec![dead(), dead()]);
    net.drain();
    assert!(changes(&mut net, addr(1), &ack(3740, 10)));
    for seq in 100..116 {
        changes(&mut net, addr(0), &ack(3740, seq));
    }
    assert_eq!(net.transfer.state(0), LaneState::Suspect);
    // The suspect's chunks are the other's now, and come first.
    assert!(changes(&mut net, addr(1), &ack(3740, 11)));
    assert_eq!(net.sent.last().map(|&(_, lane, seq)| (lane, seq)), Some((1, 0)));
    assert!(changes(&mut net, addr(0), &ack(3740, 0)));
    assert_eq!(net.transfer.in_flight(1), 1);
}
