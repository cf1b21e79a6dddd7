//! Any bytes as a model's ONNX file: refused, or a model whose folder says the same of it each time.
#![no_main]

#[path = "../folder.rs"]
mod folder;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| folder::open(&[("model.onnx", Some(input))]));
