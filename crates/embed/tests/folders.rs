//! A model's folder: what makes it a model, and what its fingerprint depends on. Needs no ONNX Runtime.

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use leann_embed::{EmbedError, ModelSpec, Pooling, Role};
use support::{copy, tiny};

#[test]
fn the_tiny_models_describe_themselves() {
    let a = ModelSpec::open(&tiny("tiny-hash")).unwrap();
    assert_eq!(
        (a.name(), a.dim(), a.max_tokens(), a.pooling()),
        ("tiny-hash", Some(64), 128, Some(Pooling::Mean))
    );
    assert!(a.normalizes() && a.prompt(Role::Query).is_empty() && a.prompt(Role::Passage).is_empty());
    let b = ModelSpec::open(&tiny("tiny-hash-b")).unwrap();
    assert_eq!(
        (b.name(), b.dim(), b.max_tokens(), b.pooling()),
        ("tiny-hash-b", Some(32), 128, Some(Pooling::Cls))
    );
    assert_eq!((b.prompt(Role::Query), b.prompt(Role::Passage)), ("search query: ", "passage: "));
    assert_ne!(a.fingerprint().unwrap(), b.fingerprint().unwrap());
}

#[test]
fn the_fingerprint_is_that_of_the_model_and_not_of_the_copy() {
    let original = ModelSpec::open(&tiny("tiny-hash")).unwrap().fingerprint().unwrap();
    let dir = copy(&tiny("tiny-hash"));
    let of = || ModelSpec::open(dir.path()).unwrap().fingerprint().unwrap();
    assert_eq!(of(), original);

    // The weights may be in the other usual place, and other files do not matter.
    fs::create_dir(dir.path().join("onnx")).unwrap();
    fs::rename(dir.path().join("model.onnx"), dir.path().join("onnx/model.onnx")).unwrap();
    fs::write(dir.path().join("README.md"), "words").unwrap();
    assert_eq!(of(), original);

    let changed = |file: &str, content: &[u8]| {
        let path = dir.path().join(file);
        let before = fs::read(&path).ok();
        fs::write(&path, content).unwrap();
        let fingerprint = of();
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        assert_ne!(fingerprint, original, "{file}");
        fingerprint
    };
    let mut seen = vec![
        changed("leann.json", br#"{"query_prompt": "q: "}"#),
        changed("leann.json", br#"{"passage_prompt": "q: "}"#),
        changed("leann.json", br#"{"max_tokens": 127}"#),
        changed("leann.json", br#"{"pooling": "cls"}"#),
        changed("leann.json", br#"{"lower_case": true}"#),
        changed("leann.json", br#"{"one_row_per_run": true}"#),
        changed("leann.json", br#"{"output": "x"}"#),
        changed("config.json", br#"{"model_type": "tiny", "hidden_size": 64, "pad_token_id": 7}"#),
    ];
    let tokenizer = fs::read_to_string(dir.path().join("tokenizer.json")).unwrap();
    seen.push(changed("tokenizer.json", tokenizer.replacen("\"zebra\"", "\"zebro\"", 1).as_bytes()));
    let mut weights = fs::read(dir.path().join("onnx/model.onnx")).unwrap();
    weights[1000] ^= 1;
    seen.push(changed("onnx/model.onnx", &weights));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 10);
    assert_eq!(of(), original);
}

#[test]
fn what_is_missing_is_named() {
    let says = |damage: &dyn Fn(&std::path::Path), word: &str| {
        let dir = copy(&tiny("tiny-hash"));
        damage(dir.path());
        let error = ModelSpec::open(dir.path()).unwrap_err();
        assert!(matches!(error, EmbedError::ModelMissing { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    says(&|dir| fs::remove_file(dir.join("model.onnx")).unwrap(), "onnx/model.onnx");
    says(&|dir| fs::remove_file(dir.join("tokenizer.json")).unwrap(), "tokenizer.json");
    says(&|dir| fs::write(dir.join("leann.json"), r#"{"model_file": "other.onnx"}"#).unwrap(), "leann.json");
    says(&|dir| fs::remove_dir_all(dir).unwrap(), "No such file");
    let file = tiny("tiny-hash").join("model.onnx");
    assert!(matches!(ModelSpec::open(&file), Err(EmbedError::ModelMissing { .. })));
}

#[test]
fn what_is_no_sound_file_is_named() {
    let says = |damage: &dyn Fn(&std::path::Path), file: &str, word: &str| {
        let dir = copy(&tiny("tiny-hash"));
        damage(dir.path());
        let error = ModelSpec::open(dir.path()).unwrap_err();
        assert!(matches!(&error, EmbedError::ModelFile { path, .. } if path.ends_with(file)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    let whole = fs::read(tiny("tiny-hash").join("model.onnx")).unwrap();
    says(
        &|dir| fs::write(dir.join("model.onnx"), &whole[..whole.len() / 2]).unwrap(),
        "model.onnx",
        "cut short",
    );
    says(&|dir| fs::write(dir.join("model.onnx"), b"").unwrap(), "model.onnx", "no graph");
    says(&|dir| fs::write(dir.join("model.onnx"), "text".repeat(99)).unwrap(), "model.onnx", "");
    says(
        &|dir| {
            fs::remove_file(dir.join("tokenizer.json")).unwrap();
            symlink(tiny("tiny-hash").join("tokenizer.json"), dir.join("tokenizer.json")).unwrap();
        },
        "tokenizer.json",
        "outside",
    );
    says(
        &|dir| fs::write(dir.join("leann.json"), r#"{"model_file": "../model.onnx"}"#).unwrap(),
        "model.onnx",
        "outside",
    );
    says(&|dir| fs::write(dir.join("config.json"), vec![b' '; 2 << 20]).unwrap(), "config.json", "more than");
    says(
        &|dir| fs::write(dir.join("leann.json"), r#"{"model_file": "a/b/c/d/model.onnx"}"#).unwrap(),
        "model.onnx",
        "levels deep",
    );
    // The cache of Hugging Face has links to blobs outside. The error names the remedy.
    says(
        &|dir| {
            fs::remove_file(dir.join("model.onnx")).unwrap();
            symlink(tiny("tiny-hash").join("model.onnx"), dir.join("model.onnx")).unwrap();
        },
        "model.onnx",
        "--local-dir",
    );
}

#[test]
fn a_file_of_zeros_is_refused_at_once() {
    let dir = copy(&tiny("tiny-hash"));
    for size in [1, 4096, (2u64 << 30) - 1, 4 << 30] {
        let begin = std::time::Instant::now();
        fs::File::create(dir.path().join("model.onnx")).unwrap().set_len(size).unwrap();
        let error = ModelSpec::open(dir.path()).unwrap_err();
        assert!(
            matches!(&error, EmbedError::ModelFile { path, .. } if path.ends_with("model.onnx")),
            "{error}"
        );
        assert!(begin.elapsed() < std::time::Duration::from_millis(500), "{size}: {:?}", begin.elapsed());
    }
}

#[test]
fn a_settings_file_that_cannot_be_read_is_no_default() {
    let settings = ["config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"];
    for file in settings.into_iter().chain(["config_sentence_transformers.json", "tokenizer_config.json"]) {
        let dir = copy(&tiny("tiny-hash"));
        let path = dir.path().join(file);
        let _ = fs::remove_file(&path);
        // No user can read a folder as a file, not even root.
        fs::create_dir(&path).unwrap();
        let error = ModelSpec::open(dir.path()).unwrap_err();
        assert!(matches!(&error, EmbedError::ModelFile { path, .. } if path.ends_with(file)), "{error}");
    }
}

#[test]
fn models_are_found_by_name_only() {
    let models = tempfile::tempdir().unwrap();
    let outside = copy(&tiny("tiny-hash"));
    for name in ["one", "two"] {
        let dir = copy(&tiny("tiny-hash"));
        fs::rename(dir.path(), models.path().join(name)).unwrap();
    }
    fs::create_dir(models.path().join("no-model")).unwrap();
    fs::create_dir(models.path().join(".hidden")).unwrap();
    fs::write(models.path().join(".hidden/tokenizer.json"), "{}").unwrap();
    // Without a tokenizer it is no model, but it is listed so that its owner learns why.
    for file in ["bare/model.onnx", "export/onnx/model_quantized.onnx", "text/README.md"] {
        let path = models.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    symlink("one", models.path().join("alias")).unwrap();
    symlink(outside.path(), models.path().join("elsewhere")).unwrap();

    let find = |name: &str| ModelSpec::find(models.path(), name);
    assert_eq!(find("one").unwrap().name(), "one");
    assert_eq!(find("alias").unwrap().name(), "alias");
    for refused in
        ["", ".", "..", "one/../two", "/one", "one/", ".hidden", "no-model", "three", "elsewhere", "a\0b"]
    {
        assert!(matches!(find(refused), Err(EmbedError::ModelMissing { .. })), "{refused:?}");
    }
    assert_eq!(
        ModelSpec::list(models.path()).unwrap(),
        ["alias", "bare", "elsewhere", "export", "one", "two"]
    );
    assert!(matches!(ModelSpec::list(&models.path().join("none")), Err(EmbedError::ModelMissing { .. })));
}
