//! Training: fits the mean, the components and their bits, and calibrates errors on rows that were held out.

use leann_vector::{Rng, dot};

use crate::bit_allocation::allocate_bits;
use crate::calibrate::{Sample, assume_errors, calibrate};
use crate::coder::{Calibration, code_budget};
use crate::error::SketchError;
use crate::limits::{MAX_DIM, MAX_SKETCH_BYTES, MIN_SKETCH_BYTES};
use crate::log_scale::LogScale;
use crate::pca::{PrincipalComponents, principal_components};
use crate::trained::{Parameters, StoredComponent, Trained, WEIGHT_EXPONENT};
use crate::try_vec::try_with_capacity;
use crate::untrained::Untrained;

/// The fewest different rows to train on. The components of fewer rows say little about later rows.
pub const MIN_TRAINING_ROWS: usize = 128;

/// The fewest components with variance to train on, if there are at least twice as many dimensions. Rows that
/// differ in fewer are unlikely to represent the rows that follow.
const MIN_VARYING_COMPONENTS: usize = 16;

/// Bytes of components that a table may have per row. The parameters are a fixed cost, which weighs on a
/// small table.
const BASIS_BYTES_PER_ROW: usize = 7;

/// Components that even the smallest table may have.
const MIN_COMPONENTS: usize = 128;

/// The most multiplications for the covariance. They bound the number of rows that are fitted.
const MAX_COVARIANCE_PRODUCTS: usize = 10_000_000_000;

/// The smallest limit on the rows that are fitted, however large their dimension.
const MIN_FIT_ROWS: usize = 64;

/// The most rows that are held out for the calibration.
const MAX_HELD_OUT_ROWS: usize = 500;

/// The largest squared length of the mean of rows of which only sketches are known. Codes of rows with much
/// in common err together, and so does their mean.
const MAX_SKETCHED_MEAN: f32 = 0.25;

/// The largest squared sine of the angle by which rounding to four bits may turn a component. Beyond it the
/// component is stored in eight bits.
const MAX_FOUR_BIT_ERROR: f32 = 0.02;

/// Returns how many rows of a sample training uses at most, so that callers need not gather more.
pub fn max_training_rows(dim: usize) -> usize {
    MAX_HELD_OUT_ROWS + max_fit_rows(dim)
}

/// Returns the most rows that the components are fitted to.
fn max_fit_rows(dim: usize) -> usize {
    (MAX_COVARIANCE_PRODUCTS / (dim * dim).max(1)).max(MIN_FIT_ROWS)
}

/// What to train for.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions {
    /// Length in bytes of a sketch, [`MIN_SKETCH_BYTES`] to [`MAX_SKETCH_BYTES`].
    pub sketch_bytes: usize,
    /// Rows that the table has or will have. A small table gets fewer components, because their storage is a
    /// fixed cost.
    pub rows: usize,
    /// Seed of the choice of the rows that are held out, and of the rotation of the untrained form.
    pub seed: u64,
}

/// Trains a sketcher; `None` if the rows of the sample are too much alike to learn from.
///
/// # Errors
///
/// Those of `Sketcher::train`.
pub(crate) fn train(
    sample: &[f32],
    dim: usize,
    options: &TrainOptions,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Trained>, SketchError> {
    check(sample, dim, options)?;
    if distinct_rows(sample, dim) < MIN_TRAINING_ROWS {
        return Ok(None);
    }
    fit(sample, dim, options, stop)
}

/// Trains a sketcher on a sample that has passed [`check`].
fn fit(
    sample: &[f32],
    dim: usize,
    options: &TrainOptions,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Trained>, SketchError> {
    let count = sample.len() / dim;
    let order = Rng::new(options.seed).permutation(count);
    let held_out = (count / 10).clamp(16, MAX_HELD_OUT_ROWS);
    let fitted = (count - held_out).min(max_fit_rows(dim));
    let gather = |rows: &[usize]| -> Result<Vec<f32>, SketchError> {
        let mut gathered = try_with_capacity(rows.len() * dim)?;
        rows.iter().for_each(|row| gathered.extend_from_slice(&sample[row * dim..(row + 1) * dim]));
        Ok(gathered)
    };
    let fit_rows = gather(&order[held_out..held_out + fitted])?;
    let Some(parameters) = fit_components(fit_rows, dim, 0.0, options, stop)? else { return Ok(None) };
    calibrate(
        parameters,
        &Sample { rows: sample, dim, held_out: &order[..held_out], fitted: &order[held_out..] },
        stop,
    )
}

/// Trains a sketcher on the sketches of an untrained one, which lie one after the other and are different;
/// `None` if they are too few or too much alike. The sketches stay valid as the untrained form of the result,
/// if `options` has the seed and the length of the untrained one's.
///
/// What a sketch stands for is its row plus noise that is the same in all directions. The noise turns no
/// component, and adds the same to every variance, from which it is taken off again. With sketches of 50
/// bytes, rows rank nearly as with components of the rows themselves (recall@10 after the best 16 of FiQA
/// .966 instead of .971, of wiki50k .901 instead of .902). Errors cannot be calibrated, and are set to the
/// largest that calibration finds.
///
/// # Errors
///
/// Those of `Sketcher::train`.
pub(crate) fn train_on_sketches(
    untrained: &Untrained,
    sketches: &[u8],
    options: &TrainOptions,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Trained>, SketchError> {
    let dim = untrained.dim();
    if check(&[], dim, options).is_err() {
        // A model of so few dimensions has sketches too short to train.
        return Ok(None);
    }
    let sketches = sketches.chunks_exact(options.sketch_bytes).take(max_fit_rows(dim));
    if sketches.len() < MIN_TRAINING_ROWS {
        return Ok(None);
    }
    let mut rows = try_with_capacity(sketches.len() * dim)?;
    for sketch in sketches {
        if stop() {
            return Err(SketchError::Stopped);
        }
        rows.extend(untrained.reconstruct(sketch));
    }
    let noise = f64::from(untrained.coder().calibration().error_base);
    let Some(mut parameters) = fit_components(rows, dim, noise, options, stop)? else { return Ok(None) };
    if 1.0 - parameters.calibration.total_variance > MAX_SKETCHED_MEAN {
        return Ok(None);
    }
    assume_errors(&mut parameters);
    Ok(Trained::in_place(parameters).ok())
}

/// Returns the parameters that describe rows best, with a provisional calibration; `None` if there is hardly
/// a component in which they differ. The rows have noise of this variance in every direction.
fn fit_components(
    mut rows: Vec<f32>,
    dim: usize,
    noise: f64,
    options: &TrainOptions,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Parameters>, SketchError> {
    let (mean, mean_step) = quantized_mean(&rows, dim);
    for row in rows.chunks_exact_mut(dim) {
        row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= f32::from(*mean) * mean_step);
    }
    let max_components = options.rows.saturating_mul(BASIS_BYTES_PER_ROW) / dim.div_ceil(2);
    let limit = max_components.max(MIN_COMPONENTS).min(dim);
    let mut principal = principal_components(&rows, dim, limit, stop)?;
    drop(rows);
    principal.variances.iter_mut().for_each(|variance| *variance = (*variance - noise).max(0.0));
    let varying = principal.variances.iter().filter(|variance| **variance > 0.0).count();
    if varying < MIN_VARYING_COMPONENTS.min(dim.div_ceil(2)) {
        return Ok(None);
    }
    Ok(quantize(&principal, mean, mean_step, options))
}

/// Checks that the sample and the options are in range.
fn check(sample: &[f32], dim: usize, options: &TrainOptions) -> Result<(), SketchError> {
    if dim == 0 || dim > MAX_DIM || !sample.len().is_multiple_of(dim) {
        return Err(SketchError::Shape { len: sample.len(), dim });
    }
    if !(MIN_SKETCH_BYTES..=MAX_SKETCH_BYTES).contains(&options.sketch_bytes) {
        return Err(SketchError::SketchBytes(options.sketch_bytes));
    }
    // The bound is far beyond any unit vector, and small enough for squares to stay finite.
    if sample.iter().any(|value| !value.is_finite() || value.abs() > 1e6) {
        return Err(SketchError::NotFinite);
    }
    Ok(())
}

/// Counts the different rows, up to [`MIN_TRAINING_ROWS`].
fn distinct_rows(sample: &[f32], dim: usize) -> usize {
    let mut seen = std::collections::HashSet::new();
    for row in sample.chunks_exact(dim) {
        if seen.len() == MIN_TRAINING_ROWS {
            break;
        }
        // Compared as integers, because floats cannot be hashed. That -0 differs from 0 does not matter.
        seen.insert(row.iter().map(|value| value.to_bits()).collect::<Vec<u32>>());
    }
    seen.len()
}

/// Returns the mean of the rows as integers, and the value of 1 among them.
fn quantized_mean(rows: &[f32], dim: usize) -> (Vec<i8>, f32) {
    let mut sums = vec![0f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = (rows.len() / dim) as f64;
    let mean: Vec<f32> = sums.iter().map(|sum| (sum / count) as f32).collect();
    let step = largest(&mean) / 127.0;
    (rounded(&mean, step, 127.0), step)
}

/// Returns the largest magnitude.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// Returns the values as multiples of `step`, clamped to `limit`; zeros if the step is zero.
fn rounded(values: &[f32], step: f32, limit: f32) -> Vec<i8> {
    let scale = if step > 0.0 { 1.0 / step } else { 0.0 };
    values.iter().map(|value| (value * scale).round().clamp(-limit, limit) as i8).collect()
}

/// Returns the parameters with a provisional calibration; `None` if no component has variance.
fn quantize(
    principal: &PrincipalComponents,
    mean: Vec<i8>,
    mean_step: f32,
    options: &TrainOptions,
) -> Option<Parameters> {
    let dim = mean.len();
    let weights: Vec<f64> =
        principal.variances.iter().map(|v| v.powf(1.0 + f64::from(WEIGHT_EXPONENT))).collect();
    let component_bits = allocate_bits(&weights, code_budget(options.sketch_bytes));
    let deviations: Vec<f32> =
        principal.variances[..component_bits.len()].iter().map(|v| v.sqrt() as f32).collect();
    let deviation_scale = LogScale::spanning(*deviations.last()?, deviations[0]);
    let norm_squared: f32 = mean.iter().map(|value| (f32::from(*value) * mean_step).powi(2)).sum();
    // The bound matters only for a mean as long as the rows, and such a sample has no variance.
    let total_variance = (1.0 - norm_squared).max(1e-6);
    Some(Parameters {
        dim,
        sketch_bytes: options.sketch_bytes,
        seed: options.seed,
        mean,
        mean_step,
        deviations: deviations.iter().map(|deviation| deviation_scale.encode(*deviation)).collect(),
        deviation_scale,
        basis: principal.basis.chunks_exact(dim).take(component_bits.len()).map(quantize_component).collect(),
        component_bits,
        calibration: Calibration {
            total_variance,
            gain_correction: 1.0,
            error_base: 1.0,
            error_min: 1.0,
            ..Calibration::default()
        },
    })
}

/// Returns a component as small integers, of four bits if that is accurate enough, else of eight.
fn quantize_component(component: &[f32]) -> StoredComponent {
    let largest = largest(component);
    // Steps from one that clamps no value to one that suits the many small values.
    let candidates = (0..16).map(|i| rounded(component, largest / 7.0 * 0.9f32.powi(i), 7.0));
    let scored = candidates.map(|values| (squared_sine(component, &values), values));
    match scored.min_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((error, values)) if error <= MAX_FOUR_BIT_ERROR => StoredComponent { values, eight_bit: false },
        _ => StoredComponent { values: rounded(component, largest / 127.0, 127.0), eight_bit: true },
    }
}

/// Returns the squared sine of the angle between a component and its integers.
fn squared_sine(component: &[f32], values: &[i8]) -> f32 {
    let (mut inner, mut norm) = (0.0, 0.0);
    for (entry, value) in component.iter().zip(values) {
        inner += entry * f32::from(*value);
        norm += f32::from(*value).powi(2);
    }
    1.0 - inner * inner / (norm * dot(component, component)).max(f32::MIN_POSITIVE)
}
