//! Any bytes as a params page. The first 64 bytes of the input are left out, as the other targets do.
#![no_main]

#[path = "../../crates/page/tests/drive/mod.rs"]
mod drive;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((_, body)) = input.split_at_checked(64) else { return };
    drive::params(body);
    drive::params(&drive::with_header(drive::PARAMS, body));
});
