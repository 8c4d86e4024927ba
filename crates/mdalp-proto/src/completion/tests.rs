//! The rules without a store: questions in, actions out.

use super::*;
use crate::ranges::RangeSet;
use crate::receiver::Local;
use crate::wire::Seal;
use proptest::prelude::*;

const TID: TransactionId = TransactionId(1);
const STATED: Statement = Statement { chunks: 10, bytes: 1000, blake3: [7; 32] };

fn asked(statement: Statement, checked: bool) -> SealAsked {
    let seal = Seal { tid: TID, statement, checked };
    SealAsked { local: Local(0), from: ([192, 0, 2, 1], 9).into(), seal, limit: 1200 }
}

fn held(scope: Scope, ranges: RangeSet) -> Holding {
    let bytes = 100 * ranges.len();
    Holding {
        scope,
        standing: Standing::Open,
        statement: None,
        receipt: None,
        ranges,
        bytes,
        begun: (scope == Scope::Whole).then_some(0),
        last_append: Some(0),
    }
}

fn rules() -> Completion {
    Completion::new(Retention::default(), 0, Instant::ZERO)
}

/// What is asked of the shell after one question.
fn first(rules: &mut Completion, asked: SealAsked, held: &Holding) -> Option<Action> {
    rules.handle_question(Instant::ZERO, asked, Some(held));
    rules.poll_action()
}

fn verdict(action: Option<Action>) -> Option<Verdict> {
    match action {
        Some(Action::Answer(answer)) => answer.verdict,
        other => panic!("{other:?}"),
    }
}

#[test]
fn b5_a_question_that_mismatches_costs_one_hashing_however_often_it_is_asked() {
    let mut rules = rules();
    let all = held(Scope::Whole, [0..=9].into_iter().collect());
    let wrong = Statement { blake3: [8; 32], ..STATED };
    let action = first(&mut rules, asked(wrong, false), &all);
    assert_eq!(action, Some(Action::Hash { tid: TID, end: 10 }));
    rules.handle_hashed(TID, &Hashed::Whole { bytes: 1000, blake3: [7; 32] });
    assert_eq!(verdict(rules.poll_action()), Some(Verdict::Mismatch));
    for _ in 0..100 {
        let action = first(&mut rules, asked(wrong, false), &all);
        assert_eq!(verdict(action), Some(Verdict::Mismatch), "from memory");
    }
    let right = first(&mut rules, asked(STATED, false), &all);
    assert_eq!(right, Some(Action::Close { tid: TID, statement: STATED, revision: 1 }));
}

#[test]
fn b5_small_payloads_go_before_a_large_one_that_was_asked_about_earlier() {
    let mut rules = rules();
    let ask = |rules: &mut Completion, tid: u64, chunks: u64| {
        let ranges: RangeSet = [0..=chunks - 1].into_iter().collect();
        let statement = Statement { chunks, bytes: 100 * chunks, blake3: [7; 32] };
        let seal = Seal { tid: TransactionId(tid), statement, checked: false };
        let asked = SealAsked { seal, ..asked(STATED, false) };
        rules.handle_question(Instant::ZERO, asked, Some(&held(Scope::Whole, ranges)));
    };
    ask(&mut rules, 1, 16_000_000);
    ask(&mut rules, 2, 10);
    let next = rules.poll_action();
    assert_eq!(next, Some(Action::Hash { tid: TransactionId(2), end: 10 }));
}

#[test]
fn an_answer_leaves_only_when_what_it_says_is_on_record() {
    let mut rules = rules();
    let share = held(Scope::Share, [3..=4].into_iter().collect());
    let record = Action::Record { tid: TID, statement: STATED };
    assert_eq!(first(&mut rules, asked(STATED, true), &share), Some(record.clone()));
    assert_eq!(rules.poll_action(), None);
    rules.handle_written(TID, Written::Failed);
    assert_eq!(verdict(rules.poll_action()), None, "the client asks again");
    assert_eq!(first(&mut rules, asked(STATED, true), &share), Some(record));
    rules.handle_written(TID, Written::Done);
    let crc = asked(STATED, true).seal.crc();
    assert_eq!(verdict(rules.poll_action()), Some(Verdict::Recorded(crc)));
}

#[test]
fn an_unchecked_statement_of_a_share_is_not_recorded() {
    let share = held(Scope::Share, [3..=4].into_iter().collect());
    let action = first(&mut rules(), asked(STATED, false), &share);
    assert_eq!(verdict(action), None);
}

#[test]
fn the_first_statement_and_what_is_held_beyond_the_end_contradict_another_one() {
    let mut share = held(Scope::Share, [3..=4].into_iter().collect());
    let short = Statement { chunks: 4, ..STATED };
    let beyond = first(&mut rules(), asked(short, true), &share);
    assert_eq!(verdict(beyond), Some(Verdict::Mismatch));
    share.statement = Some(STATED);
    let other = Statement { bytes: 1001, ..STATED };
    let second = first(&mut rules(), asked(other, true), &share);
    assert_eq!(verdict(second), Some(Verdict::Mismatch));
}

#[test]
fn only_a_store_that_sees_everything_says_what_is_missing() {
    let ranges: RangeSet = [0..=4].into_iter().collect();
    let whole = held(Scope::Whole, ranges.clone());
    let action = first(&mut rules(), asked(STATED, false), &whole);
    assert_eq!(verdict(action), Some(Verdict::Missing([5..=9].into_iter().collect())));
    for checked in [false, true] {
        let share = held(Scope::Share, ranges.clone());
        let action = first(&mut rules(), asked(STATED, checked), &share);
        assert!(!matches!(action, Some(Action::Answer(Answer { verdict: Some(_), .. }))));
    }
}

proptest! {
    /// Whatever a store holds, however long it lay there: a share whose end is stated, and what was ever
    /// whole, is not deleted by default.
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
        let mut held = held(scope, [first..=first + len - 1].into_iter().collect());
        held.statement = stated.then_some(Statement { chunks: 100, ..STATED });
        held.receipt = receipt.then_some(OnRecord { revision: 1, whole: STATED, closed: 0 });
        let time = Duration::from_secs(years * 365 * 24 * 3600);
        let why = Retention::default().verdict(TID, &held, time.as_millis() as u64, time);
        let may_go = whole && !receipt && first > 0 && years > 0;
        prop_assert_eq!(why, may_go.then_some(Reason::Expired));
    }
}
