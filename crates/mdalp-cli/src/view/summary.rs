//! The last words of a send: one line, what each receiver did, and why it failed if it did.

use crate::console;
use crate::text;
use mdalp::event::{Reason, Report};

pub(super) fn note(report: &Report) {
    let began =
        matches!(report.reason, Reason::Complete | Reason::DryRun) || report.total_chunks > 0;
    if let Some(tid) = report.tid.filter(|_| began) {
        console::note(format_args!("{}", headline(report, tid)));
        if report.receivers.iter().any(|receiver| receiver.datagrams > 0) {
            console::note(format_args!("{}", receivers(report).trim_end()));
        }
    }
    if let Some(error) = &report.error {
        console::note(format_args!("mdalp: {error}"));
    }
}

fn headline(report: &Report, tid: u64) -> String {
    let elapsed = text::seconds(report.elapsed_s);
    if report.reason == Reason::DryRun {
        return format!("dry run: nothing was sent (transaction {tid} is left unused)");
    }
    let verified = if report.verified { "verified" } else { "unverified" };
    if report.reason != Reason::Complete {
        return format!(
            "{} of {} bytes, {} of {} chunks in {elapsed}, not complete (transaction {tid})",
            report.bytes, report.total_bytes, report.chunks, report.total_chunks,
        );
    }
    if report.total_bytes == 0 {
        return format!("0 bytes: an empty payload, complete, {verified} (transaction {tid})");
    }
    let used = report.receivers.iter().filter(|receiver| receiver.chunks > 0).count() as u64;
    format!(
        "{} in {} to {} in {elapsed}, complete, {verified} (transaction {tid})",
        text::count(report.bytes, "byte"),
        text::count(report.chunks, "chunk"),
        text::count(used, "receiver"),
    )
}

/// Without the states where all are the same: done.
fn receivers(report: &Report) -> String {
    let columns = if report.reason == Reason::Complete { 7 } else { 8 };
    let heading = ["receiver", "name", "latency", "bytes", "chunks", "resent", "srtt", "state"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for receiver in &report.receivers {
        rows.push(vec![
            receiver.address.clone(),
            receiver.name.clone(),
            text::millis(receiver.latency_ms),
            receiver.bytes.to_string(),
            receiver.chunks.to_string(),
            receiver.retransmissions.to_string(),
            text::millis(receiver.srtt_ms),
            receiver.state.to_owned(),
        ]);
    }
    for row in &mut rows {
        row.truncate(columns);
    }
    text::table(&rows, 2)
}
