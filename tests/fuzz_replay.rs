//! Do the fuzz target's inputs, which are kept in the tree, still pass?

mod common;

use std::fs;
use std::path::Path;

#[test]
fn operations() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/operations");
    let mut files: Vec<_> = fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", corpus.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{} files in {}: the corpus is missing", files.len(), corpus.display());
    for file in files {
        // Shown when the test fails.
        println!("{}", file.display());
        common::model::run_bytes(&fs::read(&file).unwrap());
    }
}

/// Bytes that mean nothing in particular.
#[test]
fn any_bytes_are_operations() {
    common::model::run_bytes(&[]);
    common::model::run_bytes(&[0]);
    common::model::run_bytes(&[255; 2]);
    common::model::run_bytes(&[0xa5; 100]);
}
