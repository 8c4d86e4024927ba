//! One fault at a time, where its effect can be said exactly. Statistics are in `tests/it`.

use std::num::{NonZeroU32, NonZeroU64};

use super::*;
use crate::config::{Corruption, Duplication, Jitter, Late, Loss, Outage, Rate};
use crate::rng::Probability;

const MS: Duration = Duration::from_millis(1);

fn first(path: &mut Path, now: Duration) -> Option<Duration> {
    path.admit(now, 100).first.map(|delivery| delivery.at)
}

/// 8,000 bit/s and no headers: a millisecond per byte.
fn slow(queue_packets: Option<u32>, queue_bytes: Option<u64>) -> Path {
    let bits_per_second = NonZeroU64::new(8000).expect("not zero");
    let rate = Rate { bits_per_second, overhead: 0, queue_packets, queue_bytes };
    Path::new(PathConfig { delay: 5 * MS, rate: Some(rate), ..PathConfig::default() }, 1)
}

#[test]
fn a_perfect_path_only_delays() {
    let mut path = Path::new(PathConfig { delay: 15 * MS, ..PathConfig::default() }, 1);
    for n in 0..100 {
        let at = Some(Delivery { at: (n + 15) * MS, mangle: None });
        assert_eq!(path.admit(n * MS, 100), Deliveries { first: at, copy: None });
    }
    let counters = Counters { sent: 100, delivered: 100, ..Counters::default() };
    assert_eq!(*path.counters(), counters);
}

#[test]
fn the_nth_datagrams_are_lost_counting_from_one() {
    let loss = Loss { nth: vec![7, 1, 2], ..Loss::default() };
    let mut path = Path::new(PathConfig { loss, ..PathConfig::default() }, 1);
    let missing: Vec<_> = (1..=10).filter(|_| first(&mut path, MS).is_none()).collect();
    assert_eq!(missing, [1, 2, 7]);
    assert_eq!(path.counters().lost_nth, 3);
}

#[test]
fn what_is_sent_during_an_outage_is_lost() {
    let outages = vec![Outage { start: 5 * MS, length: 2 * MS }];
    let mut path = Path::new(PathConfig { outages, ..PathConfig::default() }, 1);
    let lost: Vec<_> = (0..10).filter(|&n| first(&mut path, n * MS).is_none()).collect();
    assert_eq!(lost, [5, 6]);
    assert_eq!(path.counters().lost_outage, 2);
}

#[test]
fn what_is_longer_than_the_mtu_with_its_headers_is_lost() {
    let mut path = Path::new(PathConfig { mtu: Some(576), ..PathConfig::default() }, 1);
    let passes: Vec<_> = [0, 548, 549, 65_507]
        .into_iter()
        .filter(|&len| path.admit(MS, len).first.is_some())
        .collect();
    assert_eq!(passes, [0, 548]);
    assert_eq!((path.counters().lost_mtu, path.counters().lost()), (2, 2));
}

#[test]
fn a_bottleneck_sends_one_datagram_after_the_other() {
    let mut path = slow(None, None);
    let due: Vec<_> = (0..3).filter_map(|_| first(&mut path, Duration::ZERO)).collect();
    assert_eq!(due, [105 * MS, 205 * MS, 305 * MS]);
    assert_eq!(first(&mut path, 1000 * MS), Some(1105 * MS), "idle in between");
}

#[test]
fn a_queue_of_n_datagrams_holds_n_beside_the_one_being_sent() {
    let mut path = slow(Some(2), None);
    let sent = |path: &mut Path, now| (0..9).filter(|_| first(path, now).is_some()).count();
    assert_eq!(sent(&mut path, Duration::ZERO), 3);
    assert_eq!(sent(&mut path, 99 * MS), 0);
    assert_eq!(sent(&mut path, 100 * MS), 1, "one has left");
    assert_eq!(path.counters().lost_queue, 6 + 9 + 8);
}

#[test]
fn a_queue_of_bytes_takes_what_fits() {
    let mut path = slow(None, Some(250));
    let sizes = [100, 100, 100, 100, 50, 1];
    let fits = sizes.map(|len| path.admit(Duration::ZERO, len).first.is_some());
    assert_eq!(fits, [true, true, true, false, true, false]);
}

#[test]
fn headers_cost_capacity() {
    let rate = Rate::new(NonZeroU64::new(8000).expect("not zero"));
    let mut path = Path::new(PathConfig { rate: Some(rate), ..PathConfig::default() }, 1);
    assert_eq!(first(&mut path, Duration::ZERO), Some(128 * MS));
}

#[test]
fn a_late_datagram_is_passed_by_those_that_are_not() {
    let late = Late { probability: Probability::ONE, by: 100 * MS };
    let schedule = Schedule::from(PathConfig { late, ..PathConfig::default() })
        .then(MS, PathConfig::default());
    let mut path = Path::new(schedule, 1);
    assert_eq!(first(&mut path, Duration::ZERO), Some(100 * MS));
    assert_eq!(first(&mut path, MS), Some(MS));
    assert_eq!((path.counters().late, path.counters().reordered), (1, 0));
}

#[test]
fn a_datagram_overtakes_those_in_flight_and_no_more_than_the_window() {
    let window = NonZeroU32::new(1).expect("not zero");
    let reordering = Some(Reordering { probability: Probability::ONE, window });
    let mut path = Path::new(PathConfig { delay: 10 * MS, reordering, ..PathConfig::default() }, 1);
    assert_eq!(first(&mut path, Duration::ZERO), Some(10 * MS), "nothing to overtake");
    let before = Duration::from_nanos(9_999_999);
    assert_eq!(first(&mut path, MS), Some(before));
    assert_eq!(path.counters().reordered, 1);
    assert_eq!(first(&mut path, 60 * MS), Some(70 * MS), "those have arrived");
}

#[test]
fn a_copy_arrives_after_the_original() {
    let duplication = Duplication { probability: Probability::ONE, after: 7 * MS };
    let mut path = Path::new(PathConfig { delay: MS, duplication, ..PathConfig::default() }, 1);
    let times: Vec<_> = path.admit(MS, 100).into_iter().map(|delivery| delivery.at).collect();
    assert_eq!(times, [2 * MS, 9 * MS]);
    assert_eq!((path.counters().delivered, path.counters().duplicated), (2, 1));
}

#[test]
fn a_byte_within_the_first_n_changes_its_value() {
    let byte_within = NonZeroU32::new(50);
    let corruption = Corruption { byte: Probability::ONE, byte_within, ..Corruption::default() };
    let mut path = Path::new(PathConfig { corruption, ..PathConfig::default() }, 1);
    let mut seen = [false; 100];
    for _ in 0..2000 {
        let mut bytes = vec![b'x'; 100];
        let delivery = path.admit(MS, bytes.len()).first.expect("not lost");
        delivery.mangle.expect("damaged").apply(&mut bytes);
        let changed: Vec<_> = (0..100).filter(|&i| bytes[i] != b'x').collect();
        assert_eq!(changed.len(), 1);
        seen[changed[0]] = true;
    }
    assert!(seen[..50].iter().all(|&seen| seen), "each of the first 50");
    assert!(!seen[50..].iter().any(|&seen| seen), "none after");
    assert_eq!(path.counters().corrupted, 2000);
}

#[test]
fn a_flipped_bit_is_one_bit_and_a_truncated_datagram_is_a_shorter_prefix() {
    let draw = |corruption| {
        let mut path = Path::new(PathConfig { corruption, ..PathConfig::default() }, 2);
        let mut bytes: Vec<u8> = (0..20).collect();
        for _ in 0..500 {
            let delivery = path.admit(MS, bytes.len()).first.expect("not lost");
            let mut damaged = bytes.clone();
            delivery.mangle.expect("damaged").apply(&mut damaged);
            if damaged.len() == bytes.len() {
                let flipped = |(a, b): (&u8, &u8)| (a ^ b).count_ones();
                assert_eq!(bytes.iter().zip(&damaged).map(flipped).sum::<u32>(), 1);
            } else {
                assert!(bytes.starts_with(&damaged));
            }
        }
        bytes.clear();
        assert_eq!(path.admit(MS, 0).first.expect("not lost").mangle, None, "nothing to damage");
        (path.counters().corrupted, path.counters().truncated)
    };
    let bit = Corruption { bit: Probability::ONE, ..Corruption::default() };
    assert_eq!(draw(bit), (500, 0));
    let truncate = Corruption { truncate: Probability::ONE, ..Corruption::default() };
    assert_eq!(draw(truncate), (0, 500));
}

#[test]
fn a_shorter_delay_from_some_moment_on_does_not_reorder() {
    let config = |ms| PathConfig { delay: ms * MS, ..PathConfig::default() };
    let mut path = Path::new(Schedule::from(config(500)).then(10 * MS, config(50)), 1);
    assert_eq!(first(&mut path, 9 * MS), Some(509 * MS));
    assert_eq!(first(&mut path, 10 * MS), Some(509 * MS));
    assert_eq!(first(&mut path, 600 * MS), Some(650 * MS));
}

#[test]
fn absurd_times_do_not_overflow() {
    let config = PathConfig {
        delay: Duration::MAX,
        jitter: Jitter { max: Duration::MAX, reorders: true },
        rate: Some(Rate::new(NonZeroU64::MIN)),
        ..PathConfig::default()
    };
    let mut path = Path::new(config, 1);
    assert_eq!(first(&mut path, Duration::MAX), Some(Duration::MAX));
    assert!(path.admit(Duration::MAX, usize::MAX).first.is_some());
}

#[test]
fn a_datagram_that_is_alone_on_its_way_overtakes_nothing_and_is_not_early() {
    let delay = 80 * Duration::from_millis(1);
    let window = NonZeroU32::new(64).expect("not zero");
    let reordering = Some(Reordering { probability: Probability::ONE, window });
    let mut path = Path::new(PathConfig { delay, reordering, ..PathConfig::default() }, 1);
    for n in 0..100 {
        let now = n * 2 * delay;
        assert_eq!(path.admit(now, 100).first.map(|delivery| delivery.at), Some(now + delay));
    }
}
