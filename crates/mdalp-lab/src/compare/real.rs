//! Runs in real time: each client a process inside a lab of its own, several at a time.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use mdalp_proto::ids::TransactionId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Case, Comparison, Plan, Sample, Trace, TracePoint, Way};
use crate::addresses::Addresses;
use crate::command::{ClientRoom, pings_of};
use crate::flow::Flow;
use crate::lab::{Lab, LabConfig, LabError};
use crate::payload::made_up_text;

/// How to run in real time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RealTime {
    /// The `mdalp` command, which is our client and the stand-in for `ping`.
    pub mdalp: PathBuf,
    /// Labs at a time. They mostly wait, so there may be more than cores.
    pub jobs: usize,
}

/// Makes all runs of `plan` and adds them to `report`; `tell` hears of each. The simulator's models are
/// left out. Must run inside a tokio runtime with I/O and time enabled.
///
/// # Errors
/// If a lab cannot be set up. A client that fails is a sample that failed.
pub async fn measure(
    plan: &Plan,
    how: &RealTime,
    report: &mut Comparison,
    mut tell: impl FnMut(&Sample),
) -> Result<(), LabError> {
    let permits = Arc::new(Semaphore::new(how.jobs.max(1)));
    let shared = Arc::new((plan.clone(), how.clone()));
    let mut running = JoinSet::new();
    for case in plan.cases().filter(|case| !matches!(case.way, Way::Original(_))) {
        let (permits, shared) = (Arc::clone(&permits), Arc::clone(&shared));
        running.spawn(async move {
            // Closed never, so this waits for its turn.
            let _turn = permits.acquire().await;
            run(&shared.0, &shared.1, &case).await
        });
    }
    while let Some(finished) = running.join_next().await {
        // A task that panicked is a defect, and its run is missing from the report.
        let Ok(finished) = finished else { continue };
        let (sample, trace) = finished?;
        tell(&sample);
        report.samples.push(sample);
        report.traces.extend(trace);
    }
    report.sort();
    Ok(())
}

async fn run(
    plan: &Plan,
    how: &RealTime,
    case: &Case,
) -> Result<(Sample, Option<Trace>), LabError> {
    let Some(scenario) = plan.scenarios.get(case.scenario).cloned() else {
        return Err(LabError::io("looking for a scenario")(std::io::ErrorKind::NotFound.into()));
    };
    let text = made_up_text(scenario.payload_bytes);
    let config =
        LabConfig { seed: Some(case.seed), addresses: Addresses::Free, ..LabConfig::new(scenario) };
    let lab = Lab::start(config, Vec::new())?;
    let room = ClientRoom::new(&how.mdalp, &pings_of(&lab), text.as_bytes())?;
    let mut client = room
        .command(lab.orchestrator(), &command(&case.way, how))
        .ok_or_else(|| LabError::io("running a client")(std::io::ErrorKind::InvalidInput.into()))?;
    client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = client.spawn().map_err(LabError::io("running a client"))?;
    let ended = tokio::time::timeout(plan.deadline, child.wait()).await;
    if ended.is_err() {
        // It may have ended by itself just now; either way it is gone then.
        let _ = child.kill().await;
    }
    let flow = lab.ledger().flows().into_iter().find(|flow| flow.tid.is_some());
    let failed = match ended {
        Err(_) => Some("too slow".to_owned()),
        Ok(Err(error)) => Some(error.to_string()),
        Ok(Ok(status)) => verdict(&lab, status, flow.as_ref(), text.as_bytes()),
    };
    let flow = flow.unwrap_or_default();
    let sample = Sample {
        scenario: lab.scenario().name.clone(),
        way: case.way.name(),
        server: case.way.server(),
        seed: case.seed,
        failed,
        elapsed_s: flow.elapsed().unwrap_or_default().as_secs_f64(),
        retransmissions: flow.retransmissions(),
        datagrams: flow.lanes.iter().map(|lane| lane.chunks + lane.retransmissions).sum(),
        chunks: flow.acked(),
    };
    let trace = (case.run == 0).then(|| trace(&lab, case, &flow));
    lab.stop().await?;
    Ok((sample, trace))
}

/// The client's command line. Ours is run as others' are, so that all are measured alike.
fn command(way: &Way, how: &RealTime) -> Vec<String> {
    let ours = |mode: &[&str]| {
        let send = ["send", "-a", "{addr}", "-p", "{port}", "-f", "{file}", "--progress", "none"];
        let program = how.mdalp.to_string_lossy().into_owned();
        let args = send.iter().chain(mode).map(|arg| (*arg).to_owned());
        std::iter::once(program).chain(args).collect()
    };
    match way {
        Way::Balanced | Way::Original(_) => ours(&["-m", "1"]),
        Way::Single(place) => ours(&["-m", "2", "-s", &place.to_string()]),
        Way::Adaptive => ours(&["-m", "3"]),
        Way::Client { command, .. } => {
            ["sh", "-c", command].into_iter().map(str::to_owned).collect()
        }
    }
}

/// Why the run failed, if it did. What the servers hold decides, not what the client says.
fn verdict(lab: &Lab, status: ExitStatus, flow: Option<&Flow>, sent: &[u8]) -> Option<String> {
    if !status.success() {
        return Some(status.to_string());
    }
    let Some(tid) = flow.and_then(|flow| flow.tid) else {
        return Some("no assignment".to_owned());
    };
    let mut held = Vec::new();
    let whole = mdalp_store::assemble(lab.store().as_ref(), TransactionId(tid), &mut held).is_ok();
    (!whole || held != sent).then(|| "not every byte arrived".to_owned())
}

fn trace(lab: &Lab, case: &Case, flow: &Flow) -> Trace {
    let from = flow.assigned.unwrap_or(flow.began);
    let point = |point: &crate::flow::Point| {
        TracePoint::new(point.at.saturating_sub(from), point.lane, point.seq, point.kind)
    };
    Trace {
        scenario: lab.scenario().name.clone(),
        way: case.way.name(),
        seed: case.seed,
        receivers: lab.scenario().receivers.iter().map(|r| r.name.clone()).collect(),
        points: flow.points.iter().map(point).collect(),
    }
}
