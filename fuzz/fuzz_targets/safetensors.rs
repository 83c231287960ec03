//! Fuzzer of `safetensors` in `flow.rs`.
#![no_main]

#[path = "../flow.rs"]
#[allow(dead_code)]
mod flow;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flow::safetensors(bytes));
