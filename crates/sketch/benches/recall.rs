//! Measures how many of the best candidates by sketch must be recomputed: recall@10 after recomputing the
//! best R by estimate, for sketches of several sizes.
//!
//! ```text
//! cargo bench -p leann-sketch --bench recall -- FOLDER [SKETCH_BYTES ...]
//! ```
//!
//! The folder holds `embeddings.f16.npy` and `query_embeddings.f16.npy`: two-dimensional, one row each per
//! text.

mod support;

use leann_sketch::{Estimate, Sketcher, TrainOptions};
use std::path::Path;
use std::time::Instant;
use support::{Matrix, parallel, read_npy, similarities};

/// Nearest rows that a search wants.
const K: usize = 10;
/// Candidates that are recomputed.
const DEPTHS: [usize; 6] = [16, 20, 24, 28, 32, 40];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let folder = arguments.next().ok_or("usage: recall FOLDER [SKETCH_BYTES ...]")?;
    let mut sizes = arguments.map(|size| size.parse()).collect::<Result<Vec<usize>, _>>()?;
    if sizes.is_empty() {
        sizes = vec![42, 50, 58, 66];
    }
    let rows = read_npy(&Path::new(&folder).join("embeddings.f16.npy"))?;
    let queries = read_npy(&Path::new(&folder).join("query_embeddings.f16.npy"))?;
    let count = rows.rows().len();
    println!("{folder}: {count} rows of {} dimensions, {} queries", rows.dim, queries.rows().len());
    let truth = similarities(&rows, &queries);

    let few = every(&rows, 300);
    let many = every(&rows, 20_000);
    let mut header = "sketcher        bytes comps  params  train s ".to_string();
    DEPTHS.iter().for_each(|depth| header += &format!("  @{depth} "));
    println!(
        "{header}  std of (estimate - truth) / error: all, top 100; of estimate - truth; encode us, score ns"
    );
    for size in sizes {
        for (name, sample) in [("trained on all", &many), ("trained on 300", &few)] {
            let start = Instant::now();
            let options = TrainOptions { sketch_bytes: size, rows: count, seed: 1 };
            let sketcher = Sketcher::train(sample, rows.dim, &options, &|| false)?;
            report(name, &sketcher, start.elapsed().as_secs_f32(), &rows, &queries, &truth);
        }
    }
    report("untrained", &Sketcher::untrained(rows.dim, 1), 0.0, &rows, &queries, &truth);
    Ok(())
}

/// Prints a line of figures for a sketcher.
fn report(
    name: &str,
    sketcher: &Sketcher,
    seconds: f32,
    rows: &Matrix,
    queries: &Matrix,
    truth: &[Vec<f32>],
) {
    let size = sketcher.sketch_bytes();
    let mut sketches = vec![0; rows.rows().len() * size];
    parallel(rows.rows().zip(sketches.chunks_exact_mut(size)).collect(), |(row, sketch)| {
        sketcher.encode(row, sketch)
    });
    let (encode, score) = speed(sketcher, rows, queries, &sketches);
    let results = parallel(queries.rows().zip(truth).collect(), |(query, truth)| {
        let mut estimates = Vec::new();
        sketcher.query(query).score(&sketches, &mut estimates);
        measure(&estimates, truth)
    });
    let mean =
        |value: &dyn Fn(&Measured) -> f64| results.iter().map(value).sum::<f64>() / results.len() as f64;
    let mut line = format!(
        "{name:15} {size:5} {:5} {:7} {seconds:7.2}   ",
        sketcher.components(),
        sketcher.to_bytes().len()
    );
    for depth in 0..DEPTHS.len() {
        line += &format!(" {:.3}", mean(&|measured| measured.recall[depth]));
    }
    let (all, top) = (mean(&|m| m.error_ratio_all), mean(&|m| m.error_ratio_top));
    let error = mean(&|measured| measured.squared_error).sqrt();
    println!("{line}   {:.3} {:.3}  {error:.4}  {encode:5.0} {score:5.0}", all.sqrt(), top.sqrt());
}

/// Returns microseconds to encode a row and nanoseconds to score a sketch, on one core: the least of many
/// tries, because the machine may be busy.
fn speed(sketcher: &Sketcher, rows: &Matrix, queries: &Matrix, sketches: &[u8]) -> (f64, f64) {
    let best = |work: &mut dyn FnMut(), count: f64| {
        let time = |work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() / count
        };
        (0..100).map(|_| time(work)).fold(f64::INFINITY, f64::min)
    };
    let mut sketch = vec![0; sketcher.sketch_bytes()];
    let encode = best(&mut || rows.rows().take(4).for_each(|row| sketcher.encode(row, &mut sketch)), 4.0);
    let page = &sketches[..130 * sketcher.sketch_bytes()];
    let query = sketcher.query(&queries.values[..queries.dim]);
    let mut estimates = Vec::new();
    let score = best(
        &mut || {
            estimates.clear();
            query.score(std::hint::black_box(page), &mut estimates);
        },
        130.0,
    );
    (encode * 1e6, score * 1e9)
}

/// What one query has measured.
struct Measured {
    /// Share of the nearest [`K`] rows among the first candidates, by [`DEPTHS`].
    recall: [f64; DEPTHS.len()],
    /// Mean of `((estimate - truth) / error)^2` over all rows.
    error_ratio_all: f64,
    /// The same mean over the nearest 100 rows.
    error_ratio_top: f64,
    /// Mean of `(estimate - truth)^2` over all rows.
    squared_error: f64,
}

/// Compares the estimates of all rows with the true similarities.
fn measure(estimates: &[Estimate], truth: &[f32]) -> Measured {
    let descending = |value: &dyn Fn(usize) -> f32| {
        let mut order: Vec<usize> = (0..truth.len()).collect();
        order.sort_by(|a, b| value(*b).total_cmp(&value(*a)));
        order
    };
    let nearest = descending(&|row| truth[row]);
    let ranked = descending(&|row| estimates[row].similarity);
    // Rows as near as the tenth are as good as the tenth.
    let bound = truth[nearest[K - 1]] - 1e-6;
    let found = |depth: usize| ranked[..depth].iter().filter(|row| truth[**row] >= bound).count().min(K);
    let square =
        |row: &usize| f64::from((estimates[*row].similarity - truth[*row]) / estimates[*row].error).powi(2);
    let all: Vec<usize> = (0..truth.len()).collect();
    let top = &nearest[..100.min(nearest.len())];
    Measured {
        recall: DEPTHS.map(|depth| found(depth.min(truth.len())) as f64 / K as f64),
        error_ratio_all: all.iter().map(square).sum::<f64>() / all.len() as f64,
        error_ratio_top: top.iter().map(square).sum::<f64>() / top.len() as f64,
        squared_error: all
            .iter()
            .map(|row| f64::from(estimates[*row].similarity - truth[*row]).powi(2))
            .sum::<f64>()
            / all.len() as f64,
    }
}

/// Returns up to `count` rows, evenly spaced.
fn every(rows: &Matrix, count: usize) -> Vec<f32> {
    let total = rows.rows().len();
    let count = count.min(total);
    let start = |i: usize| i * total / count * rows.dim;
    (0..count).flat_map(|i| &rows.values[start(i)..start(i) + rows.dim]).copied().collect()
}
