//! Acknowledged means kept: orders of chunks, questions, expiries and restarts, drawn at random.

use super::*;
use proptest::prelude::*;

#[test]
fn an_unchecked_statement_of_a_share_is_not_recorded_and_the_first_checked_one_stays() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    store.put(1, Scope::Share, 3..5, START);
    assert_eq!(store.verdict(&mut machine, asked(1, statement(9, 0), false)), None);
    assert_eq!(store.held[&TransactionId(1)].statement, None);
    let checked = asked(1, statement(9, 0), true);
    let recorded = Some(Verdict::Recorded(checked.seal.crc()));
    assert_eq!(store.verdict(&mut machine, checked), recorded);
    let other = asked(1, statement(10, 0), true);
    assert_eq!(store.verdict(&mut machine, other), Some(Verdict::Mismatch));
    assert_eq!(store.held[&TransactionId(1)].statement, Some(statement(9, 0)));
}

proptest! {
    /// No order of chunks, questions, expiries and restarts deletes an acknowledged chunk of a share, of
    /// a gapless or of a whole payload, or one whose time has not passed.
    #[test]
    fn acknowledged_means_kept(steps in proptest::collection::vec((0..6u8, 0..6u64, 0..12u64, any::<bool>()), 1..80)) {
        let mut store = Model::default();
        let mut completion = machine(Retention::default());
        let mut wall = START;
        let mut safe: BTreeMap<u64, RangeSet> = BTreeMap::new();
        for (what, tid, n, checked) in steps {
            let scope = if tid % 2 == 0 { Scope::Whole } else { Scope::Share };
            match what {
                0 | 1 => {
                    store.put(tid, scope, [n], wall);
                    let held = &store.held[&TransactionId(tid)].ranges;
                    if held.contains(n) {
                        safe.entry(tid).or_default().insert(n);
                    }
                }
                2 => {
                    let question = asked(tid, statement(n, u8::from(n == 7)), checked);
                    store.ask(&mut completion, Instant::ZERO, question);
                }
                3 => {
                    wall += n * DAY;
                    store.list(&mut completion, wall);
                }
                4 => completion = Completion::new(
                    Retention::default(), wall, Instant::from_millis(wall - START)),
                _ => {
                    store.run(&mut completion, wall);
                }
            }
            // Before anything is released: which transactions may go?
            for (tid, reason) in std::mem::take(&mut store.released) {
                prop_assert_eq!(reason, Reason::Expired);
                prop_assert_eq!(tid.0 % 2, 0, "a share");
                let ranges = safe.remove(&tid.0).unwrap_or_default();
                prop_assert!(ranges.contiguous_from_zero().is_none(), "no gaps: {:?}", ranges);
            }
            for (&tid, ranges) in &safe {
                let held = store.held.get(&TransactionId(tid)).map(|held| &held.ranges);
                prop_assert_eq!(held, Some(ranges));
            }
            for held in store.held.values().filter(|held| held.standing == Standing::Complete) {
                let whole = held.receipt.map(|receipt| receipt.whole);
                prop_assert_eq!(whole, Some(statement(held.ranges.len(), 0)));
                prop_assert_eq!(held.ranges.contiguous_from_zero(), Some(held.ranges.len()));
            }
        }
    }

    /// Whatever a store holds, however long it lay there: shares, what was ever whole, and what has no gap
    /// stay by default.
    #[test]
    fn what_is_acknowledged_is_kept_by_default(
        whole: bool,
        stated: bool,
        receipt: bool,
        first in 0..50_u64,
        len in 1..50_u64,
        years in 0..100_u64,
    ) {
        let scope = if whole { Scope::Whole } else { Scope::Share };
        let mut store = Model::default();
        store.put(1, scope, first..first + len, 0);
        let held = store.held.get_mut(&TransactionId(1)).unwrap();
        held.statement = stated.then_some(statement(100, 0));
        let whole_then = statement(10, 0);
        held.receipt = receipt.then_some(OnRecord { revision: 1, whole: whole_then, closed: 0 });
        let time = Duration::from_secs(years * 365 * 24 * 3600);
        let wall = time.as_millis() as u64;
        let why = Retention::default().verdict(TransactionId(1), held, wall, time);
        let may_go = whole && !receipt && first > 0 && years > 0;
        prop_assert_eq!(why, may_go.then_some(Reason::Expired));
    }
}
