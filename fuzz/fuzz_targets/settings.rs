//! Any texts as the settings of a model: refused, or a model whose folder says the same of it each time. The
//! files are divided by the byte 255, which no text has; what is empty is a file that is not there.
#![no_main]

#[path = "../folder.rs"]
mod folder;

use libfuzzer_sys::fuzz_target;

const FILES: [&str; 8] = [
    "leann.json",
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
    "model.mapped.json",
];

fuzz_target!(|input: &[u8]| {
    let mut parts = input.split(|&byte| byte == 255);
    folder::open(&FILES.map(|file| (file, parts.next().filter(|part| !part.is_empty()))));
});
