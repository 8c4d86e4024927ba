//! What an ack, its absence and its lateness do to one lane.

use super::*;
use crate::ids::TransactionId;

fn ms(n: u64) -> Instant {
    Instant::from_millis(n)
}

/// A lane that has sent `sent` of ten chunks at 0 ms.
fn lane(crc: bool, window: u16, sent: usize) -> Lane {
    let target = Target {
        addr: ReceiverAddr(([10, 0, 0, 1], 4650).into()),
        latency: 1.0,
        window,
        crc,
        seal: false,
        record: false,
    };
    let mut lane = Lane::new(&target, RtoConfig::default());
    lane.assign(&std::iter::once(0..=9).collect());
    for _ in 0..sent {
        send(&mut lane, ms(0));
    }
    lane
}

fn send(lane: &mut Lane, now: Instant) -> SequenceNumber {
    let sent = lane.next_send(now, |_| 100).unwrap();
    lane.note_crc(sent.seq, crc_of(sent.seq.0));
    sent.seq
}

fn crc_of(seq: u64) -> ChunkCrc {
    ChunkCrc::of(TransactionId(1), SequenceNumber(seq), b"data")
}

fn ack(lane: &mut Lane, at: u64, seq: u64, crc: Option<ChunkCrc>) -> bool {
    lane.handle_ack(ms(at), SequenceNumber(seq), crc) != AckOutcome::Ignored
}

/// The first chunk counts as lost and is on its way again, not yet encoded.
fn lost_and_queued_again() -> Lane {
    let mut lane = lane(true, 3, 3);
    assert!(ack(&mut lane, 100, 1, Some(crc_of(1))));
    assert!(ack(&mut lane, 100, 2, Some(crc_of(2))));
    lane.handle_timeout(ms(250));
    assert_eq!(lane.next_send(ms(250), |_| 100).unwrap().seq, SequenceNumber(0));
    lane
}

#[test]
fn b8_t20_a_late_genuine_ack_of_a_chunk_that_is_queued_again_counts() {
    let mut lane = lost_and_queued_again();
    assert!(ack(&mut lane, 251, 0, Some(crc_of(0))));
    assert_eq!(lane.stats.crc_mismatches, 0);
}

#[test]
fn b8_a_late_ack_with_a_wrong_crc_or_none_does_not_count() {
    for crc in [None, Some(crc_of(7))] {
        let mut lane = lost_and_queued_again();
        assert!(!ack(&mut lane, 251, 0, crc));
        assert_eq!(lane.stats.crc_mismatches, 1);
    }
}

#[test]
fn the_crc_of_an_ack_after_the_chunk_was_given_away_counts_too() {
    for (crc, counts) in [(None, false), (Some(crc_of(7)), false), (Some(crc_of(0)), true)] {
        let mut lane = lane(true, 1, 1);
        lane.take(&std::iter::once(0..=0).collect());
        assert_eq!(ack(&mut lane, 50, 0, crc), counts);
    }
}

#[test]
fn i22_a_late_copy_of_the_ack_of_a_chunk_that_was_found_missing_is_no_sample() {
    let mut lane = lane(false, 1, 1);
    assert!(ack(&mut lane, 400, 0, None));
    let missing = std::iter::once(0..=0).collect();
    lane.forget(&missing);
    lane.assign(&missing);
    assert_eq!(send(&mut lane, ms(410)), SequenceNumber(0));
    assert_eq!(lane.handle_ack(ms(430), SequenceNumber(0), None), AckOutcome::New { rtt: None });
    assert_eq!(lane.rtt.srtt(), Some(Duration::from_millis(400)));
}

#[test]
fn karn_an_ack_of_a_chunk_that_was_sent_twice_is_no_sample() {
    let mut lane = lane(false, 1, 1);
    assert!(ack(&mut lane, 100, 0, None));
    send(&mut lane, ms(100));
    let due = lane.timer().unwrap();
    assert!(lane.handle_timeout(due).is_some());
    let srtt = lane.rtt.srtt();
    let outcome = lane.handle_ack(due, SequenceNumber(1), None);
    assert_eq!((outcome, lane.rtt.srtt()), (AckOutcome::New { rtt: None }, srtt));
}

#[test]
fn an_ack_starts_the_retransmission_timer_anew_while_chunks_are_in_flight() {
    let mut lane = lane(false, 2, 2);
    assert_eq!(lane.timer(), Some(ms(1000)));
    assert!(ack(&mut lane, 900, 0, None));
    assert_eq!(lane.timer(), Some(ms(900) + lane.rtt.rto()));
    assert!(ack(&mut lane, 901, 1, None));
    assert_eq!(lane.timer(), None);
}

#[test]
fn a_timeout_halves_the_bytes_that_may_be_in_flight() {
    let mut lane = lane(false, 32, 1);
    assert!(ack(&mut lane, 100, 0, None));
    lane.next_send(ms(100), |_| 6000).unwrap();
    let due = lane.timer().unwrap();
    assert!(lane.handle_timeout(due).is_some());
    let later = due + Duration::from_secs(10);
    assert!(lane.next_send(later, |_| 2000).is_none(), "6,000 + 2,000 are more than 7,300");
    assert!(lane.next_send(later, |_| 1300).is_some());
}

#[test]
fn a_duplicate_ack_is_no_progress() {
    let mut lane = lane(false, 2, 2);
    assert!(ack(&mut lane, 100, 0, None));
    let (timer, waiting) = (lane.timer(), lane.waiting_since());
    assert!(!ack(&mut lane, 200, 0, None));
    assert_eq!((lane.timer(), lane.waiting_since()), (timer, waiting));
    assert_eq!(lane.stats.duplicate_acks, 1);
}

#[test]
fn the_ack_of_a_datagram_that_never_left_is_an_optimistic_one() {
    let mut lane = lane(false, 1, 0);
    let sent = lane.next_send(ms(0), |_| 100).unwrap();
    lane.cancel(sent.seq.0);
    lane.not_sent(sent);
    assert!(!ack(&mut lane, 50, 0, None));
    assert_eq!((lane.stats.optimistic_acks, lane.stats.datagrams), (1, 0));
}
