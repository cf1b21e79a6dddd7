//! Training: mean, directions, bits, levels, and a calibration on rows that training did not see.

use crate::code::{MAX_WIDTH, Slot, TRAILER};
use crate::error::SketchError;
use crate::linear::dot;
use crate::log_byte::LogByte;
use crate::pca::{Principal, principal};
use crate::quantiser::{allot, lloyd_max, pack};
use crate::random::Random;
use crate::trained::{Direction, Parameters, Trained};
use crate::{MAX_DIM, MAX_SKETCH_BYTES, MIN_SKETCH_BYTES};

/// Fewest rows to train on.
pub const MIN_TRAINING_ROWS: usize = 64;

/// Bytes of basis that a table may spend per row, and the directions it may have in any case: parameters are a fixed cost, which a
/// small table feels.
const BASIS_BYTES_PER_ROW: usize = 15;
const MIN_DIRECTIONS: usize = 128;
/// The multiplications that the covariance may take; more rows than that are left out.
const COVARIANCE_WORK: usize = 10_000_000_000;
const MAX_HELD_OUT: usize = 1000;
/// Rows that the levels are fitted to, and rows that stand in for queries in the calibration.
const LEVEL_ROWS: usize = 2000;
const CALIBRATION_QUERIES: usize = 200;

/// What to train for.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions {
    /// Bytes per node, all in: code, gain and error.
    pub sketch_bytes: usize,
    /// Rows that the table has or will have. A small table gets fewer directions, because their storage is a fixed cost.
    pub rows: usize,
    /// Chooses which rows of the sample train and which calibrate.
    pub seed: u64,
}

pub(crate) fn train(sample: &[f32], dim: usize, options: &TrainOptions) -> Result<Trained, SketchError> {
    let count = check(sample, dim, options)?;
    let order = Random::new(options.seed).permutation(count);
    let held_out = (count / 10).clamp(16, MAX_HELD_OUT);
    let fit = (count - held_out).min((COVARIANCE_WORK / (dim * dim)).max(MIN_TRAINING_ROWS));
    let gather = |rows: &[usize]| -> Vec<f32> {
        rows.iter().flat_map(|row| &sample[row * dim..(row + 1) * dim]).copied().collect()
    };
    let held_out_rows = gather(&order[..held_out]);
    let mut fit_rows = gather(&order[held_out..held_out + fit]);

    let (mean, mean_step) = quantised_mean(&fit_rows, dim);
    for row in fit_rows.chunks_exact_mut(dim) {
        row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= f32::from(*mean) * mean_step);
    }
    let limit = (options.rows.saturating_mul(BASIS_BYTES_PER_ROW) / dim).max(MIN_DIRECTIONS).min(dim);
    let principal = principal(&fit_rows, dim, limit);
    let mut parameters = quantise(&principal, &fit_rows, dim, options.sketch_bytes);
    if parameters.directions.is_empty() {
        return Err(SketchError::NoVariance);
    }
    (parameters.mean, parameters.mean_step) = (mean, mean_step);
    calibrate(parameters, &held_out_rows).map_err(SketchError::Damaged)
}

fn check(sample: &[f32], dim: usize, options: &TrainOptions) -> Result<usize, SketchError> {
    if dim == 0 || dim > MAX_DIM || !sample.len().is_multiple_of(dim) {
        return Err(SketchError::Shape { len: sample.len(), dim });
    }
    if !(MIN_SKETCH_BYTES..=MAX_SKETCH_BYTES).contains(&options.sketch_bytes) {
        return Err(SketchError::SketchBytes(options.sketch_bytes));
    }
    let count = sample.len() / dim;
    if count < MIN_TRAINING_ROWS {
        return Err(SketchError::TooFewRows { got: count, needed: MIN_TRAINING_ROWS });
    }
    // Beyond any unit vector, and small enough that squares stay finite.
    if sample.iter().any(|value| !value.is_finite() || value.abs() > 1e6) {
        return Err(SketchError::NotFinite);
    }
    Ok(count)
}

fn quantised_mean(rows: &[f32], dim: usize) -> (Vec<i8>, f32) {
    let mut sums = vec![0f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = (rows.len() / dim) as f64;
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
    (small_integers(&mean), largest(&mean) / 127.0)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// The values as multiples of 1/127 of the largest.
fn small_integers(values: &[f32]) -> Vec<i8> {
    let largest = largest(values);
    let scale = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    values.iter().map(|value| (value * scale).round() as i8).collect()
}

/// Everything but mean and calibration. Scales of gain and error are wide and provisional.
fn quantise(principal: &Principal, rows: &[f32], dim: usize, sketch_bytes: usize) -> Parameters {
    let code_bytes = sketch_bytes - TRAILER;
    let slots = pack(&allot(&principal.variances, code_bytes * 8, MAX_WIDTH), code_bytes);
    let kept: Vec<usize> = (0..slots.len()).filter(|direction| slots[*direction].width > 0).collect();
    let deviation = |direction: &usize| principal.variances[*direction].sqrt() as f32;
    let most = kept.iter().map(deviation).fold(0.0, f32::max);
    let least = kept.iter().map(deviation).fold(most, f32::min);
    let spreads = LogByte::spanning(least, most);
    let directions = kept.iter().map(|direction| Direction {
        slot: slots[*direction],
        spread: spreads.encode(deviation(direction)),
        share: 0,
    });
    Parameters {
        dim,
        sketch_bytes,
        mean: vec![0; dim],
        mean_step: 0.0,
        directions: directions.collect(),
        basis: kept.iter().flat_map(|d| small_integers(&principal.basis[d * dim..(d + 1) * dim])).collect(),
        shapes: shapes(principal, rows, dim, &slots),
        spreads,
        shares: LogByte::spanning(1.0, 1.0),
        outer_share: 1.0,
        gain: LogByte::spanning(0.1, 10.0),
        error: LogByte::spanning(1e-3, 10.0),
        calibration: 1.0,
    }
}

/// For each width the levels that suit the directions of that width, pooled in units of each one's deviation: nearly Gaussian, but
/// the corpus decides. In units of the deviation in these rows, whatever is expected of new ones.
fn shapes(principal: &Principal, rows: &[f32], dim: usize, slots: &[Slot]) -> Vec<Vec<f32>> {
    let mut pools = vec![Vec::new(); usize::from(MAX_WIDTH) + 1];
    let stride = (rows.len() / dim).div_ceil(LEVEL_ROWS);
    for (direction, slot) in principal.basis.chunks_exact(dim).zip(slots).filter(|(_, slot)| slot.width > 0) {
        let values =
            rows.chunks_exact(dim).step_by(stride).map(|row| dot(direction, row)).collect::<Vec<f32>>();
        let deviation = (dot(&values, &values) / values.len() as f32).sqrt();
        pools[usize::from(slot.width)].extend(values.iter().map(|value| value / deviation));
    }
    let fit = |(width, mut pool): (usize, Vec<f32>)| {
        pool.sort_unstable_by(f32::total_cmp);
        if pool.is_empty() { pool } else { lloyd_max(&pool, 1 << width) }
    };
    pools.into_iter().enumerate().map(fit).collect()
}

/// What a held-out row shows: how its code fits it.
struct Fit {
    gain: f32,
    error: f32,
    /// Projected row minus decoded sketch, gain applied.
    remainder: Vec<f32>,
}

/// Sets the scales of gain and error, and everything about standard errors, from rows that training did not see.
fn calibrate(mut parameters: Parameters, rows: &[f32]) -> Result<Trained, &'static str> {
    let dim = parameters.dim;
    let provisional = Trained::new(parameters.clone())?;
    let fits: Vec<Fit> = rows.chunks_exact(dim).map(|row| fit(&provisional, row)).collect();
    parameters.gain = scale(fits.iter().map(|fit| fit.gain));
    parameters.error = scale(fits.iter().map(|fit| fit.error));
    set_shares(&mut parameters, &fits);
    let mut trained = Trained::new(parameters.clone())?;
    parameters.calibration = deviation_in_errors(&trained, rows, dim);
    if parameters.calibration > 0.0 {
        trained = Trained::new(parameters)?;
    }
    Ok(trained)
}

fn fit(trained: &Trained, row: &[f32]) -> Fit {
    let centred = trained.centre(row);
    let mut projected = vec![0.0; trained.code().directions()];
    trained.project_centred(&centred, &mut projected);
    let mut levels = vec![0.0; projected.len()];
    trained.code().choose(&projected, &mut vec![0; trained.code().sketch_bytes() - TRAILER], &mut levels);
    let (gain, error) = trained.code().gain_and_error(&projected, dot(&centred, &centred), &levels);
    let remainder = projected.iter().zip(&levels).map(|(value, level)| value - gain * level).collect();
    Fit { gain, error, remainder }
}

/// A scale that holds all of `values` and five standard deviations of their logarithms to either side.
fn scale(values: impl Iterator<Item = f32>) -> LogByte {
    let logs: Vec<f32> = values.filter(|value| value.is_finite() && *value > 0.0).map(f32::ln).collect();
    let count = logs.len().max(1) as f32;
    let mean = logs.iter().sum::<f32>() / count;
    let margin = 5.0 * (logs.iter().map(|log| (log - mean).powi(2)).sum::<f32>() / count).sqrt();
    let low = logs.iter().copied().fold(mean - margin, f32::min);
    let high = logs.iter().copied().fold(mean + margin, f32::max);
    LogByte::spanning(low.exp(), high.exp())
}

/// How remainders spread over the directions, and over what lies outside them.
fn set_shares(parameters: &mut Parameters, fits: &[Fit]) {
    let total: f32 = fits.iter().map(|fit| fit.error * fit.error).sum();
    let count = parameters.directions.len();
    let mut shares = vec![0f32; count];
    for fit in fits.iter().filter(|fit| fit.remainder.iter().all(|value| value.is_finite())) {
        shares.iter_mut().zip(&fit.remainder).for_each(|(share, value)| *share += value * value / total);
    }
    let outside = (1.0 - shares.iter().sum::<f32>()).max(0.0);
    parameters.outer_share = outside / parameters.dim.saturating_sub(count).max(1) as f32;
    parameters.shares = scale(shares.iter().copied());
    for (direction, share) in parameters.directions.iter_mut().zip(shares) {
        direction.share = parameters.shares.encode(share);
    }
}

/// The root mean square of (estimate - truth) / error over pairs of rows, one of them taken as the query.
fn deviation_in_errors(trained: &Trained, rows: &[f32], dim: usize) -> f32 {
    let size = trained.code().sketch_bytes();
    let mut sketches = vec![0; rows.len() / dim * size];
    for (row, sketch) in rows.chunks_exact(dim).zip(sketches.chunks_exact_mut(size)) {
        trained.encode(row, sketch);
    }
    let (mut sum, mut pairs, mut estimates) = (0f64, 0usize, Vec::new());
    for (index, query) in rows.chunks_exact(dim).enumerate().take(CALIBRATION_QUERIES) {
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
    (sum / pairs.max(1) as f64).sqrt() as f32
}
