//! The trained form: the principal components of the corpus, each with a number of bits that depends on its
//! variance. A row that they describe badly is kept in the untrained form, in a sketch of the same length.

use leann_vector::dot;

use crate::coder::{Calibration, Coder, code_budget};
use crate::error::SketchError;
use crate::linear::{multiply, subtract_combination};
use crate::log_scale::LogScale;
use crate::query::{QueryTerms, SketchQuery, is_untrained};
use crate::trellis::{self, MAX_BITS};
use crate::untrained::Untrained;

/// Exponent of the weight of a component's error while codes are chosen: its standard deviation to this
/// power.
///
/// Queries concentrate in the leading components too, so errors there matter more. Measured with
/// `benches/recall.rs` and sketches of 50 bytes: recall@10 after recomputing the best 16 is .963 on FiQA and
/// .885 on wiki50k, against .956 and .879 with exponent 0. On SciFact it makes no difference beyond noise
/// (.959 against .961). Exponents 0.2 and 0.4 differ from 0.3 by at most .004.
pub(crate) const WEIGHT_EXPONENT: f32 = 0.3;

/// Weight of what a row has outside of the components, next to what its sketch misses in all, in the choice
/// of its form. What is outside also biases estimates, because queries for such a row have the same outside.
///
/// With 1, errors of sketchers trained on few rows are more honest (`benches/calibration.rs`: mean error of
/// the true ten of SciFact trained on a tenth .35 instead of .49), and their later rows cost more recomputes
/// (recall@10 after the best 16 .924 instead of .945).
const OUTSIDE_WEIGHT: f32 = 0.5;

/// Steps toward the least-squares coordinates. The error is about 10 % at first, and each step leaves about
/// 15 % of it.
const REFINEMENTS: usize = 2;

/// What a trained sketcher stores, in the precision in which it is stored. Everything else derives from it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    /// Dimensions of an embedding.
    pub(crate) dim: usize,
    /// Length in bytes of a sketch.
    pub(crate) sketch_bytes: usize,
    /// Seed of the rotation of the untrained form.
    pub(crate) seed: u64,
    /// The mean of the rows is `mean * mean_step`.
    pub(crate) mean: Vec<i8>,
    /// The value of 1 in `mean`.
    pub(crate) mean_step: f32,
    /// Bits per component, non-increasing.
    pub(crate) component_bits: Vec<u8>,
    /// Standard deviation along each component, as a byte on `deviation_scale`.
    pub(crate) deviations: Vec<u8>,
    /// The scale of `deviations`.
    pub(crate) deviation_scale: LogScale,
    /// The components, in the order of falling variance.
    pub(crate) basis: Vec<StoredComponent>,
    /// The numbers that gains and errors follow from.
    pub(crate) calibration: Calibration,
}

/// A component as `dim` small integers, which stand for the unit vector that is parallel to them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredComponent {
    /// The integers, one per dimension.
    pub(crate) values: Vec<i8>,
    /// Whether the integers take eight bits. Four (-7 to 7) suffice for a component whose values are of
    /// similar size.
    pub(crate) eight_bit: bool,
}

impl Parameters {
    /// Returns the mean of the rows.
    fn mean(&self) -> Vec<f32> {
        self.mean.iter().map(|value| f32::from(*value) * self.mean_step).collect()
    }

    /// Checks what [`Trained::new`] relies on.
    ///
    /// # Errors
    ///
    /// [`SketchError::Damaged`], whose text says what is wrong.
    fn check(&self) -> Result<(), SketchError> {
        let count = self.component_bits.len();
        if count == 0 || self.deviations.len() != count || self.basis.len() != count {
            return Err(SketchError::Damaged("no components, or parts of different lengths"));
        }
        if self.component_bits.iter().any(|bits| *bits == 0 || *bits > MAX_BITS) {
            return Err(SketchError::Damaged("a component with an impossible number of bits"));
        }
        if trellis::code_bits(&self.component_bits) > code_budget(self.sketch_bytes) {
            return Err(SketchError::Damaged("components do not fit into the sketch"));
        }
        if !(0.0..=1e6).contains(&self.mean_step) || !self.calibration.is_sound() {
            return Err(SketchError::Damaged("a scale is not a number"));
        }
        if self.mean.len() != self.dim
            || self.basis.iter().any(|component| component.values.len() != self.dim)
        {
            return Err(SketchError::Damaged("mean or basis of the wrong size"));
        }
        Ok(())
    }
}

/// A trained sketcher, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct Trained {
    parameters: Parameters,
    /// The mean of the rows.
    mean: Vec<f32>,
    /// One unit vector of `dim` values per component, one after the other. They are not quite orthogonal,
    /// because they are stored in few bits.
    basis: Vec<f32>,
    coder: Coder,
    /// The form of rows that the components describe badly.
    untrained: Untrained,
}

/// Whose components tell where rows lie, among the centers of pages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Places {
    /// Those of the trained form.
    Components = 0,
    /// Those of the untrained form, the rotation.
    Rotation = 1,
}

/// An embedding in the coordinates of the components.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    /// One coordinate per component.
    pub(crate) coordinates: Vec<f32>,
    /// Squared distance from the mean.
    pub(crate) centered_norm_squared: f32,
    /// Squared length of what the components do not span.
    pub(crate) outside: f32,
}

/// How a row's code in the trained form describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fit {
    /// See [`Calibration::residual`].
    pub(crate) residual: f32,
    /// Squared distance of the row from its decoded and scaled sketch.
    pub(crate) distance: f32,
    /// Squared length of what the components do not span.
    pub(crate) outside: f32,
}

impl Trained {
    /// Derives a sketcher from its parameters.
    ///
    /// # Errors
    ///
    /// [`SketchError::Damaged`] if the parameters contradict each other.
    pub(crate) fn new(parameters: Parameters) -> Result<Trained, SketchError> {
        let mean = parameters.mean();
        Trained::with_untrained_around(&mean, parameters)
    }

    /// Derives a sketcher that was trained in place: rows in the untrained form are not relative to a mean.
    ///
    /// # Errors
    ///
    /// Those of [`Trained::new`].
    pub(crate) fn in_place(parameters: Parameters) -> Result<Trained, SketchError> {
        Trained::with_untrained_around(&[], parameters)
    }

    fn with_untrained_around(center: &[f32], parameters: Parameters) -> Result<Trained, SketchError> {
        parameters.check()?;
        let mean = parameters.mean();
        let basis: Vec<f32> = parameters.basis.iter().flat_map(|component| unit(&component.values)).collect();
        let deviations: Vec<f32> =
            parameters.deviations.iter().map(|byte| parameters.deviation_scale.decode(*byte)).collect();
        let error_weights = deviations.iter().map(|deviation| deviation.powf(WEIGHT_EXPONENT)).collect();
        let mut projected_mean = vec![0.0; deviations.len()];
        multiply(&basis, &mean, &mut projected_mean);
        let coder = Coder::new(
            parameters.component_bits.clone(),
            deviations,
            error_weights,
            projected_mean,
            parameters.sketch_bytes,
            parameters.calibration,
        );
        let untrained = Untrained::around(center, parameters.dim, parameters.seed, parameters.sketch_bytes);
        Ok(Trained { parameters, mean, basis, coder, untrained })
    }

    /// Returns what is stored of the sketcher.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns the coder of coordinates.
    pub(crate) fn coder(&self) -> &Coder {
        &self.coder
    }

    /// Returns the least-squares coordinates: those with which a combination of the components is nearest to
    /// the centered embedding. Inner products alone would be worse, because the components are not
    /// orthogonal.
    pub(crate) fn project(&self, embedding: &[f32]) -> Projection {
        let mut remainder = self.centered(embedding);
        let centered_norm_squared = dot(&remainder, &remainder);
        let coordinates = self.take_out(&mut remainder);
        Projection { coordinates, centered_norm_squared, outside: dot(&remainder, &remainder) }
    }

    /// Takes out of a vector what the components span, and returns its coordinates.
    fn take_out(&self, remainder: &mut [f32]) -> Vec<f32> {
        let mut coordinates = vec![0.0; self.coder.components()];
        let mut step = vec![0.0; coordinates.len()];
        for _ in 0..=REFINEMENTS {
            multiply(&self.basis, remainder, &mut step);
            coordinates.iter_mut().zip(&step).for_each(|(value, step)| *value += step);
            subtract_combination(&self.basis, &step, remainder);
        }
        coordinates
    }

    /// Writes the sketch of an embedding in the form that describes it better. Returns the fit if that is the
    /// trained one.
    pub(crate) fn encode(&self, embedding: &[f32], out: &mut [u8]) -> Option<Fit> {
        let fit = self.encode_trained(embedding, out);
        if fit.distance + OUTSIDE_WEIGHT * fit.outside <= self.untrained.lost(embedding) {
            return Some(fit);
        }
        self.untrained.encode(embedding, out);
        None
    }

    /// Writes the sketch of an embedding in the trained form.
    pub(crate) fn encode_trained(&self, embedding: &[f32], out: &mut [u8]) -> Fit {
        let Projection { coordinates, centered_norm_squared, outside } = self.project(embedding);
        self.coder.encode(&coordinates, out);
        let mut decoded = vec![0.0; coordinates.len()];
        let norm = self.coder.decode_unscaled(out, &mut decoded);
        let calibration = self.coder.calibration();
        let gain = calibration.gain(norm.squared, norm.mean_product) / calibration.gain_correction;
        let distance =
            centered_norm_squared - 2.0 * gain * dot(&coordinates, &decoded) + gain * gain * norm.squared;
        let residual = calibration.residual(norm.squared, norm.mean_product);
        Fit { residual, distance: distance.max(0.0), outside }
    }

    /// Writes the coordinates that a sketch stands for.
    pub(crate) fn decode(&self, sketch: &[u8], out: &mut [f32]) {
        if is_untrained(sketch) {
            out.copy_from_slice(&self.project(&self.untrained.reconstruct(sketch)).coordinates);
        } else {
            self.coder.decode(sketch, out);
        }
    }

    /// Returns about which share of its row's squared length a sketch keeps.
    pub(crate) fn fit(&self, sketch: &[u8]) -> f32 {
        if is_untrained(sketch) {
            return self.untrained.kept();
        }
        let norm = self.coder.decode_unscaled(sketch, &mut vec![0.0; self.coder.components()]);
        1.0 - self.coder.calibration().residual(norm.squared, norm.mean_product).clamp(0.0, 1.0)
    }

    /// Returns the inner product of a vector with the mean of the rows.
    pub(crate) fn mean_similarity(&self, vector: &[f32]) -> f32 {
        dot(vector, &self.mean)
    }

    /// Returns the difference of an embedding, of a row or a query, from the mean of the rows.
    fn centered(&self, embedding: &[f32]) -> Vec<f32> {
        embedding.iter().zip(&self.mean).map(|(x, mean)| x - mean).collect()
    }

    /// Returns what the components do not span of an embedding's difference from the mean.
    pub(crate) fn outside(&self, embedding: &[f32]) -> Vec<f32> {
        let mut remainder = self.centered(embedding);
        self.take_out(&mut remainder);
        remainder
    }

    /// Returns what scoring sketches of the trained form needs to know of a query.
    fn terms(&self, query: &[f32]) -> QueryTerms {
        let mut projected = vec![0.0; self.coder.components()];
        multiply(&self.basis, query, &mut projected);
        // Where all embeddings have much in common, most of a query lies along the mean. That part is known
        // exactly: it adds to the similarity to the mean, and neither to errors nor to what is outside.
        let Projection { centered_norm_squared, outside, .. } = self.project(query);
        QueryTerms {
            mean_similarity: self.mean_similarity(query),
            norm_squared: centered_norm_squared,
            outside,
            axis: None,
            projected,
        }
    }

    /// Prepares a query for sketches of the trained form only.
    pub(crate) fn trained_query(&self, query: &[f32]) -> SketchQuery {
        SketchQuery::new(self.terms(query), &self.coder)
    }

    /// Prepares a query for scoring. Rows lie in the components of one of the forms.
    pub(crate) fn query(&self, query: &[f32], places: Places) -> SketchQuery {
        let untrained = (self.untrained.terms(query), self.untrained.coder());
        SketchQuery::of_either_form([(self.terms(query), &self.coder), untrained], places as usize)
    }

    /// Returns the form of rows that the components describe badly.
    pub(crate) fn untrained(&self) -> &Untrained {
        &self.untrained
    }

    /// Writes the coordinates that a sketch stands for, in the rotation of the untrained form.
    pub(crate) fn decode_rotated(&self, sketch: &[u8], out: &mut [f32]) {
        if is_untrained(sketch) {
            return self.untrained.coder().decode(sketch, out);
        }
        let mut coordinates = vec![0.0; self.coder.components()];
        self.coder.decode(sketch, &mut coordinates);
        coordinates.iter_mut().for_each(|value| *value = -*value);
        let mut row = self.mean.clone();
        subtract_combination(&self.basis, &coordinates, &mut row);
        self.untrained.project(&row, out);
    }
}

/// Returns the unit vector that is parallel to small integers; zeros stay zeros.
pub(crate) fn unit(values: &[i8]) -> impl Iterator<Item = f32> + '_ {
    let norm_squared = values.iter().map(|v| i64::from(*v) * i64::from(*v)).sum::<i64>() as f32;
    let scale = if norm_squared > 0.0 { 1.0 / norm_squared.sqrt() } else { 0.0 };
    values.iter().map(move |v| f32::from(*v) * scale)
}
