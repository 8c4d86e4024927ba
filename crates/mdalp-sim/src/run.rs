//! Running a case, and what every run must come to.
//!
//! Checks of single events are in the world; here are those that need the whole run: 1, 19, 20, 23
//! and 25, and 16, for a panic is a failure like any other.

use crate::case::{Case, Spread};
use crate::fault::Fault;
use crate::setup::Twin;
use crate::world::{Counts, End, Violation, World};
use mdalp_proto::time::Instant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Without progress a transfer fails after this time.
const FAIL_AFTER: Duration = Duration::from_secs(120);
/// And after this much more at the latest (20).
const SLACK: Duration = Duration::from_secs(5);
/// A transfer that has ended so soon after healing may not have heard of it: it asks suspects every
/// 30 s, and repeats intents as rarely.
const GRACE: Duration = Duration::from_secs(40);

/// What a run came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// What did not hold, if anything.
    pub violation: Option<Violation>,
    /// How the clients ended.
    pub ends: Vec<End>,
    /// The world's time at the end.
    pub simulated: Duration,
    /// What was counted.
    pub counts: Counts,
    /// Hash of the event log (28).
    pub hash: u64,
}

/// Runs `case`, with a rule switched off if `twin` says so.
pub fn run(case: &Case, twin: Option<Twin>) -> Verdict {
    catch_unwind(AssertUnwindSafe(|| run_to_end(case, twin, 0).0)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        let what = format!("panic: {}", text.unwrap_or_default());
        Verdict {
            violation: Some(Violation { invariant: 16, at: Instant::ZERO, what }),
            ends: Vec::new(),
            simulated: Duration::ZERO,
            counts: Counts::default(),
            hash: 0,
        }
    })
}

/// Runs `case` once more and returns the last `lines` of its event log.
pub fn lines(case: &Case, twin: Option<Twin>, lines: usize) -> Vec<String> {
    let log = || run_to_end(case, twin, lines).1;
    catch_unwind(AssertUnwindSafe(log)).unwrap_or_else(|_| vec!["panicked".to_owned()])
}

fn run_to_end(case: &Case, twin: Option<Twin>, keep_lines: usize) -> (Verdict, Vec<String>) {
    let mut setup = case.setup(twin);
    setup.keep_lines = keep_lines;
    let mut world = World::new(setup);
    world.limit_steps(step_limit(case));
    world.run();
    let ends: Vec<_> = (0..usize::from(case.clients)).map(|client| world.end(client)).collect();
    for (client, &(end, ended)) in ends.iter().enumerate() {
        check_end(&mut world, case, client, end, ended);
    }
    world.check_stores();
    world.afterwards();
    let verdict = Verdict {
        violation: world.violation().cloned(),
        ends: ends.iter().map(|(end, _)| *end).collect(),
        simulated: world.now() - Instant::ZERO,
        counts: world.counts(),
        hash: world.hash(),
    };
    (verdict, world.into_lines())
}

/// 25, with room for what attackers, restarts and waiting cost.
fn step_limit(case: &Case) -> u64 {
    let chunks = case.payload.div_ceil(100) + case.round_trips_ms.len() as u64;
    let chunks = chunks * u64::from(case.copies.max(1));
    let loss = case.faults.iter().map(|fault| match *fault {
        Fault::Loss { rate, .. }
        | Fault::CappedLoss { rate, .. }
        | Fault::Bursts { rate, .. }
        | Fault::Corrupt { rate, .. }
        | Fault::FlipBit { rate }
        | Fault::Truncate { rate } => rate,
        _ => 0.0,
    });
    let arrives: f64 = loss.map(|rate| 1.0 - rate).product::<f64>().max(0.1);
    let per_chunk = 64.0 + 32.0 / (arrives * arrives);
    let attacks = case.faults.iter().map(|fault| match *fault {
        // Until everybody has given up, each attack costs a few steps.
        Fault::Attack { every_ms, .. } => (8.0 * 400_000.0 / every_ms.max(0.1)) as u64,
        _ => 0,
    });
    let clients = u64::from(case.clients);
    clients * (per_chunk * chunks as f64) as u64 + 20_000 + attacks.sum::<u64>()
}

/// 19 and 20: everybody ends, in time, and well if the world has been well for long enough.
fn check_end(world: &mut World, case: &Case, client: usize, end: End, ended: Instant) {
    let report = world.report(client);
    let paused: u64 = case.faults.iter().map(pause_ms).sum();
    let paused = Duration::from_millis(paused);
    world.check(end != End::Running, 20, || "still running at the horizon".to_owned());
    // Who finds a store crowded has no promise.
    let healed = world.healed_at().filter(|_| !world.is_crowded());
    let chunks = u32::try_from(report.total_chunks).unwrap_or(u32::MAX);
    let window = u32::from(case.window.max(1));
    let copies = u32::from(case.copies).clamp(1, case.round_trips_ms.len().max(1) as u32);
    let work = case.round_trip() * (chunks * copies / window + 2);
    if end == End::Complete {
        if let Some(healed) = healed {
            let bound = Duration::from_secs(60) + work * 3;
            world.check(ended <= healed + bound, 19, || {
                format!("complete {:?} after healing, the bound is {bound:?}", ended - healed)
            });
        }
        // The adaptive policy sends again on purpose what another receiver is late with.
        let lossless = case.spread != Spread::Adaptive
            && copies == 1
            // A healed disk takes up to 2 ms, which must be as little as jitter may be.
            && case.shortest_round_trip() >= Duration::from_millis(16)
            && case.faults.iter().all(|f| f.is_lossless(case.shortest_round_trip()));
        world.check(!lossless || report.datagrams == report.total_chunks, 23, || {
            format!("{} datagrams for {} chunks", report.datagrams, report.total_chunks)
        });
        return;
    }
    if let Some(healed) = healed.filter(|healed| ended > *healed + GRACE) {
        world.check(false, 19, || format!("{end:?} {:?} after healing", ended - healed));
    }
    if end == End::NoProgress {
        let silent = report.silent;
        world.check(
            silent + Duration::from_millis(1) >= FAIL_AFTER.saturating_sub(paused),
            20,
            || format!("gave up after {silent:?} of silence"),
        );
        world.check(silent <= FAIL_AFTER + SLACK + paused, 20, || {
            format!("gave up only after {silent:?} of silence")
        });
    }
    if end == End::NoAnswer {
        world.check(report.total <= FAIL_AFTER + SLACK + paused && report.intents <= 8, 20, || {
            format!("no answer after {:?} and {} intents", report.total, report.intents)
        });
    }
}

fn pause_ms(fault: &Fault) -> u64 {
    match *fault {
        Fault::PauseClient { for_ms, .. } => for_ms,
        Fault::CrashClient { down_ms, .. } => down_ms,
        Fault::LateTimers { ms } => ms,
        _ => 0,
    }
}
