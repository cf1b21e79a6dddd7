//! The trained form: the directions of the corpus's own covariance, a few bits for each by its variance.

use crate::code::{Code, MAX_WIDTH, Slot, TRAILER};
use crate::linear::{dot, multiply};
use crate::log_byte::LogByte;
use crate::score::SketchQuery;

/// One direction as it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Direction {
    pub(crate) slot: Slot,
    /// Standard deviation of the corpus along this direction: the unit of its levels. On the scale `Parameters::spreads`.
    pub(crate) spread: u8,
    /// Mean square of (projected - decoded) / error along this direction, on the scale `Parameters::shares`.
    pub(crate) share: u8,
}

/// What a trained sketcher stores, in the precision in which it is stored; everything else is derived from it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) dim: usize,
    pub(crate) sketch_bytes: usize,
    /// The mean of the rows is `mean * mean_step`.
    pub(crate) mean: Vec<i8>,
    pub(crate) mean_step: f32,
    /// In the order of falling variance.
    pub(crate) directions: Vec<Direction>,
    /// One row of `dim` values per direction; a direction is its row scaled to unit length.
    pub(crate) basis: Vec<i8>,
    /// Levels by width, in units of a direction's spread; empty where no direction has that width.
    pub(crate) shapes: Vec<Vec<f32>>,
    pub(crate) spreads: LogByte,
    pub(crate) shares: LogByte,
    /// What `Direction::share` is for the dimensions outside all directions together, per dimension.
    pub(crate) outer_share: f32,
    pub(crate) gain: LogByte,
    pub(crate) error: LogByte,
    /// Measured on held-out rows: the factor that makes `error` a standard error.
    pub(crate) calibration: f32,
}

impl Parameters {
    /// Checks everything that deriving relies on; the text says what is wrong.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let code_bytes =
            self.sketch_bytes.checked_sub(TRAILER).ok_or("a sketch without room for its trailer")?;
        let mut used = vec![0u8; code_bytes];
        for Direction { slot, .. } in &self.directions {
            if slot.width == 0 || slot.width > MAX_WIDTH || slot.shift + slot.width > 8 {
                return Err("a direction of impossible width");
            }
            let used = used.get_mut(usize::from(slot.byte)).ok_or("a direction outside the sketch")?;
            let bits = (((1u16 << slot.width) - 1) as u8) << slot.shift;
            if *used & bits != 0 {
                return Err("two directions share a bit");
            }
            *used |= bits;
            if self.shapes.get(usize::from(slot.width)).is_none_or(|levels| levels.len() != 1 << slot.width) {
                return Err("a direction without levels");
            }
        }
        let ordinary = |value: &f32| value.is_finite() && value.abs() <= 1e6;
        if !self.shapes.iter().flatten().all(ordinary) || !self.shapes.iter().all(|levels| levels.is_sorted())
        {
            return Err("levels are not ascending numbers");
        }
        if ![self.mean_step, self.outer_share, self.calibration].iter().all(|v| ordinary(v) && *v >= 0.0) {
            return Err("a scale is not a number");
        }
        if self.mean.len() != self.dim || self.basis.len() != self.dim * self.directions.len() {
            return Err("mean or basis of the wrong size");
        }
        Ok(())
    }
}

/// A trained sketcher, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct Trained {
    parameters: Parameters,
    mean: Vec<f32>,
    basis: Vec<f32>,
    shares: Vec<f32>,
    code: Code,
}

impl Trained {
    /// Errors are those of `Parameters::check`.
    pub(crate) fn new(parameters: Parameters) -> Result<Trained, &'static str> {
        parameters.check()?;
        let mean = parameters.mean.iter().map(|v| f32::from(*v) * parameters.mean_step).collect();
        let mut levels = Vec::new();
        for direction in &parameters.directions {
            let spread = parameters.spreads.decode(direction.spread);
            levels.extend(
                parameters.shapes[usize::from(direction.slot.width)].iter().map(|level| level * spread),
            );
        }
        let code = Code::new(
            parameters.directions.iter().map(|direction| direction.slot).collect(),
            levels,
            parameters.sketch_bytes - TRAILER,
            parameters.gain,
            parameters.error,
        );
        let shares = parameters.directions.iter().map(|d| parameters.shares.decode(d.share)).collect();
        let basis = unit_rows(&parameters.basis, parameters.dim);
        Ok(Trained { parameters, mean, basis, shares, code })
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }

    /// Projects a centred embedding.
    pub(crate) fn project_centred(&self, centred: &[f32], out: &mut [f32]) {
        multiply(&self.basis, centred, out);
    }

    pub(crate) fn centre(&self, embedding: &[f32]) -> Vec<f32> {
        embedding.iter().zip(&self.mean).map(|(value, mean)| value - mean).collect()
    }

    pub(crate) fn project(&self, embedding: &[f32], out: &mut [f32]) {
        self.project_centred(&self.centre(embedding), out);
    }

    pub(crate) fn encode(&self, embedding: &[f32], out: &mut [u8]) {
        let centred = self.centre(embedding);
        let mut projected = vec![0.0; self.code.directions()];
        self.project_centred(&centred, &mut projected);
        self.code.encode(&projected, dot(&centred, &centred), out);
    }

    pub(crate) fn query(&self, query: &[f32]) -> SketchQuery {
        let mut projected = vec![0.0; self.code.directions()];
        multiply(&self.basis, query, &mut projected);
        let sensitivity = self.sensitivity(&projected, dot(query, query)) * self.parameters.calibration;
        let tables = self.code.tables(&projected);
        SketchQuery::new(
            dot(query, &self.mean),
            projected,
            tables,
            self.code.gains(),
            self.code.errors(sensitivity),
        )
    }

    /// The root mean square of <query, remainder> / |remainder|, up to `calibration`: remainders are long where bits are few, and queries
    /// differ in how much of them lies there.
    fn sensitivity(&self, projected: &[f32], norm_squared: f32) -> f32 {
        let (mut inner, mut inside) = (0.0, 0.0);
        for (value, share) in projected.iter().zip(&self.shares) {
            inner += value * value * share;
            inside += value * value;
        }
        (inner + (norm_squared - inside).max(0.0) * self.parameters.outer_share).sqrt()
    }
}

/// Rows of small integers scaled to unit length; a row of zeros stays as it is.
fn unit_rows(rows: &[i8], dim: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len());
    for row in rows.chunks_exact(dim) {
        let norm = row.iter().map(|v| i64::from(*v) * i64::from(*v)).sum::<i64>() as f32;
        let scale = if norm > 0.0 { 1.0 / norm.sqrt() } else { 0.0 };
        out.extend(row.iter().map(|v| f32::from(*v) * scale));
    }
    out
}
