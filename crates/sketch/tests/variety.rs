//! Training gives a usable sketcher on any sample: on rows that are equal or hardly differ, and on spectra
//! that fall steeply.

mod support;

use std::cell::Cell;
use std::time::{Duration, Instant};

use half::f16;
use leann_sketch::{Estimate, MIN_TRAINING_ROWS, SketchError, Sketcher, TrainOptions};
use leann_vector::normalize;
use support::gaussian;

fn options(seed: u64) -> TrainOptions {
    TrainOptions { sketch_bytes: 54, rows: 5000, seed }
}

fn train(sample: &[f32], dim: usize, seed: u64) -> Sketcher {
    Sketcher::train(sample, dim, &options(seed), &|| false).unwrap()
}

/// Returns rows of unit length whose columns have these standard deviations before they are scaled, in the
/// precision in which a build keeps them.
fn rows(count: usize, deviations: &[f32], seed: u64) -> Vec<f32> {
    let mut gaussian = gaussian(seed);
    let mut out = Vec::new();
    for _ in 0..count {
        let mut row: Vec<f32> = deviations.iter().map(|deviation| deviation * gaussian()).collect();
        assert!(normalize(&mut row));
        out.extend(row.iter().map(|value| f16::from_f32(*value).to_f32()));
    }
    out
}

/// Asserts that estimates are finite, and that a row's similarity to itself is estimated near 1.
fn assert_serves(sketcher: &Sketcher, rows: &[f32]) {
    let dim = sketcher.dim();
    let mut sketch = vec![0; sketcher.sketch_bytes()];
    let mut off = Vec::new();
    for row in rows.chunks_exact(dim).take(100) {
        sketcher.encode(row, &mut sketch);
        let mut estimates: Vec<Estimate> = Vec::new();
        sketcher.query(row).score(&sketch, &mut estimates);
        assert!(estimates[0].similarity.is_finite() && estimates[0].error.is_finite(), "{estimates:?}");
        off.push((estimates[0].similarity - 1.0).abs());
    }
    let mean = off.iter().sum::<f32>() / off.len() as f32;
    assert!(mean < 0.5, "a row's estimate of itself is off by {mean}");
}

#[test]
fn a_spectrum_that_falls_steeply_is_learned() {
    for base in [0.83f32, 0.7, 0.6] {
        let deviations: Vec<f32> = (0..384).map(|k| base.powf(k as f32 / 4.0)).collect();
        for seed in 1..=5 {
            let sample = rows(4000, &deviations, seed);
            let sketcher = train(&sample, 384, seed);
            assert!(sketcher.is_trained(), "base {base}, seed {seed}");
            assert_serves(&sketcher, &sample);
        }
    }
}

#[test]
fn few_components_that_vary_are_not_learned() {
    let deviations: Vec<f32> = (0..384).map(|k| if k < 3 { 1.0 } else { 1e-7 }).collect();
    for seed in 1..=3 {
        let sample = rows(600, &deviations, seed);
        let sketcher = train(&sample, 384, seed);
        assert!(!sketcher.is_trained());
        assert_serves(&sketcher, &sample);
    }
}

#[test]
fn few_different_rows_are_not_learned() {
    let all = rows(400, &[1.0; 64], 1);
    for different in [1, 2, 3, 9, 100, MIN_TRAINING_ROWS - 1] {
        let sample: Vec<f32> =
            (0..1000).flat_map(|row| &all[row % different * 64..][..64]).copied().collect();
        let sketcher = train(&sample, 64, 3);
        assert!(!sketcher.is_trained(), "{different} different rows");
        assert_eq!(sketcher.to_bytes(), Sketcher::untrained(64, 3).to_bytes());
        assert_serves(&sketcher, &sample);
    }
    assert!(train(&all, 64, 3).is_trained());
}

#[test]
fn copies_of_one_row_and_some_others() {
    for others in 0..9 {
        let mut sample = rows(others, &[1.0; 64], 1);
        for _ in 0..300 {
            sample.extend(&rows(1, &[1.0; 64], 2));
        }
        assert_serves(&train(&sample, 64, 1), &sample);
    }
}

#[test]
fn rows_that_differ_by_rounding_only() {
    // The same text, embedded in batches of differing lengths.
    let base = rows(1, &[1.0; 384], 1);
    let mut gaussian = gaussian(2);
    for noise in [1e-7, 1e-5, 1e-3] {
        let sample: Vec<f32> = (0..2000)
            .flat_map(|_| base.iter().map(|value| value + noise * gaussian()).collect::<Vec<_>>())
            .collect();
        assert_serves(&train(&sample, 384, 1), &sample);
    }
}

#[test]
fn samples_without_rows_or_with_rows_of_length_zero() {
    assert!(!train(&[], 384, 1).is_trained());
    assert!(!train(&vec![0.0; 384 * 1000], 384, 1).is_trained());
    for dim in [1, 2, 3] {
        let sample = rows(1000, &vec![1.0; dim], 1);
        assert_serves(&train(&sample, dim, 1), &sample);
    }
}

#[test]
fn training_stops_on_request_at_any_point() {
    let dim = 768;
    let sample = rows(1200, &(0..dim).map(|k| 1.0 / (1.0 + k as f32)).collect::<Vec<_>>(), 1);
    let (polls, last) = (Cell::new(0), Cell::new(Instant::now()));
    let longest = Cell::new(Duration::ZERO);
    let watch = || {
        longest.set(longest.get().max(last.get().elapsed()));
        last.set(Instant::now());
        polls.set(polls.get() + 1);
        false
    };
    Sketcher::train(&sample, dim, &options(1), &watch).unwrap();
    assert!(longest.get() < Duration::from_millis(800), "stop was not polled for {:?}", longest.get());
    let all = polls.get();
    for at in [1, all / 4, all / 2, all * 3 / 4, all] {
        polls.set(0);
        let stop = || {
            polls.set(polls.get() + 1);
            polls.get() >= at
        };
        assert_eq!(Sketcher::train(&sample, dim, &options(1), &stop).unwrap_err(), SketchError::Stopped);
    }
}
