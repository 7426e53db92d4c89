//! Does an engine do what a plain sequential queue would, for random sequences of operations?

mod common;

use common::model::driver;
use common::model::operation::{Finish, NEW, Operation};
use proptest::prelude::*;

fn operation() -> impl Strategy<Value = Operation> {
    any::<[u8; 3]>().prop_map(Operation::from_bytes)
}

/// Most of them with times, limits or retries.
fn timed_operation() -> impl Strategy<Value = Operation> {
    // In turn: anything, cancels, what limits and keys are for, what times are for, and what sets do with jobs.
    let code = prop_oneof![1 => any::<u8>(), 1 => 9..=10_u8, 2 => 128..=255_u8, 4 => NEW..NEW + 24, 3 => 17..=23_u8];
    (code, 0..8_u8, any::<u8>()).prop_map(|(code, a, b)| Operation::from_bytes([code, a, b]))
}

/// Two functions of each kind to begin with, or most of a short sequence would find nothing to act on.
fn prepared() -> Vec<Operation> {
    vec![
        Operation::Register { name: 0, remote: false },
        Operation::Register { name: 1, remote: true },
        Operation::Register { name: 2, remote: false },
        Operation::Register { name: 3, remote: true },
        Operation::Join { set: 0, function: 1 },
        Operation::Join { set: 1, function: 1 },
        Operation::Join { set: 1, function: 3 },
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_operations(operations in prop::collection::vec(operation(), 0..60), finish in any::<u8>()) {
        driver::run(&operations, Finish::from_byte(finish));
    }

    #[test]
    fn operations_on_prepared_functions(
        operations in prop::collection::vec(operation(), 0..120),
        finish in any::<u8>(),
    ) {
        let all: Vec<_> = prepared().into_iter().chain(operations).collect();
        driver::run(&all, Finish::from_byte(finish));
    }

    #[test]
    fn operations_with_times_and_retries(
        operations in prop::collection::vec(timed_operation(), 0..120),
        finish in any::<u8>(),
    ) {
        let all: Vec<_> = prepared().into_iter().chain(operations).collect();
        driver::run(&all, Finish::from_byte(finish));
    }
}

/// `PROPTEST_CASES` asks for more. A failing sequence is printed whole; what is worth keeping goes into the fuzz corpus.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
