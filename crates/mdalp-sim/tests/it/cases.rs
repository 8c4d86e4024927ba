//! Cases with faults: a sample of the swarm, determinism, the twins, and the corpus.

use mdalp_sim::{Case, Fault, Spread, Twin, run, shrink, swarm};

#[test]
fn the_first_seeds_violate_nothing() {
    for seed in 0..300 {
        let verdict = run(&swarm::draw(seed), None);
        assert_eq!(verdict.violation, None, "mdalp-sim --seed {seed}");
    }
}

/// Worlds in which nothing of this happens would prove nothing.
#[test]
fn f21_f26_the_first_seeds_expire_crowd_rot_resume_and_fall_back() {
    let all = (0..600).map(|seed| run(&swarm::draw(seed), None).counts);
    let sum = all.fold([0; 6], |sum, c| {
        let more = [c.released, c.crowded, c.rotted, c.struck, c.resumed, c.fallbacks];
        std::array::from_fn(|at| sum[at] + more[at])
    });
    assert!(sum.iter().all(|count| *count > 0), "{sum:?}");
}

/// Debug and release builds are compared by `mdalp-sim --seeds`, which prints one hash of all logs.
#[test]
fn i28_the_same_seed_gives_the_same_event_log() {
    for seed in 0..100 {
        let case = swarm::draw(seed);
        let (first, second) = (run(&case, None), run(&case, None));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn i29_every_rule_that_is_switched_off_is_missed_within_ten_thousand_seeds() {
    for (name, twin) in Twin::ALL {
        let found =
            (0..10_000).find(|&seed| run(&swarm::draw(seed), Some(twin)).violation.is_some());
        let seed = found.unwrap_or_else(|| panic!("nobody notices {name}"));
        // The same case passes with the rule switched on: it is the rule that was missed.
        assert_eq!(run(&swarm::draw(seed), None).violation, None, "{name}, seed {seed}");
    }
}

#[test]
fn a_failing_case_shrinks_to_what_it_takes_and_survives_a_file() {
    let twin = Some(Twin::NoRetransmission);
    let loss = Fault::Loss { lane: None, way: mdalp_sim::Way::Both, rate: 0.3 };
    let jitter = Fault::Jitter { ms: 10 };
    let heal_ms = Some(60_000);
    let case = Case { heal_ms, faults: vec![jitter, loss], ..Case::default() };
    let short = shrink(&case, twin, 200);
    assert_eq!(short.faults.len(), 1);
    assert!(matches!(short.faults[0], Fault::Loss { .. }) && short.payload < case.payload);
    assert_eq!(Case::parse(&short.to_toml()).unwrap(), short);
    assert!(run(&short, twin).violation.is_some() && run(&short, None).violation.is_none());
}

#[test]
fn every_drawn_case_survives_a_file() {
    for seed in 0..200 {
        let case = swarm::draw(seed);
        assert_eq!(Case::parse(&case.to_toml()).unwrap(), case, "seed {seed}");
    }
}

#[test]
fn unknown_keys_in_a_case_are_refused() {
    assert!(Case::parse("sead = 1").is_err());
    assert!(Case::parse("[[fault]]\nkind = \"loss\"\nrate = 0.1\nrates = 1").is_err());
}

/// Cases that once failed, and cases that show something: they must pass for ever.
#[test]
fn the_corpus_passes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let case = Case::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!case.about.is_empty(), "{}: `about` says what it is for", path.display());
        let verdict = run(&case, None);
        assert_eq!(verdict.violation, None, "mdalp-sim --case {}", path.display());
        count += 1;
    }
    assert!(count >= 5, "{count} cases");
}

#[test]
fn powercuts_at_every_commit_lose_nothing_that_was_acknowledged() {
    let case = Case { log: true, window: 8, crc: true, spread: Spread::Latency, ..Case::default() };
    let mut setup = case.setup(None);
    setup.servers.paranoid = true;
    setup.servers.commit.1 = std::time::Duration::from_millis(20);
    let mut world = mdalp_sim::World::new(setup);
    world.run();
    assert_eq!(world.violation(), None);
    assert_eq!(world.end(0).0, mdalp_sim::End::Complete);
}
