//! The report as one HTML page that needs nothing else: tables, pictures, raw samples.

use super::chart::{self, ChartError, Row};
use super::table::{bound_rows, facts, legend, summary_rows};
use super::{Comparison, Network, Summary};

/// The whole look. Black on white, as wide as a laptop's screen takes it, and it prints.
const STYLE: &str = "\
:root{color-scheme:light}\
body{font:16px/1.5 system-ui,sans-serif;color:#111;background:#fff;max-width:74rem;\
margin:0 auto;padding:1.5rem}\
h1{font-size:1.7rem;margin:0 0 .5rem}\
h2{font-size:1.35rem;margin:2.5rem 0 .25rem;border-top:1px solid #ccc;padding-top:1rem}\
h3{font-size:1.05rem;margin:1.5rem 0 .25rem}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;font-size:.9rem;margin:.75rem 0}\
th,td{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}\
th{border-bottom:2px solid #888;white-space:normal;vertical-align:bottom}\
th:first-child,td:first-child,.names td:nth-child(2),.names th:nth-child(2){text-align:left}\
.names td:nth-child(8){white-space:normal;min-width:7rem}\
code{background:#f3f3f3;padding:.1rem .3rem;overflow-wrap:anywhere}\
svg{width:100%;height:auto;display:block}\
.small{font-size:.85rem;color:#444}\
ul{margin:.25rem 0;padding-left:1.25rem}";

/// The report as an HTML page.
///
/// # Errors
/// If a picture cannot be drawn.
pub fn html(report: &Comparison) -> Result<String, ChartError> {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <title>MDALP comparison</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Comparison</h1>\n<ul class=\"small\">\n"
    );
    for line in facts(report) {
        out += &tag("li", &code(&line));
    }
    out += "</ul>\n";
    for network in &report.networks {
        out += &section(report, network)?;
    }
    out += "<h2>What the figures are</h2>\n";
    out += &tag("p", &code(&legend(report)));
    out += "</body>\n</html>\n";
    Ok(out)
}

fn section(report: &Comparison, network: &Network) -> Result<String, ChartError> {
    let mut out = tag("h2", &escape(&network.name));
    out += &tag("p", &escape(&network.description));
    let summary = table(&summary_rows(report, network), "names");
    out += &tag("div", &summary).replacen("<div>", "<div class=\"wide\">", 1);
    out += &tag("h3", "Elapsed time");
    out += "<p class=\"small\">A ring for each run, a bar to the median. Upright lines are bounds.</p>\n";
    let bounds = [
        ("shares fixed by latency, no loss", network.bounds.static_shares_s),
        ("ideal: each chunk to whoever is free", network.bounds.dynamic_split_s),
    ];
    out += &chart::elapsed(&rows(report, network), &bounds)?;
    out += &table(&bound_rows(network), "");
    let traces = report.traces.iter().filter(|trace| trace.scenario == network.name);
    let traces: Vec<_> = traces.filter(|trace| !trace.points.is_empty()).collect();
    if !traces.is_empty() {
        out += &tag("h3", "Each chunk over time");
        out += &chart::sequence_key(&network.receivers)?;
    }
    for trace in traces {
        out += &tag("h3", &escape(&format!("{}, seed {}", trace.way, trace.seed)));
        out += &chart::sequence(trace)?;
    }
    Ok(out)
}

/// What the picture of elapsed times shows.
fn rows(report: &Comparison, network: &Network) -> Vec<Row> {
    let row = |(way, _): &(String, Option<usize>)| {
        let samples = report.samples_of(&network.name, way);
        let summary = Summary::of(&samples);
        let complete = samples.iter().filter(|sample| sample.failed.is_none());
        let failed = match (summary.failed(), summary.runs) {
            (0, _) => String::new(),
            (failed, runs) if failed == runs => "failed".to_owned(),
            (failed, runs) => format!(", {failed} of {runs} failed"),
        };
        let median = summary.median_s.map(|s| format!("{s:.2} s")).unwrap_or_default();
        (!samples.is_empty()).then(|| Row {
            label: way.clone(),
            times: complete.map(|sample| sample.elapsed_s).collect(),
            median: summary.median_s,
            note: median + &failed,
        })
    };
    report.ways.iter().filter_map(row).collect()
}

fn table(rows: &[Vec<String>], class: &str) -> String {
    let cells = |row: &[String], cell: &str| -> String {
        let mut out = String::new();
        for text in row {
            out.extend(["<", cell, ">", &escape(text), "</", cell, ">"]);
        }
        out
    };
    let Some((heading, body)) = rows.split_first() else { return String::new() };
    let body: String = body.iter().map(|row| tag("tr", &cells(row, "td"))).collect();
    let heading = tag("tr", &cells(heading, "th"));
    format!(
        "<table class=\"{class}\">\n<thead>{heading}</thead>\n<tbody>{body}</tbody>\n</table>\n"
    )
}

fn tag(name: &str, inner: &str) -> String {
    format!("<{name}>{inner}</{name}>\n")
}

/// Escaped, with what stands between backticks as code.
fn code(text: &str) -> String {
    let mut out = String::new();
    for (n, part) in text.split('`').enumerate() {
        let (open, close) = if n % 2 == 1 { ("<code>", "</code>") } else { ("", "") };
        out.extend([open, &escape(part), close]);
    }
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            _ => out.push(c),
        }
    }
    out
}
