//! What a transfer does with receivers that delay, drop, repeat, invent and die.

mod adaptive;
mod confirming;
mod hostile;
mod net;
mod recording;

use super::*;
use crate::ids::ReceiverAddr;
use crate::split::byte_shares;
use net::{Net, Script, addr, chance, dead, ms, steady};

/// Three receivers like the original's: 50 chunks, round trips of its pings.
fn seed_wan(mut wrap: impl FnMut(u64) -> Script) -> Net {
    Net::new(5000, vec![wrap(335), wrap(163), wrap(157)])
}

#[test]
fn without_loss_the_slowest_lane_sets_the_time_and_nothing_is_sent_twice() {
    let mut net = seed_wan(steady);
    net.run_complete();
    // Equal latencies were planned: 17 chunks each, the slowest at 335 ms.
    assert_eq!(net.elapsed(), ms(335 * 17));
    assert_eq!(net.sent.len(), 51);
}

#[test]
fn an_empty_payload_is_complete_at_once() {
    let mut net = Net::new(0, vec![steady(10)]);
    net.run_complete();
    assert!(net.sent.is_empty());
}

#[test]
fn stop_and_wait_sends_chunks_in_order_one_at_a_time() {
    let mut net = Net::new(1000, vec![steady(20)]);
    net.run_complete();
    let order: Vec<u64> = net.sent.iter().map(|(_, _, seq)| *seq).collect();
    assert_eq!(order, (0..10).collect::<Vec<_>>());
    assert!(net.sent.windows(2).all(|w| w[1].0 - w[0].0 == ms(20)));
}

#[test]
fn s1_s2_s3_duplicate_acks_cause_no_datagram_and_skip_nothing() {
    for copies in [2, 5] {
        let mut net = seed_wan(|rtt| Box::new(move |_, _| vec![ms(rtt); copies]));
        net.run_complete();
        assert_eq!(net.sent.len(), 51);
        // Copies that came after the end are not even looked at.
        let counted: u64 = (0..3).map(|lane| net.transfer.stats(lane).duplicate_acks).sum();
        assert!(counted >= 48 * (copies as u64 - 1));
    }
}

#[test]
fn s4_acks_later_than_the_timeout_lose_no_chunk_and_count_once() {
    for seed in 0..50 {
        let mut net = seed_wan(|rtt| {
            let mut draw = chance(seed * 7 + rtt);
            Box::new(move |_, _| vec![if draw() < 0.1 { ms(4500) } else { ms(rtt) }])
        });
        net.run_complete();
    }
}

#[test]
fn s5_a_receiver_that_stops_acking_for_good_does_not_stop_the_transfer() {
    let stops = |_| -> Script { Box::new(|n, _| if n < 5 { vec![ms(50)] } else { vec![] }) };
    let mut net = Net::new(5000, vec![stops(0), steady(50), steady(60)]);
    net.run_complete();
    assert_eq!(net.transfer.stats(0).chunks, 5);
    assert_eq!(net.transfer.state(0), LaneState::Suspect);
    // F15: suspect at 30 s, and the others take what is left.
    assert!(net.elapsed() < ms(33_000), "{:?}", net.elapsed());
    let suspected = net
        .events
        .iter()
        .find(|(_, e)| matches!(e, Event::State { lane: 0, state: LaneState::Suspect }));
    assert!(suspected.is_some());
}

#[test]
fn s5_with_a_single_receiver_it_ends_in_an_error_after_120_s() {
    let policy = Box::new(Single { index: 0 });
    let stops: Script = Box::new(|n, _| if n < 42 { vec![ms(50)] } else { vec![] });
    let mut net = Net::with(5000, vec![stops], policy, TransferConfig::default(), 1);
    assert_eq!(net.run(), Outcome::NoProgress);
    assert_eq!(net.transfer.acked_bytes(), 4200);
    let dark = net.elapsed().saturating_sub(ms(42 * 50));
    assert!(dark >= ms(120_000) && dark < ms(125_000), "{dark:?}");
    assert!(net.sent_to(0) - 42 <= 50, "F14: at most 50 datagrams while dark");
}

#[test]
fn without_reassignment_nothing_moves_and_the_transfer_fails_in_the_end() {
    let config = TransferConfig { reassign: false, ..TransferConfig::default() };
    let scripts = vec![dead(), steady(50)];
    let mut net = Net::with(2000, scripts, Box::new(Latency), config, 1);
    assert_eq!(net.run(), Outcome::NoProgress);
    assert_eq!((net.transfer.stats(1).chunks, net.transfer.acked().len()), (10, 10));
}

#[test]
fn f14_when_all_are_silent_everything_waits_and_goes_on_after_healing() {
    for outage in [2_000, 30_000, 90_000] {
        let heals = Instant::from_millis(2000 + outage);
        let clock = std::rc::Rc::new(std::cell::Cell::new(Instant::ZERO));
        let script = |clock: std::rc::Rc<std::cell::Cell<Instant>>| -> Script {
            Box::new(move |_, _| {
                let dark = clock.get() > Instant::from_millis(2000) && clock.get() < heals;
                if dark { vec![] } else { vec![ms(100)] }
            })
        };
        let mut net = Net::new(5000, (0..3).map(|_| script(clock.clone())).collect());
        // The script reads the clock that the run advances.
        let outcome = loop {
            clock.set(net.now);
            if let Some(outcome) = net.step() {
                break outcome;
            }
            clock.set(net.now);
        };
        assert_eq!(outcome, Outcome::Complete { verified: false });
        let first =
            net.events.iter().find(|(at, e)| *at > heals && matches!(e, Event::Acked { .. }));
        assert!(first.unwrap().0 - heals <= ms(3500), "outage {outage}");
        for lane in 0..3 {
            assert!(net.transfer.stats(lane).chunks > 10, "everyone goes on: {outage} {lane}");
        }
    }
}

#[test]
fn f14_when_nobody_ever_answers_it_ends_with_few_datagrams() {
    let mut net = Net::new(5000, vec![dead(), dead(), dead()]);
    assert_eq!(net.run(), Outcome::NoProgress);
    assert_eq!(net.elapsed(), ms(120_000));
    for lane in 0..3 {
        // H27, G11: at most 16 in the first 30 s, 50 in all.
        let early = net
            .sent
            .iter()
            .filter(|(at, to, _)| *to == lane && *at - Instant::from_millis(1000) <= ms(30_000));
        assert!(early.count() <= 16);
        assert!(net.sent_to(lane) <= 50, "{}", net.sent_to(lane));
    }
}

#[test]
fn f11_an_rtt_longer_than_the_first_timeout_costs_few_datagrams() {
    let mut net = Net::new(5000, vec![steady(1500)]);
    net.run_complete();
    assert!(net.sent.len() <= 55, "{}", net.sent.len());
}

#[test]
fn a_path_that_becomes_slower_than_its_timeout_is_learned() {
    let slows: Script = Box::new(|n, _| vec![ms(if n < 20 { 100 } else { 1200 })]);
    let mut net = Net::new(10_000, vec![slows]);
    net.run_complete();
    assert!(net.sent.len() <= 120, "{}", net.sent.len());
}

#[test]
fn a_suspect_that_comes_back_gets_work_again() {
    let clock = std::rc::Rc::new(std::cell::Cell::new(Instant::ZERO));
    let theirs = clock.clone();
    let back: Script =
        Box::new(
            move |_, _| {
                if theirs.get() > Instant::from_millis(40_000) { vec![ms(50)] } else { vec![] }
            },
        );
    let mut net = Net::new(400_000, vec![back, steady(50), steady(50)]);
    let outcome = loop {
        clock.set(net.now);
        if let Some(outcome) = net.step() {
            break outcome;
        }
        clock.set(net.now);
    };
    assert_eq!(outcome, Outcome::Complete { verified: false });
    assert!(net.transfer.stats(0).chunks > 100, "{:?}", net.transfer.stats(0));
}

#[test]
fn loss_up_to_half_of_everything_ends_complete() {
    for (loss, seeds) in [(0.02, 40), (0.1, 40), (0.3, 20), (0.5, 10)] {
        for seed in 0..seeds {
            let mut net = seed_wan(|rtt| {
                let mut draw = chance(seed * 31 + rtt + 1);
                Box::new(move |_, _| {
                    let lost = draw() < loss || draw() < loss;
                    if lost { vec![] } else { vec![ms(rtt)] }
                })
            });
            net.run_complete();
            let ideal = 51.0 / ((1.0 - loss) * (1.0 - loss));
            assert!((net.sent.len() as f64) < ideal * 1.8 + 12.0, "{loss} {}", net.sent.len());
        }
    }
}

#[test]
fn f25_a_single_refusal_means_nothing() {
    let mut net = Net::new(3000, vec![steady(50), steady(50), steady(50)]);
    net.drain();
    net.transfer.handle_unreachable(net.now, addr(0));
    assert_eq!(net.transfer.state(0), LaneState::Probing);
}

#[test]
fn f25_refusals_make_a_receiver_suspect_within_three_seconds() {
    let mut net = Net::new(3000, vec![dead(), steady(50), steady(50)]);
    let mut refused = 0;
    loop {
        net.drain();
        if net.sent_to(0) > refused {
            refused += 1;
            net.transfer.handle_unreachable(net.now, addr(0));
        }
        if net.step().is_some() {
            break;
        }
    }
    net.run_complete();
    assert!(net.elapsed() < ms(4500), "{:?}", net.elapsed());
}

#[test]
fn g8_a_resumed_transfer_sends_only_what_was_not_acknowledged() {
    let config =
        TransferConfig { deadline: Some(Instant::from_millis(1850)), ..Default::default() };
    let scripts = vec![steady(50), steady(80), steady(20)];
    let mut net = Net::with(9000, scripts, Box::new(Adaptive), config, 1);
    assert_eq!(net.run(), Outcome::Deadline);
    let held: Vec<RangeSet> = (0..3).map(|lane| net.transfer.acked_by(lane).clone()).collect();
    let done = net.transfer.acked().clone();
    assert!(done.len() > 30 && done.len() < 90);

    let scripts = vec![steady(50), steady(80), steady(20)];
    let mut again = Net::with(9000, scripts, Box::new(Adaptive), TransferConfig::default(), 1);
    again.resume(&held);
    assert_eq!(again.run(), Outcome::Complete { verified: false });
    assert!(again.sent.iter().all(|(_, _, seq)| !done.contains(*seq)));
    let mut all = done;
    for lane in 0..3 {
        all.union_with(again.transfer.acked_by(lane));
    }
    assert_eq!(all.contiguous_from_zero(), Some(90));
    assert_eq!(again.transfer.acked_bytes(), 9000);

    // When everything was acknowledged there is nothing to do.
    let held: Vec<RangeSet> = (0..3).map(|lane| again.transfer.acked_by(lane).clone()).collect();
    let scripts = vec![steady(50), steady(80), steady(20)];
    let mut third = Net::with(9000, scripts, Box::new(Adaptive), TransferConfig::default(), 1);
    third.resume(&held);
    assert_eq!(third.run(), Outcome::Complete { verified: false });
    assert!(third.sent.is_empty());
}

#[test]
fn the_deadline_ends_it() {
    let deadline = Some(Instant::from_millis(1500));
    let config = TransferConfig { deadline, ..TransferConfig::default() };
    let mut net = Net::with(5000, vec![steady(100)], Box::new(Latency), config, 1);
    assert_eq!(net.run(), Outcome::Deadline);
    assert_eq!(net.elapsed(), ms(500));
}

#[test]
fn a_window_sends_more_per_round_trip_but_no_more_than_three_unasked() {
    let config = TransferConfig::default();
    let mut net = Net::with(5000, vec![steady(100)], Box::new(Latency), config, 8);
    net.run_complete();
    let first = net.sent.iter().filter(|(at, ..)| *at == Instant::from_millis(1000));
    assert_eq!(first.count(), 3);
    assert!(net.elapsed() <= ms(800), "{:?}", net.elapsed());
    assert_eq!(net.sent.len(), 50);
}

#[test]
fn a_windowed_lane_repairs_losses_without_waiting_for_the_timeout() {
    let script: Script = Box::new(|n, _| if n == 10 { vec![] } else { vec![ms(100)] });
    let mut net = Net::with(5000, vec![script], Box::new(Latency), TransferConfig::default(), 8);
    net.run_complete();
    assert_eq!(net.sent.len(), 51);
    assert_eq!(net.transfer.stats(0).timeouts, 0);
}

#[test]
fn after_a_loss_a_window_is_spread_over_the_round_trip() {
    let lossy: Script = Box::new(|n, _| if n == 200 { vec![] } else { vec![ms(100)] });
    let config = TransferConfig::default();
    let mut net = Net::with(100_000, vec![lossy], Box::new(Latency), config, 128);
    net.run_complete();
    let most_at_once = |from: Instant, to: Instant| {
        let mut counts: BTreeMap<Instant, u32> = BTreeMap::new();
        let between = net.sent.iter().filter(|(at, ..)| *at >= from && *at < to);
        between.for_each(|(at, ..)| *counts.entry(*at).or_default() += 1);
        counts.into_values().max().unwrap_or_default()
    };
    let lost = net.sent[200].2;
    let again = net.sent.iter().rfind(|(.., seq)| *seq == lost).map(|(at, ..)| *at).unwrap();
    // Acks come in bursts, and so does what they allow, until a loss is noticed.
    assert!(most_at_once(Instant::ZERO, again) > 20);
    assert_eq!(most_at_once(again, again + ms(100)), 1);
}

#[test]
fn every_chunk_has_as_many_holders_as_copies_are_wanted() {
    for (copies, receivers, one_dead) in
        [(2, 3u64, false), (3, 3, false), (2, 3, true), (9, 2, false)]
    {
        for policy in [Box::new(Latency) as Box<dyn Policy>, Box::new(Adaptive)] {
            let script = |at: u64| if at == 1 && one_dead { dead() } else { steady(20 + 30 * at) };
            let scripts = (0..receivers).map(script).collect();
            let config = TransferConfig { copies, ..TransferConfig::default() };
            let mut net = Net::with(3000, scripts, policy, config, 1);
            let end = net.run();
            assert_eq!(end, Outcome::Complete { verified: false }, "{copies} {one_dead}");
            let transfer = &net.transfer;
            let lanes = 0..usize::try_from(receivers).unwrap();
            for seq in 0..transfer.layout.chunks() {
                let holders = lanes.clone().filter(|&lane| transfer.acked_by(lane).contains(seq));
                assert!(holders.count() >= copies.min(lanes.len()), "chunk {seq} of {copies}");
            }
            assert_eq!(transfer.acked_bytes(), 3000);
        }
    }
}

#[test]
fn r33_bytes_in_flight_stay_within_tcps_first_window_and_halve_after_a_loss() {
    let script: Script = Box::new(|n, _| if n == 250 { vec![] } else { vec![ms(100)] });
    let mut net =
        Net::with(60_000, vec![script], Box::new(Latency), TransferConfig::default(), 256);
    let (mut most, mut most_after) = (0, 0);
    while net.step().is_none() {
        let in_flight = net.transfer.in_flight(0);
        most = most.max(in_flight);
        // The round trip after the loss is over, and the end is not near.
        if (440..520).contains(&net.transfer.acked().len()) {
            most_after = most_after.max(in_flight);
        }
    }
    assert_eq!(most, 146, "of 100 bytes each");
    assert!((70..=80).contains(&most_after), "{most_after}");
}

#[test]
fn a_suspect_that_keeps_chunks_because_the_others_have_them_is_not_flooded() {
    for window in [1, 8] {
        let stops: Script = Box::new(|n, _| if n < 3 { vec![ms(0)] } else { vec![] });
        let config = TransferConfig { copies: 2, ..TransferConfig::default() };
        let scripts = vec![steady(20), stops];
        let mut net = Net::with(3000, scripts, Box::new(Adaptive), config, window);
        assert_eq!(net.run(), Outcome::NoProgress);
        // Once in 3 s, and what was in flight before.
        assert!(net.sent_to(1) <= 40 + 20, "{} datagrams, window {window}", net.sent_to(1));
    }
}

#[test]
fn a_receiver_that_has_everything_does_not_wait_for_moves_that_cannot_be_made() {
    let stops: Script = Box::new(|n, _| if n < 3 { vec![ms(5)] } else { vec![] });
    let config = TransferConfig { copies: 2, ..TransferConfig::default() };
    let mut net = Net::with(2000, vec![steady(5), stops], Box::new(Adaptive), config, 1);
    let mut wakes = 0;
    while net.step().is_none() {
        wakes += 1;
    }
    assert_eq!(net.transfer.outcome(), Some(Outcome::NoProgress));
    assert!(wakes < 300, "{wakes} wake-ups in {:?}", net.elapsed());
}

#[test]
fn f14_in_an_outage_idle_receivers_do_not_pass_the_last_chunks_around() {
    for rtt in [0, 5, 160] {
        // The first has nothing left when it gets dark, the others one chunk each.
        let until = |count| -> Script {
            Box::new(move |n, _| if n < count { vec![ms(rtt)] } else { vec![] })
        };
        let scripts = vec![until(10), until(9), until(9)];
        let config = TransferConfig::default();
        let mut net = Net::with(3000, scripts, Box::new(Adaptive), config, 1);
        assert_eq!(net.run(), Outcome::NoProgress);
        for lane in 0..3 {
            let in_the_dark = net.sent_to(lane) - 9;
            assert!(in_the_dark <= 50, "{in_the_dark} datagrams to receiver {lane}, RTT {rtt} ms");
        }
    }
}

fn two_alike() -> [Target; 2] {
    [0, 1].map(|at| Target {
        addr: ReceiverAddr(addr(at)),
        latency: 1.0,
        window: 8,
        crc: false,
        seal: false,
        record: false,
    })
}

#[test]
fn large_chunks_that_nobody_acks_are_given_up_early() {
    let targets = two_alike();
    let plan = Plan::new(net::TID, 5000, 1200, &targets, &Adaptive);
    let last = SequenceNumber(plan.layout.chunks() - 1);
    assert!(plan.layout.len(last) < 1200);
    // The last chunk is short, and may get through where the others do not.
    for short_arrives in [false, true] {
        let mut now = Instant::ZERO;
        let mut transfer =
            Transfer::new(now, TransferConfig::default(), &plan, &targets, Box::new(Adaptive));
        while let Some(next) = transfer.poll_timeout() {
            while let Some(transmit) = transfer.poll_transmit() {
                let mut ack = Vec::new();
                crate::wire::encode_ack(&mut ack, net::TID, transmit.seq, None);
                if short_arrives && transmit.seq == last {
                    transfer.handle_datagram(now + ms(50), transmit.to, &ack);
                }
            }
            now = next;
            transfer.handle_timeout(now);
        }
        assert_eq!(transfer.outcome(), Some(Outcome::NothingArrives), "{short_arrives}");
        assert!(now < Instant::from_millis(15_000), "{now:?}");
    }
}

#[test]
fn a_receiver_that_is_dead_is_no_path_that_drops_large_datagrams() {
    // Shares too short for a full chunk: whoever is silent now, size is not why.
    let targets = two_alike();
    let plan = Plan::new(net::TID, 1000, 1200, &targets, &Latency);
    let mut now = Instant::ZERO;
    let mut transfer =
        Transfer::new(now, TransferConfig::default(), &plan, &targets, Box::new(Latency));
    while let Some(next) = transfer.poll_timeout() {
        while let Some(transmit) = transfer.poll_transmit() {
            let mut ack = Vec::new();
            crate::wire::encode_ack(&mut ack, net::TID, transmit.seq, None);
            if transmit.lane == 1 {
                transfer.handle_datagram(now, transmit.to, &ack);
            }
        }
        now = next;
        transfer.handle_timeout(now);
    }
    assert_eq!(transfer.outcome(), Some(Outcome::Complete { verified: false }));
}

#[test]
fn a_chunk_that_was_overtaken_is_resent_without_waiting_for_another_ack_or_the_timeout() {
    // One lane, window 8: the first datagram of the second flight is lost, all others are not.
    let lossy: Script = Box::new(|n, _| if n == 3 { vec![] } else { vec![ms(100)] });
    let config = TransferConfig::default();
    let mut net = Net::with(900, vec![lossy], Box::new(Latency), config, 8);
    net.run_complete();
    // Three, then six; the lost one is known to be after 9/8 of a round trip or a little more.
    assert_eq!(net.transfer.stats(0).timeouts, 0);
    assert!(net.elapsed() < ms(100 + 100 + 75 + 100), "{:?}", net.elapsed());
}

#[test]
fn the_first_two_timeouts_send_two_datagrams_where_more_than_one_may_be_in_flight() {
    let at_once = |window| {
        // Dead after its first ack.
        let dying: Script = Box::new(|n, _| if n == 0 { vec![ms(100)] } else { vec![] });
        let config = TransferConfig::default();
        let mut net = Net::with(1000, vec![dying], Box::new(Latency), config, window);
        net.run();
        let mut times: Vec<Instant> = net.sent.iter().map(|(at, ..)| *at).collect();
        let first = net.sent.iter().filter(|(at, ..)| *at <= times[0] + ms(100)).count();
        times.drain(..first);
        times.chunk_by(|a, b| a == b).map(<[Instant]>::len).take(4).collect::<Vec<_>>()
    };
    assert_eq!(at_once(8), [2, 2, 1, 1]);
    assert_eq!(at_once(1), [1, 1, 1, 1]);
}
