//! A seeded random rotation that stores nothing but its seed, for any dimension.
//!
//! Rounds of random sign flips and Hadamard transforms (Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform",
//! 2009). A Hadamard transform needs a power of two; as in the RaBitQ library, rounds alternate between the first and the
//! last block of the largest power of two that fits, which overlap, so that every value mixes with every other.

use crate::random::Random;

const ROUNDS: usize = 4;

/// An orthogonal map of `dim` dimensions onto themselves.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    /// `ROUNDS` times `dim` factors of +1 or -1.
    signs: Vec<f32>,
    dim: usize,
    block: usize,
}

impl Rotation {
    pub(crate) fn new(dim: usize, seed: u64) -> Rotation {
        let mut random = Random::new(seed);
        let signs = (0..ROUNDS * dim).map(|_| if random.next() >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        Rotation { signs, dim, block: if dim == 0 { 0 } else { 1 << dim.ilog2() } }
    }

    /// Rotates `values` (`dim` of them) in place.
    pub(crate) fn apply(&self, values: &mut [f32]) {
        if self.dim == 0 {
            return;
        }
        for (round, signs) in self.signs.chunks_exact(self.dim).enumerate() {
            for (value, sign) in values.iter_mut().zip(signs) {
                *value *= sign;
            }
            let start = if round % 2 == 0 { 0 } else { self.dim - self.block };
            hadamard(&mut values[start..start + self.block]);
        }
    }
}

/// The Hadamard transform of a power of two of values, scaled to keep lengths.
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
    use crate::linear::dot;

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
            assert!((dot(&a, &a) - before.1).abs() < 1e-4 * before.1.max(1.0), "dimension {dim}");
            if dim >= 96 {
                let mut hot = vec![0.0; dim];
                hot[dim / 2] = 1.0;
                rotation.apply(&mut hot);
                let largest = hot.iter().fold(0f32, |m, v| m.max(v.abs()));
                assert!(largest < 6.0 / (dim as f32).sqrt(), "dimension {dim}: {largest} left in one place");
            }
        }
    }
}
