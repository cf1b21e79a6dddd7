//! Times the work on sketches: encoding a row, preparing a query, and scoring a page.

#[path = "../tests/support/mod.rs"]
mod support;

use divan::{Bencher, black_box};
use leann_sketch::internal::viterbi;
use leann_sketch::{Estimate, Sketcher, TrainOptions};
use leann_vector::normalize;
use support::gaussian;

/// Dimensions of an embedding.
const DIM: usize = 384;
/// Bytes of a trained sketch.
const SKETCH_BYTES: usize = 54;
/// Sketches on a page.
const PAGE_SKETCHES: usize = 140;
/// Rows that the sketcher is trained on.
const TRAINING_ROWS: usize = 2000;

fn main() {
    divan::main();
}

/// Returns rows of unit length whose variance falls over the dimensions.
fn rows(count: usize, seed: u64) -> Vec<f32> {
    let mut gaussian = gaussian(seed);
    let mut rows: Vec<f32> =
        (0..count * DIM).map(|at| 0.05 + gaussian() / (1.0 + (at % DIM) as f32 / 16.0)).collect();
    rows.chunks_exact_mut(DIM).for_each(|row| assert!(normalize(row)));
    rows
}

fn sketcher(form: &str) -> Sketcher {
    match form {
        "trained" => {
            let options = TrainOptions { sketch_bytes: SKETCH_BYTES, rows: 100_000, seed: 1 };
            Sketcher::train(&rows(TRAINING_ROWS, 1), DIM, &options, &|| false).expect("a sound sample")
        }
        "untrained" => Sketcher::untrained(DIM, 1),
        _ => Sketcher::float16(DIM),
    }
}

/// Encodes a row.
#[divan::bench(args = ["trained", "untrained", "float16"])]
fn encode(bencher: Bencher, form: &str) {
    let (sketcher, row) = (sketcher(form), rows(1, 2));
    let mut sketch = vec![0; sketcher.sketch_bytes()];
    bencher.bench_local(|| sketcher.encode(black_box(&row), &mut sketch));
}

/// Searches for the best code alone, by bits per component.
#[divan::bench(args = [1, 2, 6])]
fn search_code(bencher: Bencher, bits: u8) {
    let (targets, scales, component_bits) = (rows(1, 3), [0.05; DIM], [bits; DIM]);
    bencher.bench(|| viterbi(black_box(&targets), &scales, &component_bits));
}

/// Prepares a query.
#[divan::bench(args = ["trained", "untrained", "float16"])]
fn query(bencher: Bencher, form: &str) {
    let (sketcher, row) = (sketcher(form), rows(1, 4));
    bencher.bench(|| sketcher.query(black_box(&row)));
}

/// Scores the sketches of a page, all of them to the end.
#[divan::bench(args = ["trained", "untrained", "float16"])]
fn score_page(bencher: Bencher, form: &str) {
    score(bencher, &sketcher(form), |_| f32::NEG_INFINITY);
}

/// Scores the sketches of a page above the similarity of its tenth best, which prunes most of them.
#[divan::bench(args = ["trained", "untrained"])]
fn score_page_above(bencher: Bencher, form: &str) {
    score(bencher, &sketcher(form), |estimates| {
        let mut similarities: Vec<f32> = estimates.iter().map(|estimate| estimate.similarity).collect();
        similarities.sort_by(|a, b| b.total_cmp(a));
        similarities[9]
    });
}

/// Times scoring above the floor that is chosen by the estimates of all sketches.
fn score(bencher: Bencher, sketcher: &Sketcher, floor: impl Fn(&[Estimate]) -> f32) {
    let mut page = vec![0; PAGE_SKETCHES * sketcher.sketch_bytes()];
    let rows = rows(PAGE_SKETCHES + 1, 5);
    for (row, sketch) in rows.chunks_exact(DIM).zip(page.chunks_exact_mut(sketcher.sketch_bytes())) {
        sketcher.encode(row, sketch);
    }
    let query = sketcher.query(&rows[PAGE_SKETCHES * DIM..]);
    let mut estimates = Vec::new();
    query.score(&page, &mut estimates);
    let floor = floor(&estimates);
    bencher.bench_local(|| {
        estimates.clear();
        query.score_above(floor, black_box(&page), &mut estimates);
    });
}
