//! Times of reading literals: a vector, a text and a structured literal. `cargo bench -p leann-value`.

use divan::{Bencher, black_box};
use leann_value::Value;

fn main() {
    divan::main();
}

#[divan::bench(args = [384, 1_024])]
fn parse_vector(bencher: Bencher, dim: usize) {
    let literal = Value::dense((1..=dim).map(|i| (i as f32).sin()).collect()).expect("finite").literal();
    bencher.bench_local(|| Value::parse(black_box(&literal)));
}

#[divan::bench]
fn parse_text(bencher: Bencher) {
    bencher.bench_local(|| Value::parse(black_box("how do vaccines work?")));
}

#[divan::bench]
fn parse_structured(bencher: Bencher) {
    let literal = r#"leann:{"text":"how do vaccines work?","role":"passage","model":"all-MiniLM-L6-v2"}"#;
    bencher.bench_local(|| Value::parse(black_box(literal)));
}
