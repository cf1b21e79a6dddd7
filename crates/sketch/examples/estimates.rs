//! Trains a sketcher, stores its parameters, and ranks rows by their sketches:
//! `cargo run -p leann-sketch --example estimates`.

use leann_sketch::{SketchError, Sketcher, TrainOptions};
use leann_vector::{Rng, dot, normalize};

const DIM: usize = 64;
const ROWS: usize = 1000;

fn main() -> Result<(), SketchError> {
    // Embeddings come from a model. These are random, with variance that falls over the dimensions.
    let mut rng = Rng::new(1);
    let mut number = || (rng.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
    let mut rows: Vec<f32> = (0..ROWS * DIM).map(|at| number() / (1.0 + (at % DIM) as f32 / 8.0)).collect();
    rows.chunks_exact_mut(DIM).for_each(|row| assert!(normalize(row)));

    let options = TrainOptions { sketch_bytes: 16, rows: ROWS, seed: 1 };
    let trained = Sketcher::train(&rows, DIM, &options, &|| false)?;
    // An index stores these bytes once, and a sketch per row.
    let sketcher = Sketcher::from_bytes(&trained.to_bytes())?;
    let mut sketches = vec![0; ROWS * sketcher.sketch_bytes()];
    for (row, sketch) in rows.chunks_exact(DIM).zip(sketches.chunks_exact_mut(sketcher.sketch_bytes())) {
        sketcher.encode(row, sketch);
    }

    let query = &rows[..DIM];
    let mut estimates = Vec::new();
    sketcher.query(query).score(&sketches, &mut estimates);
    let mut ranked: Vec<usize> = (0..ROWS).collect();
    ranked.sort_by(|a, b| estimates[*b].similarity.total_cmp(&estimates[*a].similarity));
    for &row in &ranked[..5] {
        let (estimate, truth) = (estimates[row], dot(query, &rows[row * DIM..][..DIM]));
        println!("row {row}: {:.3} ± {:.3}, in truth {truth:.3}", estimate.similarity, estimate.error);
    }
    Ok(())
}
