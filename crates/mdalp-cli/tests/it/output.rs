//! Texts for people: help, tables, completions, manual pages.

use crate::support::{Net, mdalp, run, text};

/// Compares the help texts in `docs/cli.md` with the program's. `TRYCMD=overwrite` writes them anew.
#[test]
fn the_command_line_is_as_documented() {
    trycmd::TestCases::new().case("../../docs/cli.md");
}

#[test]
fn the_exit_codes_in_the_documentation_are_those_of_the_program() {
    use mdalp::event::Reason;
    let page = include_str!("../../../../docs/cli.md");
    let rows: Vec<u8> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect();
    let reasons = [
        Reason::Complete,
        Reason::Internal,
        Reason::Usage,
        Reason::NoOrchestrator,
        Reason::NotUnderstood,
        Reason::NoReceiver,
        Reason::Partial,
        Reason::Verification,
        Reason::Deadline,
        Reason::LocalIo,
        Reason::Permission,
        Reason::Security,
        Reason::Interrupted,
        Reason::Terminated,
    ];
    for reason in reasons {
        assert!(rows.contains(&reason.exit_code()), "{reason:?} is not in the table");
    }
}

#[test]
fn manual_pages_and_completions_cover_every_command() {
    let net = Net::new();
    let dir = net.path("man");
    assert!(run(mdalp(&["man"]).arg(&dir)).status.success());
    for page in ["mdalp", "mdalp-send", "mdalp-serve", "mdalp-get"] {
        let page = std::fs::read_to_string(dir.join(format!("{page}.1"))).unwrap();
        assert!(page.contains(".SH NAME"));
    }
    assert!(text(&run(&mut mdalp(&["man"])).stdout).contains(".TH mdalp 1"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&run(&mut mdalp(&["completions", shell])).stdout);
        assert!(script.contains("mdalp") && script.contains("latencies"), "{shell}");
    }
}

#[test]
fn plain_progress_is_lines_and_none_is_nothing() {
    let net = Net::new();
    net.assigning_orchestrator(1);
    net.fake_receiver(2, u64::MAX);
    let file = net.file("payload", b"x");
    for how in ["none", "plain", "bar", "auto"] {
        // Not a terminal, so that a bar is not drawn; the transfer is too short for a plain line.
        let sent = run(&mut net.client(&file, &["--progress", how]));
        assert_eq!(text(&sent.stderr).lines().count(), 3, "{}", text(&sent.stderr));
        assert!(sent.stdout.is_empty());
    }
}
