//! A seeded random rotation of any dimension, of which only the seed is stored.
//!
//! Each round flips random signs and applies a Hadamard transform (Ailon and Chazelle, "The fast
//! Johnson-Lindenstrauss transform", 2009). A Hadamard transform needs a power of two. As in the RaBitQ
//! library, the rounds alternate between the first and the last block of the largest power of two that fits.
//! The blocks may overlap in one value only, so the values are put in a random order halfway.

use leann_vector::Rng;

/// Rounds of sign flips and transforms: each block is transformed twice.
const ROUNDS: usize = 4;

/// The round before which the values are put in another order.
const MIDDLE: usize = ROUNDS / 2;

/// An orthogonal map of `dim` dimensions onto themselves.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    /// `ROUNDS` times `dim` factors of +1 or -1.
    signs: Vec<f32>,
    /// The order in the second half: place `i` takes the value that was at `order[i]`.
    order: Vec<usize>,
    dim: usize,
    /// Length of the values that a round transforms, the largest power of two up to `dim`.
    block: usize,
}

impl Rotation {
    /// Derives the rotation from its seed.
    pub(crate) fn new(dim: usize, seed: u64) -> Rotation {
        let mut rng = Rng::new(seed);
        let signs = (0..ROUNDS * dim).map(|_| if rng.next() >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        let order = rng.permutation(dim);
        Rotation { signs, order, dim, block: if dim == 0 { 0 } else { 1 << dim.ilog2() } }
    }

    /// Rotates `values` (`dim` of them) in place.
    pub(crate) fn apply(&self, values: &mut [f32]) {
        if self.dim == 0 {
            return;
        }
        for (round, signs) in self.signs.chunks_exact(self.dim).enumerate() {
            if round == MIDDLE {
                let before = values.to_vec();
                values.iter_mut().zip(&self.order).for_each(|(value, from)| *value = before[*from]);
            }
            flip(values, signs);
            self.mix(round, values);
        }
    }

    /// Undoes [`Rotation::apply`]: each of its steps is its own inverse.
    pub(crate) fn invert(&self, values: &mut [f32]) {
        if self.dim == 0 {
            return;
        }
        for (round, signs) in self.signs.chunks_exact(self.dim).enumerate().rev() {
            self.mix(round, values);
            flip(values, signs);
            if round == MIDDLE {
                let after = values.to_vec();
                self.order.iter().zip(&after).for_each(|(from, value)| values[*from] = *value);
            }
        }
    }

    /// Transforms the block of a round.
    fn mix(&self, round: usize, values: &mut [f32]) {
        let start = if round.is_multiple_of(2) { 0 } else { self.dim - self.block };
        hadamard(&mut values[start..start + self.block]);
    }
}

/// Multiplies values by their signs.
fn flip(values: &mut [f32], signs: &[f32]) {
    values.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
}

/// Applies the Hadamard transform in place, scaled to keep lengths. The number of values must be a power of
/// two.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (values.len() as f32).sqrt();
    values.iter_mut().for_each(|value| *value *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;
    use leann_vector::dot;

    #[test]
    fn keeps_inner_products_and_spreads_one_hot_vectors() {
        for dim in [1, 2, 3, 5, 96, 127, 128, 384, 1000] {
            let rotation = Rotation::new(dim, 9);
            let mut a: Vec<f32> = (0..dim).map(|i| ((i * 7 + 1) % 11) as f32 - 5.0).collect();
            let mut b: Vec<f32> = (0..dim).map(|i| ((i * 5 + 2) % 13) as f32 - 6.0).collect();
            let before = (dot(&a, &b), dot(&a, &a), dot(&b, &b));
            rotation.apply(&mut a);
            rotation.apply(&mut b);
            let tolerance = 1e-4 * (before.1 * before.2).sqrt().max(1.0);
            assert!((dot(&a, &b) - before.0).abs() < tolerance, "dimension {dim}");
            let mut back = a.clone();
            rotation.invert(&mut back);
            let moved = (0..dim).map(|i| (back[i] - (((i * 7 + 1) % 11) as f32 - 5.0)).abs());
            assert!(moved.fold(0.0, f32::max) < 1e-3, "dimension {dim}");
            assert!((dot(&a, &a) - before.1).abs() < 1e-4 * before.1.max(1.0), "dimension {dim}");
            if dim >= 96 {
                for place in [0, dim / 2, dim - 1] {
                    let mut hot = vec![0.0; dim];
                    hot[place] = 1.0;
                    rotation.apply(&mut hot);
                    let largest = hot.iter().fold(0f32, |m, v| m.max(v.abs()));
                    assert!(largest < 6.0 / (dim as f32).sqrt(), "dimension {dim}: {largest} in one place");
                }
            }
        }
    }

    #[test]
    fn spreads_what_lies_in_one_half() {
        // At these dimensions the two blocks overlap in 1, 12 and 24 values.
        for dim in [511, 500, 1000] {
            let half = dim / 2;
            let mut rng = Rng::new(3);
            let uniform = |rng: &mut Rng| (rng.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
            let mut values: Vec<f32> =
                (0..dim).map(|i| if i < half { uniform(&mut rng) } else { 0.0 }).collect();
            let all = dot(&values, &values);
            Rotation::new(dim, 4).apply(&mut values);
            let share = dot(&values[..half], &values[..half]) / all;
            assert!((share - 0.5).abs() < 0.1, "dimension {dim}: {share} in the first half");
        }
    }
}
