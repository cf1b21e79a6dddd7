//! Embeds texts with the tiny models: what the vectors mean, for any batch, any number of threads and any
//! text.

mod support;

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use leann_embed::{EmbedError, Job, LoadOptions, Model, ModelSpec, Role};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::onnx::{Any, FLOAT, Fixed, Graph};
use support::{difference, embed, load, passage, similarity, tiny, with_onnx, worker_threads};

static TINY: LazyLock<Model> = LazyLock::new(|| load(&tiny("tiny-hash")));
static TINY_B: LazyLock<Model> = LazyLock::new(|| load(&tiny("tiny-hash-b")));

const TEXTS: [&str; 8] = [
    "the cat sat on the mat",
    "a cat and a dog in the house",
    "money in the bank",
    "",
    "   \n\t ",
    "🙂🙃 日本語 naïve ÅÄÖ",
    "unlisted, unpronounceable: xyzzy 12345!",
    "\u{0}\u{1}\u{feff}\u{202e}",
];

fn is_unit(vector: &[f32]) -> bool {
    (similarity(vector, vector) - 1.0).abs() < 1e-6
}

#[test]
fn near_texts_are_near() {
    let near = |a: &str, b: &str| similarity(&passage(&TINY, a), &passage(&TINY, b));
    let same = near("the cat sat on the mat", "The CAT sat on the mat");
    let shared = near("the black cat in the garden", "a white cat in the kitchen");
    let other = near("the black cat in the garden", "money data computer science");
    assert!(same > 0.999_999 && shared > other + 0.2, "{same} {shared} {other}");
    // The order of words and of digits matters a little.
    for (a, b) in [("dog bites man today", "man bites dog today"), ("row 17", "row 71")] {
        assert!((0.5..0.9999).contains(&near(a, b)), "{}", near(a, b));
    }
}

#[test]
fn any_text_gives_a_unit_vector() {
    for model in [&*TINY, &*TINY_B] {
        let embedded = embed(model, &TEXTS, Role::Passage, 2);
        assert_eq!(embedded.vectors.len(), TEXTS.len() * model.dim());
        assert!(embedded.vectors.chunks(model.dim()).all(is_unit));
        assert_eq!(embedded.truncated_count(), 0);
        assert!(embedded.tokens >= 2 * TEXTS.len());
    }
    let nothing = embed(&TINY, &[], Role::Query, 4);
    assert_eq!((nothing.vectors.len(), nothing.tokens, nothing.batches), (0, 0, 0));
}

#[test]
fn threads_change_nothing() {
    let texts: Vec<String> = (0..300).map(|i| format!("row {i} {}", "of words ".repeat(i % 23))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let one = embed(&TINY, &texts, Role::Passage, 1);
    for threads in [0, 2, 5, 64] {
        let other = embed(&TINY, &texts, Role::Passage, threads);
        assert!(difference(&one.vectors, &other.vectors) < 1e-6);
        assert_eq!((one.tokens, one.truncated_count()), (other.tokens, other.truncated_count()));
    }
    for (at, text) in [(0, texts[0]), (299, texts[299])] {
        assert!(difference(&passage(&TINY, text), &one.vectors[at * 64..][..64]) < 1e-6);
    }
    // A few rows are divided between the threads too.
    assert_eq!(embed(&TINY, &["a b", "c d", "e f", "g h"], Role::Passage, 2).batches, 2);
}

#[test]
fn each_role_has_its_prompt() {
    let of = |model: &Model, text: &str, role| embed(model, &[text], role, 1).vectors;
    assert_eq!(of(&TINY, "water", Role::Query), of(&TINY, "water", Role::Passage));
    let (query, passage) = (of(&TINY_B, "water", Role::Query), of(&TINY_B, "water", Role::Passage));
    assert!(similarity(&query, &passage) < 0.999);
    let spelled_out = of(&TINY_B, "search query: water", Role::Passage);
    assert!(similarity(&spelled_out, &query) < 0.999);
    let dir = support::copy(&tiny("tiny-hash-b"));
    std::fs::write(dir.path().join("leann.json"), r#"{"query_prompt": "", "passage_prompt": ""}"#).unwrap();
    let bare = load(dir.path());
    assert!(difference(&of(&bare, "search query: water", Role::Passage), &query) < 1e-6);
    assert!(difference(&of(&bare, "passage: water", Role::Query), &passage) < 1e-6);
}

#[test]
fn long_texts_are_cut_and_counted() {
    // 126 tokens fit between the special tokens.
    let words = |n: usize| "water ".repeat(n);
    let cases = [(words(126), 0, 128), (words(127), 1, 128), (words(5), 0, 7), (words(200_000), 1, 128)];
    for (text, truncated, tokens) in &cases {
        let embedded = embed(&TINY, &[text], Role::Passage, 1);
        assert_eq!((embedded.truncated_count(), embedded.tokens), (*truncated, *tokens));
    }
    assert_eq!(passage(&TINY, &words(126)), passage(&TINY, &words(1000)));
    let tail = format!("{}{}", words(126), "cat ".repeat(1000));
    assert_eq!(passage(&TINY, &words(126)), passage(&TINY, &tail));
}

#[test]
fn a_megabyte_without_words_takes_no_time() {
    let start = Instant::now();
    for unit in [" ", "a", "🙂", "é", "\u{0}", "ab,", "\u{301}"] {
        let text = unit.repeat((4 << 20) / unit.len());
        let embedded = embed(&TINY, &[&text], Role::Passage, 1);
        assert!(is_unit(&embedded.vectors), "{unit:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn blanks_at_the_ends_count_for_nothing() {
    let blanks = " \t\n".repeat(1 << 20);
    let padded = format!("{blanks}the cat sat{blanks}");
    for model in [&*TINY, &*TINY_B] {
        let embedded = embed(model, &[&padded], Role::Passage, 1);
        assert_eq!((embedded.truncated_count(), embedded.vectors), (0, passage(model, "the cat sat")));
    }
    // A few blanks stay between a prompt and the text, as in sentence-transformers.
    assert_eq!(passage(&TINY_B, " \t the cat sat"), passage(&TINY_B, "the cat sat"));
}

#[test]
fn no_tokenizer_file_makes_long_words_slow() {
    let dir = support::copy(&tiny("tiny-hash"));
    let words = r###"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": LIMIT, "vocab": {"[UNK]": 0, "a": 1, "##a": 2, "b": 3}}}"###;
    let load_with = |limit: &str| {
        std::fs::write(dir.path().join("tokenizer.json"), words.replace("LIMIT", limit)).unwrap();
        load(dir.path())
    };
    let long = "a".repeat(100_000);
    let start = Instant::now();
    let hostile = load_with("1000000000");
    let embedded = embed(&hostile, &[&long, &format!("{long} b")], Role::Passage, 1);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // Every word that is too long becomes one unknown token.
    assert_eq!(embedded.tokens, 3);
    // The limit in published files is kept.
    let usual = load_with("100");
    let words = ["a".repeat(100), "a".repeat(101)];
    let tokens = |word: &str| embed(&usual, &[word], Role::Passage, 1).tokens;
    assert_eq!((tokens(&words[0]), tokens(&words[1])), (100, 1));
}

/// Makes a model of 2,000 steps that take some milliseconds each.
fn slow_model() -> tempfile::TempDir {
    let width = 768u64;
    let weights: Vec<f32> =
        (0..width * width).map(|i| if i % (width + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let mut graph = Graph::new()
        .usual_inputs()
        .floats("matrix", &[width, width], &weights)
        .floats("row", &[width], &vec![1.0; width as usize])
        .floats("one", &[1], &[1.0])
        .ints("axis", &[1], &[2])
        .node_with("Cast", &["input_ids"], &["flat"], &[("to", FLOAT)])
        .node("Add", &["flat", "one"], &["more"])
        .node("Unsqueeze", &["more", "axis"], &["column"])
        .node("Mul", &["column", "row"], &["x0"]);
    for step in 0..2000 {
        graph = graph.node("MatMul", &[&format!("x{step}"), "matrix"], &[&format!("x{}", step + 1)]);
    }
    let graph = graph.node("Identity", &["x2000"], &["last_hidden_state"]).output(
        "last_hidden_state",
        FLOAT,
        &[Any("batch"), Any("sequence"), Fixed(width)],
    );
    with_onnx(&graph.finish())
}

#[test]
fn a_run_under_way_can_be_stopped() {
    let dir = slow_model();
    let model = load(dir.path());
    let text = "many words ".repeat(60);
    let texts = vec![text.as_str(); 64];
    for threads in [1, 2] {
        let start = Instant::now();
        let asked = Cell::new(0);
        let most_threads = Cell::new(0);
        let should_stop = || {
            asked.set(asked.get() + 1);
            most_threads.set(worker_threads().max(most_threads.get()));
            start.elapsed() > Duration::from_millis(300)
        };
        let job = Job { threads, should_stop: &should_stop, around_spawn: &|spawn| spawn() };
        let stopped = model.embed(&texts, Role::Passage, &job);
        let took = start.elapsed();
        assert!(matches!(stopped, Err(EmbedError::Stopped)), "{stopped:?}");
        assert!(
            took > Duration::from_millis(300) && took < Duration::from_millis(1300),
            "{took:?} on {threads} threads"
        );
        assert!(asked.get() > 20, "asked {} times", asked.get());
        assert!(most_threads.get() >= threads);
    }
    // The model can still be used.
    assert!(is_unit(&passage(&model, "x")));
}

#[test]
fn loading_can_be_stopped() {
    let dir = slow_model();
    let spec = ModelSpec::open(dir.path()).unwrap();
    let load = |patience: Duration| {
        let start = Instant::now();
        let should_stop = || start.elapsed() > patience;
        let job = Job { threads: 1, should_stop: &should_stop, around_spawn: &|spawn| spawn() };
        let loaded = Model::load_stoppable(support::library(), &spec, &LoadOptions::default(), &job);
        (loaded, start.elapsed())
    };
    let (loaded, took) = load(Duration::from_millis(200));
    assert!(matches!(loaded, Err(EmbedError::Stopped)));
    assert!(took < Duration::from_millis(1200), "{took:?}");
    assert_eq!(load(Duration::from_secs(100)).0.unwrap().dim(), 768);
}

#[test]
fn a_job_that_is_to_stop_at_once_does() {
    let spawns = Cell::new(0);
    let around_spawn = |spawn: &mut dyn FnMut()| {
        spawns.set(spawns.get() + 1);
        spawn();
    };
    let job = Job { threads: 2, should_stop: &|| true, around_spawn: &around_spawn };
    assert!(matches!(TINY.embed(&["x"; 1000], Role::Query, &job), Err(EmbedError::Stopped)));
    assert_eq!(spawns.get(), 1);
}

#[test]
fn a_model_that_was_replaced_is_not_mixed_with_the_new_one() {
    let dir = support::copy(&tiny("tiny-hash"));
    let spec = ModelSpec::open(dir.path()).unwrap();
    let model = load(dir.path());
    std::fs::copy(tiny("tiny-hash-b").join("model.onnx"), dir.path().join("new")).unwrap();
    std::fs::rename(dir.path().join("new"), dir.path().join("model.onnx")).unwrap();
    // The session that is loaded still works, but no other one is made.
    assert!(is_unit(&passage(&model, "x")));
    let texts = vec!["some text"; 500];
    // The call fails once two threads work at the same time.
    let failed =
        (0..1000).find_map(|_| model.embed(&texts, Role::Passage, &Job::uninterrupted(4)).err()).unwrap();
    assert!(failed.to_string().contains("replaced"), "{failed}");
    let failed = Model::load(support::library(), &spec, &LoadOptions::default()).map(|_| ()).unwrap_err();
    assert!(failed.to_string().contains("replaced"), "{failed}");
    assert_ne!(load(dir.path()).fingerprint(), model.fingerprint());
}

#[test]
fn several_callers_at_once() {
    let expected = embed(&TINY, &TEXTS, Role::Passage, 1).vectors;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let got = embed(&TINY, &TEXTS, Role::Passage, 2).vectors;
                    assert!(difference(&got, &expected) < 1e-6);
                }
            });
        }
    });
}

#[test]
fn a_model_can_be_shared_and_says_what_it_is() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Model>();
    assert_eq!((TINY_B.name(), TINY_B.dim(), TINY_B.max_tokens()), ("tiny-hash-b", 32, 128));
    let embedded = TINY_B.embed(&["x"], Role::Query, &Job::uninterrupted(1)).unwrap();
    assert_eq!(embedded.vectors.len(), 32);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_texts_in_any_company(
        texts in prop::collection::vec(any::<String>(), 1..12),
        threads in 1usize..4,
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for model in [&*TINY, &*TINY_B] {
            let together = embed(model, &texts, Role::Query, threads).vectors;
            for (text, vector) in texts.iter().zip(together.chunks(model.dim())) {
                prop_assert!(is_unit(vector));
                let alone = embed(model, &[text], Role::Query, 1).vectors;
                prop_assert!(similarity(&alone, vector) > 1.0 - 1e-5);
            }
        }
    }

    /// The beginning of a long text decides its tokens, wherever the blanks are.
    #[test]
    fn what_is_behind_the_maximum_does_not_count(
        head in "[a-z0-9]{1,9}( [a-zé,🙂0-9]{1,20}){130,140}",
        tails in prop::collection::vec("\\PC{0,40}", 2),
    ) {
        let texts: Vec<String> = tails.iter().map(|tail| format!("{head} {}", tail.repeat(200))).collect();
        prop_assert_eq!(passage(&TINY, &texts[0]), passage(&TINY, &texts[1]));
    }
}
