//! Any bytes as a node page: every accessor, and the changes that the first 64 bytes of the input name.
#![no_main]

#[path = "../../crates/page/tests/drive/mod.rs"]
mod drive;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((ops, body)) = input.split_at_checked(64) else { return };
    drive::node(body, ops);
    drive::node(&drive::with_header(drive::NODE, body), ops);
});
