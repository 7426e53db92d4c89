//! Does a server stand any order of valid packets, and keep what it promises to each peer?
#![cfg(feature = "gearman")]

#[path = "common/sequence.rs"]
mod sequence;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn any_order(bytes in prop::collection::vec(any::<u8>(), 0..800)) {
        sequence::check(&bytes);
    }
}

/// What the fuzzer has found worth keeping.
#[test]
fn the_corpus() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/sequences");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        sequence::check(&std::fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 5, "{files} files in the corpus");
}
