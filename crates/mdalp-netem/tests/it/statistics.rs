//! Rates and shares within four standard deviations, with fixed seeds.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use mdalp_netem::{Burst, Jitter, Late, Loss, Path, PathConfig, Probability, Rate};

const N: u32 = 400_000;

fn with_loss(loss: Loss) -> Path {
    Path::new(PathConfig { loss, ..PathConfig::default() }, 11)
}

/// Lengths of the runs of datagrams lost in a row.
fn runs(path: &mut Path, datagrams: u32) -> Vec<u32> {
    let mut runs = vec![0];
    for _ in 0..datagrams {
        let arrives = path.admit(Duration::ZERO, 100).first.is_some();
        match runs.last_mut() {
            Some(run) if !arrives => *run += 1,
            Some(0) | None => {}
            Some(_) => runs.push(0),
        }
    }
    runs.retain(|&run| run > 0);
    runs
}

fn share(runs: &[u32]) -> f64 {
    f64::from(runs.iter().sum::<u32>()) / f64::from(N)
}

#[test]
fn independent_loss_has_its_share_and_no_bursts_beyond_chance() {
    for p in [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5] {
        let mut path = with_loss(Loss { random: Probability::new(p), ..Loss::default() });
        let runs = runs(&mut path, N);
        let sigma = (p * (1.0 - p) / f64::from(N)).sqrt();
        assert!((share(&runs) - p).abs() < 4.0 * sigma, "{p}: {}", share(&runs));
        mean_length_is(&runs, 1.0 / (1.0 - p));
        assert_eq!(path.counters().lost_random, path.counters().lost());
    }
}

#[test]
fn bursts_have_their_mean_length_and_their_share() {
    for (p, length) in [(0.01, 3.0), (0.1, 3.0), (0.3, 3.0), (0.01, 10.0), (0.3, 10.0), (0.5, 1.0)]
    {
        let burst = Burst::new(Probability::new(p), length).expect("possible");
        let mut path = with_loss(Loss { burst: Some(burst), ..Loss::default() });
        let runs = runs(&mut path, N);
        // The share's variance grows with the correlation of neighbours in the two-state chain.
        let correlation = 1.0 - 1.0 / length - p / (length * (1.0 - p));
        let spread = (1.0 + correlation) / (1.0 - correlation);
        let sigma = (p * (1.0 - p) * spread / f64::from(N)).sqrt();
        let tolerance = (4.0 * sigma).max(1.0 / f64::from(N));
        assert!((share(&runs) - p).abs() <= tolerance, "{p}/{length}: {}", share(&runs));
        mean_length_is(&runs, length);
        assert_eq!(path.counters().lost_burst, path.counters().lost());
    }
}

/// Run lengths are geometric: their standard deviation is √(m(m − 1)).
fn mean_length_is(runs: &[u32], mean: f64) {
    let count = runs.len() as f64;
    let measured = f64::from(runs.iter().sum::<u32>()) / count;
    let sigma = (mean * (mean - 1.0) / count).sqrt();
    assert!((measured - mean).abs() <= 4.0 * sigma, "mean {measured}, not {mean} ± {sigma}");
}

#[test]
fn capped_loss_never_runs_longer_and_loses_less() {
    let cap = 3;
    let max_run = NonZeroU32::new(cap);
    let random = Probability::new(0.3);
    let runs = runs(&mut with_loss(Loss { random, max_run, ..Loss::default() }), N);
    assert_eq!(runs.iter().max(), Some(&cap));
    // From each of the states "0 to 3 lost in a row", which the chain visits in proportion to p^k.
    let states: f64 = (0..=3).map(|k| 0.3_f64.powi(k)).sum();
    let expected = 1.0 - 1.0 / states;
    assert!((share(&runs) - expected).abs() < 0.003, "{} against {expected}", share(&runs));
}

#[test]
fn a_saturated_bottleneck_delivers_its_rate() {
    for (bits_per_second, len) in [(64_000, 101), (10_000_000, 146), (1_000_000_000, 7)] {
        let rate = NonZeroU64::new(bits_per_second).map(Rate::new);
        let rate = rate.map(|rate| Rate { queue_packets: Some(25), ..rate });
        let mut path = Path::new(PathConfig { rate, ..PathConfig::default() }, 1);
        // Offered: twice what it carries.
        let gap = Duration::from_secs_f64((len + 28) as f64 * 8.0 / bits_per_second as f64 / 2.0);
        let mut last = Duration::ZERO;
        for n in 0..100_000 {
            if let Some(delivery) = path.admit(gap * n, len).first {
                last = delivery.at;
            }
        }
        let bits = path.counters().delivered as f64 * (len + 28) as f64 * 8.0;
        let ratio = bits / last.as_secs_f64() / bits_per_second as f64;
        assert!((0.99..=1.01).contains(&ratio), "{bits_per_second} bit/s: {ratio}");
        assert!(path.counters().lost_queue > 49_000, "half of it does not fit");
    }
}

#[test]
fn a_standing_queue_delays_by_its_length() {
    let bits_per_second = NonZeroU64::new(1_000_000).expect("not zero");
    let rate = Rate { queue_packets: Some(25), overhead: 0, ..Rate::new(bits_per_second) };
    let mut path = Path::new(PathConfig { rate: Some(rate), ..PathConfig::default() }, 1);
    let transmission = Duration::from_millis(1);
    let mut longest = Duration::ZERO;
    for n in 0..10_000 {
        let now = transmission * n / 3;
        if let Some(delivery) = path.admit(now, 125).first {
            longest = longest.max(delivery.at.saturating_sub(now));
        }
    }
    // The one being sent or its rest, 24 that wait before it, itself.
    assert!(longest > transmission * 25 && longest <= transmission * 26, "{longest:?}");
}

#[test]
fn jitter_fills_its_range_evenly() {
    let max = Duration::from_millis(10);
    let jitter = Jitter { max, reorders: true };
    let mut path = Path::new(PathConfig { jitter, ..PathConfig::default() }, 1);
    let mut tenths = [0_u32; 10];
    for _ in 0..N {
        let at = path.admit(Duration::ZERO, 1).first.expect("not lost").at;
        tenths[usize::try_from(at.as_micros() / 1000).expect("small").min(9)] += 1;
    }
    let sigma = (f64::from(N) * 0.1 * 0.9).sqrt();
    for count in tenths {
        assert!((f64::from(count) - f64::from(N) / 10.0).abs() < 4.0 * sigma, "{tenths:?}");
    }
}

#[test]
fn a_share_of_acks_is_late_by_the_time_given() {
    let late = Late { probability: Probability::new(0.1), by: Duration::from_secs(4) };
    let mut path = Path::new(PathConfig { late, ..PathConfig::default() }, 1);
    let held = (0..N)
        .filter(|_| path.admit(Duration::ZERO, 1).first.is_some_and(|d| d.at == late.by))
        .count();
    let sigma = (f64::from(N) * 0.1 * 0.9).sqrt();
    assert!((held as f64 - f64::from(N) * 0.1).abs() < 4.0 * sigma);
    assert_eq!(path.counters().late, held as u64);
}
