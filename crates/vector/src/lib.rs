//! Arithmetic and hashing of dense vectors, and a seeded random generator whose results are the same on every
//! platform.
//!
//! Each sum is kept as several partial sums, which the compiler holds in the vector registers of the target.

#![forbid(unsafe_code)]

mod rng;

use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

pub use rng::Rng;
use rustc_hash::FxHasher;

/// Partial sums of a sum over a vector. Fixed, because the order of additions decides the last bits of the
/// result.
const LANES: usize = 16;

/// Sums `term` over the pairs of two vectors, up to the length of the shorter one.
#[inline(always)]
fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let length = a.len().min(b.len());
    let (a_chunks, b_chunks) = (a[..length].chunks_exact(LANES), b[..length].chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| term(*x, *y)).sum();
    let mut sums = [0f32; LANES];
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Returns a hash of the bits of a vector. Equal vectors have equal hashes; those of different ones differ
/// but for about one pair in 2^64, unless someone chooses them.
pub fn hash(values: &[f32]) -> u64 {
    let mut hasher = BuildHasherDefault::<FxHasher>::default().build_hasher();
    for pair in values.chunks(2) {
        let high = pair.get(1).map_or(0, |value| value.to_bits());
        hasher.write_u64(u64::from(high) << 32 | u64::from(pair[0].to_bits()));
    }
    Rng::new(hasher.finish()).next()
}

/// Returns the inner product, over the length of the shorter vector.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_of(a, b, |x, y| x * y)
}

/// Returns the square of the L2 distance, over the length of the shorter vector.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    sum_of(a, b, |x, y| (x - y) * (x - y))
}

/// Returns the square of the L2 distance of two vectors of the same length, summed in `f64`. Distances that
/// users see come from this sum.
///
/// The same two vectors give the same bits, in either order, and a vector and itself give 0.
pub fn exact_squared_distance(a: &[f32], b: &[f32]) -> f64 {
    debug_assert_eq!(a.len(), b.len());
    let square = |(a, b): (&f32, &f32)| {
        let difference = f64::from(*a) - f64::from(*b);
        difference * difference
    };
    let mut sums = [0f64; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for (sum, pair) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += square(pair);
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(square).sum::<f64>()
}

/// Scales a vector to unit length. If its length is zero or not finite, leaves it as it is and returns false.
///
/// The squares are summed in `f64`, which loses neither those of large values nor those of small ones.
#[must_use]
pub fn normalize(vector: &mut [f32]) -> bool {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    if !(square.is_finite() && square > 0.0) {
        return false;
    }
    let scale = 1.0 / square.sqrt();
    for x in vector.iter_mut() {
        *x = (f64::from(*x) * scale) as f32;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_tell_vectors_apart() {
        let mut seen = std::collections::HashSet::new();
        for i in 0..1000 {
            let vector: Vec<f32> = (0..7).map(|j| if i % 7 == j { i as f32 } else { 0.25 }).collect();
            assert_eq!(hash(&vector), hash(&vector.clone()));
            assert!(seen.insert(hash(&vector)), "{vector:?}");
        }
        assert_ne!(hash(&[1.0]), hash(&[1.0, 0.0, 0.0]));
        hash(&[]);
    }

    #[test]
    fn sums_cover_every_length() {
        for n in 0..70usize {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let expected = (0..n).map(|i| i * i).sum::<usize>() as f32;
            assert_eq!(dot(&a, &a), expected);
            assert_eq!(squared_distance(&a, &vec![0.0; n]), expected);
            assert_eq!(exact_squared_distance(&a, &vec![0.0; n]), f64::from(expected));
        }
    }

    #[test]
    fn the_shorter_vector_decides() {
        let long: Vec<f32> = (0..40).map(|i| i as f32).collect();
        for n in 0..40 {
            assert_eq!(dot(&long, &long[..n]), dot(&long[..n], &long[..n]));
            assert_eq!(squared_distance(&long[..n], &long), 0.0);
        }
    }

    #[test]
    fn a_vector_without_a_direction_is_left_alone() {
        for hopeless in [vec![], vec![0.0; 3], vec![f32::INFINITY, 1.0], vec![f32::NAN, 1.0]] {
            let mut vector = hopeless.clone();
            assert!(!normalize(&mut vector));
            assert_eq!(format!("{vector:?}"), format!("{hopeless:?}"));
        }
        let mut tiny = vec![3e-30f32, 4e-30];
        assert!(normalize(&mut tiny));
        assert!((tiny[0] - 0.6).abs() < 1e-6 && (tiny[1] - 0.8).abs() < 1e-6);
    }
}
