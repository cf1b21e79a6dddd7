//! How many of a sketch's best candidates must be recomputed: recall@10 after recomputing the best R by estimate, for sketches of several
//! sizes, over a folder with `embeddings.f16.npy` and `query_embeddings.f16.npy` (f16, unit rows).
//!
//! `cargo run --release -p leann-sketch --example recall -- FOLDER [SKETCH_BYTES ...]`

use leann_sketch::{Estimate, Sketcher, TrainOptions};
use std::path::Path;
use std::time::Instant;

const K: usize = 10;
const DEPTHS: [usize; 6] = [16, 20, 24, 28, 32, 40];

struct Matrix {
    values: Vec<f32>,
    dim: usize,
}

impl Matrix {
    fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
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
    let mut header = "sketcher        bytes  dirs  params  train s ".to_string();
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
        sketcher.directions(),
        sketcher.to_bytes().len()
    );
    for depth in 0..DEPTHS.len() {
        line += &format!(" {:.3}", mean(&|measured| measured.recall[depth]));
    }
    let (all, top) = (mean(&|m| m.in_errors_all), mean(&|m| m.in_errors_top));
    let off = mean(&|measured| measured.off).sqrt();
    println!("{line}   {:.3} {:.3}  {off:.4}  {encode:5.0} {score:5.0}", all.sqrt(), top.sqrt());
}

/// Microseconds to encode a row and nanoseconds to score a sketch, on one core; the best of many tries, since the machine may be busy.
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

struct Measured {
    recall: [f64; DEPTHS.len()],
    in_errors_all: f64,
    in_errors_top: f64,
    off: f64,
}

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
        in_errors_all: all.iter().map(square).sum::<f64>() / all.len() as f64,
        in_errors_top: top.iter().map(square).sum::<f64>() / top.len() as f64,
        off: all.iter().map(|row| f64::from(estimates[*row].similarity - truth[*row]).powi(2)).sum::<f64>()
            / all.len() as f64,
    }
}

fn similarities(rows: &Matrix, queries: &Matrix) -> Vec<Vec<f32>> {
    let dot = |query: &[f32], row: &[f32]| {
        let mut sums = [0f32; 16];
        for (a, b) in query.chunks(16).zip(row.chunks(16)) {
            sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (x, y))| *sum += x * y);
        }
        sums.iter().sum::<f32>()
    };
    parallel(queries.rows().collect(), |query| rows.rows().map(|row| dot(query, row)).collect())
}

/// About `count` rows, evenly spaced.
fn every(rows: &Matrix, count: usize) -> Vec<f32> {
    let total = rows.rows().len();
    let count = count.min(total);
    let start = |i: usize| i * total / count * rows.dim;
    (0..count).flat_map(|i| &rows.values[start(i)..start(i) + rows.dim]).copied().collect()
}

/// Maps items in order, on all cores.
fn parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let share = items.len().div_ceil(threads).max(1);
    let mut items = items.into_iter();
    let work = &work;
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        loop {
            let part: Vec<T> = items.by_ref().take(share).collect();
            if part.is_empty() {
                break;
            }
            handles.push(scope.spawn(move || part.into_iter().map(work).collect::<Vec<R>>()));
        }
        handles.into_iter().flat_map(|handle| handle.join().expect("a worker failed")).collect()
    })
}

/// Reads a two-dimensional little-endian f16 array in row order (version 1 of NumPy's format), and makes its rows unit length.
fn read_npy(path: &Path) -> Result<Matrix, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path)?;
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..header_end])?;
    if !header.contains("'<f2'") || !header.contains("'fortran_order': False") {
        return Err("not an f16 array in row order".into());
    }
    let shape =
        header.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next()).ok_or("no shape")?;
    let dim = shape.split(',').nth(1).ok_or("not two-dimensional")?.trim().parse::<usize>()?;
    let decode = |pair: &[u8]| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32();
    let mut values: Vec<f32> = bytes[header_end..].chunks_exact(2).map(decode).collect();
    for row in values.chunks_exact_mut(dim) {
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value /= norm);
    }
    Ok(Matrix { values, dim })
}
