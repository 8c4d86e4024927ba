//! Reports of made-up and of simulated runs.

use super::*;

fn plan(scenarios: &[&str], ways: &[Way], runs: u64) -> Plan {
    let scenario = |name: &&str| Scenario::builtin(name).expect("shipped");
    Plan {
        scenarios: scenarios.iter().map(scenario).collect(),
        ways: ways.to_vec(),
        runs,
        seed: None,
        deadline: Duration::from_secs(120),
    }
}

fn report(plan: &Plan) -> Comparison {
    let mut report = Comparison::new(plan, true, "balanced".into(), "mdalp compare <x>".into());
    simulate(plan, 2, &mut report);
    report
}

#[test]
fn every_way_meets_every_network_with_the_same_seeds() {
    let ways = [Way::Single(2), Way::Balanced, Way::Single(9)];
    let report = report(&plan(&["p0", "loss-2"], &ways, 3));
    let seen: Vec<_> = report.samples.iter().map(|s| (&*s.scenario, &*s.way, s.seed)).collect();
    let expected: Vec<_> = ["p0", "loss-2"]
        .iter()
        .flat_map(|network| {
            let ways = ["single-2", "balanced"].iter();
            ways.flat_map(move |way| (1..=3).map(move |seed| (*network, *way, seed)))
        })
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(report.traces.len(), 4);
    assert!(report.traces.iter().all(|trace| trace.seed == 1 && !trace.points.is_empty()));
}

#[test]
fn the_report_does_not_depend_on_the_number_of_threads() {
    let plan = plan(&["loss-10"], &[Way::Balanced, Way::Adaptive], 5);
    let run = |threads| {
        let mut report = Comparison::new(&plan, true, "balanced".into(), String::new());
        simulate(&plan, threads, &mut report);
        report
    };
    assert_eq!(run(1), run(4));
}

#[test]
fn no_run_without_loss_beats_its_bound() {
    let ways = [Way::Balanced, Way::Single(1), Way::Single(2), Way::Single(3)];
    let report = report(&plan(&["p0"], &ways, 5));
    let bounds = &report.networks[0].bounds;
    for sample in &report.samples {
        assert_eq!(sample.failed, None);
        let bound = match sample.server {
            None => bounds.static_shares_s,
            Some(place) => bounds.single_s[place - 1].expect("it answers"),
        };
        // The bound takes the mean of the jitter, of which a run of few chunks may have less.
        assert!(sample.elapsed_s > 0.97 * bound, "{sample:?} {bound}");
    }
    let ratio = report.ratio("p0", "single-1").expect("common seeds");
    assert!(ratio.value > 3.0);
    assert!((report.ratio("p0", "balanced").expect("itself").value - 1.0).abs() < 1e-12);
}

#[test]
fn a_way_that_never_ends_is_a_row_that_says_so() {
    let report = report(&plan(&["seed"], &[Way::Balanced, Way::Original(Some(1))], 2));
    let text = markdown(&report);
    let row = text.lines().find(|line| line.contains("original-single-1")).expect("a row");
    assert!(row.contains("| 5th Receiver | 335.148 |") && row.contains("| failed |"), "{row}");
    assert!(row.contains("2 of 2: too slow"), "{row}");
    assert!(text.contains("| 5th Receiver alone, 1.740 s per chunk | never ends |"), "{text}");
}

#[test]
fn a_report_says_how_it_was_made() {
    let report = report(&plan(&["p0"], &[Way::Balanced], 4));
    for text in [markdown(&report), html(&report).expect("a page").replace("&lt;", "<")] {
        assert!(text.contains("mdalp compare <x"), "{text}");
        assert!(text.contains(env!("CARGO_PKG_VERSION")) && text.contains("virtual time"));
        assert!(text.contains("p0 from 1 to 4"), "{text}");
    }
}

#[test]
fn csv_and_json_have_every_sample() {
    let mut report = report(&plan(&["p0"], &[Way::Balanced], 3));
    report.samples[1].failed = Some("it said \"no\", twice".into());
    let csv = csv(&report);
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[2].starts_with("p0,balanced,,2,\"it said \"\"no\"\", twice\","), "{}", lines[2]);
    let fields = lines[0].split(',').count();
    assert_eq!(lines[1].split(',').count(), fields);
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["samples"].as_array().map(Vec::len), Some(3));
    assert_eq!(json["samples"][0]["seed"], 1);
}

#[test]
fn the_page_needs_nothing_else_and_marks_retransmissions() {
    let mut report = report(&plan(&["loss-10"], &[Way::Balanced], 2));
    report.networks[0].description = "<script>alert('x')</script>".into();
    let page = html(&report).expect("a page");
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="));
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(page.contains("sent again"));
    // Empty reports are pages too.
    report.samples.clear();
    report.traces.clear();
    assert_eq!(html(&report).expect("a page").matches("<svg").count(), 1);
}
