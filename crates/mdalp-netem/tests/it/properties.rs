//! What holds for every configuration and every sequence of sends.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use mdalp_netem::{
    Burst, Corruption, Duplication, Flap, Jitter, Late, Link, Loss, Outage, Path, PathConfig,
    Probability, Rate, Reordering, Scenario,
};
use proptest::prelude::*;

fn probability() -> impl Strategy<Value = Probability> {
    prop_oneof![Just(0.0), 0.0..=1.0, Just(1.0)].prop_map(Probability::new)
}

fn up_to_ms(ms: u64) -> impl Strategy<Value = Duration> {
    (0..=ms * 1000).prop_map(Duration::from_micros)
}

fn loss() -> impl Strategy<Value = Loss> {
    let burst = prop::option::of((0.0..0.9, 9.0..20.0))
        .prop_map(|b| b.and_then(|(p, length)| Burst::new(Probability::new(p), length).ok()));
    let nth = prop::collection::vec(1..50_u64, 0..4);
    (probability(), burst, nth, (0..4_u32).prop_map(NonZeroU32::new))
        .prop_map(|(random, burst, nth, max_run)| Loss { random, burst, nth, max_run })
}

fn rate() -> impl Strategy<Value = Rate> {
    let queue = (prop::option::of(0..30_u32), prop::option::of(0..20_000_u64));
    (1_000..100_000_000_u64, 0..60_u32, queue).prop_map(
        |(bits, overhead, (queue_packets, queue_bytes))| Rate {
            bits_per_second: NonZeroU64::new(bits).expect("at least 1,000"),
            overhead,
            queue_packets,
            queue_bytes,
        },
    )
}

fn corruption() -> impl Strategy<Value = Corruption> {
    (probability(), (0..60_u32).prop_map(NonZeroU32::new), probability(), probability()).prop_map(
        |(byte, byte_within, bit, truncate)| Corruption { byte, byte_within, bit, truncate },
    )
}

/// A path that keeps the order.
fn orderly() -> impl Strategy<Value = PathConfig> {
    let times = (up_to_ms(500), up_to_ms(50));
    let downtime = (
        prop::collection::vec((up_to_ms(500), up_to_ms(100)), 0..3),
        prop::option::of((up_to_ms(100), up_to_ms(100))),
        prop::bool::weighted(0.05),
    );
    let copies = (probability(), up_to_ms(1000));
    (times, loss(), copies, corruption(), prop::option::of(rate()), downtime).prop_map(
        |((delay, max), loss, (probability, after), corruption, rate, (outages, flap, cut))| {
            PathConfig {
                delay,
                jitter: Jitter { max, reorders: false },
                loss,
                duplication: Duplication { probability, after },
                corruption,
                rate,
                outages: outages
                    .into_iter()
                    .map(|(start, length)| Outage { start, length })
                    .collect(),
                flap: flap.map(|(up, down)| Flap { start: Duration::ZERO, up, down }),
                cut,
                ..PathConfig::default()
            }
        },
    )
}

/// A path that does everything.
fn unruly() -> impl Strategy<Value = PathConfig> {
    let late =
        (probability(), up_to_ms(1000)).prop_map(|(probability, by)| Late { probability, by });
    let reordering = prop::option::of((probability(), 1..70_u32)).prop_map(|reordering| {
        let (probability, window) = reordering?;
        Some(Reordering { probability, window: NonZeroU32::new(window)? })
    });
    (orderly(), any::<bool>(), late, reordering).prop_map(|(config, reorders, late, reordering)| {
        PathConfig { jitter: Jitter { reorders, ..config.jitter }, late, reordering, ..config }
    })
}

/// When datagrams are sent, and their lengths.
fn sends() -> impl Strategy<Value = Vec<(Duration, usize)>> {
    prop::collection::vec((up_to_ms(10), 0..1500_usize), 1..120).prop_map(|steps| {
        let mut now = Duration::ZERO;
        let send = |(gap, len)| {
            now += gap;
            (now, len)
        };
        steps.into_iter().map(send).collect()
    })
}

proptest! {
    #[test]
    fn every_datagram_is_accounted_for(config in unruly(), sends in sends(), seed: u64) {
        let mut path = Path::new(config, seed);
        let mut arrivals = 0;
        for &(now, len) in &sends {
            arrivals += path.admit(now, len).into_iter().count() as u64;
        }
        let c = path.counters();
        prop_assert_eq!(c.sent, sends.len() as u64);
        prop_assert_eq!(c.delivered, arrivals);
        prop_assert_eq!(c.sent + c.duplicated, c.delivered + c.lost());
        prop_assert!(c.corrupted + c.truncated <= c.delivered);
        prop_assert!(c.reordered + c.late <= c.delivered - c.duplicated);
    }

    #[test]
    fn the_same_seed_gives_the_same_fates(config in unruly(), sends in sends(), seed: u64) {
        let fates = || {
            let mut path = Path::new(config.clone(), seed);
            let fates: Vec<_> = sends.iter().map(|&(now, len)| path.admit(now, len)).collect();
            (fates, *path.counters())
        };
        prop_assert_eq!(fates(), fates());
    }

    #[test]
    fn order_is_kept_unless_told_otherwise(config in orderly(), sends in sends(), seed: u64) {
        let delay = config.delay;
        let mut path = Path::new(config, seed);
        let mut last = Duration::ZERO;
        for (now, len) in sends {
            if let Some(delivery) = path.admit(now, len).first {
                prop_assert!(delivery.at >= now + delay);
                prop_assert!(delivery.at >= last);
                last = delivery.at;
            }
        }
        prop_assert_eq!(path.counters().reordered, 0);
    }

    #[test]
    fn nothing_arrives_before_it_was_sent(config in unruly(), sends in sends(), seed: u64) {
        let mut path = Path::new(config, seed);
        for (now, len) in sends {
            prop_assert!(path.admit(now, len).into_iter().all(|delivery| delivery.at >= now));
        }
    }

    #[test]
    fn chance_never_takes_more_in_a_row_than_the_cap(
        random in probability(),
        cap in 1..5_u32,
        seed: u64,
    ) {
        let burst = Burst::new(Probability::new(0.5), 10.0).ok();
        let loss = Loss { random, burst, max_run: NonZeroU32::new(cap), nth: Vec::new() };
        let mut path = Path::new(PathConfig { loss, ..PathConfig::default() }, seed);
        let mut run = 0;
        for _ in 0..1000 {
            run = if path.admit(Duration::ZERO, 1).first.is_some() { 0 } else { run + 1 };
            prop_assert!(run <= cap);
        }
    }

    #[test]
    fn no_datagram_overtakes_more_than_the_window(
        window in 1..64_u32,
        p in probability(),
        gap in 0..10_u64,
        seed: u64,
    ) {
        let window = NonZeroU32::new(window).expect("at least 1");
        let reordering = Some(Reordering { probability: p, window });
        let delay = Duration::from_millis(500);
        let mut path = Path::new(PathConfig { delay, reordering, ..PathConfig::default() }, seed);
        let due: Vec<_> = (0..300)
            .filter_map(|n| path.admit(Duration::from_millis(n * gap), 1).first)
            .map(|delivery| delivery.at)
            .collect();
        for (n, at) in due.iter().enumerate() {
            let overtaken = due[..n].iter().filter(|earlier| *earlier > at).count();
            prop_assert!(overtaken <= window.get() as usize);
        }
    }

    #[test]
    fn a_link_gives_out_what_its_path_decides_in_order_of_time(
        config in unruly(),
        sends in sends(),
        seed: u64,
    ) {
        let mut link = Link::new(config, seed);
        for (n, &(now, len)) in sends.iter().enumerate() {
            link.enqueue(now, len, n);
        }
        prop_assert_eq!(link.in_flight() as u64, link.path().counters().delivered);
        let mut last = Duration::ZERO;
        while let Some(due) = link.next_due() {
            prop_assert!(due >= last);
            if let Some(just_before) = due.checked_sub(Duration::from_nanos(1)) {
                prop_assert!(link.poll(just_before).is_none());
            }
            prop_assert_eq!(link.poll(due).map(|arrival| arrival.at), Some(due));
            last = due;
        }
        prop_assert_eq!(link.in_flight(), 0);
    }

    #[test]
    fn no_text_makes_the_reader_panic(
        which in 0..15_usize,
        at in any::<prop::sample::Index>(),
        cut in 0..40_usize,
        put in "[ -~\\n]{0,12}|\\PC{0,4}",
    ) {
        let name = Scenario::builtin_names().nth(which).expect("there are 15");
        let text: Vec<char> = Scenario::builtin_text(name).expect("it").chars().collect();
        let start = at.index(text.len());
        let end = (start + cut).min(text.len());
        let changed: String =
            text[..start].iter().copied().chain(put.chars()).chain(text[end..].iter().copied()).collect();
        if let Err(error) = Scenario::parse(&changed, name) {
            prop_assert!(error.line <= changed.lines().count() + 1, "{error}");
        }
    }
}
