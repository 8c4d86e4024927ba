//! Many seeds on several threads, and the sum of what they came to.

use mdalp_sim::{Counts, End, Twin, Verdict, run, swarm};
#[cfg(unix)]
use nix::sys::time::TimeValLike;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Seeds that a thread takes at once.
const CHUNK: u64 = 256;
/// Failing seeds that are named.
const NAMED: usize = 10;

/// What all runs came to.
#[derive(Default)]
pub(crate) struct Total {
    seeds: u64,
    failed: BTreeMap<u64, String>,
    failures: u64,
    simulated: Duration,
    counts: Counts,
    ends: BTreeMap<End, u64>,
    faults: BTreeMap<&'static str, u64>,
    hash: u64,
    took: Duration,
    /// Processor time of all threads, where the system tells it.
    worked: Option<Duration>,
    jobs: usize,
}

#[cfg(unix)]
fn processor_time() -> Option<Duration> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let spent = usage.user_time() + usage.system_time();
    Some(Duration::from_micros(u64::try_from(spent.num_microseconds()).ok()?))
}

#[cfg(not(unix))]
fn processor_time() -> Option<Duration> {
    None
}

/// Runs all `seeds`, or as many as `limit` allows.
pub(crate) fn run_all(
    seeds: Range<u64>,
    jobs: usize,
    limit: Option<Duration>,
    twin: Option<Twin>,
) -> Total {
    let (started, worked) = (Instant::now(), processor_time());
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut total = Total::default();
        loop {
            let from = next.fetch_add(CHUNK, Ordering::Relaxed);
            if from >= seeds.end || limit.is_some_and(|limit| started.elapsed() >= limit) {
                return total;
            }
            for seed in from..seeds.end.min(from + CHUNK) {
                let case = swarm::draw(seed);
                let verdict = run(&case, twin);
                for fault in &case.faults {
                    *total.faults.entry(fault.name()).or_default() += 1;
                }
                total.add(seed, &verdict);
            }
        }
    };
    let mut total = thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let mut sum = Total::default();
        for thread in threads {
            // A run that panics is caught inside; a thread has nothing else to fail with.
            if let Ok(part) = thread.join() {
                sum.merge(part);
            }
        }
        sum
    });
    total.took = started.elapsed();
    total.worked = processor_time().zip(worked).map(|(after, before)| after.saturating_sub(before));
    total.jobs = jobs;
    total
}

impl Total {
    fn add(&mut self, seed: u64, verdict: &Verdict) {
        self.seeds += 1;
        self.simulated += verdict.simulated;
        // A sum, so that it is the same in whatever order threads finish.
        self.hash = self.hash.wrapping_add(verdict.hash);
        self.add_counts(&verdict.counts);
        for &end in &verdict.ends {
            *self.ends.entry(end).or_default() += 1;
        }
        if let Some(violation) = &verdict.violation {
            self.failures += 1;
            self.failed.insert(seed, violation.to_string());
            if self.failed.len() > NAMED {
                self.failed.pop_last();
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.failures += other.failures;
        self.failed.extend(other.failed);
        while self.failed.len() > NAMED {
            self.failed.pop_last();
        }
        self.simulated += other.simulated;
        self.hash = self.hash.wrapping_add(other.hash);
        self.add_counts(&other.counts);
        for (end, count) in other.ends {
            *self.ends.entry(end).or_default() += count;
        }
        for (name, count) in other.faults {
            *self.faults.entry(name).or_default() += count;
        }
    }

    fn add_counts(&mut self, other: &Counts) {
        let sum = &mut self.counts;
        sum.steps += other.steps;
        sum.events += other.events;
        sum.datagrams += other.datagrams;
        sum.path_sent += other.path_sent;
        sum.lost += other.lost;
        sum.duplicated += other.duplicated;
        sum.reordered += other.reordered;
        sum.corrupted += other.corrupted;
        sum.crashes += other.crashes;
        sum.overflows += other.overflows;
        sum.rotted += other.rotted;
        sum.struck += other.struck;
        sum.released += other.released;
        sum.crowded += other.crowded;
        sum.resumed += other.resumed;
        sum.fallbacks += other.fallbacks;
    }

    pub(crate) fn passed(&self) -> u64 {
        self.seeds - self.failures
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures
    }

    pub(crate) fn first_failure(&self) -> Option<u64> {
        self.failed.keys().next().copied()
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.took.as_secs_f64().max(1e-9);
        let hours = self.simulated.as_secs_f64() / 3600.0;
        let transfers: u64 = self.ends.values().sum();
        let seeds = self.seeds;
        writeln!(
            f,
            "{seeds} seeds, {transfers} transfers in {took:.1} s with {} threads",
            self.jobs
        )?;
        let cores = took * self.jobs.max(1) as f64;
        write!(f, "{:.0} transfers a second and thread", transfers as f64 / cores)?;
        if let Some(worked) = self.worked.map(|worked| worked.as_secs_f64().max(1e-9)) {
            write!(f, ", {:.0} a second of processor time", transfers as f64 / worked)?;
        }
        let times = self.simulated.as_secs_f64() / took;
        writeln!(f, "\n{hours:.1} simulated hours: {times:.0} x real time")?;
        let c = &self.counts;
        writeln!(f, "{} steps, {} events, {} datagrams", c.steps, c.events, c.datagrams)?;
        writeln!(
            f,
            "paths: {} sent, {} lost, {} duplicated, {} reordered, {} corrupted; {} crashes, {} overflows",
            c.path_sent, c.lost, c.duplicated, c.reordered, c.corrupted, c.crashes, c.overflows
        )?;
        writeln!(
            f,
            "stores: {} released, {} refused as crowded, {} bits rotted, {} chunks struck out; {} sends resumed, {} begun again with small chunks",
            c.released, c.crowded, c.rotted, c.struck, c.resumed, c.fallbacks
        )?;
        writeln!(f, "event logs: {:016x}", self.hash)?;
        write!(f, "ends:")?;
        for (end, count) in &self.ends {
            write!(f, " {end:?} {count}")?;
        }
        write!(f, "\nfaults:")?;
        for (name, count) in &self.faults {
            write!(f, " {name} {count}")?;
        }
        write!(f, "\nviolations: {}", self.failures)?;
        for (seed, what) in &self.failed {
            write!(f, "\n  seed {seed}: {what}")?;
        }
        Ok(())
    }
}
