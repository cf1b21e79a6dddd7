//! A model's folder of this process, made once, in which the fuzz targets of models change files.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use leann_embed::{ModelSpec, Role};

/// A graph of one node, in an ONNX file: enough for what looks at files and runs nothing.
const GRAPH: &[u8] = &[0x3a, 0x08, 0x0a, 0x06, 0x22, 0x04, b'R', b'e', b'l', b'u'];

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let parent = std::env::var_os("LEANN_FUZZ_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = parent.join(format!("leann-fuzz-{}", std::process::id()));
    fs::create_dir_all(folder.join("1_Pooling")).expect("a folder");
    for (file, content) in [("tokenizer.json", b"{}".as_slice()), ("model.onnx", GRAPH)] {
        fs::write(folder.join(file), content).expect("a file");
    }
    // What a receipt may vouch for.
    for file in ["model.mapped.onnx", "model.mapped.bin", "weights.bin"] {
        fs::write(folder.join(file), b"w").expect("a file");
    }
    folder
});

/// Opens the folder with these files in it, or without them. What it says holds whenever it is asked.
pub fn open(files: &[(&str, Option<&[u8]>)]) {
    for (file, content) in files {
        let path = FOLDER.join(file);
        match content {
            Some(content) => fs::write(path, content).expect("a file"),
            None => drop(fs::remove_file(path)),
        }
    }
    let Ok(spec) = ModelSpec::open(&FOLDER) else { return };
    assert!((1..=32_768).contains(&spec.max_tokens()));
    let again = ModelSpec::open(&FOLDER).expect("what was opened can be opened");
    assert_eq!(spec.prompt(Role::Query), again.prompt(Role::Query));
    let fingerprint = spec.fingerprint().expect("files that are there have a fingerprint");
    assert_eq!(fingerprint, again.fingerprint().expect("a fingerprint"));
}
