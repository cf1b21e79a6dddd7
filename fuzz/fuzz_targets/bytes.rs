//! Any bytes as the binary form of an embedding: refused, or a value that comes back.
#![no_main]

#[path = "../../crates/value/tests/drive/mod.rs"]
mod drive;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| drive::bytes(input));
