//! The report as tables: Markdown for people, CSV with every sample for other programs.

use std::fmt::Write;

use super::{Comparison, Network, Summary};

/// The report in Markdown.
pub fn markdown(report: &Comparison) -> String {
    let mut out = String::from("# Comparison\n\n");
    for line in facts(report) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "- {line}");
    }
    for network in &report.networks {
        let _ = write!(out, "\n## {}\n\n", network.name);
        if !network.description.is_empty() {
            let _ = write!(out, "{}\n\n", network.description);
        }
        out += &rows_to_markdown(&summary_rows(report, network));
        out += "\nBounds, without losses and without the time to measure latencies:\n\n";
        out += &rows_to_markdown(&bound_rows(network));
    }
    let _ = write!(out, "\n{}\n", legend(report));
    out
}

/// Every run as a line of CSV, with a heading.
pub fn csv(report: &Comparison) -> String {
    let mut out = String::from(
        "scenario,way,server,seed,failed,elapsed_s,retransmissions,datagrams,chunks\n",
    );
    for sample in &report.samples {
        let server = sample.server.map(|server| server.to_string()).unwrap_or_default();
        let failed = sample.failed.as_deref().unwrap_or_default();
        let _ = writeln!(
            out,
            "{},{},{server},{},{},{:.6},{},{},{}",
            quoted(&sample.scenario),
            quoted(&sample.way),
            sample.seed,
            quoted(failed),
            sample.elapsed_s,
            sample.retransmissions,
            sample.datagrams,
            sample.chunks,
        );
    }
    out
}

/// How the report came to be.
pub(super) fn facts(report: &Comparison) -> Vec<String> {
    let time = if report.simulated { "virtual time" } else { "real time" };
    let seeds = |network: &Network| {
        let last = network.first_seed.wrapping_add(report.runs.saturating_sub(1));
        format!("{} from {} to {last}", network.name, network.first_seed)
    };
    let seeds: Vec<_> = report.networks.iter().map(seeds).collect();
    vec![
        format!("mdalp {}, {time}: `{}`", report.version, report.command),
        format!("{} runs of each; seeds: {}", report.runs, seeds.join(", ")),
        format!("a run that takes longer than {} s has failed", report.deadline_s),
    ]
}

/// What the columns mean.
pub(super) fn legend(report: &Comparison) -> String {
    format!(
        "Times run from the assignment to the last ack, measuring latencies included. A failed run \
         counts in the median as one that never ended; mean, σ and worst are those of the complete \
         runs. Retransmissions are the mean of all runs. The ratio is that of the means to `{}` over \
         common seeds, ± its standard error.",
        report.reference
    )
}

/// A table of the ways in `network`, the heading first; the columns of the original's own table come
/// first.
pub(super) fn summary_rows(report: &Comparison, network: &Network) -> Vec<Vec<String>> {
    let ratio = format!("ratio to {}", report.reference);
    let heading = [
        "mode",
        "server",
        "latency (ms)",
        "retransmissions",
        "elapsed (s), median",
        "mean ± σ",
        "worst",
        "failed",
        &ratio,
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (way, server) in &report.ways {
        let samples = report.samples_of(&network.name, way);
        if samples.is_empty() {
            continue;
        }
        let summary = Summary::of(&samples);
        let at = server.and_then(|server| server.checked_sub(1));
        let name = at.and_then(|at| network.receivers.get(at)).cloned();
        let latency = at.and_then(|at| *network.ping_ms.get(at)?);
        let number = |value: Option<f64>| value.map_or_else(dash, |value| format!("{value:.3}"));
        let all_failed = summary.failed() == summary.runs;
        let mean = summary.mean_s.map_or_else(dash, |mean| match summary.deviation_s {
            Some(deviation) => format!("{mean:.3} ± {deviation:.3}"),
            None => format!("{mean:.3}"),
        });
        let ratio = report.ratio(&network.name, way);
        rows.push(vec![
            way.clone(),
            name.unwrap_or_else(dash),
            number(latency),
            format!("{:.1}", summary.retransmissions),
            match summary.median_s {
                Some(median) => format!("{median:.3}"),
                None if all_failed => "failed".to_owned(),
                None => "never".to_owned(),
            },
            mean,
            number(summary.worst_s),
            failures(&summary),
            ratio.map_or_else(dash, |ratio| match ratio.error {
                Some(error) => format!("{:.3} ± {error:.3}", ratio.value),
                None => format!("{:.3}", ratio.value),
            }),
        ]);
    }
    rows
}

/// A table of what theory allows in `network`, the heading first.
pub(super) fn bound_rows(network: &Network) -> Vec<Vec<String>> {
    let bounds = &network.bounds;
    let mut rows = vec![vec!["bound".to_owned(), "seconds".to_owned()]];
    for ((name, alone), trip) in
        network.receivers.iter().zip(&bounds.single_s).zip(&bounds.round_trip_s)
    {
        let time = alone.map_or_else(|| "never ends".to_owned(), |alone| format!("{alone:.3}"));
        rows.push(vec![format!("{name} alone, {trip:.3} s per chunk"), time]);
    }
    let shares = "shares in proportion to 1/latency".to_owned();
    rows.push(vec![shares, format!("{:.3}", bounds.static_shares_s)]);
    let ideal = "ideal: each chunk to whoever is free".to_owned();
    rows.push(vec![ideal, format!("{:.3}", bounds.dynamic_split_s)]);
    rows
}

fn failures(summary: &Summary) -> String {
    if summary.failed() == 0 {
        return format!("0 of {}", summary.runs);
    }
    let why: Vec<_> = summary.failures.iter().map(|(why, n)| format!("{n} {why}")).collect();
    let of = format!("{} of {}", summary.failed(), summary.runs);
    match summary.failures.first_key_value() {
        Some((why, _)) if summary.failures.len() == 1 => format!("{of}: {why}"),
        _ => format!("{of}: {}", why.join(", ")),
    }
}

fn dash() -> String {
    "–".to_owned()
}

fn rows_to_markdown(rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let Some((heading, body)) = rows.split_first() else { return String::new() };
    let rule = vec!["---".to_owned(); heading.len()];
    line(heading) + &line(&rule) + &body.iter().map(|row| line(row)).collect::<String>()
}

/// A field of CSV (RFC 4180).
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
