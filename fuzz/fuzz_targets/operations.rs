//! Any bytes, read as operations on an engine, against the sequential model that the tests use.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| common::model::run_bytes(bytes));
