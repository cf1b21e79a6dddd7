//! Any bytes as the parameters of a sketcher, and after them as sketches: refused, or a sketcher that works
//! and comes back. The first byte says how many of the last ones are sketches.
#![no_main]

#[path = "../../crates/sketch/tests/drive/mod.rs"]
mod drive;

use leann_sketch::Sketcher;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&count, rest)) = input.split_first() else { return };
    let (parameters, sketches) = rest.split_at(rest.len().saturating_sub(count.into()));
    if let Ok(sketcher) = Sketcher::from_bytes(parameters) {
        drive::exercise(&sketcher, sketches);
    }
});
