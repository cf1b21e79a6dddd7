//! Times what happens to texts before the model runs: tokenizing them and planning the runs. Needs no ONNX
//! Runtime.
//!
//! ```text
//! cargo bench -p leann-embed --bench prepare
//! ```

use std::path::Path;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use leann_embed::internal::{BatchLimits, TextTokenizer, plan};
use leann_embed::{ModelSpec, Role};

fn main() {
    divan::main();
}

/// Reads the tokenizer of a model that is part of the repository.
fn tokenizer() -> TextTokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny-hash");
    let spec = ModelSpec::open(&folder).expect("the model is part of the repository");
    TextTokenizer::load(&spec).expect("its tokenizer is valid")
}

/// Tokenizes one text of this many words. The model takes 128 tokens, so the longest text is truncated.
#[divan::bench(args = [10, 100, 100_000])]
fn tokenize(bencher: Bencher, words: usize) {
    let tokenizer = tokenizer();
    let text = "the black cat sat in the garden of the house ".repeat(words / 10);
    bencher
        .counter(BytesCount::of_str(&text))
        .bench(|| tokenizer.tokenize(black_box(&text), Role::Passage, &|| false));
}

/// Plans the runs for this many rows of 1 to 256 tokens on 8 threads.
#[divan::bench(args = [16, 256, 4096])]
fn plan_runs(bencher: Bencher, rows: usize) {
    let mut random = leann_vector::Rng::new(1);
    let lengths: Vec<usize> = (0..rows).map(|_| 1 + random.below(256)).collect();
    bencher.counter(ItemsCount::new(rows)).bench(|| plan(black_box(&lengths), BatchLimits::CPU, 8));
}
