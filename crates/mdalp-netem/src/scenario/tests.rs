//! What scenario files mean, and what is wrong with those that are refused.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::*;
use crate::config::{Flap, Outage};
use crate::preset::P0_ROUND_TRIPS;
use crate::rng::Probability;

const MS: Duration = Duration::from_millis(1);

fn refused(text: &str) -> String {
    Scenario::parse(text, "x.toml").expect_err("must be refused").to_string()
}

fn with_path(keys: &str) -> PathConfig {
    let text = format!("[[receiver]]\nname = 'a'\n[receiver.up]\n{keys}");
    let scenario = Scenario::parse(&text, "x.toml").expect("a good scenario");
    scenario.receivers[0].up.current().clone()
}

#[test]
fn every_shipped_scenario_is_read_and_named_after_its_file() {
    for name in Scenario::builtin_names() {
        let text = Scenario::builtin_text(name).expect("the text");
        let scenario = Scenario::parse(text, name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scenario.name, name);
        assert!(!scenario.description.is_empty(), "{name}");
        assert_eq!(Scenario::builtin(name), Some(scenario));
    }
    assert!(Scenario::builtin_names().is_sorted());
    assert_eq!(Scenario::builtin("no such"), None);
}

#[test]
fn every_scenario_file_is_shipped() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios");
    let files: BTreeSet<_> = std::fs::read_dir(folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "toml"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, Scenario::builtin_names().map(str::to_owned).collect());
}

#[test]
fn the_files_of_the_standard_paths_say_what_the_presets_say() {
    let paths = |name| -> Vec<_> {
        let scenario = Scenario::builtin(name).expect("shipped");
        let ends = scenario.receivers.into_iter();
        ends.map(|end| (end.up.current().clone(), end.down.current().clone())).collect()
    };
    let both = |path: PathConfig| (path.clone(), path);
    assert_eq!(paths("p0"), P0_ROUND_TRIPS.map(|rtt| both(PathConfig::p0(rtt))));
    assert_eq!(paths("p1-interop"), vec![both(PathConfig::p1()); 3]);
    assert_eq!(paths("p2-long"), vec![both(PathConfig::p2()); 3]);
    assert_eq!(paths("p3-dsl"), vec![(PathConfig::p3_up(), PathConfig::p3_down()); 3]);
}

#[test]
fn the_example_of_the_documentation_is_read() {
    let scenario = Scenario::parse(include_str!("example.toml"), "x").expect("a good scenario");
    assert_eq!(scenario.name, "example");
    assert_eq!(scenario.receivers[0].far_end.current().stop_at_seq, Some(42));
}

#[test]
fn errors_say_the_line_and_the_column() {
    let receiver = "[[receiver]]\nname = 'a'\n";
    let cases = [
        ("seed = 1\nsede = 2\n", "x.toml:2:1: unknown field `sede`"),
        ("seed = ", "x.toml:1:8: "),
        ("seed = 1\n", "x.toml:1:1: missing field `receiver`"),
        ("receiver = []\n", "x.toml:1:1: there is no receiver"),
        (&format!("{receiver}rtt = 3\n"), "x.toml:3:1: unknown field `rtt`"),
        (&format!("{receiver}rtt_ms = -3\n"), "x.toml:3:10: not a duration"),
        (&format!("{receiver}rtt_ms = nan\n"), "x.toml:3:10: not a duration"),
        (&format!("{receiver}[receiver.up]\nloss = 30\n"), "x.toml:4:8: 30 is not a share"),
        (&format!("{receiver}[receiver.up]\nloos = 0.3\n"), "x.toml:4:1: unknown field `loos`"),
        (&format!("{receiver}up = {{ flap = {{ up_s = 1 }} }}\n"), "x.toml:3:15: missing field"),
        (&format!("{receiver}acks = {{ stop = 1 }}\n"), "x.toml:3:10: unknown field `stop`"),
        (&format!("{receiver}[[receiver.at]]\nss = 1\n"), "x.toml:4:1: unknown field `ss`"),
        (&format!("{receiver}{receiver}"), "x.toml:3:1: two receivers are named `a`"),
        (&format!("[paths]\nrate_mbit = -1\n{receiver}"), "x.toml:2:13: -1 is not a rate"),
    ];
    for (text, expected) in cases {
        let error = refused(text);
        assert!(error.starts_with(expected), "{text}\n{error}\n{expected}");
    }
}

#[test]
fn what_cannot_be_is_refused_where_it_stands() {
    let cases = [
        ("burst_loss = 0.1", "up: `burst_loss` and `mean_burst` belong together"),
        ("late = 0.1", "up: `late` and `late_by_ms` belong together"),
        ("reorder_window = 3", "up: `reorder` and `reorder_window` belong together"),
        ("queue_packets = 3", "up: a queue needs `rate_mbit`"),
        ("burst_loss = 0.8\nmean_burst = 2", "up: bursts of 2 on average cannot lose a share of"),
    ];
    for (keys, expected) in cases {
        let error =
            refused(&format!("seed = 1\n[[receiver]]\nname = 'a'\n[receiver.up]\n{keys}\n"));
        let expected = format!("x.toml:2:1: receiver `a`: {expected}");
        assert!(error.starts_with(&expected), "{error}\n{expected}");
    }
    let error = refused(
        "[[receiver]]\nname = 'a'\n[[receiver.at]]\ns = 2\n[[receiver.at]]\ns = 2\ndead = true\n",
    );
    assert_eq!(
        error,
        "x.toml:5:1: receiver `a`: at 2s: changes must be in the order of their time"
    );
}

#[test]
fn every_key_of_a_path_arrives_in_its_configuration() {
    let path = with_path(
        "delay_ms = 1.5\njitter_ms = 2\njitter_reorders = true\nloss = 0.1\nburst_loss = 0.2\n\
         mean_burst = 4\nlose = [3, 1]\nmax_loss_run = 5\nduplicate = 0.3\nduplicate_after_ms = 6\n\
         reorder = 0.4\nreorder_window = 7\nlate = 0.5\nlate_by_ms = 8\ncorrupt_byte = 0.6\n\
         corrupt_within = 50\ncorrupt_bit = 0.7\ntruncate = 0.8\nrate_mbit = 9\noverhead_bytes = 48\n\
         queue_packets = 10\nqueue_bytes = 11\noutages = [{ at_s = 5, for_s = 2 }, { at_s = 60 }]\n\
         flap = { up_s = 3, down_s = 4, from_s = 1 }\ncut = true\n",
    );
    let share = Probability::new;
    let count = |n| NonZeroU32::new(n).expect("not zero");
    assert_eq!((path.delay, path.jitter.max, path.jitter.reorders), (3 * MS / 2, 2 * MS, true));
    assert_eq!(path.loss.random, share(0.1));
    let burst = path.loss.burst.expect("bursts");
    assert_eq!(burst, crate::Burst::new(share(0.2), 4.0).expect("possible"));
    assert_eq!((path.loss.nth, path.loss.max_run), (vec![3, 1], Some(count(5))));
    assert_eq!((path.duplication.probability, path.duplication.after), (share(0.3), 6 * MS));
    let reordering = path.reordering.expect("reordering");
    assert_eq!((reordering.probability, reordering.window), (share(0.4), count(7)));
    assert_eq!((path.late.probability, path.late.by), (share(0.5), 8 * MS));
    let corruption = path.corruption;
    assert_eq!((corruption.byte, corruption.byte_within), (share(0.6), Some(count(50))));
    assert_eq!((corruption.bit, corruption.truncate), (share(0.7), share(0.8)));
    let rate = path.rate.expect("a rate");
    assert_eq!((rate.bits_per_second.get(), rate.overhead), (9_000_000, 48));
    assert_eq!((rate.queue_packets, rate.queue_bytes), (Some(10), Some(11)));
    let at = Duration::from_secs;
    let for_ever = Outage { start: at(60), length: Duration::MAX };
    assert_eq!(path.outages, [Outage { start: at(5), length: at(2) }, for_ever]);
    assert_eq!(path.flap, Some(Flap { start: at(1), up: at(3), down: at(4) }));
    assert!(path.cut);
}

#[test]
fn no_limit_can_be_said_over_a_default() {
    let text = "[paths]\nrate_mbit = 10\nqueue_packets = 25\n\
                [[receiver]]\nname = 'a'\nup = { rate_mbit = 0 }\n";
    let receiver = &Scenario::parse(text, "x").expect("good").receivers[0];
    assert_eq!(receiver.up.current().rate, None);
    assert!(receiver.down.current().rate.is_some());
}

#[test]
fn defaults_are_no_fault() {
    let scenario = Scenario::parse("[[receiver]]\nname = 'a'\n", "plain").expect("good");
    assert_eq!((scenario.name.as_str(), scenario.seed, scenario.payload_bytes), ("plain", 1, 5000));
    assert_eq!(scenario.orchestrator.up, PathConfig::default());
    let receiver = &scenario.receivers[0];
    assert_eq!(receiver.up, PathConfig::default().into());
    assert_eq!(receiver.far_end, FarEndConfig::default().into());
    assert_eq!(receiver.ping, Some(Duration::ZERO));
}

#[test]
fn changes_build_on_what_was_before() {
    let text = "[paths]\njitter_ms = 4\n[[receiver]]\nname = 'a'\nrtt_ms = 100\n\
                acks = { delay_ms = 10, drop = [1] }\n\
                [[receiver.at]]\ns = 1\nrtt_ms = 1000\nacks = { delay_ms = 20 }\n\
                [[receiver.at]]\ns = 2\ndead = true\nup = { loss = 0.5 }\n\
                [[receiver.at]]\ns = 3\ndead = false\nup = { loss = 0 }\ndown = { delay_ms = 7 }\n";
    let receiver = Scenario::parse(text, "x").expect("good").receivers.remove(0);
    assert_eq!(receiver.ping, Some(104 * MS));
    let (mut up, mut down, mut far_end) = (receiver.up, receiver.down, receiver.far_end);
    let seen = [0, 1, 2, 3].map(|s| {
        let now = Duration::from_secs(s);
        up.advance(now);
        down.advance(now);
        far_end.advance(now);
        assert_eq!(up.current().jitter.max, 4 * MS);
        assert_eq!(far_end.current().drop_acks, BTreeSet::from([1]));
        let loss = up.current().loss.random.get() > 0.0;
        (
            up.current().delay.as_millis(),
            down.current().delay.as_millis(),
            far_end.current().ack_delay.as_millis(),
            up.current().cut && down.current().cut,
            loss,
        )
    });
    assert_eq!(
        seen,
        [
            (50, 50, 10, false, false),
            (500, 500, 20, false, false),
            (500, 500, 20, true, true),
            (500, 7, 20, false, false),
        ]
    );
}

#[test]
fn a_dead_or_silent_receiver_answers_no_ping() {
    let ping = |keys: &str| {
        let text = format!("[[receiver]]\nname = 'a'\nrtt_ms = 100\n{keys}");
        Scenario::parse(&text, "x").expect("good").receivers[0].ping
    };
    assert_eq!(ping(""), Some(100 * MS));
    assert_eq!(ping("ping_ms = 7\n"), Some(7 * MS));
    assert_eq!(ping("answers_ping = false\n"), None);
    assert_eq!(ping("dead = true\n"), None);
    assert_eq!(ping("down = { cut = true }\n"), None);
}
