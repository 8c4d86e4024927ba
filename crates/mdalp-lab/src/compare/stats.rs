//! Figures out of samples. Draws no conclusions.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Sample;

/// What the runs of one way in one network came to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// Runs.
    pub runs: usize,
    /// Runs that failed, by reason.
    pub failures: BTreeMap<String, usize>,
    /// Half of all runs took no longer, in seconds; a failed run counts as one that never ended.
    pub median_s: Option<f64>,
    /// Mean of the complete runs, in seconds.
    pub mean_s: Option<f64>,
    /// Standard deviation of the complete runs, in seconds; `None` below two.
    pub deviation_s: Option<f64>,
    /// The longest complete run, in seconds.
    pub worst_s: Option<f64>,
    /// Retransmissions of a run, mean over all runs.
    pub retransmissions: f64,
}

impl Summary {
    /// The summary of `samples`.
    pub fn of(samples: &[&Sample]) -> Self {
        let mut failures = BTreeMap::new();
        for why in samples.iter().filter_map(|sample| sample.failed.as_ref()) {
            *failures.entry(why.clone()).or_insert(0) += 1;
        }
        let mut times: Vec<f64> =
            samples.iter().filter(|s| s.failed.is_none()).map(|s| s.elapsed_s).collect();
        times.sort_by(f64::total_cmp);
        let resent: u64 = samples.iter().map(|sample| sample.retransmissions).sum();
        let mean_s = mean(&times);
        Self {
            runs: samples.len(),
            failures,
            median_s: median(&times, samples.len()),
            mean_s,
            deviation_s: mean_s.and_then(|mean| deviation(&times, mean)),
            worst_s: times.last().copied(),
            retransmissions: resent as f64 / samples.len().max(1) as f64,
        }
    }

    /// How many runs failed.
    pub fn failed(&self) -> usize {
        self.failures.values().sum()
    }
}

/// How long one way takes in proportion to another.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Ratio {
    /// Mean of the one by mean of the other, over the seeds with which both were complete.
    pub value: f64,
    /// Its standard error; `None` below two seeds.
    pub error: Option<f64>,
}

impl Ratio {
    /// The ratio of `samples` to `reference`, run by run with the same seeds; `None` without a seed
    /// with which both were complete.
    pub fn between(samples: &[&Sample], reference: &[&Sample]) -> Option<Self> {
        let complete = |sample: &&&Sample| sample.failed.is_none();
        let of_seed: BTreeMap<u64, f64> =
            reference.iter().filter(complete).map(|s| (s.seed, s.elapsed_s)).collect();
        let pairs: Vec<(f64, f64)> = samples
            .iter()
            .filter(complete)
            .filter_map(|sample| Some((sample.elapsed_s, *of_seed.get(&sample.seed)?)))
            .collect();
        let n = pairs.len() as f64;
        let sum = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
        if sum.1 <= 0.0 {
            return None;
        }
        let value = sum.0 / sum.1;
        // The delta method for a ratio of means of pairs.
        let squares: f64 = pairs.iter().map(|(a, b)| (a - value * b).powi(2)).sum();
        let error = (pairs.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt() / (sum.1 / n));
        Some(Self { value, error })
    }
}

fn mean(times: &[f64]) -> Option<f64> {
    (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
}

fn deviation(times: &[f64], mean: f64) -> Option<f64> {
    let squares: f64 = times.iter().map(|time| (time - mean).powi(2)).sum();
    (times.len() > 1).then(|| (squares / (times.len() - 1) as f64).sqrt())
}

/// The median of `all` values of which the ascending `times` are the finite ones.
fn median(times: &[f64], all: usize) -> Option<f64> {
    let upper = *times.get(all / 2)?;
    if all % 2 == 1 {
        return Some(upper);
    }
    let lower = *times.get((all / 2).checked_sub(1)?)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seed: u64, elapsed_s: f64, failed: bool) -> Sample {
        Sample {
            scenario: "n".into(),
            way: "w".into(),
            server: None,
            seed,
            failed: failed.then(|| "gave up".to_owned()),
            elapsed_s,
            retransmissions: 2,
            datagrams: 0,
            chunks: 0,
        }
    }

    fn samples(times: &[f64]) -> Vec<Sample> {
        times.iter().enumerate().map(|(n, s)| sample(n as u64, *s, *s < 0.0)).collect()
    }

    #[test]
    fn a_summary_keeps_failures_apart_and_counts_them_as_endless_in_the_median() {
        let all = samples(&[3.0, 1.0, -1.0, 2.0]);
        let summary = Summary::of(&all.iter().collect::<Vec<_>>());
        assert_eq!((summary.runs, summary.failed()), (4, 1));
        assert_eq!(summary.failures, BTreeMap::from([("gave up".to_owned(), 1)]));
        assert_eq!((summary.median_s, summary.mean_s), (Some(2.5), Some(2.0)));
        assert_eq!((summary.deviation_s, summary.worst_s), (Some(1.0), Some(3.0)));
        assert_eq!(summary.retransmissions.to_bits(), 2.0_f64.to_bits());
    }

    #[test]
    fn where_most_runs_fail_there_is_no_median() {
        let all = samples(&[1.0, -1.0, -1.0]);
        assert_eq!(Summary::of(&all.iter().collect::<Vec<_>>()).median_s, None);
        assert_eq!(Summary::of(&[]).median_s, None);
    }

    #[test]
    fn a_ratio_pairs_runs_by_seed() {
        let (a, b) = (samples(&[1.0, 2.0, -1.0, 5.0]), samples(&[2.0, 4.0, 8.0, -1.0]));
        let refs = |all: &'static [Sample]| all.iter().collect::<Vec<_>>();
        let (a, b) = (refs(a.leak()), refs(b.leak()));
        let ratio = Ratio::between(&a, &b).expect("two common seeds");
        assert!((ratio.value - 0.5).abs() < 1e-12 && ratio.error.expect("two") < 1e-12);
        assert_eq!(Ratio::between(&a[2..], &b), None);
        let one = Ratio::between(&a[..1], &b).expect("one common seed");
        assert_eq!(one.error, None);
    }

    #[test]
    fn the_error_of_a_ratio_grows_with_what_pairs_do_not_share() {
        let (a, b) = (samples(&[1.0, 3.0, 2.0, 2.0]).leak(), samples(&[2.0, 2.0, 2.0, 2.0]).leak());
        let ratio = Ratio::between(&a.iter().collect::<Vec<_>>(), &b.iter().collect::<Vec<_>>());
        let ratio = ratio.expect("common seeds");
        // Standard error of the mean of 1, 3, 2, 2, by 2.
        let expected = (2.0_f64 / 3.0 / 4.0).sqrt() / 2.0;
        assert!((ratio.error.expect("four") - expected).abs() < 1e-12);
    }
}
