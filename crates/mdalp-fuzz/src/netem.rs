//! Scripts of sends over any path: every datagram is accounted for, none arrives before it was sent,
//! and the same seed gives the same fates.

use crate::script::Script;
use mdalp_netem::{
    Burst, Corruption, Duplication, Flap, Jitter, Late, Link, Loss, Outage, Path, PathConfig,
    Probability, Rate, Reordering,
};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// Reads a path and the datagrams sent over it.
///
/// # Panics
/// If a datagram gets lost without being counted, or the same run differs from itself.
pub fn netem(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let seed = script.u64();
    let config = path(&mut script);
    let mut sends = Vec::new();
    let mut now = Duration::ZERO;
    while !script.is_over() && sends.len() < 512 {
        now = now.saturating_add(Duration::from_nanos(script.nanos()));
        sends.push((now, usize::from(script.u16() % 2048)));
    }
    run(&config, seed, &sends);
}

fn run(config: &PathConfig, seed: u64, sends: &[(Duration, usize)]) {
    let mut path = Path::new(config.clone(), seed);
    let mut link = Link::new(config.clone(), seed);
    let orderly =
        !config.jitter.reorders && config.late.probability.is_zero() && config.reordering.is_none();
    let (mut arrivals, mut last, mut row) = (0, Duration::ZERO, 0);
    for (n, &(now, len)) in sends.iter().enumerate() {
        let fate = path.admit(now, len);
        link.enqueue(now, len, vec![n as u8; len]);
        for delivery in fate {
            arrivals += 1;
            assert!(delivery.at >= now, "nothing arrives before it was sent");
            let mut bytes = vec![0; len];
            if let Some(mangle) = delivery.mangle {
                mangle.apply(&mut bytes);
                assert!(bytes.len() < len || bytes.iter().any(|b| *b != 0), "damage is visible");
            }
        }
        if let (Some(first), true) = (fate.first, orderly) {
            assert!(first.at >= last, "order is kept");
            last = first.at;
        }
        row = if fate.first.is_none() { row + 1 } else { 0 };
        let by_chance_alone = config.loss.nth.is_empty()
            && config.rate.is_none()
            && config.outages.is_empty()
            && config.flap.is_none()
            && !config.cut;
        if let (Some(most), true) = (config.loss.max_run, by_chance_alone) {
            assert!(row <= most.get(), "no more in a row than the cap");
        }
    }
    let c = *path.counters();
    assert_eq!((c.sent, c.delivered), (sends.len() as u64, arrivals));
    assert_eq!(c.sent + c.duplicated, c.delivered + c.lost());
    assert!(c.corrupted + c.truncated <= c.delivered);
    assert_eq!(c, *link.path().counters(), "the same seed, the same fates");
    let mut last = Duration::ZERO;
    while let Some(due) = link.next_due() {
        assert!(due >= last);
        last = due;
        let arrival = link.poll(due).expect("what is due has arrived");
        arrival.into_bytes();
        arrivals -= 1;
    }
    assert_eq!(arrivals, 0, "all that is delivered arrives");
}

fn path(script: &mut Script<'_>) -> PathConfig {
    let has = script.u16();
    let mut optional = 0;
    let mut next = || {
        optional += 1;
        has >> (optional - 1) & 1 == 1
    };
    let mut config = PathConfig::default();
    if next() {
        config.delay = time(script);
    }
    if next() {
        config.jitter = Jitter { max: time(script), reorders: script.flag() };
    }
    if next() {
        config.loss = loss(script);
    }
    if next() {
        config.duplication = Duplication { probability: chance(script), after: time(script) };
    }
    if next() {
        let (probability, window) = (chance(script), script.byte());
        let window = NonZeroU32::new(window.into());
        config.reordering = window.map(|window| Reordering { probability, window });
    }
    if next() {
        config.late = Late { probability: chance(script), by: time(script) };
    }
    if next() {
        let (byte, bit, truncate) = (chance(script), chance(script), chance(script));
        let byte_within = NonZeroU32::new(script.byte().into());
        config.corruption = Corruption { byte, byte_within, bit, truncate };
    }
    if next() {
        let bits = script.number();
        config.rate = NonZeroU64::new(bits).map(|bits_per_second| Rate {
            bits_per_second,
            overhead: script.byte().into(),
            queue_packets: script.flag().then(|| script.byte().into()),
            queue_bytes: script.flag().then(|| script.number()),
        });
    }
    if next() {
        for _ in 0..script.below(4) {
            config.outages.push(Outage { start: time(script), length: time(script) });
        }
    }
    if next() {
        config.flap = Some(Flap { start: time(script), up: time(script), down: time(script) });
    }
    config.cut = next() && next();
    config
}

fn loss(script: &mut Script<'_>) -> Loss {
    let average = chance(script);
    let length = f64::from(script.byte()) / 8.0;
    Loss {
        random: chance(script),
        burst: Burst::new(average, length).ok(),
        nth: (0..script.below(4)).map(|_| script.number()).collect(),
        max_run: NonZeroU32::new(script.below(8).into()),
    }
}

fn chance(script: &mut Script<'_>) -> Probability {
    Probability::new(f64::from(script.byte()) / 255.0)
}

fn time(script: &mut Script<'_>) -> Duration {
    match script.byte() {
        0 => Duration::ZERO,
        255 => Duration::MAX,
        _ => Duration::from_nanos(script.nanos()),
    }
}
