//! Every file of `fuzz/corpus` is an input that once reached something new, or broke something.

use mdalp_fuzz::TARGETS;
use std::fs;
use std::path::Path;

#[test]
fn all_promises_hold_over_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, target) in TARGETS {
        let mut files: Vec<_> =
            fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 10, "{name} has a corpus");
        for file in files {
            // Shown if the test fails: the input to look at.
            println!("{}", file.display());
            target(&fs::read(&file).unwrap());
        }
    }
}

/// The targets look for broken promises, so they must notice some.
#[test]
fn no_target_depends_on_the_bytes_being_sensible() {
    for (_, target) in TARGETS {
        target(b"");
        target(&[0; 300]);
        target(&[0xff; 300]);
        target(&(0..=255).cycle().take(3000).collect::<Vec<u8>>());
    }
}
