//! The trained form: the directions of the corpus's own covariance, and for each as many bits as its variance deserves.

use crate::code::{Code, Norm};
use crate::linear::{dot, multiply, subtract_combination};
use crate::log_byte::LogByte;
use crate::score::SketchQuery;
use crate::trellis::{self, MAX_WIDTH};

/// Errors along a direction count as its spread to this power while choosing codes (their squares as the variance to this power):
/// queries, too, have more of the leading directions. Measured: 0.2 needs fewer recomputes than 0 or 0.4.
pub(crate) const IMPORTANCE: f32 = 0.3;
/// Steps towards the least-squares coordinates; each leaves about 0.15 of the error, of which there is 10 % at the start.
const REFINEMENTS: usize = 2;

/// What a trained sketcher stores, in the precision in which it is stored; everything else is derived from it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) dim: usize,
    pub(crate) sketch_bytes: usize,
    /// The mean of the rows is `mean * mean_step`.
    pub(crate) mean: Vec<i8>,
    pub(crate) mean_step: f32,
    /// Bits per direction, falling.
    pub(crate) widths: Vec<u8>,
    /// Standard deviation along each direction, on the scale `spread_scale`.
    pub(crate) spreads: Vec<u8>,
    pub(crate) spread_scale: LogByte,
    pub(crate) basis: Vec<StoredDirection>,
    pub(crate) norm: Norm,
}

/// A direction: `dim` small integers, which stand for the unit vector that is parallel to them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredDirection {
    pub(crate) values: Vec<i8>,
    /// Whether the integers need eight bits: four (-7 to 7) do for a direction of many like components.
    pub(crate) fine: bool,
}

impl Parameters {
    /// Checks everything that deriving relies on; the text says what is wrong.
    fn check(&self) -> Result<(), &'static str> {
        let count = self.widths.len();
        if count == 0 || self.spreads.len() != count || self.basis.len() != count {
            return Err("no directions, or parts of different lengths");
        }
        if self.widths.iter().any(|width| *width == 0 || *width > MAX_WIDTH) {
            return Err("a direction of impossible width");
        }
        if trellis::bits(&self.widths) > self.sketch_bytes * 8 {
            return Err("directions do not fit into the sketch");
        }
        if !(0.0..=1e6).contains(&self.mean_step) || !self.norm.is_sound() {
            return Err("a scale is not a number");
        }
        if self.mean.len() != self.dim
            || self.basis.iter().any(|direction| direction.values.len() != self.dim)
        {
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
    /// Row-major, one unit vector of `dim` values per direction. Nearly orthogonal, not quite: they are stored in few bits.
    basis: Vec<f32>,
    code: Code,
}

impl Trained {
    /// Errors are those of `Parameters::check`.
    pub(crate) fn new(parameters: Parameters) -> Result<Trained, &'static str> {
        parameters.check()?;
        let mean: Vec<f32> = parameters.mean.iter().map(|v| f32::from(*v) * parameters.mean_step).collect();
        let basis: Vec<f32> = parameters.basis.iter().flat_map(|direction| unit(&direction.values)).collect();
        let spreads: Vec<f32> =
            parameters.spreads.iter().map(|b| parameters.spread_scale.decode(*b)).collect();
        let importance = spreads.iter().map(|spread| spread.powf(IMPORTANCE)).collect();
        let mut projected_mean = vec![0.0; spreads.len()];
        multiply(&basis, &mean, &mut projected_mean);
        let code = Code::new(
            parameters.widths.clone(),
            spreads,
            importance,
            projected_mean,
            parameters.sketch_bytes,
            parameters.norm,
        );
        Ok(Trained { parameters, mean, basis, code })
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }

    /// The squared distance of an embedding from the mean.
    pub(crate) fn centred_norm_squared(&self, embedding: &[f32]) -> f32 {
        embedding.iter().zip(&self.mean).map(|(x, mean)| (x - mean) * (x - mean)).sum()
    }

    /// The least-squares coordinates: those whose combination of the directions is nearest to the centred embedding. That they are not
    /// just inner products makes good for directions stored in few bits, which are not orthogonal.
    pub(crate) fn project(&self, embedding: &[f32], out: &mut [f32]) {
        let mut remainder: Vec<f32> = embedding.iter().zip(&self.mean).map(|(x, mean)| x - mean).collect();
        out.fill(0.0);
        let mut step = vec![0.0; out.len()];
        for round in 0..=REFINEMENTS {
            if round > 0 {
                subtract_combination(&self.basis, &step, &mut remainder);
            }
            multiply(&self.basis, &remainder, &mut step);
            out.iter_mut().zip(&step).for_each(|(value, step)| *value += step);
        }
    }

    pub(crate) fn query(&self, query: &[f32]) -> SketchQuery {
        let mut projected = vec![0.0; self.code.directions()];
        multiply(&self.basis, query, &mut projected);
        SketchQuery::new(dot(query, &self.mean), dot(query, query).sqrt(), projected, &self.code)
    }
}

/// The unit vector parallel to small integers; zeros stay zeros.
pub(crate) fn unit(values: &[i8]) -> impl Iterator<Item = f32> + '_ {
    let norm = values.iter().map(|v| i64::from(*v) * i64::from(*v)).sum::<i64>() as f32;
    let scale = if norm > 0.0 { 1.0 / norm.sqrt() } else { 0.0 };
    values.iter().map(move |v| f32::from(*v) * scale)
}
