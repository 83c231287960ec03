//! Fuzzer of `archive` in `engine.rs`.
#![no_main]

#[path = "../engine.rs"]
#[allow(dead_code)]
mod engine;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| engine::archive(bytes));
