//! The default model, all-MiniLM-L6-v2: against embeddings derived without any of this, and in its two forms.

mod support;

use std::fs;
use std::time::{Duration, SystemTime};

use leann_embed::{Model, ModelSpec, Pooling, Role};
use support::{copy, default_model, difference, embed, load, references, similarity};

fn agrees_with_the_reference(model: &Model) {
    let references = references();
    let texts: Vec<&str> = references.iter().map(|reference| reference.text.as_str()).collect();
    let together = embed(model, &texts, Role::Passage, 2);
    assert_eq!(together.truncated(), 1);
    assert_eq!(together.tokens, references.iter().map(|reference| reference.tokens.len()).sum::<usize>());
    for (reference, vector) in references.iter().zip(together.vectors.chunks(model.dim())) {
        let apart = difference(vector, &reference.embedding);
        assert!(apart < 1e-5, "{:?} differs by {apart}", reference.text);
        let alone = embed(model, &[&reference.text], Role::Query, 1).vectors;
        assert!(difference(&alone, &reference.embedding) < 1e-5);
        assert!(similarity(&alone, vector) > 1.0 - 1e-6);
    }
}

#[test]
fn the_mapped_form_agrees_with_the_reference() {
    let model = load(&default_model());
    assert_eq!((model.name(), model.dim(), model.max_tokens()), ("all-MiniLM-L6-v2", 384, 256));
    assert_eq!((model.spec().pooling(), model.spec().dim()), (Pooling::Mean, Some(384)));
    assert!(model.loaded_from().ends_with("onnx/model.mapped.onnx"), "{:?}", model.loaded_from());
    agrees_with_the_reference(&model);
}

#[test]
fn the_source_agrees_with_the_reference() {
    let dir = copy(&default_model());
    fs::remove_file(dir.path().join("onnx/model.mapped.json")).unwrap();
    let model = load(dir.path());
    assert!(model.loaded_from().ends_with("onnx/model.onnx"));
    assert_eq!(model.fingerprint(), load(&default_model()).fingerprint());
    agrees_with_the_reference(&model);
}

#[test]
fn the_mapped_form_is_used_only_for_its_own_source() {
    let dir = copy(&default_model());
    let source = dir.path().join("onnx/model.onnx");
    let original = ModelSpec::open(&default_model()).unwrap().fingerprint().unwrap();
    let loaded = || {
        let model = load(dir.path());
        (model.fingerprint(), model.loaded_from().file_name().unwrap().to_str().unwrap().to_owned())
    };
    let set_modified =
        |time: SystemTime| fs::File::options().append(true).open(&source).unwrap().set_modified(time);
    let modified = source.metadata().unwrap().modified().unwrap();

    // Another time of writing: the file is read, and found to be the same.
    set_modified(modified + Duration::from_secs(5)).unwrap();
    assert_eq!(loaded(), (original, "model.mapped.onnx".to_owned()));

    // Other weights.
    let mut bytes = fs::read(&source).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&source, &bytes).unwrap();
    let (changed, from) = loaded();
    assert_eq!(from, "model.onnx");
    assert_ne!(changed, original);

    // Without the source its hash in the receipt stands in.
    fs::remove_file(&source).unwrap();
    assert_eq!(loaded(), (original, "model.mapped.onnx".to_owned()));

    // And with half of the mapped form gone there is nothing left.
    fs::write(dir.path().join("onnx/model.mapped.bin"), "short").unwrap();
    let error = ModelSpec::open(dir.path()).unwrap_err();
    assert!(matches!(error, leann_embed::EmbedError::ModelMissing { .. }), "{error}");
}

#[test]
fn a_receipt_that_cannot_be_is_named() {
    let dir = copy(&default_model());
    let receipt = dir.path().join("onnx/model.mapped.json");
    let content = fs::read_to_string(&receipt).unwrap();
    for (from, to, word) in [
        ("\"format\": 1", "\"format\": 2", "another format"),
        ("\"model.mapped.bin\"", "\"../model.mapped.bin\"", "other files"),
        ("\"source\"", "\"sauce\"", "source"),
    ] {
        assert!(content.contains(from));
        fs::write(&receipt, content.replace(from, to)).unwrap();
        let error = ModelSpec::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("model.mapped.json"), "{error}");
    }
}
