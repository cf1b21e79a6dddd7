//! Training: mean, directions, bits, and a calibration on rows that training did not see.

use crate::allot::allot;
use crate::code::Norm;
use crate::eigen::{Unfinished, with_room};
use crate::error::SketchError;
use crate::linear::dot;
use crate::log_byte::LogByte;
use crate::pca::{Principal, principal};
use crate::random::Random;
use crate::trained::{IMPORTANCE, Parameters, StoredDirection, Trained};
use crate::{MAX_DIM, MAX_SKETCH_BYTES, MIN_SKETCH_BYTES};

/// Fewest rows to train on, not counting copies: the directions of fewer say little about rows to come.
pub const MIN_TRAINING_ROWS: usize = 256;
/// Fewest directions to train on, where there are dimensions enough: rows that differ in less are likely the first of another kind.
const MIN_FOUND: usize = 16;

/// Bytes of basis that a table may spend per row, and the directions it may have in any case: parameters are a fixed cost, which a
/// small table feels.
const BASIS_BYTES_PER_ROW: usize = 7;
const MIN_DIRECTIONS: usize = 128;
/// The multiplications that the covariance may take; more rows than that are left out.
const COVARIANCE_WORK: usize = 10_000_000_000;
const MIN_FIT_ROWS: usize = 64;
const MAX_HELD_OUT: usize = 500;
/// Held-out rows that stand in for queries in the calibration.
const CALIBRATION_QUERIES: usize = 200;
/// Squared errors are expected within this factor of their mean.
const ERROR_RANGE: f32 = 8.0;
/// A direction is stored in four bits per component unless that turns it by more than this (squared sine).
const COARSE_ERROR: f32 = 0.02;

/// More rows of a sample than this are left out, so that nobody need gather them.
pub fn most_training_rows(dim: usize) -> usize {
    MAX_HELD_OUT + fit_rows(dim)
}

fn fit_rows(dim: usize) -> usize {
    (COVARIANCE_WORK / (dim * dim).max(1)).max(MIN_FIT_ROWS)
}

/// What to train for.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions {
    /// Bytes per node, all in.
    pub sketch_bytes: usize,
    /// Rows that the table has or will have. A small table gets fewer directions, because their storage is a fixed cost.
    pub rows: usize,
    /// Chooses which rows of the sample train and which calibrate; the seed of an untrained sketch, if it comes to that.
    pub seed: u64,
}

/// None if the rows of the sample are too much alike to learn from.
pub(crate) fn train(
    sample: &[f32],
    dim: usize,
    options: &TrainOptions,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Trained>, SketchError> {
    check(sample, dim, options)?;
    if distinct(sample, dim) < MIN_TRAINING_ROWS {
        return Ok(None);
    }
    fit(sample, dim, options, stop).map_err(|reason| match reason {
        Unfinished::Stopped => SketchError::Stopped,
        Unfinished::NoMemory => SketchError::NoMemory,
    })
}

fn fit(
    sample: &[f32],
    dim: usize,
    options: &TrainOptions,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Trained>, Unfinished> {
    let count = sample.len() / dim;
    let order = Random::new(options.seed).permutation(count);
    let held_out = (count / 10).clamp(16, MAX_HELD_OUT);
    let fit = (count - held_out).min(fit_rows(dim));
    let gather = |rows: &[usize]| -> Result<Vec<f32>, Unfinished> {
        let mut gathered = with_room(rows.len() * dim)?;
        rows.iter().for_each(|row| gathered.extend_from_slice(&sample[row * dim..(row + 1) * dim]));
        Ok(gathered)
    };
    let mut fit_rows = gather(&order[held_out..held_out + fit])?;
    let (mean, mean_step) = quantised_mean(&fit_rows, dim);
    for row in fit_rows.chunks_exact_mut(dim) {
        row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= f32::from(*mean) * mean_step);
    }
    let affordable = options.rows.saturating_mul(BASIS_BYTES_PER_ROW) / dim.div_ceil(2);
    let principal = principal(&fit_rows, dim, affordable.max(MIN_DIRECTIONS).min(dim), stop)?;
    drop(fit_rows);
    if principal.variances.iter().filter(|variance| **variance > 0.0).count() < MIN_FOUND.min(dim.div_ceil(2))
    {
        return Ok(None);
    }
    let Some(parameters) = quantise(&principal, mean, mean_step, options.sketch_bytes) else {
        return Ok(None);
    };
    calibrate(parameters, &gather(&order[..held_out])?, stop)
}

fn check(sample: &[f32], dim: usize, options: &TrainOptions) -> Result<(), SketchError> {
    if dim == 0 || dim > MAX_DIM || !sample.len().is_multiple_of(dim) {
        return Err(SketchError::Shape { len: sample.len(), dim });
    }
    if !(MIN_SKETCH_BYTES..=MAX_SKETCH_BYTES).contains(&options.sketch_bytes) {
        return Err(SketchError::SketchBytes(options.sketch_bytes));
    }
    // Beyond any unit vector, and small enough that squares stay finite.
    if sample.iter().any(|value| !value.is_finite() || value.abs() > 1e6) {
        return Err(SketchError::NotFinite);
    }
    Ok(())
}

/// How many rows there are, not counting copies; no more than [`MIN_TRAINING_ROWS`] are counted.
fn distinct(sample: &[f32], dim: usize) -> usize {
    let mut seen = std::collections::HashSet::new();
    for row in sample.chunks_exact(dim) {
        if seen.len() == MIN_TRAINING_ROWS {
            break;
        }
        // As integers, since floats have no total equality; -0 and 0 do not matter.
        seen.insert(row.iter().map(|value| value.to_bits()).collect::<Vec<u32>>());
    }
    seen.len()
}

fn quantised_mean(rows: &[f32], dim: usize) -> (Vec<i8>, f32) {
    let mut sums = vec![0f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = (rows.len() / dim) as f64;
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
    let step = largest(&mean) / 127.0;
    (rounded(&mean, step, 127.0), step)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// The values as multiples of `step`, not beyond `limit`; zeros if the step is zero.
fn rounded(values: &[f32], step: f32, limit: f32) -> Vec<i8> {
    let scale = if step > 0.0 { 1.0 / step } else { 0.0 };
    values.iter().map(|value| (value * scale).round().clamp(-limit, limit) as i8).collect()
}

/// Everything but the calibration; `None` if no direction has variance.
fn quantise(principal: &Principal, mean: Vec<i8>, mean_step: f32, sketch_bytes: usize) -> Option<Parameters> {
    let dim = mean.len();
    let weights: Vec<f64> = principal.variances.iter().map(|v| v.powf(1.0 + f64::from(IMPORTANCE))).collect();
    let widths = allot(&weights, sketch_bytes * 8);
    let deviations: Vec<f32> = principal.variances[..widths.len()].iter().map(|v| v.sqrt() as f32).collect();
    let spread_scale = LogByte::spanning(*deviations.last()?, deviations[0]);
    let norm_squared: f32 = mean.iter().map(|value| (f32::from(*value) * mean_step).powi(2)).sum();
    // Of a corpus whose mean is as long as its rows nothing is left; samples like that have no variance.
    let room = (1.0 - norm_squared).max(1e-6);
    Some(Parameters {
        dim,
        sketch_bytes,
        mean,
        mean_step,
        spreads: deviations.iter().map(|deviation| spread_scale.encode(*deviation)).collect(),
        spread_scale,
        basis: principal.basis.chunks_exact(dim).take(widths.len()).map(store).collect(),
        widths,
        norm: Norm { room, factor: 1.0, error_base: 1.0, error_slope: 0.0, error_min: 1.0, error_max: 1.0 },
    })
}

/// A direction as small integers: in four bits if some step between them comes near enough, else in eight.
fn store(direction: &[f32]) -> StoredDirection {
    let largest = largest(direction);
    // From the step at which nothing is cut off to one for the many small components.
    let coarse = (0..16).map(|i| rounded(direction, largest / 7.0 * 0.9f32.powi(i), 7.0));
    let scored = coarse.map(|values| (squared_sine(direction, &values), values));
    match scored.min_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((error, values)) if error <= COARSE_ERROR => StoredDirection { values, fine: false },
        _ => StoredDirection { values: rounded(direction, largest / 127.0, 127.0), fine: true },
    }
}

fn squared_sine(direction: &[f32], values: &[i8]) -> f32 {
    let (mut inner, mut norm) = (0.0, 0.0);
    for (component, value) in direction.iter().zip(values) {
        inner += component * f32::from(*value);
        norm += f32::from(*value).powi(2);
    }
    1.0 - inner * inner / (norm * dot(direction, direction)).max(f32::MIN_POSITIVE)
}

/// Sets what is known of errors from rows that training did not see. None if that gives no sound numbers.
fn calibrate(
    mut parameters: Parameters,
    rows: &[f32],
    stop: &dyn Fn() -> bool,
) -> Result<Option<Trained>, Unfinished> {
    let Ok(provisional) = Trained::new(parameters.clone()) else { return Ok(None) };
    let remainders: Vec<(f32, f32)> = rows
        .chunks_exact(parameters.dim)
        .map(|row| if stop() { Err(Unfinished::Stopped) } else { Ok(remainder(&provisional, row)) })
        .collect::<Result<_, _>>()?;
    set_errors(&mut parameters.norm, &remainders);
    let Ok(trained) = Trained::new(parameters.clone()) else { return Ok(None) };
    let factor = mean_square_in_errors(&trained, rows, stop)?;
    if factor > 0.0 {
        let norm = &mut parameters.norm;
        for value in [&mut norm.error_base, &mut norm.error_slope, &mut norm.error_min, &mut norm.error_max] {
            *value *= factor;
        }
    }
    Ok(Trained::new(parameters).ok())
}

/// What the row's decoded sketch lacks in squared length before it is scaled, and the squared distance of the row from it afterwards.
fn remainder(trained: &Trained, row: &[f32]) -> (f32, f32) {
    let code = trained.code();
    let (mut coordinates, mut decoded) = (vec![0.0; code.directions()], vec![0.0; code.directions()]);
    let mut sketch = vec![0; code.sketch_bytes()];
    trained.project(row, &mut coordinates);
    code.encode(&coordinates, &mut sketch);
    let length = code.decode_unscaled(&sketch, &mut decoded);
    let gain = code.norm().gain(length.squared, length.with_mean);
    let centred = trained.centred_norm_squared(row);
    let distance = centred - 2.0 * gain * dot(&coordinates, &decoded) + gain * gain * length.squared;
    (code.norm().missing(length.squared, length.with_mean), distance.max(0.0))
}

/// Fits the squared distance as a linear function of the missing squared length.
fn set_errors(norm: &mut Norm, remainders: &[(f32, f32)]) {
    let count = remainders.len() as f32;
    let (x_mean, y_mean) = remainders.iter().fold((0.0, 0.0), |(x, y), r| (x + r.0 / count, y + r.1 / count));
    let covariance: f32 = remainders.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let variance: f32 = remainders.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    let slope = covariance / variance;
    // A longer remainder never means a smaller error, nor one that grows faster than it.
    norm.error_slope = if slope.is_finite() { slope.clamp(0.0, 1.0) } else { 0.0 };
    norm.error_base = y_mean - norm.error_slope * x_mean;
    norm.error_min = (y_mean / ERROR_RANGE).max(1e-9);
    norm.error_max = (y_mean * ERROR_RANGE).max(norm.error_min);
}

/// The mean of ((estimate - truth) / error)^2 over pairs of rows, one of them taken as the query.
fn mean_square_in_errors(
    trained: &Trained,
    rows: &[f32],
    stop: &dyn Fn() -> bool,
) -> Result<f32, Unfinished> {
    let (dim, size) = (trained.parameters().dim, trained.code().sketch_bytes());
    let mut sketches = vec![0; rows.len() / dim * size];
    for (row, sketch) in rows.chunks_exact(dim).zip(sketches.chunks_exact_mut(size)) {
        if stop() {
            return Err(Unfinished::Stopped);
        }
        let mut coordinates = vec![0.0; trained.code().directions()];
        trained.project(row, &mut coordinates);
        trained.code().encode(&coordinates, sketch);
    }
    let (mut sum, mut pairs, mut estimates) = (0f64, 0usize, Vec::new());
    for (index, query) in rows.chunks_exact(dim).enumerate().take(CALIBRATION_QUERIES) {
        if stop() {
            return Err(Unfinished::Stopped);
        }
        estimates.clear();
        trained.query(query).score(&sketches, &mut estimates);
        for (other, (row, estimate)) in rows.chunks_exact(dim).zip(&estimates).enumerate() {
            let off = f64::from((estimate.similarity - dot(query, row)) / estimate.error);
            if other != index && off.is_finite() {
                sum += off * off;
                pairs += 1;
            }
        }
    }
    Ok((sum / pairs.max(1) as f64) as f32)
}
