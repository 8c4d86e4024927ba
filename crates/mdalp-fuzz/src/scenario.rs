//! Any text as a scenario file: it is read, or refused at a place in it; what is read can be run.

use mdalp_netem::Scenario;
use std::collections::BTreeSet;
use std::time::Duration;

/// Reads `bytes` as a scenario.
///
/// # Panics
/// If a scenario is accepted that cannot be, or an error names no place in the text.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let scenario = match Scenario::parse(text, "input") {
        Ok(scenario) => scenario,
        Err(error) => {
            assert!(error.line >= 1 && error.column >= 1, "{error}");
            assert!(error.line <= text.split('\n').count() + 1, "{error}");
            assert!(!error.message.is_empty());
            return;
        }
    };
    let names: BTreeSet<_> = scenario.receivers.iter().map(|receiver| &receiver.name).collect();
    assert!(!names.is_empty() && names.len() == scenario.receivers.len());
    for (index, receiver) in scenario.receivers.iter().enumerate() {
        let (mut up, mut down, mut far_end) = receiver.parts(scenario.seed, index);
        for n in 0..64 {
            let now = Duration::from_millis(n * n * n);
            for delivery in up.admit(now, 146) {
                assert!(delivery.at >= now);
                if let Some(leaves) = far_end.admit(delivery.at, 1, n) {
                    assert!(leaves >= delivery.at);
                }
            }
            down.admit(now, 40);
        }
        for c in [up.counters(), down.counters()] {
            assert_eq!(c.sent + c.duplicated, c.delivered + c.lost());
        }
        let c = far_end.counters();
        assert_eq!(c.owed, c.sent + c.withheld + c.lost + c.stopped);
    }
}
