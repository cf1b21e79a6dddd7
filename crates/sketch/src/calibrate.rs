//! Calibration: what estimates of a trained sketcher are off by, measured on pairs of near rows of which one
//! was held out and stands for a query.
//!
//! Near pairs, because a search decides on them. An estimate is a shrunken similarity: it is right on average
//! over all rows, and too low for the rows nearest to a query, which were chosen for what they have. Other
//! pairs count as well where their errors are larger: the nearest rows may be near copies of the query, whose
//! estimates are better than those for any question that users ask.

use leann_vector::dot;

use crate::coder::Calibration;
use crate::error::SketchError;
use crate::query::SketchQuery;
use crate::trained::{Fit, Parameters, Trained};
use crate::try_vec::try_with_capacity;

/// Held-out rows that serve as queries.
const QUERIES: usize = 200;

/// Nearest rows of each query.
const NEIGHBORS: usize = 10;

/// Rows of the sample among which the nearest are looked for.
const CANDIDATES: usize = 8_192;

/// The squared error of an estimate is at least the mean over all rows divided by this.
const MIN_ERROR_DIVISOR: f32 = 8.0;

/// The cosine that a later row and a near query have outside of the components, relative to the one within,
/// beyond that of rows that were trained on.
///
/// Most near rows of the calibration were trained on, and a small sample describes its own rows better than
/// later ones. With .15 the mean error of the true ten is .1 standard errors for sketchers trained on 300
/// rows of SciFact or FiQA, instead of .4, and .3 and .5 for those trained on a tenth, instead of .5 and .6.
/// A larger number makes the latter more honest too, and costs recomputes.
const LATER_SIMILARITY: f32 = 0.15;

/// Bounds of the correction of gains. Beyond them the sample is too odd to learn from.
const GAIN_CORRECTION: std::ops::RangeInclusive<f32> = 0.9..=1.3;

/// A sample of rows and how training used it.
pub(crate) struct Sample<'a> {
    /// The rows, one after the other.
    pub(crate) rows: &'a [f32],
    pub(crate) dim: usize,
    /// Positions of the rows that were held out.
    pub(crate) held_out: &'a [usize],
    /// Positions of the others.
    pub(crate) fitted: &'a [usize],
}

impl Sample<'_> {
    fn row(&self, position: usize) -> &[f32] {
        &self.rows[position * self.dim..(position + 1) * self.dim]
    }

    /// Returns the nearest rows to one that was held out and their similarities, without copies of the row.
    fn neighbors(&self, query: usize) -> Vec<(f32, usize)> {
        let vector = self.row(query);
        let others = self.held_out.iter().chain(self.fitted).take(CANDIDATES);
        let mut nearest: Vec<(f32, usize)> = Vec::with_capacity(NEIGHBORS + 1);
        for &position in others.filter(|&&position| self.row(position) != vector) {
            let similarity = dot(vector, self.row(position));
            if nearest.len() == NEIGHBORS && similarity <= nearest[NEIGHBORS - 1].0 {
                continue;
            }
            let at = nearest.partition_point(|other| other.0 >= similarity);
            nearest.insert(at, (similarity, position));
            nearest.truncate(NEIGHBORS);
        }
        nearest
    }

    /// Returns other rows that were held out and their similarities to one of them, without copies of it.
    fn others(&self, query: usize) -> Vec<(f32, usize)> {
        let vector = self.row(query);
        let from = self.held_out.iter().position(|&position| position == query).unwrap_or(0);
        let others = self.held_out.iter().cycle().skip(from + 1).take(self.held_out.len().min(NEIGHBORS));
        let others = others.filter(|&&position| self.row(position) != vector);
        others.map(|&position| (dot(vector, self.row(position)), position)).collect()
    }
}

/// A query and a row.
struct Pair {
    /// True similarity, less that of the query to the mean.
    similarity: f32,
    /// Its estimate within the components, less the same.
    estimate: f32,
    /// Squared error of the estimate as the code makes it, before it is scaled.
    code_error: f32,
    /// Cosine between what the components do not span of either.
    outside_cosine: f32,
    /// Product of the squared lengths of the same.
    outside_product: f32,
    /// Squared length of the same of the row.
    outside: f32,
}

/// Calibrates estimates on rows that were held out, and returns the finished sketcher; `None` if the numbers
/// are not usable.
pub(crate) fn calibrate(
    mut parameters: Parameters,
    sample: &Sample<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Trained>, SketchError> {
    let Ok(provisional) = Trained::new(parameters.clone()) else { return Ok(None) };
    let mut fits = try_with_capacity(sample.held_out.len())?;
    let mut sketch = vec![0; parameters.sketch_bytes];
    for &row in sample.held_out {
        poll(stop)?;
        fits.push(provisional.encode_trained(sample.row(row), &mut sketch));
    }
    fit_errors(&mut parameters.calibration, &fits);
    let Ok(provisional) = Trained::new(parameters.clone()) else { return Ok(None) };
    let [near, others] = pairs(&provisional, sample, stop)?;
    fit_pairs(&mut parameters.calibration, &near, &others);
    Ok(Trained::new(parameters).ok())
}

/// Sets the calibration of a sketcher that was trained without rows to hold out.
///
/// What the codes lose follows from the components. The other numbers are those that make errors largest
/// among sketchers trained on a thousand rows or more of SciFact, FiQA and wiki50k. There, gains are
/// corrected by .990 to 1.014, slopes are .55 to .79, the ratio of a squared error to a squared distance is
/// .0015 to .0030, and the alignment is .010 to .018; the last two in inverse proportion to the dimensions.
pub(crate) fn assume_errors(parameters: &mut Parameters) {
    let Ok(trained) = Trained::new(parameters.clone()) else { return };
    let (spanned, lost) = trained.coder().spanned_and_lost();
    let dim = parameters.dim.max(2) as f32;
    let calibration = &mut parameters.calibration;
    let all = calibration.total_variance;
    let outside = (all - spanned).clamp(0.02 * all, all);
    let distance = outside + lost;
    let scale = 1.15 / dim;
    calibration.error_slope = 0.65 * scale;
    calibration.error_base = 0.35 * scale * distance;
    calibration.error_min = (scale * distance / MIN_ERROR_DIVISOR).max(1e-9);
    calibration.residual_mean = distance;
    calibration.outside_mean = outside;
    calibration.outside_alignment = 7.0 / dim;
}

fn poll(stop: &dyn Fn() -> bool) -> Result<(), SketchError> {
    if stop() { Err(SketchError::Stopped) } else { Ok(()) }
}

/// Fits the squared distance of a row from its sketch as a linear function of the residual, by least squares.
fn fit_errors(calibration: &mut Calibration, fits: &[Fit]) {
    let (x_mean, y_mean) = (mean(fits, |fit| fit.residual), mean(fits, |fit| fit.distance));
    let covariance = mean(fits, |fit| (fit.residual - x_mean) * (fit.distance - y_mean));
    let slope = covariance / mean(fits, |fit| (fit.residual - x_mean).powi(2));
    // A larger residual never means a smaller error, and the error never grows faster than the residual.
    calibration.error_slope = if slope.is_finite() { slope.clamp(0.0, 1.0) } else { 0.0 };
    calibration.error_base = y_mean - calibration.error_slope * x_mean;
    calibration.error_min = (y_mean / MIN_ERROR_DIVISOR).max(1e-9);
    calibration.residual_mean = x_mean;
    calibration.outside_mean = mean(fits, |fit| fit.outside);
}

/// Estimates the similarity of held-out rows, as queries, to their nearest rows and to some others.
fn pairs(
    trained: &Trained,
    sample: &Sample<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<[Vec<Pair>; 2], SketchError> {
    let mut pairs = [try_with_capacity(QUERIES * NEIGHBORS)?, try_with_capacity(QUERIES * NEIGHBORS)?];
    for &query in sample.held_out.iter().take(QUERIES) {
        let rows = [sample.neighbors(query), sample.others(query)];
        let query = PairQuery::new(trained, sample.row(query));
        for (rows, pairs) in rows.iter().zip(&mut pairs) {
            for &(similarity, position) in rows {
                poll(stop)?;
                pairs.extend(query.pair(trained, sample.row(position), similarity));
            }
        }
    }
    Ok(pairs)
}

/// A row that serves as a query.
struct PairQuery {
    prepared: SketchQuery,
    mean_similarity: f32,
    norm_squared: f32,
    outside: Vec<f32>,
}

impl PairQuery {
    fn new(trained: &Trained, vector: &[f32]) -> PairQuery {
        PairQuery {
            prepared: trained.trained_query(vector),
            mean_similarity: trained.mean_similarity(vector),
            norm_squared: trained.project(vector).centered_norm_squared,
            outside: trained.outside(vector),
        }
    }

    /// Estimates the similarity of a row; `None` if the row is kept in the untrained form.
    fn pair(&self, trained: &Trained, row: &[f32], similarity: f32) -> Option<Pair> {
        let mut sketch = vec![0; trained.coder().sketch_bytes()];
        let fit = trained.encode(row, &mut sketch)?;
        let mut estimates = Vec::with_capacity(1);
        self.prepared.score(&sketch, &mut estimates);
        let outside = trained.outside(row);
        let outside_product = dot(&self.outside, &self.outside) * dot(&outside, &outside);
        Some(Pair {
            similarity: similarity - self.mean_similarity,
            estimate: estimates.first()?.similarity - self.mean_similarity,
            code_error: self.norm_squared * trained.coder().calibration().squared_error(fit.residual),
            outside_cosine: dot(&self.outside, &outside) / outside_product.max(f32::MIN_POSITIVE).sqrt(),
            outside_product,
            outside: dot(&outside, &outside),
        })
    }
}

/// Corrects gains so that estimates of near pairs are right on average, and scales errors to what is left.
fn fit_pairs(calibration: &mut Calibration, near: &[Pair], others: &[Pair]) {
    let correction = mean(near, |pair| pair.similarity) / mean(near, |pair| pair.estimate);
    let (later, known) = (calibration.outside_mean, mean(near, |pair| pair.outside));
    let (later, known) = (calibration.outside_ratio(later), calibration.outside_ratio(known));
    let correction = correction * (1.0 + LATER_SIMILARITY * later * (later - known).max(0.0));
    if correction.is_finite() {
        calibration.gain_correction = correction.clamp(*GAIN_CORRECTION.start(), *GAIN_CORRECTION.end());
    }
    let cosine = mean(near, |pair| pair.outside_cosine);
    let alignment = mean(near, |pair| (pair.outside_cosine - cosine).powi(2));
    calibration.outside_alignment = if alignment.is_finite() { alignment } else { 0.0 };
    let Calibration { gain_correction, outside_alignment, .. } = *calibration;
    let excess = |pair: &Pair| {
        let squared = (pair.similarity - gain_correction * pair.estimate).powi(2);
        (squared - outside_alignment * pair.outside_product).max(0.0) / pair.code_error
    };
    // `max` ignores a NaN, which is the mean of no pairs.
    let scale = mean(near, excess).max(mean(others, excess));
    if scale > 0.0 && scale.is_finite() {
        calibration.error_base *= scale;
        calibration.error_slope *= scale;
        calibration.error_min *= scale;
    }
}

/// Returns the mean of a value; NaN for no items.
fn mean<T>(items: &[T], value: impl Fn(&T) -> f32) -> f32 {
    items.iter().map(value).sum::<f32>() / items.len() as f32
}
