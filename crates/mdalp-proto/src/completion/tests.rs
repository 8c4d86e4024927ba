//! The machine beside a model of a store: what is answered, recorded, hashed and deleted.

mod kept;

use super::*;
use crate::ranges::RangeSet;
use crate::receiver::Local;
use crate::wire::Seal;

const DAY: u64 = 24 * 3_600_000;
const START: u64 = 1_700_000_000_000;

/// A model of a store. A payload's "hash" is its chunks and bytes, and `salt`.
#[derive(Clone, Default)]
struct Model {
    held: BTreeMap<TransactionId, Holding>,
    salt: u8,
    hashed: usize,
    slices: usize,
    released: Vec<(TransactionId, Reason)>,
}

fn statement(chunks: u64, salt: u8) -> Statement {
    let mut blake3 = [salt; 32];
    blake3[0] = chunks as u8;
    Statement { chunks, bytes: chunks * 10, blake3 }
}

fn asked(tid: u64, statement: Statement, checked: bool) -> SealAsked {
    let seal = Seal { tid: TransactionId(tid), statement, checked };
    SealAsked { local: Local(0), from: ([192, 0, 2, 1], 9).into(), seal, limit: 120 }
}

impl Model {
    /// Stores chunks, those beyond a stated end apart, as stores do.
    fn put(&mut self, tid: u64, scope: Scope, seqs: impl IntoIterator<Item = u64>, at: u64) {
        let empty = Holding {
            scope,
            standing: Standing::Open,
            statement: None,
            receipt: None,
            ranges: RangeSet::new(),
            bytes: 0,
            begun: (scope == Scope::Whole).then_some(at),
            last_append: None,
        };
        let held = self.held.entry(TransactionId(tid)).or_insert(empty);
        for seq in seqs {
            let is_beyond = held.statement.is_some_and(|stated| seq >= stated.chunks);
            if !is_beyond && held.ranges.insert(seq) {
                held.bytes += 10;
                held.last_append = Some(at);
                held.standing = Standing::Open;
            }
        }
    }

    fn ask(&self, machine: &mut Completion, now: Instant, question: SealAsked) {
        machine.handle_question(now, question, self.held.get(&question.seal.tid));
    }

    /// Carries out all that is to be done, and returns the answers.
    fn run(&mut self, machine: &mut Completion, wall: u64) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(action) = machine.poll_action() {
            match action {
                Action::Answer(answer) => answers.push(answer),
                Action::Hash { tid, end } => {
                    self.hashed += 1;
                    let held = self.held.get(&tid).and_then(|h| h.ranges.contiguous_from_zero());
                    let Statement { bytes, blake3, .. } = statement(end, self.salt);
                    let whole = Hashed::Whole { bytes, blake3 };
                    let hashed = if held == Some(end) { whole } else { Hashed::Failed };
                    machine.handle_hashed(tid, &hashed);
                }
                Action::Record { tid, statement } => {
                    let beyond = |held: &Holding| {
                        held.ranges.last().is_some_and(|last| last >= statement.chunks)
                    };
                    let written = match self.held.get_mut(&tid) {
                        Some(held) if held.statement == Some(statement) => Written::Done,
                        Some(held) if held.statement.is_some() || beyond(held) => {
                            Written::Contradicted
                        }
                        Some(held) => {
                            held.statement = Some(statement);
                            Written::Done
                        }
                        None => Written::Failed,
                    };
                    machine.handle_written(tid, written);
                }
                Action::Close { tid, statement, revision } => {
                    let written = match self.held.get_mut(&tid) {
                        Some(held) if held.statement.is_some_and(|s| s != statement) => {
                            Written::Contradicted
                        }
                        // A chunk came since it was compared: outdated.
                        Some(held)
                            if held.ranges.contiguous_from_zero() != Some(statement.chunks) =>
                        {
                            Written::Failed
                        }
                        Some(held) => {
                            held.statement = Some(statement);
                            held.standing = Standing::Complete;
                            let whole = statement;
                            held.receipt = Some(OnRecord { revision, whole, closed: wall });
                            Written::Done
                        }
                        None => Written::Failed,
                    };
                    machine.handle_written(tid, written);
                }
                Action::Look(tids) => {
                    self.slices += 1;
                    let held = tids
                        .into_iter()
                        .filter_map(|tid| self.held.get(&tid).map(|held| (tid, held.clone())));
                    machine.handle_looked(held.collect::<Vec<_>>());
                }
                Action::Release(all) => {
                    assert!(all.len() <= STEP);
                    for Due { tid, why, chunks } in &all {
                        let held = self.held.remove(tid).unwrap();
                        assert_eq!(held.ranges.len(), *chunks);
                        self.released.push((*tid, *why));
                    }
                    let tids: Vec<_> = all.iter().map(|due| due.tid).collect();
                    machine.handle_released(&tids);
                }
            }
        }
        answers
    }

    fn list(&self, machine: &mut Completion, wall: u64) {
        let Some(lookout) = machine.start_sweep(wall, Instant::from_millis(wall - START)) else {
            return;
        };
        let unfinished = self.held.iter().filter(|(_, held)| held.standing == Standing::Open);
        let complete = self.held.iter().filter(|(_, held)| {
            let closed = held.receipt.map(|receipt| receipt.closed);
            held.standing == Standing::Complete && closed < lookout.complete_before
        });
        machine.handle_listed(
            unfinished.map(|(tid, held)| Candidate::of(*tid, held)).collect::<Vec<_>>(),
            complete.map(|(tid, _)| *tid).collect::<Vec<_>>(),
        );
    }

    fn verdict(&mut self, machine: &mut Completion, question: SealAsked) -> Option<Verdict> {
        self.ask(machine, Instant::ZERO, question);
        let mut answers = self.run(machine, START);
        assert_eq!(answers.len(), 1);
        answers.pop().and_then(|answer| answer.verdict)
    }
}

fn machine(retention: Retention) -> Completion {
    Completion::new(retention, START, Instant::ZERO)
}

fn missing(gaps: &[u64]) -> Verdict {
    Verdict::Missing(gaps.iter().map(|&seq| seq..=seq).collect())
}

#[test]
fn b1_a_share_never_says_that_something_is_missing() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    store.put(1, Scope::Share, 10..20, START);
    let question = asked(1, statement(50, 0), true);
    let crc = question.seal.crc();
    assert_eq!(store.verdict(&mut machine, question), Some(Verdict::Recorded(crc)));
    assert_eq!(store.held[&TransactionId(1)].statement, Some(statement(50, 0)));
    assert_eq!(store.verdict(&mut machine, question), Some(Verdict::Recorded(crc)), "again");
    // The first statement is kept; an unchecked question cannot be compared with the whole.
    assert_eq!(
        store.verdict(&mut machine, asked(1, statement(51, 0), true)),
        Some(Verdict::Mismatch)
    );
    assert_eq!(store.verdict(&mut machine, asked(1, statement(50, 0), false)), None);
    assert_eq!(store.hashed, 0);
}

#[test]
fn a_chunk_beyond_the_stated_end_is_a_mismatch() {
    for scope in [Scope::Share, Scope::Whole] {
        let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
        store.put(1, scope, 10..20, START);
        assert_eq!(
            store.verdict(&mut machine, asked(1, statement(19, 0), true)),
            Some(Verdict::Mismatch)
        );
        assert_eq!(store.held[&TransactionId(1)].statement, None);
    }
}

#[test]
fn a_share_that_has_lost_chunks_confirms_nothing() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    store.put(1, Scope::Share, 10..20, START);
    store.held.get_mut(&TransactionId(1)).unwrap().standing = Standing::Damaged;
    assert_eq!(store.verdict(&mut machine, asked(1, statement(50, 0), true)), None);
}

#[test]
fn a_whole_payload_is_closed_only_by_comparison_whoever_holds_it() {
    for scope in [Scope::Share, Scope::Whole] {
        for checked in [true, false] {
            let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
            store.put(1, scope, 0..5, START);
            let wrong = asked(1, statement(5, 9), checked);
            assert_eq!(store.verdict(&mut machine, wrong), Some(Verdict::Mismatch));
            assert_eq!(
                store.held[&TransactionId(1)].statement,
                None,
                "what is wrong is not recorded"
            );
            let right = asked(1, statement(5, 0), checked);
            assert_eq!(store.verdict(&mut machine, right), Some(Verdict::Complete));
            assert_eq!(store.held[&TransactionId(1)].receipt.map(|r| r.revision), Some(1));
            assert_eq!(store.hashed, 1);
        }
    }
}

#[test]
fn a_store_that_sees_all_names_what_is_missing() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    store.put(1, Scope::Whole, [0, 1, 3], START);
    let question = asked(1, statement(5, 0), false);
    assert_eq!(store.verdict(&mut machine, question), Some(missing(&[2, 4])));
    assert_eq!(store.held[&TransactionId(1)].statement, None, "an unchecked one is not believed");
    let question = asked(1, statement(5, 0), true);
    assert_eq!(store.verdict(&mut machine, question), Some(missing(&[2, 4])));
    assert_eq!(store.held[&TransactionId(1)].statement, Some(statement(5, 0)));
}

#[test]
fn t1_less_than_the_receipt_says_is_never_whole_again() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    store.put(1, Scope::Whole, 0..5, START);
    store.verdict(&mut machine, asked(1, statement(5, 0), false));
    let held = store.held.get_mut(&TransactionId(1)).unwrap();
    held.ranges.remove(4);
    (held.bytes, held.standing, held.statement) = (40, Standing::Damaged, None);
    assert_eq!(
        store.verdict(&mut machine, asked(1, statement(4, 0), true)),
        Some(Verdict::Mismatch)
    );
    assert_eq!(store.verdict(&mut machine, asked(1, statement(5, 0), true)), Some(missing(&[4])));
    // Sent again it is hashed again, and is the next revision.
    store.put(1, Scope::Whole, [4], START + 1);
    assert_eq!(
        store.verdict(&mut machine, asked(1, statement(5, 0), true)),
        Some(Verdict::Complete)
    );
    assert_eq!(
        (store.hashed, store.held[&TransactionId(1)].receipt.map(|r| r.revision)),
        (2, Some(2))
    );
}

#[test]
fn b5_a_payload_is_hashed_once_however_often_a_wrong_hash_is_asked_about() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    store.put(1, Scope::Whole, 0..5, START);
    for wrong in 1..200 {
        let question = asked(1, statement(5, wrong), false);
        assert_eq!(store.verdict(&mut machine, question), Some(Verdict::Mismatch));
    }
    assert_eq!(store.hashed, 1);
    store.put(1, Scope::Whole, [5], START + 1);
    assert_eq!(
        store.verdict(&mut machine, asked(1, statement(6, 0), false)),
        Some(Verdict::Complete)
    );
    assert_eq!(store.hashed, 2, "it is another payload now");
    machine.handle_damage(Some(TransactionId(1)));
    store.held.get_mut(&TransactionId(1)).unwrap().standing = Standing::Open;
    store.verdict(&mut machine, asked(1, statement(6, 0), false));
    assert_eq!(store.hashed, 3);
}

#[test]
fn b5_small_payloads_go_first_and_large_ones_do_not_wait_for_ever() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    let large = 256 << 20;
    for tid in [1, 2] {
        store.put(tid, Scope::Whole, 0..3, START);
        store.held.get_mut(&TransactionId(tid)).unwrap().bytes = large;
    }
    let big = Statement { bytes: large, ..statement(3, 0) };
    store.ask(&mut machine, Instant::ZERO, asked(1, big, false));
    let hash = |machine: &mut Completion| match machine.poll_action() {
        Some(Action::Hash { tid, .. }) => tid.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(hash(&mut machine), 1);
    // Asked while the large one is under way, the small one goes first.
    store.put(3, Scope::Whole, 0..3, START);
    store.ask(&mut machine, Instant::from_millis(1000), asked(3, statement(3, 0), false));
    assert_eq!(hash(&mut machine), 3);
    machine.handle_hashed(TransactionId(3), &Hashed::Failed);
    assert!(matches!(machine.poll_action(), Some(Action::Answer(Answer { verdict: None, .. }))));
    // One that comes later than the large one takes does not.
    store.ask(&mut machine, Instant::from_millis(1100), asked(3, statement(3, 0), false));
    assert_eq!(hash(&mut machine), 1);
}

#[test]
fn another_state_of_a_payload_is_not_judged_by_the_hash_of_the_one_before() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    store.put(1, Scope::Whole, 0..5, START);
    store.ask(&mut machine, Instant::ZERO, asked(1, statement(5, 0), false));
    store.put(1, Scope::Whole, [5], START);
    store.ask(&mut machine, Instant::ZERO, asked(1, statement(6, 0), false));
    let verdicts: Vec<_> = store.run(&mut machine, START).into_iter().map(|a| a.verdict).collect();
    assert_eq!(verdicts, [None, None], "neither is judged by what is no longer so");
    let again = store.verdict(&mut machine, asked(1, statement(6, 0), false));
    assert_eq!(again, Some(Verdict::Complete));
}

#[test]
fn only_gaps_where_all_is_seen_expire_and_only_after_their_time() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    store.put(1, Scope::Whole, [0, 2], START);
    store.put(2, Scope::Whole, [0, 1], START);
    store.put(3, Scope::Share, [5, 9], START);
    store.put(4, Scope::Whole, [], START);
    store.put(5, Scope::Whole, [0, 1], START);
    store.verdict(&mut machine, asked(5, statement(2, 0), false));
    for (wall, gone) in [
        (START + 599_999, vec![]),
        (START + 600_000, vec![4]),
        (START + 7 * DAY - 1, vec![4]),
        (START + 7 * DAY, vec![4, 1]),
        (START + 10_000 * DAY, vec![4, 1]),
    ] {
        store.list(&mut machine, wall);
        store.run(&mut machine, wall);
        assert_eq!(store.released.iter().map(|(tid, _)| tid.0).collect::<Vec<_>>(), gone, "{wall}");
    }
}

#[test]
fn what_comes_between_list_and_release_stays() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    store.put(1, Scope::Whole, [0, 2], START);
    store.list(&mut machine, START + 8 * DAY);
    store.put(1, Scope::Whole, [4], START + 8 * DAY);
    store.run(&mut machine, START + 8 * DAY);
    assert!(store.released.is_empty());
}

#[test]
fn what_the_operator_set_goes_and_what_was_stated_or_whole_does_not_count_as_unfinished() {
    let retention = Retention {
        unannounced: Some(Duration::from_secs(8)),
        assigned: Some(Duration::from_secs(8)),
        complete: Some(Duration::from_secs(3600)),
        ..Retention::default()
    };
    let (mut store, mut machine) = (Model::default(), machine(retention));
    store.put(1, Scope::Share, [5, 6], START);
    store.put(2, Scope::Share, [5, 6], START);
    store.verdict(&mut machine, asked(2, statement(50, 0), true));
    store.put(3, Scope::Whole, [0, 1], START);
    store.verdict(&mut machine, asked(3, statement(2, 0), false));
    // Whole once, and then a chunk was struck out.
    store.put(4, Scope::Whole, [0, 1, 2], START);
    store.verdict(&mut machine, asked(4, statement(3, 0), false));
    let held = store.held.get_mut(&TransactionId(4)).unwrap();
    held.ranges.remove(1);
    held.standing = Standing::Open;
    store.list(&mut machine, START + 8000);
    store.run(&mut machine, START + 8000);
    assert_eq!(store.released, [(TransactionId(1), Reason::Expired)]);
    store.list(&mut machine, START + 3_600_001);
    store.run(&mut machine, START + 3_600_001);
    assert_eq!(store.released[1..], [(TransactionId(3), Reason::Removed)]);
    assert_eq!(store.held.len(), 2);
}

#[test]
fn a_sweep_goes_in_slices_between_which_questions_are_answered() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    for tid in 100..1100 {
        store.put(tid, Scope::Whole, [], START);
    }
    store.put(1, Scope::Whole, 0..5, START);
    store.list(&mut machine, START + DAY);
    assert!(matches!(machine.poll_action(), Some(Action::Look(tids)) if tids.len() == STEP));
    store.ask(&mut machine, Instant::ZERO, asked(1, statement(5, 0), false));
    assert!(matches!(machine.poll_action(), Some(Action::Hash { .. })));
    store.run(&mut machine, START + DAY);
    assert_eq!(store.slices, 3);
    assert_eq!(store.released.len(), 1000 - STEP, "the first slice was not looked up here");
}

#[test]
fn f27_a_calendar_that_leaps_releases_nothing() {
    let mut calendar = Calendar::new(START, Instant::ZERO);
    let hour = |n: u64| Instant::from_millis(n * 3_600_000);
    assert_eq!(calendar.trusted(START + DAY / 24, hour(1)), Some(Duration::from_secs(3600)));
    for years in [10, 0, 5] {
        assert_eq!(
            calendar.trusted(START + years * 365 * DAY + DAY / 12, hour(2)),
            None,
            "{years}"
        );
    }
    let later = START + 5 * 365 * DAY + DAY / 8;
    assert_eq!(calendar.trusted(later, hour(3)), Some(Duration::from_secs(3600)));
    let mut machine = machine(Retention::default());
    let mut store = Model::default();
    store.put(1, Scope::Whole, [0, 2], START);
    let lookout = machine.start_sweep(START + 999 * DAY, hour(1)).unwrap();
    assert!(lookout.leapt);
    let held = &store.held[&TransactionId(1)];
    machine.handle_listed([Candidate::of(TransactionId(1), held)], []);
    store.run(&mut machine, START + 999 * DAY);
    assert!(store.released.is_empty());
}

#[test]
fn an_empty_payload_may_be_stated_where_nothing_is_known_and_nothing_else() {
    let mut machine = machine(Retention::default());
    let empty = Statement { chunks: 0, bytes: 0, blake3: [7; 32] };
    machine.handle_question(Instant::ZERO, asked(1, empty, true), None);
    assert!(matches!(machine.poll_action(), Some(Action::Record { .. })));
    machine.handle_written(TransactionId(1), Written::Done);
    let answer = machine.poll_action();
    assert!(matches!(&answer, Some(Action::Answer(answer)) if answer.is_final()), "{answer:?}");
    for question in [asked(1, empty, false), asked(1, statement(3, 0), true)] {
        machine.handle_question(Instant::ZERO, question, None);
        assert!(matches!(
            machine.poll_action(),
            Some(Action::Answer(Answer { verdict: None, .. }))
        ));
    }
}

#[test]
fn what_was_not_recorded_is_not_said() {
    let (mut store, mut machine) = (Model::default(), machine(Retention::default()));
    store.put(1, Scope::Share, 10..20, START);
    for (written, verdict) in
        [(Written::Failed, None), (Written::Contradicted, Some(Verdict::Mismatch))]
    {
        store.ask(&mut machine, Instant::ZERO, asked(1, statement(50, 0), true));
        assert!(matches!(machine.poll_action(), Some(Action::Record { .. })));
        assert_eq!(machine.poll_action(), None, "no answer before it is durable");
        machine.handle_written(TransactionId(1), written);
        let Some(Action::Answer(answer)) = machine.poll_action() else { panic!() };
        assert_eq!((answer.verdict, answer.found), (verdict, Finding::Nothing));
    }
}
