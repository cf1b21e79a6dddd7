//! all-MiniLM-L6-v2-int8, the default model in 8 bits: near the reference, and independent of the other texts
//! of a call.

mod support;

use std::fs;

use leann_embed::{Model, Role};
use support::{copy, default_model, embed, int8_model, load, passage, references, similarity};

/// Returns texts of the repository's sample, shortened to several lengths.
fn sample() -> Vec<String> {
    let words = |reference: support::Reference| {
        let words: Vec<&str> = reference.text.split(' ').collect();
        [1, 3, 10, 40, 120, 400].map(|length| words[..length.min(words.len())].join(" "))
    };
    references().into_iter().flat_map(words).collect()
}

fn each_alone(model: &Model, texts: &[&str]) -> Vec<f32> {
    texts.iter().flat_map(|text| passage(model, text)).collect()
}

#[test]
fn it_is_near_the_reference() {
    let model = load(&int8_model());
    assert_eq!((model.name(), model.dim(), model.max_tokens()), ("all-MiniLM-L6-v2-int8", 384, 256));
    assert!(model.loaded_from().ends_with("onnx/model.mapped.onnx"), "{:?}", model.loaded_from());
    for reference in references() {
        let cosine = similarity(&passage(&model, &reference.text), &reference.embedding);
        // Quantization costs most for a text without words.
        let least = if reference.text.is_empty() { 0.98 } else { 0.99 };
        assert!((least..0.9999).contains(&cosine), "{:?}: {cosine}", reference.text);
    }
    assert_ne!(model.fingerprint(), load(&default_model()).fingerprint());
}

#[test]
fn a_vector_depends_on_nothing_but_its_text() {
    let model = load(&int8_model());
    let texts = sample();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let alone = each_alone(&model, &texts);
    for threads in [1, 2, 3] {
        let together = embed(&model, &texts, Role::Query, threads);
        assert!(together.batches < texts.len(), "some rows are to share a run");
        assert!(together.vectors == alone, "another vector in company, {threads} threads");
    }
}

#[test]
fn the_source_gives_the_same_as_the_mapped_form() {
    let dir = copy(&int8_model());
    fs::remove_file(dir.path().join("onnx/model.mapped.json")).unwrap();
    let (source, mapped) = (load(dir.path()), load(&int8_model()));
    assert!(source.loaded_from().ends_with("onnx/model.onnx"));
    assert_eq!(source.fingerprint(), mapped.fingerprint());
    let texts = ["", "how do vaccines work", "a longer text, of which a part is padding in some run"];
    assert!(each_alone(&source, &texts) == each_alone(&mapped, &texts));
}
