//! The goals of the reliability matrix that a transfer in virtual time can show.

use crate::support::{ours, p0, sending, windowed};
use mdalp_netem::{Jitter, Outage, PathConfig, Probability, Reordering, Scenario};
use mdalp_proto::time::Instant;
use mdalp_sim::{Action, End, Mode, Program, SampleKind, Setup, Who, World, simulate_with, table};
use std::num::NonZeroU32;
use std::time::Duration;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Transfers in each line of the table.
const TRANSFERS: u64 = 100;

/// The golden table. `MDALP_BLESS=1` writes it anew; the difference is then for the reviewer.
#[test]
fn f01_time_and_datagrams_against_loss_are_as_recorded_and_meet_the_goals() {
    let mut text = format!("{}\n", table::HEADING);
    for (window, loss) in table::cells() {
        let row = table::measure(window, loss, TRANSFERS).unwrap();
        text.push_str(&row.to_string());
        text.push('\n');
        assert_eq!(row.complete.0, row.complete.1, "{row}");
        // Of so few, p99 is the worst but one; `mdalp-sim --table 1000` holds it to its goal.
        assert!(row.meets_goals(1.5), "{row}");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/p0-loss.txt");
    if std::env::var_os("MDALP_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let recorded = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(text, recorded, "run with MDALP_BLESS=1 if this is meant");
}

/// Share of data datagrams that were needless, over some seeds.
fn needless(scenario: &Scenario, window: u16) -> f64 {
    let runs = (0..20).map(|seed| ours(scenario, seed, &windowed(window)));
    let (mut sent, mut needed) = (0, 0);
    for report in runs {
        assert_eq!(report.end, End::Complete);
        (sent, needed) = (sent + report.datagrams, needed + report.total_chunks);
    }
    (sent - needed) as f64 / needed as f64
}

#[test]
fn f08_reordering_and_jitter_cause_few_needless_retransmissions() {
    for window in [1, 8] {
        for places in [3, 16, 64] {
            let reordering = Some(Reordering {
                probability: Probability::new(0.3),
                window: NonZeroU32::new(places).unwrap(),
            });
            let scenario = p0(|_, _, path| path.reordering = reordering);
            let share = needless(&scenario, window);
            assert!(share <= 0.05, "window {window}, {places} places: {share:.3}");
        }
        for (percent, most) in [(10, 0.05), (25, 0.05), (100, 0.20)] {
            // Half of it each way.
            let scenario = p0(|_, _, path| {
                path.jitter = Jitter { max: path.delay * percent / 100, reorders: true };
            });
            let share = needless(&scenario, window);
            assert!(share <= most, "window {window}, jitter {percent} %: {share:.3}");
        }
    }
}

#[test]
fn f12_f14_after_an_outage_the_first_ack_comes_within_3_5_s() {
    for window in [1, 8] {
        for length in [2, 30, 90] {
            let (start, healed) = (secs(2), secs(2 + length));
            let outage = Outage { start, length: secs(length) };
            let scenario = p0(|_, _, path| path.outages.push(outage));
            // Long enough not to be over before the outage.
            let options =
                mdalp_sim::Options { payload: Some(50_000), samples: true, ..windowed(window) };
            for seed in 0..5 {
                let report = ours(&scenario, seed, &options);
                assert_eq!(report.end, End::Complete, "{length} s");
                let first = report.samples.iter().find(|sample| {
                    sample.kind == SampleKind::Acked && sample.at >= Instant::ZERO + healed
                });
                let after = first.unwrap().at - (Instant::ZERO + healed);
                assert!(after <= Duration::from_millis(3500), "{length} s: {after:?}");
            }
        }
    }
}

#[test]
fn f13_a_flapping_path_completes_and_one_that_is_down_for_longer_than_the_deadline_fails() {
    let flapping = Scenario::builtin("flap").unwrap();
    for window in [1, 8] {
        let report = ours(&flapping, 1, &windowed(window));
        assert_eq!(report.end, End::Complete);
    }
    let outage = Outage { start: secs(1), length: secs(125) };
    let twin = p0(|_, _, path| path.outages.push(outage));
    assert_eq!(ours(&twin, 1, &windowed(1)).end, End::NoProgress);
}

#[test]
fn f14_g6_when_all_receivers_are_dark_it_fails_after_120_s_with_few_datagrams() {
    for window in [1, 8] {
        for start in [0, 1] {
            let outage = Outage { start: secs(start), length: Duration::MAX };
            let scenario = p0(|_, _, path| path.outages.push(outage));
            let base = windowed(window);
            let options = mdalp_sim::Options { payload: Some(50_000), samples: true, ..base };
            let report = ours(&scenario, 1, &options);
            assert_eq!(report.end, End::NoProgress);
            assert!((secs(115)..=secs(125)).contains(&report.silent), "{:?}", report.silent);
            for receiver in 0..3 {
                let since = Instant::ZERO + secs(start);
                // What the window let out as the lights went off comes on top, once.
                let dark = |s: &&mdalp_sim::Sample| {
                    s.receiver == receiver && s.at >= since && s.kind == SampleKind::Resent
                };
                let dark = report.samples.iter().filter(dark).count();
                assert!(dark <= 45, "{dark} datagrams into the dark");
            }
        }
    }
}

#[test]
fn f15_g6_with_one_or_two_receivers_dark_it_completes_within_33_s_of_what_the_rest_need() {
    for window in [1, 8] {
        for dark in [vec![0], vec![2], vec![0, 1]] {
            for (up, down) in [(true, true), (true, false), (false, true)] {
                for start in [0, 1] {
                    let outage = Outage { start: secs(start), length: Duration::MAX };
                    let scenario = p0(|at, is_up, path| {
                        if dark.contains(&at) && (if is_up { up } else { down }) {
                            path.outages.push(outage);
                        }
                    });
                    let report = ours(&scenario, 1, &windowed(window));
                    let what =
                        format!("{dark:?} up {up} down {down} from {start} s, window {window}");
                    assert_eq!(report.end, End::Complete, "{what}");
                    // All 51 chunks to the slowest receiver that is left, one at a time.
                    let remaining = if dark == [2] || dark == [0] { 8.7 } else { 8.3 };
                    let limit = secs(33) + Duration::from_secs_f64(remaining);
                    assert!(sending(&report) <= limit, "{what}: {:?}", sending(&report));
                }
            }
        }
    }
}

#[test]
fn f18_a_receiver_that_is_stopped_is_asked_at_most_once_in_3_s() {
    let scenario = Scenario::builtin("p0").unwrap();
    for pause in [1, 10, 45] {
        let mut setup = Setup::of(&scenario, 1);
        setup.servers.together = false;
        setup.servers.caps.window = Some(8);
        setup.clients[0].payload = 50_000;
        setup.samples = true;
        let (from, to) = (Instant::from_millis(2000), Instant::from_millis(2000 + pause * 1000));
        let who = Who::Server(3);
        setup.actions =
            vec![(from, Action::Pause { who, clock: false }), (to, Action::Resume(who))];
        let mut world = World::new(setup);
        world.run();
        let report = world.report(0);
        assert_eq!((report.violation, report.end), (None, End::Complete));
        let resent = report.samples.iter().filter(|sample| {
            let during = sample.at > from && sample.at < to;
            during && sample.receiver == 2 && sample.kind == SampleKind::Resent
        });
        // Until the timeout has grown to 3 s there are a few more, the first two of them doubled.
        let resent = resent.count() as u64;
        assert!(resent <= pause / 3 + 5, "{resent} in {pause} s");
    }
}

#[test]
fn f19_g6_without_an_orchestrator_it_fails_after_120_s_and_at_most_eight_intents() {
    let mut scenario = Scenario::builtin("p0").unwrap();
    scenario.orchestrator.up = PathConfig { cut: true, ..PathConfig::default() };
    let report = ours(&scenario, 1, &windowed(1));
    assert_eq!(report.end, End::NoAnswer);
    assert!((secs(115)..=secs(125)).contains(&report.total) && report.intents <= 8);
}

#[test]
fn f33_late_timers_cost_few_datagrams_and_make_nobody_suspect() {
    let scenario = table::p0_with_loss(0.02).unwrap();
    let (mut datagrams, mut chunks) = (0, 0);
    for seed in 0..40 {
        let mut setup = Setup::of(&scenario, seed);
        setup.clients[0].late_timers =
            Duration::from_millis(if seed % 2 == 0 { 100 } else { 1000 });
        let mut world = World::new(setup);
        world.run();
        let report = world.report(0);
        assert_eq!((report.violation, report.end), (None, End::Complete));
        assert!(report.receivers.iter().all(|receiver| receiver.state == "done"));
        (datagrams, chunks) = (datagrams + report.datagrams, chunks + report.total_chunks);
    }
    let ideal = chunks as f64 / (0.98 * 0.98);
    assert!(datagrams as f64 <= 1.2 * ideal, "{datagrams} datagrams, ideal {ideal}");
}

#[test]
fn s1_to_s5_the_original_fails_where_ours_does_not() {
    let duplicating = p0(|_, is_up, path| {
        if !is_up {
            path.duplication.probability = Probability::new(0.05);
        }
    });
    let silent = p0(|at, is_up, path| path.cut = at == 0 && !is_up);
    let options = windowed(1);
    let (mut crashed, mut more) = (0, 0);
    for seed in 0..40 {
        let original =
            |single| simulate_with(&duplicating, Program::Original(single), seed, &options);
        crashed += u32::from(original(None).end == End::Crashed);
        more += u32::from(original(Some(1)).datagrams > 60);
        let report = ours(&duplicating, seed, &options);
        assert_eq!((report.end, report.datagrams), (End::Complete, 51));
        let single = Program::Mdalp(Mode::Single(1));
        let report = simulate_with(&duplicating, single, seed, &options);
        assert_eq!((report.end, report.datagrams), (End::Complete, 50));
    }
    assert!(crashed > 20 && more > 20, "{crashed} crashed, {more} sent too much, of 40");
    let stuck = simulate_with(&silent, Program::Original(None), 1, &options);
    assert_eq!(stuck.end, End::Running, "for ever");
    assert_eq!(ours(&silent, 1, &options).end, End::Complete);
}
