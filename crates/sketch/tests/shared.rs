//! Rows that have most of their length in common, as those of some models have: estimates of rows of another
//! kind than those that were trained on stay honest, and rank well.

mod support;

use leann_sketch::{Estimate, Sketcher, TrainOptions};
use leann_vector::{dot, normalize};
use support::gaussian;

const DIM: usize = 128;
/// Directions in which rows of one kind differ.
const SUBJECTS: usize = 24;

/// Makes rows of one kind: what all have in common, what the kind has in common, a subject, and noise.
struct Kind {
    common: Vec<f32>,
    own: Vec<f32>,
    subjects: Vec<Vec<f32>>,
}

impl Kind {
    fn new(seed: u64) -> Kind {
        let unit = |seed: u64| {
            let mut gaussian = gaussian(seed);
            let mut vector: Vec<f32> = (0..DIM).map(|_| gaussian()).collect();
            assert!(normalize(&mut vector));
            vector
        };
        let subjects = (0..SUBJECTS as u64).map(|k| unit(1000 * seed + k)).collect();
        Kind { common: unit(77), own: unit(900 + seed), subjects }
    }

    /// Returns rows of unit length.
    fn rows(&self, count: usize, seed: u64) -> Vec<f32> {
        let mut gaussian = gaussian(seed);
        let mut out = Vec::new();
        for _ in 0..count {
            let mut row: Vec<f32> =
                self.common.iter().zip(&self.own).map(|(common, own)| 0.87 * common + 0.2 * own).collect();
            for subject in &self.subjects {
                let weight = 0.08 * gaussian();
                row.iter_mut().zip(subject).for_each(|(value, subject)| *value += weight * subject);
            }
            row.iter_mut().for_each(|value| *value += 0.015 * gaussian());
            assert!(normalize(&mut row));
            out.extend(row);
        }
        out
    }
}

/// Estimates of all rows for each query, with the truths.
fn estimates(sketcher: &Sketcher, rows: &[f32], queries: &[f32]) -> Vec<Vec<(f32, Estimate)>> {
    let mut sketches = Vec::new();
    for row in rows.chunks_exact(DIM) {
        let mut sketch = vec![0; sketcher.sketch_bytes()];
        sketcher.encode(row, &mut sketch);
        sketches.extend(sketch);
    }
    let score = |query: &[f32]| {
        let mut estimates = Vec::new();
        sketcher.query(query).score(&sketches, &mut estimates);
        rows.chunks_exact(DIM).map(|row| dot(row, query)).zip(estimates).collect()
    };
    queries.chunks_exact(DIM).map(score).collect()
}

/// Mean and standard deviation of the errors of estimates, in standard errors.
fn errors(estimates: &[Vec<(f32, Estimate)>]) -> (f32, f32) {
    let off: Vec<f32> =
        estimates.iter().flatten().map(|(truth, e)| (truth - e.similarity) / e.error).collect();
    let mean = off.iter().sum::<f32>() / off.len() as f32;
    let squares = off.iter().map(|off| (off - mean).powi(2)).sum::<f32>() / off.len() as f32;
    (mean, squares.sqrt())
}

/// Share of the true ten that are among the best `depth` estimates.
fn recall(estimates: &[Vec<(f32, Estimate)>], depth: usize) -> f32 {
    let best = |scores: &mut dyn Iterator<Item = f32>, count: usize| -> Vec<usize> {
        let mut scored: Vec<(f32, usize)> = scores.zip(0..).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.iter().take(count).map(|(_, row)| *row).collect()
    };
    let found = estimates.iter().map(|query| {
        let truth = best(&mut query.iter().map(|(truth, _)| *truth), 10);
        let found = best(&mut query.iter().map(|(_, estimate)| estimate.similarity), depth);
        truth.iter().filter(|row| found.contains(row)).count() as f32 / 10.0
    });
    found.sum::<f32>() / estimates.len() as f32
}

fn train(rows: &[f32]) -> Sketcher {
    let options = TrainOptions { sketch_bytes: 20, rows: 5000, seed: 4 };
    let sketcher = Sketcher::train(rows, DIM, &options, &|| false).unwrap();
    assert!(sketcher.is_trained());
    sketcher
}

#[test]
fn later_rows_of_another_kind_are_estimated_honestly() {
    let (first, later) = (Kind::new(1), Kind::new(2));
    let sketcher = train(&first.rows(300, 5));
    let rows = later.rows(800, 6);
    let estimates = estimates(&sketcher, &rows, &later.rows(40, 7));
    let (mean, deviation) = errors(&estimates);
    assert!(mean.abs() < 0.5 && (0.4..1.3).contains(&deviation), "mean {mean}, deviation {deviation}");
    let recall = recall(&estimates, 40);
    assert!(recall > 0.9, "{recall}");
}

#[test]
fn queries_are_not_strange_for_what_all_have_in_common() {
    let kind = Kind::new(1);
    let rows = kind.rows(2000, 5);
    let sketcher = train(&rows);
    let queries = kind.rows(40, 7);
    for query in queries.chunks_exact(DIM) {
        assert!(sketcher.query(query).strangeness() < 2.0);
    }
    let estimates = estimates(&sketcher, &rows, &queries);
    let (mean, deviation) = errors(&estimates);
    assert!(mean.abs() < 0.5 && (0.4..1.3).contains(&deviation), "mean {mean}, deviation {deviation}");
    assert!(recall(&estimates, 40) > 0.9);
}
