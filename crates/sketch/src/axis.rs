//! The axis of the mean: the direction that all rows have most in common.
//!
//! Some models give all texts high similarities: most of every embedding lies along one direction. A code
//! with as many bits for this direction as for any other spends nearly all on what all rows share. Here a
//! row's position along the axis is coded in many bits, as the first coordinate. The others tell only the
//! direction of what is left, whose length follows: rows have unit length.

use leann_vector::dot;

use crate::lut_scan::Accumulators;
use crate::rotation::Rotation;

/// Standard deviation of coded positions, for the choice of codewords, which lie within four of it.
pub(crate) const DEVIATION: f32 = 0.12;

/// Distance from the mean along the axis up to which positions are coded as they are. Beyond it they are
/// coded as their logarithms, as inverse hyperbolic sines are: where the mean is long, nearly all rows lie
/// within .04 of it, and the farthest possible position is at -1.
const LINEAR: f32 = 0.1;

/// Squared error of a coded position near the mean. The code of the first coordinate gives in to those of the
/// others.
const POSITION_ERROR: f32 = 1e-5;

/// What a mean as long as its rows would add to squared errors, as a factor; it falls with the fourth power
/// of the length. Rows with much in common are of groups, such as languages, that have more in common, and
/// estimates of a group err together.
///
/// Eleven languages with the mean of a twelfth, whose squared length is .75, are found with a recall of .968
/// without and .988 with it, and .993 after a rebuild (xquad, `benches/drift.py`).
const GROUP_ERROR: f32 = 0.67;

/// The axis, in the coordinates of a rotation.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    /// Length of the mean.
    pub(crate) length: f32,
    /// The mean, scaled to unit length.
    direction: Vec<f32>,
    /// The unit vector whose reflection takes the rotated direction to the first coordinate (Householder's).
    reflector: Vec<f32>,
    /// Factor of the first coordinate, 1 or -1, because the reflection takes the direction to the farther end
    /// of that coordinate. The nearer one could be too near for a reflection of any precision.
    sign: f32,
}

impl Axis {
    /// Returns the axis of a mean; `None` if it has no direction, or is longer than rows can make it.
    pub(crate) fn of(mean: &[f32], rotation: &Rotation) -> Option<Axis> {
        let length = dot(mean, mean).sqrt();
        let mut direction = mean.to_vec();
        if !(1e-3..1.0).contains(&length) || !leann_vector::normalize(&mut direction) {
            return None;
        }
        let mut reflector = direction.clone();
        rotation.apply(&mut reflector);
        let sign = if reflector[0] > 0.0 { -1.0 } else { 1.0 };
        reflector[0] -= sign;
        leann_vector::normalize(&mut reflector).then_some(Axis { length, direction, reflector, sign })
    }

    /// Returns an embedding's position along the axis.
    pub(crate) fn position(&self, embedding: &[f32]) -> f32 {
        dot(embedding, &self.direction)
    }

    /// Turns a rotated vector so that the first coordinate is its position along the axis.
    pub(crate) fn turn(&self, vector: &mut [f32]) {
        self.reflect(vector);
        vector[0] *= self.sign;
    }

    /// Undoes [`Axis::turn`].
    pub(crate) fn turn_back(&self, vector: &mut [f32]) {
        vector[0] *= self.sign;
        self.reflect(vector);
    }

    fn reflect(&self, vector: &mut [f32]) {
        let product = 2.0 * dot(&self.reflector, vector);
        vector.iter_mut().zip(&self.reflector).for_each(|(value, reflector)| *value -= product * reflector);
    }

    /// Turns the coordinates of a row into those that are coded: how far it is along the axis beyond the
    /// mean, and the direction of the rest.
    pub(crate) fn to_code(&self, coordinates: &mut [f32]) {
        let (position, rest) = coordinates.split_first_mut().expect("a code has a coordinate");
        let scale = rest_squared(*position).sqrt().recip();
        *position = LINEAR * ((*position - self.length) / LINEAR).asinh();
        rest.iter_mut().for_each(|value| *value *= scale);
    }

    /// Turns decoded values into coordinates without bias. `kept` is the share that the code keeps of a
    /// direction.
    pub(crate) fn unbiased(&self, values: &mut [f32], kept: f32) {
        let (position, rest) = values.split_first_mut().expect("a code has a coordinate");
        *position = position_of(*position, self.length);
        let gain = gain(*position, dot(rest, rest), kept);
        rest.iter_mut().for_each(|value| *value *= gain);
    }

    /// Returns the weight of an error along the axis, while codes are chosen, relative to one of the rest.
    pub(crate) fn error_weight(&self) -> f32 {
        (self.length / (1.0 - self.length * self.length)).clamp(8.0, 16.0)
    }

    /// Returns the factor of squared errors: see [`GROUP_ERROR`].
    pub(crate) fn error_factor(&self) -> f32 {
        1.0 + GROUP_ERROR * self.length.powi(4)
    }

    /// Returns what scoring needs to know of a query.
    pub(crate) fn terms(&self, query: &[f32], kept: f32) -> AxisTerms {
        AxisTerms { mean: self.length, query: self.position(query), kept }
    }
}

/// A query's part in scoring codes that have an axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AxisTerms {
    /// Position of the mean.
    mean: f32,
    /// Position of the query.
    query: f32,
    /// Share that the code keeps of a direction.
    kept: f32,
}

impl AxisTerms {
    /// Returns the estimated similarity for a code, and its squared error. In `sums` the inner product with
    /// the mean is the first coordinate. `beside_error` is the squared error for a row that lies beside the
    /// axis.
    pub(crate) fn estimate(&self, sums: Accumulators, beside_error: f32) -> (f32, f32) {
        let position = position_of(sums.mean, self.mean);
        let gain = gain(position, sums.squared - sums.mean * sums.mean, self.kept);
        let rest = sums.query - self.query * sums.mean;
        let along_error = self.query * self.query * position_error(position - self.mean);
        let similarity = self.query * position + gain * rest;
        (similarity, along_error + beside_error * rest_squared(position))
    }
}

/// Returns the position that a coded one stands for.
fn position_of(coded: f32, mean: f32) -> f32 {
    (mean + LINEAR * (coded / LINEAR).sinh()).clamp(-1.0, 1.0)
}

/// Returns the squared error of a coded position that is so far from the mean.
pub(crate) fn position_error(distance: f32) -> f32 {
    POSITION_ERROR * (1.0 + (distance / LINEAR).powi(2))
}

/// Returns the squared length of what a row at this position has beside the axis.
pub(crate) fn rest_squared(position: f32) -> f32 {
    (1.0 - position * position).max(1e-6)
}

/// Returns the factor of decoded values beside the axis, whose squared length is this: to the length that the
/// position leaves, and against the bias of estimates.
fn gain(position: f32, squared: f32, kept: f32) -> f32 {
    (rest_squared(position) / (squared * kept).max(1e-9)).sqrt()
}
