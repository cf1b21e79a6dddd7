//! Measures how honest estimates are: for sketchers trained on one data set, with rows of a second and
//! queries of a third.
//!
//! ```text
//! cargo bench -p leann-sketch --bench calibration -- FOLDER ...
//! ```
//!
//! An error is (truth - estimate) / standard error, of the true ten nearest rows of each query. If estimates
//! are honest, its mean is 0, and it is beyond 1, 1.6, 2.5 and 4 in .159, .055, .006 and .00003 of the cases.

mod support;

use leann_sketch::{Estimate, Sketcher, TrainOptions};
use leann_vector::Rng;
use std::path::Path;
use support::{Matrix, parallel, read_npy, similarities};

/// Nearest rows that a search wants.
const K: usize = 10;
/// Queries of each set.
const QUERIES: usize = 300;
/// Bytes of a sketch, the default of an index.
const SKETCH_BYTES: usize = 54;
/// Candidates that are recomputed.
const DEPTHS: [usize; 4] = [16, 24, 32, 48];
/// Errors beyond which the true ten are counted.
const BOUNDS: [f64; 4] = [1.0, 1.6, 2.5, 4.0];

/// One data set.
struct Set {
    name: String,
    rows: Matrix,
    queries: Matrix,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folders = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let sets = folders.map(|folder| read(&folder)).collect::<Result<Vec<Set>, _>>()?;
    println!(
        "trained on   rows         queries      untrained  std all, top 100; top ten: mean, beyond {BOUNDS:?}"
    );
    println!("             recall@10 after recomputing the best {DEPTHS:?}");
    for corpus in &sets {
        for few in [None, Some(300)] {
            let sketcher = train(corpus, few)?;
            let name = few.map_or(corpus.name.clone(), |few| format!("{few} {}", corpus.name));
            for rows in &sets {
                if few.is_some() && rows.name != corpus.name {
                    continue;
                }
                let sketches = encode(&sketcher, &rows.rows);
                for queries in &sets {
                    if queries.name == rows.name || rows.name == corpus.name {
                        report(&name, &sketcher, rows, &sketches, queries);
                    }
                }
            }
        }
    }
    for set in &sets {
        let sketcher = Sketcher::untrained(set.rows.dim, 1);
        report("nothing", &sketcher, set, &encode(&sketcher, &set.rows), set);
    }
    Ok(())
}

fn read(folder: &str) -> Result<Set, Box<dyn std::error::Error>> {
    let path = Path::new(folder);
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut queries = read_npy(&path.join("query_embeddings.f16.npy"))?;
    queries.values.truncate(QUERIES * queries.dim);
    Ok(Set { name, rows: read_npy(&path.join("embeddings.f16.npy"))?, queries })
}

fn train(corpus: &Set, few: Option<usize>) -> Result<Sketcher, Box<dyn std::error::Error>> {
    let (dim, count) = (corpus.rows.dim, corpus.rows.rows().len());
    let chosen = Rng::new(7).permutation(count);
    let row = |position: &usize| &corpus.rows.values[position * dim..(position + 1) * dim];
    let sample: Vec<f32> = chosen[..few.unwrap_or(20_000).min(count)].iter().flat_map(row).copied().collect();
    let options = TrainOptions { sketch_bytes: SKETCH_BYTES, rows: few.unwrap_or(count).max(5_000), seed: 1 };
    Ok(Sketcher::train(&sample, dim, &options, &|| false)?)
}

fn encode(sketcher: &Sketcher, rows: &Matrix) -> Vec<u8> {
    let size = sketcher.sketch_bytes();
    let mut sketches = vec![0; rows.rows().len() * size];
    parallel(rows.rows().zip(sketches.chunks_exact_mut(size)).collect(), |(row, sketch)| {
        sketcher.encode(row, sketch)
    });
    sketches
}

/// Prints the line of a sketcher, rows and queries.
fn report(trained_on: &str, sketcher: &Sketcher, rows: &Set, sketches: &[u8], queries: &Set) {
    let truth = similarities(&rows.rows, &queries.queries);
    let results = parallel(queries.queries.rows().zip(&truth).collect(), |(query, truth)| {
        let mut estimates = Vec::new();
        sketcher.query(query).score(sketches, &mut estimates);
        measure(&estimates, truth)
    });
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let top: Vec<f64> = results.iter().flat_map(|measured| measured.top.clone()).collect();
    let size = sketcher.sketch_bytes();
    let untrained = sketches.chunks_exact(size).filter(|sketch| sketcher.is_untrained_sketch(sketch)).count();
    print!("{trained_on:12} {:12} {:12}", rows.name, queries.name);
    print!("   {:.3}", untrained as f64 / (sketches.len() / size) as f64);
    print!("   {:.2} {:.2}", rms(&results, |m| m.all), rms(&results, |m| m.hundred));
    print!("   {:+.2}", mean(top.clone()));
    for bound in BOUNDS {
        print!(" {:.3}", mean(top.iter().map(|error| f64::from(u8::from(*error > bound))).collect()));
    }
    print!("  ");
    for depth in 0..DEPTHS.len() {
        print!(" {:.3}", mean(results.iter().map(|measured| measured.recall[depth]).collect()));
    }
    println!();
}

fn rms(results: &[Measured], value: impl Fn(&Measured) -> f64) -> f64 {
    (results.iter().map(value).sum::<f64>() / results.len() as f64).sqrt()
}

/// What one query has measured.
struct Measured {
    /// Mean squared error of all rows, in standard errors.
    all: f64,
    /// The same of the nearest hundred rows.
    hundred: f64,
    /// Errors of the true ten.
    top: Vec<f64>,
    /// Share of the true ten among the first candidates, by [`DEPTHS`].
    recall: [f64; DEPTHS.len()],
}

/// Compares the estimates of all rows with the true similarities.
fn measure(estimates: &[Estimate], truth: &[f32]) -> Measured {
    let descending = |value: &dyn Fn(usize) -> f32| {
        let mut order: Vec<usize> = (0..truth.len()).collect();
        order.sort_by(|a, b| value(*b).total_cmp(&value(*a)));
        order
    };
    let nearest = descending(&|row| truth[row]);
    let ranked = descending(&|row| estimates[row].similarity + 0.5 * estimates[row].error);
    let bound = truth[nearest[K - 1]] - 1e-6;
    let found = |depth: usize| ranked[..depth].iter().filter(|row| truth[**row] >= bound).count().min(K);
    let error = |row: usize| f64::from((truth[row] - estimates[row].similarity) / estimates[row].error);
    let square = |rows: &[usize]| rows.iter().map(|row| error(*row).powi(2)).sum::<f64>() / rows.len() as f64;
    Measured {
        all: square(&nearest),
        hundred: square(&nearest[..100]),
        top: nearest[..K].iter().map(|row| error(*row)).collect(),
        recall: DEPTHS.map(|depth| found(depth) as f64 / K as f64),
    }
}
