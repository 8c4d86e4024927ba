//! Random operations, crashes and restarts against a plain map (invariant 30).

use mdalp_store::disk::mem::MemDisk;
use mdalp_store::{Durability, Reader, Transactions};
use proptest::prelude::*;

use crate::support::{Promises, choices, open, options};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u64, u64)>),
    Begin(u64),
    Declare(u64),
    Close(u64),
    Release(u64),
    /// Without giving its space back.
    Forget(u64),
    Reclaim,
    Verify,
    Kill,
    Crash(u64),
    Full(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let tid = 1..6_u64;
    let chunk = prop_oneof![(1..3_u64, 0..12_u64), (1..6_u64, 0..60_u64)];
    prop_oneof![
        12 => proptest::collection::vec(chunk, 0..12).prop_map(Step::Append),
        1 => tid.clone().prop_map(Step::Begin),
        1 => (0..4_u64).prop_map(Step::Declare),
        2 => tid.clone().prop_map(Step::Close),
        1 => tid.clone().prop_map(Step::Release),
        1 => tid.prop_map(Step::Forget),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Verify),
        1 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::Crash),
        1 => any::<bool>().prop_map(Step::Full),
    ]
}

fn behaves(steps: &[Step], durability: Durability) {
    let options = options(durability, 4 << 10);
    let disk = MemDisk::new();
    let mut log = open(&disk, options);
    let mut promises = Promises::default();
    for (at, step) in steps.iter().enumerate() {
        match *step {
            Step::Append(ref chunks) => promises.append(&log, at as u64 * 300, chunks),
            Step::Begin(tid) => promises.begin(&log, tid),
            Step::Declare(number) => promises.declare(&log, number),
            Step::Close(tid) => promises.close(&log, tid),
            Step::Release(tid) => promises.release(&log, tid),
            Step::Forget(tid) => promises.forget(&log, tid),
            Step::Reclaim => _ = log.reclaim(),
            Step::Verify => assert_eq!(log.verify().unwrap(), []),
            Step::Full(full) => disk.set_capacity(full.then_some(12 << 10)),
            Step::Crash(_) | Step::Kill => {
                match *step {
                    Step::Crash(seed) if durability == Durability::Fsync => {
                        disk.crash(choices(seed));
                    }
                    _ => disk.kill(),
                }
                log = open(&disk, options);
            }
        }
        assert_eq!(log.poison(), None);
        if !matches!(step, Step::Append(_)) {
            promises.check(&log);
        }
    }
    promises.check(&log);
    promises.check(&Reader::open(&disk).unwrap());
}

/// 64 cases, unless `PROPTEST_CASES` says otherwise.
fn config() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default,
        None => ProptestConfig { cases: 64, ..default },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_flushing_log_behaves_as_a_map(steps in proptest::collection::vec(step(), 0..60)) {
        behaves(&steps, Durability::Fsync);
    }

    #[test]
    fn a_process_safe_log_behaves_as_a_map(steps in proptest::collection::vec(step(), 0..60)) {
        behaves(&steps, Durability::Process);
    }
}
