//! The live view of a lab: a line for each receiver, refreshed in place.

use super::report::millis;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use mdalp_lab::Lab;
use mdalp_lab::flow::LaneFlow;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(500);

/// Never returns.
pub(super) async fn show(lab: &Lab) {
    let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let line = || lines.add(ProgressBar::new_spinner().with_style(style.clone()));
    let names = lab.scenario().receivers.iter().map(|receiver| receiver.name.clone());
    let head = line();
    let receivers: Vec<(String, ProgressBar)> = names.map(|name| (name, line())).collect();
    let mut before = vec![0; receivers.len()];
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        let (totals, transfers) = totals(lab, receivers.len());
        head.set_message(format!(
            "{:24} {:>9} {:>12} {:>8} {:>7} {:>7}   transfers: {transfers}",
            "receiver", "chunks/s", "round trip", "acked", "resent", "lost",
        ));
        for (((name, line), lane), before) in receivers.iter().zip(&totals).zip(&mut before) {
            let sent = lane.chunks + lane.retransmissions;
            let rate = (sent - *before) as f64 / EVERY.as_secs_f64();
            *before = sent;
            let name: String = name.chars().take(24).collect();
            line.set_message(format!(
                "{name:24} {rate:>9.1} {:>12} {:>8} {:>7} {:>7}",
                lane.rtt.map_or_else(|| "-".to_owned(), millis),
                lane.acked,
                lane.retransmissions,
                lane.lost_up + lane.lost_down,
            ));
        }
    }
}

/// Each receiver over all transfers, with the latest round trip; and how many transfers there are.
fn totals(lab: &Lab, receivers: usize) -> (Vec<LaneFlow>, usize) {
    let mut totals = vec![LaneFlow::default(); receivers];
    let mut transfers = 0;
    lab.ledger().for_each(|flow| {
        transfers += 1;
        for (total, lane) in totals.iter_mut().zip(&flow.lanes) {
            total.chunks += lane.chunks;
            total.retransmissions += lane.retransmissions;
            total.acked += lane.acked;
            total.lost_up += lane.lost_up;
            total.lost_down += lane.lost_down;
            total.rtt = lane.rtt.or(total.rtt);
        }
    });
    (totals, transfers)
}
