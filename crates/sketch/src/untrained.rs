//! The untrained form: a seeded random rotation and about one bit per dimension. It serves an index made
//! before there are rows, and rows that the components of a trained sketcher describe badly.
//!
//! After a random rotation the coordinates of every row look Gaussian, and what the code misses is spread
//! evenly over them. Gain and standard error are therefore known without data: Gao and Long, "RaBitQ:
//! quantizing high-dimensional vectors with a theoretical error bound for approximate nearest neighbor
//! search", SIGMOD 2024. RaBitQ keeps signs, which lose 36 % of the variance; a trellis code of the same size
//! loses 28 %.
//!
//! Where the mean of the rows is known, a row is its position along the mean and a direction: see `axis.rs`.

use leann_vector::dot;

use crate::axis::{self, Axis};
use crate::coder::{Calibration, Coder};
use crate::query::{QueryTerms, SketchQuery, mark_untrained};
use crate::rotation::Rotation;
use crate::trellis::{MAX_BITS, RESIDUAL_VARIANCE, STATE_BITS};

/// An untrained sketcher, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct Untrained {
    dim: usize,
    seed: u64,
    rotation: Rotation,
    /// The axis of the mean of the rows, if that is known.
    axis: Option<Axis>,
    coder: Coder,
    /// Share of a row's squared length, or of what it has beside the axis, that the code keeps, on average.
    kept: f32,
}

impl Untrained {
    /// Derives a sketcher from the number of dimensions and the seed of the rotation. Its sketches take one
    /// bit per dimension, and two bytes for the rest of the first state and the form.
    pub(crate) fn new(dim: usize, seed: u64) -> Untrained {
        Untrained::with_bytes(dim, seed, dim.div_ceil(8) + 2)
    }

    /// Derives a sketcher whose sketches take so many bytes. If they are fewer than one bit per dimension
    /// needs, only the leading coordinates are coded: after the rotation they tell as much as any others.
    pub(crate) fn with_bytes(dim: usize, seed: u64, sketch_bytes: usize) -> Untrained {
        Untrained::around(&[], dim, seed, sketch_bytes)
    }

    /// Derives a sketcher as [`Untrained::with_bytes`] does, for rows with this mean; empty if it is not
    /// known.
    pub(crate) fn around(mean: &[f32], dim: usize, seed: u64, sketch_bytes: usize) -> Untrained {
        let rotation = Rotation::new(dim, seed);
        let axis = Axis::of(mean, &rotation);
        let mut component_bits = even_bits(dim, crate::coder::code_budget(sketch_bytes));
        let kept_of = |bits: &u8| 1.0 - RESIDUAL_VARIANCE[usize::from(*bits)];
        let kept = (component_bits.iter().map(kept_of).sum::<f64>() / dim.max(1) as f64) as f32;
        // A decoded vector of unit length is sqrt(kept) times the row plus a vector orthogonal to the row.
        // Dividing by this root makes the estimate unbiased. The orthogonal vector then has the squared
        // length (1 - kept) / kept, spread over dim - 1 dimensions.
        let error = (1.0 - kept) / kept / (dim.max(2) as f32 - 1.0);
        let error = error * axis.as_ref().map_or(1.0, Axis::error_factor);
        let calibration = Calibration {
            total_variance: 1.0,
            gain_correction: 1.0 / kept.sqrt(),
            error_base: error,
            error_slope: 0.0,
            error_min: error,
            ..Calibration::default()
        };
        let count = component_bits.len();
        let mut deviations = vec![1.0 / (dim.max(1) as f32).sqrt(); count];
        let (mut weights, mut mean) = (vec![1.0; count], vec![0.0; count]);
        if let Some(axis) = &axis {
            // The first coordinate has a state of its own, whatever its bits.
            component_bits[0] = MAX_BITS;
            deviations[0] = axis::DEVIATION;
            weights[0] = axis.error_weight();
            mean[0] = 1.0;
        }
        let coder = Coder::new(component_bits, deviations, weights, mean, sketch_bytes, calibration);
        Untrained { dim, seed, rotation, axis, coder, kept }
    }

    /// Returns the number of dimensions of an embedding.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Returns the seed of the rotation.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the coder of rotated embeddings.
    pub(crate) fn coder(&self) -> &Coder {
        &self.coder
    }

    /// Returns the share of a direction that the code keeps, on average.
    pub(crate) fn kept(&self) -> f32 {
        self.kept
    }

    /// Returns how much of a row's squared length its sketch misses, on average.
    pub(crate) fn lost(&self, row: &[f32]) -> f32 {
        let rest = self.axis.as_ref().map_or(1.0, |axis| axis::rest_squared(axis.position(row)));
        (1.0 - self.kept) * rest
    }

    /// Writes the leading coordinates of an embedding.
    pub(crate) fn project(&self, embedding: &[f32], out: &mut [f32]) {
        let mut rotated = embedding.to_vec();
        self.rotation.apply(&mut rotated);
        if let Some(axis) = &self.axis {
            axis.turn(&mut rotated);
        }
        out.copy_from_slice(&rotated[..out.len()]);
    }

    /// Writes the sketch of an embedding.
    pub(crate) fn encode(&self, embedding: &[f32], out: &mut [u8]) {
        let mut coordinates = vec![0.0; self.coder.components()];
        self.project(embedding, &mut coordinates);
        if let Some(axis) = &self.axis {
            axis.to_code(&mut coordinates);
        }
        self.coder.encode(&coordinates, out);
        mark_untrained(out);
    }

    /// Returns the embedding that a sketch stands for. It has no bias, and is therefore longer than the row.
    pub(crate) fn reconstruct(&self, sketch: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; self.dim];
        let coded = &mut values[..self.coder.components()];
        match &self.axis {
            Some(axis) => {
                self.coder.decode_unscaled(sketch, coded);
                axis.unbiased(coded, self.kept);
                axis.turn_back(&mut values);
            }
            None => self.coder.decode(sketch, coded),
        }
        self.rotation.invert(&mut values);
        values
    }

    /// Returns what scoring needs to know of a query.
    pub(crate) fn terms(&self, query: &[f32]) -> QueryTerms {
        let mut projected = vec![0.0; self.coder.components()];
        self.project(query, &mut projected);
        let along = self.axis.as_ref().map_or(0.0, |axis| axis.position(query));
        QueryTerms {
            mean_similarity: 0.0,
            norm_squared: (dot(query, query) - along * along).max(0.0),
            outside: 0.0,
            axis: self.axis.as_ref().map(|axis| axis.terms(query, self.kept)),
            projected,
        }
    }

    /// Prepares a query for scoring.
    pub(crate) fn query(&self, query: &[f32]) -> SketchQuery {
        SketchQuery::new(self.terms(query), &self.coder)
    }
}

/// Returns the number of bits of each coded coordinate for a budget in bits, as even as it can be. The
/// numbers do not increase, and the first coordinate has the whole first state to itself.
fn even_bits(dim: usize, budget: usize) -> Vec<u8> {
    let (others, rest) = (dim.saturating_sub(1), budget.saturating_sub(STATE_BITS));
    let limit = usize::from(MAX_BITS);
    let (each, more) = match others {
        0 => (limit, 0),
        _ if rest / others >= limit => (limit, 0),
        _ => (rest / others, rest % others),
    };
    let mut component_bits = vec![(each + 1) as u8; more];
    component_bits.resize(if each > 0 { others } else { more }, each as u8);
    component_bits.insert(0, component_bits.first().copied().unwrap_or(MAX_BITS));
    component_bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trellis::code_bits;
    use proptest::prelude::*;

    /// Returns a vector of unit length.
    fn unit(dim: usize, rng: &mut leann_vector::Rng) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..dim).map(|_| (rng.next() >> 40) as f32 / 8_388_608.0 - 1.0).collect();
        assert!(leann_vector::normalize(&mut vector));
        vector
    }

    proptest! {
        #[test]
        fn bits_are_even_and_use_the_budget(dim in 1usize..600, budget in STATE_BITS..4000) {
            let bits = even_bits(dim, budget);
            prop_assert!(!bits.is_empty() && bits.len() <= dim);
            prop_assert!(code_bits(&bits) <= budget);
            prop_assert!(bits.windows(2).all(|pair| pair[0] >= pair[1]));
            prop_assert!(bits.iter().all(|bits| (1..=MAX_BITS).contains(bits)));
            prop_assert!(bits[0] - bits[bits.len() - 1] <= 1);
            let full = bits.len() == dim && bits.iter().all(|bits| *bits == MAX_BITS);
            prop_assert!(full || code_bits(&bits) == budget);
        }

        #[test]
        fn a_reconstruction_points_along_its_row(seed in any::<u64>(), bytes in 40usize..120) {
            let sketcher = Untrained::with_bytes(384, seed, bytes);
            let mut rng = leann_vector::Rng::new(seed);
            let row = unit(384, &mut rng);
            let mut sketch = vec![0; bytes];
            sketcher.encode(&row, &mut sketch);
            let back = sketcher.reconstruct(&sketch);
            prop_assert!((dot(&back, &row) - 1.0).abs() < 0.3, "{}", dot(&back, &row));
        }

        #[test]
        fn a_row_is_its_position_along_the_axis_and_a_direction(
            seed in any::<u64>(), dim in 100usize..400, length in 0.01f32..0.99, near in 0.0f32..1.0,
            on_coordinate in any::<bool>(),
        ) {
            let mut rng = leann_vector::Rng::new(seed);
            let mut direction = unit(dim, &mut rng);
            if on_coordinate {
                direction.fill(0.0);
                direction[0] = if seed.is_multiple_of(2) { 1.0 } else { -1.0 };
                Rotation::new(dim, seed).invert(&mut direction);
            }
            let mean: Vec<f32> = direction.iter().map(|value| value * length).collect();
            let sketcher = Untrained::around(&mean, dim, seed, dim.div_ceil(8) + 2);
            let mut row = unit(dim, &mut rng);
            row.iter_mut().zip(&direction).for_each(|(value, along)| *value += 2.0 * near * along);
            prop_assert!(leann_vector::normalize(&mut row));
            let position = dot(&row, &direction);
            let mut coordinates = vec![0.0; sketcher.coder.components()];
            sketcher.project(&row, &mut coordinates);
            prop_assert!((coordinates[0] - position).abs() < 1e-4, "{} for {position}", coordinates[0]);
            let mut sketch = vec![0; dim.div_ceil(8) + 2];
            sketcher.encode(&row, &mut sketch);
            let back = sketcher.reconstruct(&sketch);
            let off = (dot(&back, &direction) - position).abs();
            prop_assert!(off < 8.0 * axis::position_error(position - length).sqrt() + 0.03, "{off} off");
            let mut estimates = Vec::new();
            for query in [&row, &direction, &unit(dim, &mut rng)] {
                sketcher.query(query).score(&sketch, &mut estimates);
                let estimate = estimates.pop().unwrap();
                prop_assert!((estimate.similarity - dot(&back, query)).abs() < 1e-3);
                let off = (estimate.similarity - dot(&row, query)).abs();
                prop_assert!(off < 6.0 * estimate.error + 0.06, "{off} off, error {}", estimate.error);
            }
        }

        #[test]
        fn a_mean_longer_than_rows_is_left_out(value in 1.0f32..1e30) {
            prop_assert!(Untrained::around(&[value; 64], 64, 1, 10).axis.is_none());
        }
    }

    #[test]
    fn positions_are_as_precise_as_errors_say() {
        let mut rng = leann_vector::Rng::new(3);
        for (length, spread) in [(0.865f32, 0.02f32), (0.36, 0.1), (0.2, 0.1), (0.1, 0.05), (0.86, 0.8)] {
            let direction = unit(384, &mut rng);
            let mean: Vec<f32> = direction.iter().map(|value| value * length).collect();
            let sketcher = Untrained::around(&mean, 384, 5, 54);
            let mut squares = 0.0;
            for i in 0..200 {
                let mut row = unit(384, &mut rng);
                let (before, position) =
                    (dot(&row, &direction), (length - spread * ((i % 21) as f32 - 3.0) / 9.0).min(0.99));
                row.iter_mut().zip(&direction).for_each(|(value, along)| *value -= before * along);
                assert!(leann_vector::normalize(&mut row));
                let beside = (1.0 - position * position).sqrt();
                row.iter_mut()
                    .zip(&direction)
                    .for_each(|(value, along)| *value = beside * *value + position * along);
                let mut sketch = vec![0; 54];
                sketcher.encode(&row, &mut sketch);
                let off = dot(&sketcher.reconstruct(&sketch), &direction) - position;
                squares += off * off / axis::position_error(position - length);
            }
            let mean = squares / 200.0;
            assert!(mean < 1.5, "{mean} at {length}, {spread}");
        }
    }
}
