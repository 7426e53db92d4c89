//! Any bytes are messages, the beginning of one, or an error: the same whatever the pieces they come in.
#![no_main]

#[path = "../../tests/common/wire.rs"]
mod wire;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::check(bytes));
