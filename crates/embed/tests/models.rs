//! Models with all kinds of inputs and outputs, and the ones that are refused.

mod support;

use std::fs;

use leann_embed::{EmbedError, Job, LoadOptions, Model, ModelSpec, Role};
use support::onnx::{Any, FLOAT, FLOAT16, Fixed, Graph, INT32, INT64, Size};
use support::{difference, embed, load, passage, refusal, tiny, with_onnx};

const ROWS: [Size; 2] = [Any("batch"), Any("sequence")];
const HIDDEN: [Size; 3] = [Any("batch"), Any("sequence"), Fixed(3)];

/// Builds a model whose vector for a token with the id n is `row * (n + 1)`.
fn numbered(row: [f32; 3]) -> Graph {
    Graph::new()
        .floats("row", &[3], &row)
        .floats("one", &[1], &[1.0])
        .ints("axis", &[1], &[2])
        .node_with("Cast", &["input_ids"], &["flat"], &[("to", FLOAT)])
        .node("Add", &["flat", "one"], &["more"])
        .node("Unsqueeze", &["more", "axis"], &["column"])
        .node("Mul", &["column", "row"], &["last_hidden_state"])
        .output("last_hidden_state", FLOAT, &HIDDEN)
}

fn unsupported(model: Graph, word: &str) {
    let dir = with_onnx(&model.finish());
    let error = refusal(dir.path());
    assert!(matches!(error, EmbedError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains(word), "{error}");
}

#[test]
fn the_usual_kind() {
    let dir = with_onnx(&numbered([1.0, 2.0, 2.0]).usual_inputs().finish());
    let model = load(dir.path());
    assert_eq!((model.dim(), model.max_tokens()), (3, 128));
    assert!(difference(&passage(&model, "x"), &[1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0]) < 1e-6);
    assert!(model.loaded_from().ends_with("model.onnx"));
    assert_eq!(model.fingerprint(), ModelSpec::open(dir.path()).unwrap().fingerprint().unwrap());
}

#[test]
fn int32_token_types_and_a_vector_per_row() {
    let graph = Graph::new()
        .input("token_type_ids", INT32, &ROWS)
        .input("attention_mask", INT32, &ROWS)
        .input("input_ids", INT32, &ROWS)
        .output("last_hidden_state", FLOAT, &HIDDEN)
        .output("sentence_embedding", FLOAT, &[Any("batch"), Fixed(2)])
        .floats("row", &[3], &[1.0, 1.0, 1.0])
        .floats("pair", &[2], &[3.0, 4.0])
        .ints("axis_1", &[1], &[1])
        .ints("axis_2", &[1], &[2])
        .node_with("Cast", &["input_ids"], &["ids"], &[("to", FLOAT)])
        .node_with("Cast", &["attention_mask"], &["mask"], &[("to", FLOAT)])
        .node_with("Cast", &["token_type_ids"], &["types"], &[("to", FLOAT)])
        .node("Add", &["ids", "types"], &["flat"])
        .node("Unsqueeze", &["flat", "axis_2"], &["column"])
        .node("Mul", &["column", "row"], &["last_hidden_state"])
        .node_with("ReduceSum", &["mask", "axis_1"], &["count"], &[("keepdims", 1)])
        .node("Mul", &["count", "pair"], &["sentence_embedding"])
        .finish();
    let dir = with_onnx(&graph);
    let model = load(dir.path());
    assert_eq!(model.dim(), 2);
    let embedded = embed(&model, &["one", "and another longer text"], Role::Query, 2);
    assert!(difference(&embedded.vectors, &[0.6, 0.8, 0.6, 0.8]) < 1e-6);

    // The other output is used on demand.
    fs::write(dir.path().join("leann.json"), r#"{"output": "last_hidden_state"}"#).unwrap();
    assert_eq!(load(dir.path()).dim(), 3);
    fs::write(dir.path().join("leann.json"), r#"{"output": "pooler_output"}"#).unwrap();
    assert!(matches!(refusal(dir.path()), EmbedError::Unsupported { .. }));
}

#[test]
fn what_it_takes_or_gives_has_to_be_known() {
    let graph = || numbered([1.0, 2.0, 2.0]);
    unsupported(graph().usual_inputs().input("pixel_values", INT64, &ROWS), "pixel_values");
    unsupported(graph().input("input_ids", INT64, &ROWS), "attention_mask");
    unsupported(graph().usual_inputs().input("token_type_ids", FLOAT, &ROWS), "int64 or int32");
    let one_row = [Fixed(1), Any("sequence")];
    unsupported(
        graph().input("input_ids", INT64, &one_row).input("attention_mask", INT64, &ROWS),
        "any number",
    );

    let cast = |kind| {
        Graph::new()
            .usual_inputs()
            .ints("axis", &[1], &[2])
            .node("Unsqueeze", &["input_ids", "axis"], &["column"])
            .node_with("Cast", &["column"], &["last_hidden_state"], &[("to", kind)])
            .output("last_hidden_state", kind, &[Any("batch"), Any("sequence"), Fixed(1)])
    };
    assert_eq!(load(with_onnx(&cast(FLOAT).finish()).path()).dim(), 1);
    unsupported(cast(FLOAT16), "float32");

    let two = |first: &'static str, second: &'static str| {
        Graph::new()
            .usual_inputs()
            .ints("axis", &[1], &[2])
            .node_with("Cast", &["input_ids"], &["flat"], &[("to", FLOAT)])
            .node("Unsqueeze", &["flat", "axis"], &[first])
            .node("Neg", &[first], &[second])
            .output(first, FLOAT, &[Any("batch"), Any("sequence"), Fixed(1)])
            .output(second, FLOAT, &[Any("batch"), Any("sequence"), Fixed(1)])
    };
    unsupported(two("a", "b"), "not clear: a, b");
    assert_eq!(load(with_onnx(&two("a", "token_embeddings").finish()).path()).dim(), 1);
}

#[test]
fn a_step_that_the_file_leaves_out_is_missed() {
    let dir = with_onnx(&numbered([1.0, 2.0, 2.0]).usual_inputs().finish());
    let modules = r#"[{"type": "sentence_transformers.models.Transformer"},
        {"type": "sentence_transformers.models.Dense"}]"#;
    fs::write(dir.path().join("modules.json"), modules).unwrap();
    let error = refusal(dir.path());
    assert!(
        matches!(error, EmbedError::Unsupported { .. }) && error.to_string().contains("Dense"),
        "{error}"
    );
}

#[test]
fn pooling_is_never_guessed() {
    let dir = support::copy(&tiny("tiny-hash-b"));
    fs::remove_dir_all(dir.path().join("1_Pooling")).unwrap();
    fs::remove_file(dir.path().join("modules.json")).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, EmbedError::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains(r#"{"pooling": "mean"}"#), "{error}");
    fs::write(dir.path().join("leann.json"), r#"{"pooling": "cls"}"#).unwrap();
    let model = load(dir.path());
    assert_eq!(passage(&model, "x"), passage(&load(&tiny("tiny-hash-b")), "x"));
    assert_eq!(model.fingerprint(), load(&tiny("tiny-hash-b")).fingerprint());

    // A model with a vector for each text needs no pooling.
    let graph = Graph::new()
        .usual_inputs()
        .floats("pair", &[2], &[3.0, 4.0])
        .ints("axis", &[1], &[1])
        .node_with("Cast", &["attention_mask"], &["mask"], &[("to", FLOAT)])
        .node_with("ReduceSum", &["mask", "axis"], &["count"], &[("keepdims", 1)])
        .node("Mul", &["count", "pair"], &["sentence_embedding"])
        .output("sentence_embedding", FLOAT, &[Any("batch"), Fixed(2)]);
    let dir = with_onnx(&graph.finish());
    fs::remove_dir_all(dir.path().join("1_Pooling")).unwrap();
    fs::remove_file(dir.path().join("modules.json")).unwrap();
    assert_eq!(load(dir.path()).dim(), 2);
}

#[test]
fn vectors_without_direction_are_refused() {
    for row in [[0.0; 3], [f32::NAN, 1.0, 1.0], [f32::INFINITY, 1.0, 1.0]] {
        let dir = with_onnx(&numbered(row).usual_inputs().finish());
        assert!(matches!(refusal(dir.path()), EmbedError::NotFinite { .. }), "{row:?}");
    }
}

/// Builds a model with good vectors for the first eight tokens of a text, and `later` for the rest.
fn bad_after_eight_tokens(later: f32) -> Vec<u8> {
    let places: Vec<f32> = (0..256 * 3).map(|i| if i < 24 { 1.0 } else { later }).collect();
    Graph::new()
        .usual_inputs()
        .floats("places", &[256, 3], &places)
        .ints("zero", &[1], &[0])
        .ints("one", &[1], &[1])
        .ints("two", &[1], &[2])
        .node("Shape", &["input_ids"], &["shape"])
        .node("Gather", &["shape", "one"], &["length"])
        .node("Slice", &["places", "zero", "length", "zero"], &["used"])
        .node_with("Cast", &["attention_mask"], &["flat"], &[("to", FLOAT)])
        .node("Unsqueeze", &["flat", "two"], &["mask"])
        .node("Mul", &["mask", "used"], &["last_hidden_state"])
        .output("last_hidden_state", FLOAT, &HIDDEN)
        .finish()
}

#[test]
fn one_bad_row_fails_the_call_and_not_the_model() {
    let dir = with_onnx(&bad_after_eight_tokens(f32::NAN));
    let model = load(dir.path());
    let long = "many words that make many tokens in all and then some more";
    for threads in [1, 3] {
        let texts = ["short", "a text", long, "word"];
        let failed = model.embed(&texts, Role::Passage, &Job::uninterrupted(threads));
        assert!(matches!(failed, Err(EmbedError::NotFinite { .. })));
        assert_eq!(embed(&model, &texts[..2], Role::Passage, threads).vectors.len(), 6);
    }
}

#[test]
fn a_dimension_that_changes_is_noticed() {
    let graph = Graph::new()
        .usual_inputs()
        .ints("one", &[1], &[1])
        .ints("two", &[1], &[2])
        .node_with("Cast", &["attention_mask"], &["flat"], &[("to", FLOAT)])
        .node("Unsqueeze", &["flat", "one"], &["row"])
        .node("Unsqueeze", &["flat", "two"], &["column"])
        .node("Mul", &["row", "column"], &["last_hidden_state"])
        .output("last_hidden_state", FLOAT, &[Any("batch"), Any("sequence"), Any("dim")]);
    let dir = with_onnx(&graph.finish());
    let model = load(dir.path());
    assert_eq!(model.dim(), 3);
    let failed = model.embed(&["some more tokens"], Role::Passage, &Job::uninterrupted(1)).unwrap_err();
    assert!(
        matches!(failed, EmbedError::Inference { .. }) && failed.to_string().contains("not 3"),
        "{failed}"
    );

    let wide = |dim: u64| {
        let graph = Graph::new()
            .usual_inputs()
            .ints("axis", &[1], &[2])
            .floats("row", &[dim], &vec![1.0; dim as usize])
            .node_with("Cast", &["attention_mask"], &["flat"], &[("to", FLOAT)])
            .node("Unsqueeze", &["flat", "axis"], &["column"])
            .node("Mul", &["column", "row"], &["last_hidden_state"])
            .output("last_hidden_state", FLOAT, &[Any("batch"), Any("sequence"), Any("dim")]);
        with_onnx(&graph.finish())
    };
    assert_eq!(load(wide(16_000).path()).dim(), 16_000);
    assert!(refusal(wide(16_001).path()).to_string().contains("16001 numbers, not 1 to 16000"));
}

#[test]
fn an_error_of_the_runtime_is_passed_on() {
    // The table has 5 vectors, and the tokenizer more tokens.
    let graph = Graph::new()
        .usual_inputs()
        .floats("table", &[5, 3], &[1.0; 15])
        .node("Gather", &["table", "input_ids"], &["last_hidden_state"])
        .output("last_hidden_state", FLOAT, &HIDDEN);
    let error = refusal(with_onnx(&graph.finish()).path());
    assert!(matches!(error, EmbedError::Inference { .. }) && error.to_string().contains("Gather"), "{error}");

    let unknown = Graph::new().usual_inputs().node("NoSuchOperator", &["input_ids"], &["last_hidden_state"]);
    let dir = with_onnx(&unknown.output("last_hidden_state", FLOAT, &HIDDEN).finish());
    let error = refusal(dir.path());
    assert!(matches!(&error, EmbedError::ModelFile { path, .. } if path.ends_with("model.onnx")), "{error}");
    assert!(error.to_string().contains("NoSuchOperator"), "{error}");
}

#[test]
fn a_tokenizer_that_is_none_is_named() {
    let dir = support::copy(&tiny("tiny-hash"));
    for content in ["", "{}", "{\"model\": 1}", "\u{0}"] {
        fs::write(dir.path().join("tokenizer.json"), content).unwrap();
        let error = refusal(dir.path());
        assert!(
            matches!(&error, EmbedError::ModelFile { path, .. } if path.ends_with("tokenizer.json")),
            "{error}"
        );
    }
}

#[test]
fn special_tokens_have_to_leave_room() {
    let dir = support::copy(&tiny("tiny-hash"));
    fs::write(dir.path().join("leann.json"), r#"{"max_tokens": 2}"#).unwrap();
    assert!(matches!(refusal(dir.path()), EmbedError::Unsupported { .. }));
    fs::write(dir.path().join("leann.json"), r#"{"max_tokens": 3}"#).unwrap();
    let embedded = embed(&load(dir.path()), &["one two three"], Role::Passage, 1);
    assert_eq!((embedded.tokens, embedded.truncated_count()), (3, 1));
}

fn external_model(file: &str) -> Vec<u8> {
    Graph::new()
        .usual_inputs()
        .external("row", &[3], file)
        .ints("axis", &[1], &[2])
        .node_with("Cast", &["attention_mask"], &["flat"], &[("to", FLOAT)])
        .node("Unsqueeze", &["flat", "axis"], &["column"])
        .node("Mul", &["column", "row"], &["last_hidden_state"])
        .output("last_hidden_state", FLOAT, &HIDDEN)
        .finish()
}

#[test]
fn weights_in_a_file_of_their_own_belong_to_the_model() {
    let dir = with_onnx(&external_model("model.onnx_data"));
    let error = ModelSpec::open(dir.path()).unwrap_err();
    assert!(
        matches!(error, EmbedError::ModelFile { .. }) && error.to_string().contains("not there"),
        "{error}"
    );

    let write = |row: [f32; 3]| {
        fs::write(dir.path().join("model.onnx_data"), row.map(f32::to_le_bytes).concat()).unwrap();
        let model = load(dir.path());
        (passage(&model, "x"), model.fingerprint())
    };
    let (first, second) = (write([1.0, 2.0, 2.0]), write([2.0, 2.0, 1.0]));
    assert!(difference(&first.0, &[1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0]) < 1e-6);
    assert!(difference(&second.0, &[2.0 / 3.0, 2.0 / 3.0, 1.0 / 3.0]) < 1e-6);
    assert_ne!(first.1, second.1);

    for name in ["../model.onnx_data", "/etc/hostname", "sub/data", ".."] {
        let error = ModelSpec::open(with_onnx(&external_model(name)).path()).unwrap_err();
        assert!(
            matches!(&error, EmbedError::ModelFile { path, .. } if path.ends_with("model.onnx")),
            "{error}"
        );
    }
}

#[test]
fn a_model_that_quantizes_as_it_runs_gets_one_row_at_a_time() {
    let graph = numbered([1.0, 2.0, 3.0])
        .usual_inputs()
        .node("DynamicQuantizeLinear", &["last_hidden_state"], &["q", "scale", "zero_point"])
        .node("DequantizeLinear", &["q", "scale", "zero_point"], &["token_embeddings"])
        .output("token_embeddings", FLOAT, &HIDDEN);
    let dir = with_onnx(&graph.finish());
    let texts = ["a", "some words", "zebra", "a", "many more words than before"];
    // Two outputs have known names, and the quantized one is to be used.
    fs::write(dir.path().join("leann.json"), r#"{"output": "token_embeddings"}"#).unwrap();
    let model = load(dir.path());
    let together = embed(&model, &texts, Role::Passage, 2);
    assert_eq!(together.batches, texts.len());
    for (text, vector) in texts.iter().zip(together.vectors.chunks(3)) {
        assert_eq!(difference(&passage(&model, text), vector), 0.0);
    }

    fs::write(dir.path().join("leann.json"), r#"{"output": "token_embeddings", "one_row_per_run": false}"#)
        .unwrap();
    let model = load(dir.path());
    let together = embed(&model, &texts, Role::Passage, 1);
    assert!(together.batches < texts.len());
    let alone = passage(&model, texts[0]);
    assert!(difference(&alone, &together.vectors[..3]) > 0.0, "this model is meant to depend on its batch");
}

#[test]
fn execution_providers_are_known_or_refused() {
    let spec = ModelSpec::open(&tiny("tiny-hash")).unwrap();
    let load = |provider: &str| {
        Model::load(
            support::library(),
            &spec,
            &LoadOptions { execution_provider: provider.to_owned(), ..LoadOptions::default() },
        )
    };
    assert!(load("CPU").is_ok());
    for unknown in ["", "gpu", "abacus"] {
        let error = load(unknown).map(|_| ()).unwrap_err();
        assert!(matches!(error, EmbedError::ProviderMissing { .. }), "{error}");
    }
    // Whether the library has CUDA depends on the machine.
    if let Err(error) = load("cuda").map(|_| ()) {
        assert!(matches!(error, EmbedError::ProviderMissing { .. }), "{error}");
    }
}
