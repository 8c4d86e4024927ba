//! Transfers through emulated networks: G3, G4, G6, G7, G10.

use super::run::{Ran, Run};
use super::{Check, Row};
use mdalp_lab::relay::Rebinding;
use mdalp_netem::Scenario;
use mdalp_sim::table::p0_with_loss;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Transfers for each median.
const RUNS: u64 = 5;

pub(super) fn all(mdalp: &Path) -> Vec<(&'static str, Check)> {
    let mut checks: Vec<(&'static str, Check)> = Vec::new();
    // §2.2: window, loss and the goal for the median in seconds.
    for (window, loss, goal) in [
        (1, 0.0, 4.0),
        (1, 0.02, 5.0),
        (1, 0.10, 10.0),
        (1, 0.30, 40.0),
        (1, 0.50, 300.0),
        (8, 0.0, 1.0),
        (8, 0.02, 1.0),
        (8, 0.10, 1.7),
        (8, 0.30, 5.0),
        (8, 0.50, 60.0),
    ] {
        checks.push(("G3", Box::pin(loss_row(mdalp.to_owned(), window, loss, goal))));
    }
    interop(mdalp, &mut checks);
    for window in ["", "crc window=8"] {
        let dead = "dead = true";
        checks.push(("G6", Box::pin(one_dead(p0(mdalp, "", [dead, "", ""], window)))));
        checks.push(("G6", Box::pin(all_dead(p0(mdalp, "", [dead; 3], window)))));
    }
    checks.push(("G6", Box::pin(no_orchestrator(p0(mdalp, "", [""; 3], "")))));
    let small =
        ["", "outages = [{ at_s = 1, for_s = 2 }]"].map(|more| p0(mdalp, more, [""; 3], ""));
    checks.push(("G7", Box::pin(outage("A on P0, window 1, dark from 1 s to 3 s", small))));
    let large = ["", "outages = [{ at_s = 3, for_s = 2 }]"]
        .map(|more| Run { payload: 10 << 20, ..p1(mdalp, 1, more, EXTENDED) });
    checks.push(("G7", Box::pin(outage("10 MB on P1, one receiver, dark from 3 s to 5 s", large))));
    checks.push(("G10", Box::pin(amplification(p0(mdalp, "", [""; 3], "")))));
    checks
}

/// What our receivers advertise.
const EXTENDED: &str = "crc seal window=32 chunk=1200";
const LATENCIES: [&str; 4] = ["--mode", "1", "--latencies", "335.148,162.844,156.857"];

fn base(mdalp: &Path, scenario: Scenario, caps: &'static str) -> Run {
    Run {
        mdalp: mdalp.to_owned(),
        scenario,
        seed: 1,
        caps,
        payload: 5000,
        options: Vec::new(),
        rebinding: None,
        transfers: 1,
    }
}

/// P0, with more about its paths and about each receiver.
fn p0(mdalp: &Path, paths: &str, receivers: [&str; 3], caps: &'static str) -> Run {
    let mut text = format!(
        "[paths]\njitter_ms = 5\nrate_mbit = 10\nqueue_packets = 25\n{paths}\n\
         [orchestrator]\nrtt_ms = 40\n"
    );
    for (rtt, more) in [335.148, 162.844, 156.857].iter().zip(receivers) {
        let _ = write!(text, "[[receiver]]\nname = '{rtt}'\nrtt_ms = {rtt}\n{more}\n");
    }
    let run = base(mdalp, scenario(&text), caps);
    Run { options: LATENCIES.map(str::to_owned).to_vec(), ..run }
}

/// P1, with more about its paths.
fn p1(mdalp: &Path, receivers: usize, more: &str, caps: &'static str) -> Run {
    let mut text = format!(
        "[paths]\ndelay_ms = 15\nrate_mbit = 10\nqueue_packets = 25\n{more}\n[orchestrator]\n"
    );
    for receiver in 1..=receivers {
        let _ = write!(text, "[[receiver]]\nname = 'R{receiver}'\n");
    }
    let equal = vec!["30"; receivers].join(",");
    let options = ["--mode", "3", "--latencies", &equal].map(str::to_owned).to_vec();
    Run { options, ..base(mdalp, scenario(&text), caps) }
}

fn scenario(text: &str) -> Scenario {
    Scenario::parse(text, "goals").expect("the scenario is written in this file")
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

async fn loss_row(mdalp: PathBuf, window: u16, loss: f64, goal: f64) -> Row {
    let caps = if window == 1 { "" } else { "crc window=8" };
    let scenario = p0_with_loss(loss).expect("P0 is shipped");
    let options = LATENCIES.map(str::to_owned).to_vec();
    let run = Run { options, ..base(&mdalp, scenario, caps) };
    let running: Vec<_> =
        (1..=RUNS).map(|seed| tokio::task::spawn_local(Run { seed, ..run.clone() }.go())).collect();
    let mut times = Vec::new();
    for run in running {
        if let Some(ran) = run.await.ok().filter(Ran::complete) {
            times.push(ran.sending());
        }
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    let (done, all) = (times.len(), RUNS);
    Row {
        goal: "G3",
        what: format!("A on P0, window {window}, loss {:.0} % each way", loss * 100.0),
        asked: format!("median ≤ {goal} s, all complete"),
        measured: format!("{} (worst {}), {done} of {all}", seconds(median), seconds(worst)),
        met: done as u64 == RUNS && median.as_secs_f64() <= goal,
    }
}

/// The scenarios of the QUIC interop runner, for our programs with their extensions.
fn interop(mdalp: &Path, checks: &mut Vec<(&'static str, Check)>) {
    let p1 = |receivers, more| p1(mdalp, receivers, more, EXTENDED);
    let mut add = |what: &'static str, limit: f64, run: Run| {
        checks.push(("G4", Box::pin(complete_within(what, limit, run))));
    };
    add(
        "2 MB, 2 % loss, at most 3 in a row",
        25.0,
        Run { payload: 2_000_000, ..p1(3, "loss = 0.02\nmax_loss_run = 3") },
    );
    add(
        "50 transfers of 1 KB, 30 % loss, at most 3 in a row",
        300.0,
        Run { payload: 1000, transfers: 50, ..p1(3, "loss = 0.3\nmax_loss_run = 3") },
    );
    add(
        "2 MB, one of the first 50 bytes replaced in 2 %",
        60.0,
        Run { payload: 2_000_000, ..p1(3, "corrupt_byte = 0.02\ncorrupt_within = 50") },
    );
    add(
        "50 transfers of 1 KB, one of the first 50 bytes replaced in 30 %",
        300.0,
        Run { payload: 1000, transfers: 50, ..p1(3, "corrupt_byte = 0.3\ncorrupt_within = 50") },
    );
    add(
        "10 MB, one receiver, up 5 s, down 2 s",
        60.0,
        Run { payload: 10 << 20, ..p1(1, "flap = { up_s = 5, down_s = 2 }") },
    );
    for (what, addresses) in [
        ("10 MB, one receiver, another port after 1 s, then every 5 s", false),
        ("10 MB, one receiver, another address after 1 s, then every 5 s", true),
    ] {
        let (first, every) = (Duration::from_secs(1), Duration::from_secs(5));
        let rebinding = Some(Rebinding { first, every, addresses });
        add(what, 60.0, Run { payload: 10 << 20, rebinding, ..p1(1, "") });
    }
    let text = Scenario::builtin_text("p2-long").expect("P2 is shipped");
    let options = ["--latencies", "1500,1500,1500"].map(str::to_owned).to_vec();
    checks.push(("G4", Box::pin(long(Run { options, ..base(mdalp, scenario(text), "") }))));
}

async fn complete_within(what: &'static str, limit: f64, run: Run) -> Row {
    let ran = run.go().await;
    let (done, all) = (ran.whole.min(ran.exits.len()), ran.exits.len());
    let asking = ran.flows.iter().filter_map(|flow| flow.assigned?.checked_sub(flow.began));
    let asking: Duration = asking.sum();
    let ends = if ran.complete() { String::new() } else { format!(", {}", ran.ends()) };
    Row {
        goal: "G4",
        what: what.to_owned(),
        asked: format!("byte-identical, ≤ {limit} s"),
        measured: format!(
            "{} ({} of it for the assignment), {done} of {all} identical{ends}",
            seconds(ran.took),
            seconds(asking)
        ),
        met: ran.complete() && ran.took.as_secs_f64() <= limit,
    }
}

async fn long(run: Run) -> Row {
    let ran = run.go().await;
    let sent: u64 = ran.datagrams().iter().sum();
    let chunks: u64 = ran.flows.iter().map(mdalp_lab::flow::Flow::acked).sum();
    Row {
        goal: "G4",
        what: "A on P2 (750 ms one way), window 1".to_owned(),
        asked: "complete, datagrams ≤ 1.10 × chunks".to_owned(),
        measured: format!("{}, {sent} for {chunks} chunks", seconds(ran.sending())),
        met: ran.complete() && sent as f64 <= 1.1 * chunks as f64,
    }
}

fn named(run: &Run) -> &'static str {
    if run.caps.is_empty() { "window 1" } else { "window 8" }
}

async fn one_dead(run: Run) -> Row {
    let window = named(&run);
    let ran = run.go().await;
    // All 51 chunks one after the other to the slower of the two that are left, and 33 s.
    let limit = 8.7 + 33.0;
    Row {
        goal: "G6",
        what: format!("one of three receivers dead, {window}"),
        asked: format!("complete, ≤ {limit} s"),
        measured: format!("{}, {}", seconds(ran.sending()), ran.ends()),
        met: ran.complete() && ran.sending().as_secs_f64() <= limit,
    }
}

fn about_120_s(ran: &Ran) -> bool {
    (115.0..=125.0).contains(&ran.took.as_secs_f64())
}

async fn all_dead(run: Run) -> Row {
    let window = named(&run);
    let ran = run.go().await;
    let most = ran.datagrams().into_iter().max().unwrap_or_default();
    Row {
        goal: "G6",
        what: format!("all receivers dead, {window}"),
        asked: "exit 8 after 120 s ± 5 s, ≤ 50 datagrams each".to_owned(),
        measured: format!("{}, {}, {most} datagrams", seconds(ran.took), ran.ends()),
        met: ran.exits == [Some(8)] && about_120_s(&ran) && (1..=50).contains(&most),
    }
}

async fn no_orchestrator(mut run: Run) -> Row {
    run.scenario.orchestrator.up.cut = true;
    let ran = run.go().await;
    let intents = ran.questions.intents.len();
    Row {
        goal: "G6",
        what: "orchestrator dead".to_owned(),
        asked: "exit 3 after 120 s ± 5 s, ≤ 8 intents".to_owned(),
        measured: format!("{}, {}, {intents} intents", seconds(ran.took), ran.ends()),
        met: ran.exits == [Some(3)] && about_120_s(&ran) && (1..=8).contains(&intents),
    }
}

/// The same transfer without and with an outage of 2 s of all paths.
async fn outage(what: &'static str, [without, with]: [Run; 2]) -> Row {
    let (without, with) = (without.go().await, with.go().await);
    let (short, long) = (without.sending().as_secs_f64(), with.sending().as_secs_f64());
    let cost = long - short - 2.0;
    let (one, two) = (without.ends(), with.ends());
    Row {
        goal: "G7",
        what: what.to_owned(),
        asked: "≤ 3.5 s more than the outage".to_owned(),
        measured: format!("{cost:.2} s more ({short:.2} s, {long:.2} s; {one}, {two})"),
        met: without.complete() && with.complete() && cost <= 3.5 && cost > -2.0,
    }
}

async fn amplification(mut run: Run) -> Row {
    // The first intent is bare and can only be limited in rate; our client pads the second.
    run.scenario.orchestrator.up.loss.nth = vec![1];
    let ran = run.go().await;
    let answer = ran.questions.answers.first().copied().unwrap_or_default();
    let question = ran.questions.intents.get(1).copied().unwrap_or(1);
    let factor = answer as f64 / question as f64;
    Row {
        goal: "G10",
        what: "answer to a padded intent".to_owned(),
        asked: "≤ 3 times as long".to_owned(),
        measured: format!("{answer} bytes to {question}, {factor:.2} times, {}", ran.ends()),
        met: ran.complete() && answer > 0 && factor <= 3.0,
    }
}
