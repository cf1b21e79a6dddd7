//! The default model, all-MiniLM-L6-v2, in its two forms: compared with embeddings that were computed without
//! this crate, and with its files mixed up, damaged and overwritten.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use leann_embed::{EmbedError, LoadOptions, Model, ModelSpec, ModelStore, Pooling, Role};
use support::{copy, default_model, difference, embed, load, passage, references, refusal, similarity};

fn agrees_with_the_reference(model: &Model) {
    let references = references();
    let texts: Vec<&str> = references.iter().map(|reference| reference.text.as_str()).collect();
    let together = embed(model, &texts, Role::Passage, 2);
    assert_eq!(together.truncated_count(), 1);
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
    assert_eq!((model.spec().pooling(), model.spec().dim()), (Some(Pooling::Mean), Some(384)));
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

    // Another mtime changes nothing.
    set_modified(modified + Duration::from_secs(5)).unwrap();
    assert_eq!(loaded(), (original, "model.mapped.onnx".to_owned()));

    // Other weights with the size and mtime of the old ones are other weights.
    let mut bytes = fs::read(&source).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&source, &bytes).unwrap();
    set_modified(modified).unwrap();
    let (changed, from) = loaded();
    assert_eq!(from, "model.onnx");
    assert_ne!(changed, original);

    // Without the source, its hash in the receipt takes its place.
    fs::remove_file(&source).unwrap();
    assert_eq!(loaded(), (original, "model.mapped.onnx".to_owned()));
}

/// Exchanges two blocks of 4 kB, which leaves the size and the statistics of the content as they were.
fn exchange_blocks(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let (first, second) = ((bytes.len() / 2) & !4095, (bytes.len() * 3 / 4) & !4095);
    let (left, right) = bytes.split_at_mut(second);
    assert_ne!(left[first..first + 4096], right[..4096]);
    left[first..first + 4096].swap_with_slice(&mut right[..4096]);
    fs::write(path, bytes).unwrap();
}

#[test]
fn other_files_are_never_served_under_the_receipt() {
    type Damage = fn(&Path);
    let damaged: [(&str, Damage); 6] = [
        ("model.mapped.bin", |onnx| exchange_blocks(&onnx.join("model.mapped.bin"))),
        ("model.mapped.onnx", |onnx| exchange_blocks(&onnx.join("model.mapped.onnx"))),
        ("model.mapped.bin", |onnx| {
            let file = fs::File::options().write(true).open(onnx.join("model.mapped.bin")).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        }),
        ("model.mapped.bin", |onnx| fs::remove_file(onnx.join("model.mapped.bin")).unwrap()),
        // The receipt of another model with the same layout: a whole form may be exchanged, a single file may
        // not.
        ("model.mapped.onnx", |onnx| {
            fs::copy(support::int8_model().join("onnx/model.mapped.json"), onnx.join("model.mapped.json"))
                .unwrap();
        }),
        ("model.mapped.json", |onnx| fs::write(onnx.join("model.mapped.json"), "{}").unwrap()),
    ];
    for (named, damage) in damaged {
        for with_source in [true, false] {
            let dir = copy(&default_model());
            let onnx = dir.path().join("onnx");
            damage(&onnx);
            if !with_source {
                fs::remove_file(onnx.join("model.onnx")).unwrap();
            }
            let error = refusal(dir.path());
            assert!(matches!(&error, EmbedError::ModelFile { path, .. } if path.ends_with(named)), "{error}");
        }
    }
}

#[test]
fn the_form_of_another_model_is_left_alone() {
    let dir = copy(&default_model());
    for part in ["onnx", "bin", "json"] {
        let name = format!("onnx/model.mapped.{part}");
        fs::copy(support::int8_model().join(&name), dir.path().join(&name)).unwrap();
    }
    let model = load(dir.path());
    assert!(model.loaded_from().ends_with("onnx/model.onnx"));
    assert_eq!(model.fingerprint(), load(&default_model()).fingerprint());
}

#[test]
fn files_overwritten_in_place_do_not_reach_a_model_in_use() {
    let dir = copy(&default_model());
    let place = tempfile::tempdir().unwrap();
    let options =
        LoadOptions { store: ModelStore::in_folder(place.path().join("store")), ..LoadOptions::default() };
    let open = || Model::load(support::library(), &ModelSpec::open(dir.path()).unwrap(), &options);
    let model = open().unwrap();
    assert!(model.loaded_from().starts_with(place.path()), "{:?}", model.loaded_from());
    let before = passage(&model, "how do vaccines work");

    // cp truncates in the same way. A mapped original would kill this process now, by SIGBUS.
    for part in ["model.mapped.bin", "model.mapped.onnx", "model.onnx"] {
        fs::File::options().write(true).open(dir.path().join("onnx").join(part)).unwrap().set_len(0).unwrap();
    }
    assert_eq!(passage(&model, "how do vaccines work"), before);
    // Further sessions of the same model read the copy too.
    let text = "how do vaccines work ".repeat(20);
    embed(&model, &vec![text.as_str(); 64], Role::Passage, 4);
    assert!(model.sessions() > 1);
    assert_eq!(passage(&model, "how do vaccines work"), before);
    // A model that is opened now is refused.
    assert!(ModelSpec::open(dir.path()).is_err());

    // When the folder is repaired, the copy is used again, because the content is the same.
    for part in ["model.mapped.bin", "model.mapped.onnx", "model.onnx"] {
        let part = Path::new("onnx").join(part);
        fs::copy(default_model().join(&part), dir.path().join(&part)).unwrap();
    }
    let again = open().unwrap();
    assert_eq!((again.loaded_from(), again.fingerprint()), (model.loaded_from(), model.fingerprint()));
    assert_eq!(again.exact_fingerprint(), model.exact_fingerprint());
}

#[test]
fn copies_of_the_weights_are_given_back() {
    let dir = copy(&default_model());
    fs::remove_file(dir.path().join("onnx/model.mapped.json")).unwrap();
    let model = load(dir.path());
    let texts = vec!["a few words of a text that is neither long nor short"; 1500];
    embed(&model, &texts, Role::Passage, 4);
    assert_eq!(model.sessions(), 1);
    // Both forms have one fingerprint, but their last bits differ.
    let mapped = load(&default_model());
    assert_eq!(model.fingerprint(), mapped.fingerprint());
    assert_ne!(model.exact_fingerprint(), mapped.exact_fingerprint());
    // Sessions of the mapped form stay, because they share the weights.
    embed(&mapped, &texts[..200], Role::Passage, 2);
    assert_eq!(mapped.sessions(), 2);
}

#[test]
fn a_receipt_that_cannot_be_is_named() {
    let dir = copy(&default_model());
    let receipt = dir.path().join("onnx/model.mapped.json");
    let content = fs::read_to_string(&receipt).unwrap();
    for (from, to, word) in [
        ("\"format\": 2", "\"format\": 1", "another format"),
        ("\"model.mapped.bin\"", "\"../model.mapped.bin\"", "other files"),
        ("\"source\"", "\"sauce\"", "source"),
        ("\"blake3\": \"", "\"blake3\": \"x", ""),
    ] {
        assert!(content.contains(from));
        fs::write(&receipt, content.replace(from, to)).unwrap();
        let error = ModelSpec::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("model.mapped.json"), "{error}");
    }
}
