//! The checks of the fuzz targets, run by proptest: the seeds as they are, the seeds mangled, and plain noise.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../../fuzz/src/lib.rs"]
mod checks;

use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// A fuzz target: takes any bytes and must not panic.
type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 3] = [
    ("request_frame", checks::request_frame),
    ("connect_params", checks::connect_params),
    ("incoming_frame", checks::incoming_frame),
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One change somewhere in a text.
#[derive(Debug, Clone)]
enum Change {
    Cut(usize),
    Replace(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let piece = prop_oneof![
        Just(b"null".to_vec()),
        Just(b"\"\"".to_vec()),
        Just(b"\\ud800".to_vec()),
        Just(b"{}".to_vec()),
        Just(b"[[".to_vec()),
        Just(b"-1e999".to_vec()),
        Just(b",\"x\":1".to_vec()),
        Just("\u{202e}".into()),
        prop::collection::vec(any::<u8>(), 1..8),
    ];
    prop_oneof![
        any::<usize>().prop_map(Change::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        (any::<usize>(), piece).prop_map(|(at, piece)| Change::Insert(at, piece)),
        (any::<usize>(), 1_usize..12).prop_map(|(at, count)| Change::Remove(at, count)),
        (any::<usize>(), 1_usize..40).prop_map(|(at, count)| Change::Repeat(at, count)),
    ]
}

fn apply(text: &mut Vec<u8>, change: Change) {
    if text.is_empty() {
        return;
    }
    let size = text.len();
    match change {
        Change::Cut(at) => text.truncate(at % size),
        Change::Replace(at, byte) => text[at % size] = byte,
        Change::Insert(at, piece) => {
            let at = at % size;
            text.splice(at..at, piece);
        }
        Change::Remove(at, count) => {
            let at = at % size;
            text.drain(at..(at + count).min(size));
        }
        Change::Repeat(at, count) => {
            let at = at % size;
            let piece = text[at..(at + count).min(size)].to_vec();
            text.splice(at..at, piece);
        }
    }
}

#[test]
fn the_seeds_hold() {
    for (target, check) in TARGETS {
        for seed in seeds(target) {
            check(&seed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn mangled_seeds_hold(pick in any::<prop::sample::Index>(), changes in prop::collection::vec(change(), 1..6)) {
        for (target, check) in TARGETS {
            let seeds = seeds(target);
            let mut text = pick.get(&seeds).clone();
            changes.iter().cloned().for_each(|change| apply(&mut text, change));
            check(&text);
        }
    }

    #[test]
    fn noise_holds(noise in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,100}") {
        for (_, check) in TARGETS {
            check(&noise);
            check(text.as_bytes());
        }
    }
}
