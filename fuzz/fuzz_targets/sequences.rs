//! Valid packets in any order, from several peers of one server.
#![no_main]

#[path = "../../tests/common/sequence.rs"]
mod sequence;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sequence::check(bytes));
