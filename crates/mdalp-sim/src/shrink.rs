//! Makes a failing case short: without every fault that it fails without, and with less of the rest.

use crate::case::Case;
use crate::run::run;
use crate::setup::Twin;

/// The shortest case found that violates the same invariant as `case` does; `case` itself if it fails
/// nothing. At most `tries` runs.
pub fn shrink(case: &Case, twin: Option<Twin>, tries: usize) -> Case {
    let mut best = case.clone();
    let Some(violated) = run(case, twin).violation.map(|v| v.invariant) else { return best };
    let mut left = tries;
    loop {
        let smaller = candidates(&best).into_iter().find(|candidate| {
            left = left.saturating_sub(1);
            left > 0 && run(candidate, twin).violation.is_some_and(|v| v.invariant == violated)
        });
        match smaller {
            Some(smaller) => best = smaller,
            None => return best,
        }
    }
}

/// Simpler cases, the simplest first.
fn candidates(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Case)| {
        let mut simpler = case.clone();
        change(&mut simpler);
        if simpler != *case {
            all.push(simpler);
        }
    };
    for at in 0..case.faults.len() {
        with(&|c| {
            c.faults.remove(at);
        });
    }
    with(&|c| c.copies = 1);
    with(&|c| c.clients = 1);
    with(&|c| c.linger_ms = 0);
    with(&|c| c.log = false);
    with(&|c| c.churn = false);
    with(&|c| c.seal = false);
    with(&|c| c.keep_s = None);
    with(&|c| c.crowd = false);
    with(&|c| c.chunk = mdalp_proto::wire::CLASSIC_CHUNK);
    with(&|c| c.rot = 0);
    with(&|c| c.afterwards = false);
    with(&|c| c.tight = false);
    with(&|c| c.icmp = false);
    with(&|c| c.window = 1);
    with(&|c| c.payload = if c.payload > 1000 { c.payload / 2 } else { c.payload });
    if case.round_trips_ms.len() > 1 {
        with(&|c| {
            c.round_trips_ms.pop();
        });
    }
    for (at, fault) in case.faults.iter().enumerate() {
        if let Some(half) = fault.halved() {
            with(&|c| c.faults[at] = half.clone());
        }
    }
    all
}
