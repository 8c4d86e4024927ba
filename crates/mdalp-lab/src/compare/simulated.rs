//! Runs in virtual time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use mdalp_sim::{End, Mode, Options, Program, RunReport, SampleKind, simulate_with};

use super::{Case, Comparison, Plan, Sample, Trace, TracePoint, Way};
use crate::flow::PointKind;

/// Makes all runs of `plan`, on `threads` threads, and adds them to `report`. A way that only a
/// real process can go is left out.
pub fn simulate(plan: &Plan, threads: usize, report: &mut Comparison) {
    let cases: Vec<Case> = plan.cases().collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new((Vec::new(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let (mut samples, mut traces) = (Vec::new(), Vec::new());
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some((sample, trace)) = run(plan, case) {
                        samples.push(sample);
                        traces.extend(trace);
                    }
                }
                if let Ok(mut done) = done.lock() {
                    done.0.append(&mut samples);
                    done.1.append(&mut traces);
                }
            });
        }
    });
    let (samples, traces) = done.into_inner().unwrap_or_default();
    report.samples.extend(samples);
    report.traces.extend(traces);
    report.sort();
}

fn run(plan: &Plan, case: &Case) -> Option<(Sample, Option<Trace>)> {
    let scenario = plan.scenarios.get(case.scenario)?;
    let program = match &case.way {
        Way::Balanced => Program::Mdalp(Mode::Latency),
        Way::Single(place) => Program::Mdalp(Mode::Single(place.saturating_sub(1))),
        Way::Adaptive => Program::Mdalp(Mode::Adaptive),
        Way::Original(place) => Program::Original(place.map(|place| place.saturating_sub(1))),
        Way::Client { .. } => return None,
    };
    let options = Options {
        deadline: Some(plan.deadline),
        // The assignment may take as long again.
        horizon: plan.deadline.saturating_mul(2),
        samples: case.run == 0,
        ..Options::default()
    };
    let report = simulate_with(scenario, program, case.seed, &options);
    let failed = match report.end {
        End::Complete if report.elapsed > plan.deadline => Some("too slow".to_owned()),
        End::Complete => None,
        end => Some(reason(end).to_owned()),
    };
    let trace = (case.run == 0).then(|| trace(&scenario.name, case, &report));
    let sample = Sample {
        scenario: scenario.name.clone(),
        way: case.way.name(),
        server: case.way.server(),
        seed: case.seed,
        failed,
        elapsed_s: report.elapsed.as_secs_f64(),
        retransmissions: report.retransmissions,
        datagrams: report.datagrams,
        chunks: report.chunks,
    };
    Some((sample, trace))
}

fn trace(scenario: &str, case: &Case, report: &RunReport) -> Trace {
    let point = |sample: &mdalp_sim::Sample| {
        let kind = match sample.kind {
            SampleKind::Sent => PointKind::Sent,
            SampleKind::Resent => PointKind::Resent,
            SampleKind::Acked => PointKind::Acked,
        };
        let at = sample.at.since(mdalp_proto::time::Instant::ZERO + report.waited);
        TracePoint::new(at, sample.receiver, sample.seq, kind)
    };
    Trace {
        scenario: scenario.to_owned(),
        way: case.way.name(),
        seed: case.seed,
        receivers: report.receivers.iter().map(|receiver| receiver.name.clone()).collect(),
        points: report.samples.iter().map(point).collect(),
    }
}

const fn reason(end: End) -> &'static str {
    match end {
        End::NoProgress => "nobody acknowledged anything any more",
        End::Deadline | End::Running => "too slow",
        End::Mismatch => "other bytes arrived",
        End::Crashed => "it crashed",
        End::NoAnswer => "no assignment",
        _ => "it gave up",
    }
}
