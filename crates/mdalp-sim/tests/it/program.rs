//! The program, as people run it.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mdalp-sim")).args(arguments).output().expect("it is built")
}

#[test]
fn arguments_that_mean_nothing_are_a_usage_error() {
    for arguments in [&[][..], &["--wat"], &["--seeds", "7"], &["--twin", "x", "--seed", "1"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_failing_seed_is_told_in_a_line_that_runs_it_again() {
    assert_eq!(run(&["--seeds", "0..20"]).status.code(), Some(0));
    let output = run(&["--seeds", "0..20", "--twin", "ack-before-commit"]);
    assert_eq!(output.status.code(), Some(12));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("reproduce: ")).unwrap();
    let (_, again) = line.split_once(" -- ").unwrap();
    let output = run(&again.split(' ').collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(12), "{again}");
}
