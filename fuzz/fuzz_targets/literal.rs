//! Any text as a literal of type embedding: refused, or a value that its own literal and bytes give again.
//! And as the operand of a distance: words, or a list of numbers.
#![no_main]

#[path = "../../crates/value/tests/drive/mod.rs"]
mod drive;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // What is no UTF-8 never comes this far.
    if let Ok(literal) = std::str::from_utf8(input) {
        drive::literal(literal);
        drive::operand(literal, 1 + input.len() % 8);
    }
});
