//! What adaptive balancing does with receivers that are slower or faster than they seemed.

use super::*;

fn adaptive(payload: u64, scripts: Vec<Script>, window: u16) -> Net {
    Net::with(payload, scripts, Box::new(Adaptive), TransferConfig::default(), window)
}

#[test]
fn receivers_finish_together_although_planned_alike() {
    let mut net = adaptive(10_000, vec![steady(400), steady(100), steady(50)], 1);
    net.run_complete();
    // Rates of 2.5, 10 and 20 chunks/s: 100 chunks need 3.08 s at best.
    assert!(net.elapsed() <= ms(3_150), "{:?}", net.elapsed());
    assert!(net.sent.len() <= 100 + 3, "{}", net.sent.len());
}

#[test]
fn with_windows_too() {
    let mut net = adaptive(100_000, vec![steady(400), steady(100), steady(50)], 8);
    net.run_complete();
    // Rates of 20, 80 and 160 chunks/s: 1,000 chunks need 3.85 s at best.
    assert!(net.elapsed() <= ms(4_050), "{:?}", net.elapsed());
}

#[test]
fn one_that_has_not_answered_yet_does_not_hold_up_the_end() {
    let mut net = adaptive(1000, vec![steady(3000), steady(20), steady(20)], 1);
    net.run_complete();
    assert!(net.elapsed() <= ms(200), "{:?}", net.elapsed());
}

#[test]
fn receivers_that_are_alike_get_nothing_twice() {
    for window in [1, 8] {
        let mut net = adaptive(2900, vec![steady(50), steady(53), steady(56)], window);
        net.run_complete();
        assert_eq!(net.sent.len(), 29, "window {window}");
    }
}

#[test]
fn a_slow_one_is_not_waited_for_when_another_would_have_its_last_chunk_sooner() {
    // Its second ack takes as long as everything.
    let slow: Script = Box::new(|n, _| vec![ms(if n == 0 { 40 } else { 2000 })]);
    let mut net = adaptive(3000, vec![slow, steady(40)], 1);
    net.run_complete();
    assert!(net.elapsed() <= ms(1300), "{:?}", net.elapsed());
}

#[test]
fn h27_what_others_take_over_makes_no_room_for_more_to_a_stranger() {
    let mut net = adaptive(40_000, vec![steady(20), steady(3000), steady(30)], 32);
    net.run_complete();
    assert!(net.elapsed() < ms(3000), "{:?}", net.elapsed());
    assert!(net.sent_to(1) <= 5, "{}", net.sent_to(1));
}

#[test]
fn one_whose_chunk_others_took_over_is_still_asked_and_becomes_suspect() {
    // The other one is so slow that the silence of the first is long enough.
    let dies: Script = Box::new(|n, _| if n < 2 { vec![ms(50)] } else { vec![] });
    let mut net = adaptive(12_000, vec![dies, steady(2000)], 1);
    net.run_complete();
    let suspect = |(_, event): &(Instant, Event)| {
        matches!(event, Event::State { lane: 0, state: LaneState::Suspect })
    };
    assert!(net.events.iter().any(suspect));
    assert!(net.sent_to(0) <= 30, "{}", net.sent_to(0));
}

#[test]
fn a_lane_that_is_given_back_what_it_has_in_flight_does_not_send_it_twice() {
    let target = Target {
        addr: ReceiverAddr(addr(0)),
        latency: 1.0,
        window: 8,
        crc: false,
        seal: false,
        record: false,
    };
    let now = Instant::from_millis(1000);
    let mut lane = Lane::new(&target, TransferConfig::default().rto);
    lane.assign(&[0..=1].into_iter().collect());
    assert!(lane.next_send(now, |_| 100).is_some() && lane.next_send(now, |_| 100).is_some());
    lane.share(0);
    lane.share(1);
    // The other lane became suspect, and what it had of these comes back.
    lane.assign(&[0..=0].into_iter().collect());
    assert_eq!(lane.next_send(now, |_| 100), None);
    // Nobody else sends it now: it goes to others when this one is suspect too.
    assert_eq!(lane.work(), [0..=0].into_iter().collect());
}

#[test]
fn a_payload_is_cut_into_whole_chunks_unless_some_receiver_would_get_none() {
    let shares = |payload| Adaptive.plan(payload, 100, &[335.0, 163.0, 157.0]);
    assert_eq!(shares(5000), [1000, 2000, 2000]);
    assert_eq!(shares(4950), [1000, 2000, 1950]);
    assert_eq!(shares(150), byte_shares(150, &[335.0, 163.0, 157.0]));
    assert_eq!(shares(0), [0, 0, 0]);
}

#[test]
fn one_that_is_late_itself_is_no_reason_to_look_again_soon() {
    let lane = |in_flight, oldest| LaneView {
        state: LaneState::Active,
        was_suspect: false,
        queued: 0,
        in_flight,
        has_room: in_flight < 2,
        service: Some(ms(10)),
        rtt: Some(ms(10)),
        oldest,
        unshared: oldest,
    };
    let due = |here, other| Adaptive.due_in(&[lane(1, here), lane(2, other)]);
    assert_eq!(due(Some(ms(2)), Some(ms(15))), Some(ms(5)));
    // What it would take grows as fast as what the other has waited: that is never caught up.
    assert_eq!(due(Some(ms(900)), Some(ms(900))), None);
}

/// [`Adaptive`], and how often it was asked.
#[derive(Debug)]
struct Counted(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Policy for Counted {
    fn name(&self) -> &'static str {
        Adaptive.name()
    }

    fn plan(&self, payload: u64, chunk: u16, latencies: &[f64]) -> Vec<u64> {
        Adaptive.plan(payload, chunk, latencies)
    }

    fn rebalance(&mut self, lanes: &[LaneView]) -> Option<Move> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Adaptive.rebalance(lanes)
    }

    fn due_in(&self, lanes: &[LaneView]) -> Option<Duration> {
        Adaptive.due_in(lanes)
    }
}

#[test]
fn among_many_receivers_shares_follow_the_acks_although_not_each_ack_has_the_policy_look() {
    let script = |lane: u64| steady(if lane.is_multiple_of(10) { 400 } else { 40 + lane % 10 });
    let scripts = (0..250).map(script).collect();
    let asked = std::sync::Arc::default();
    let policy = Box::new(Counted(std::sync::Arc::clone(&asked)));
    let (config, chunks) = (TransferConfig::default(), 250 * 20);
    let mut net = Net::with(chunks * 100, scripts, policy, config, 4);
    let start = net.now;
    assert!(matches!(net.run(), Outcome::Complete { .. }));
    let moves = net.events.iter().filter(|(_, event)| matches!(event, Event::Moved { .. })).count();
    let asked = asked.load(std::sync::atomic::Ordering::Relaxed);
    // An ack pays for an eighth of a look; after a move there is another one.
    let timers = usize::try_from((net.now - start).as_millis()).unwrap() + 1;
    assert!(asked <= usize::try_from(chunks).unwrap() / 7 + moves + timers, "{asked}, {moves}");
    // Alone, the slow ones would need 2,000 ms.
    assert!(moves > 0 && net.now - start < ms(900), "{:?}", net.now - start);
}

#[test]
fn the_late_ack_of_a_chunk_that_counted_as_lost_and_moved_cancels_it_elsewhere() {
    let target = |at| Target {
        addr: ReceiverAddr(addr(at)),
        latency: 1.0,
        window: 8,
        crc: false,
        seal: false,
        record: false,
    };
    let now = Instant::from_millis(1000);
    let targets: Vec<_> = (0..2).map(target).collect();
    let plan = Plan::new(net::TID, 4000, 100, &targets, &Adaptive);
    let config = TransferConfig::default();
    let mut transfer = Transfer::new(now, config, &plan, &targets, Box::new(Adaptive));
    // Chunk 5 was sent by the first, counts as lost, and is queued there.
    let lane = &mut transfer.lanes[0];
    while lane.next_send(now, |_| 100).is_some() {}
    lane.given_away.insert(5, None);
    let what = Move { from: 0, to: 1, chunks: 1, reason: MoveReason::Idle };
    let chunks = [5..=5].into_iter().collect();
    transfer.lanes[0].drop_queued(&chunks);
    transfer.hand_over(now, what, &chunks);
    assert!(transfer.lanes[1].sends(5));
    let mut ack = Vec::new();
    crate::wire::encode_ack(&mut ack, net::TID, SequenceNumber(5), None);
    transfer.handle_datagram(now + ms(10), addr(0), &ack);
    assert!(!transfer.lanes[1].sends(5) && transfer.is_acked(5));
}
