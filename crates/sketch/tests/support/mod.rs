//! Synthetic numbers that the tests of behavior share.

use leann_vector::Rng;

/// Returns a source of numbers that are nearly standard normal: sums of twelve uniform ones.
pub fn gaussian(seed: u64) -> impl FnMut() -> f32 {
    let mut rng = Rng::new(seed);
    move || {
        let mut uniform = || (rng.next() >> 40) as f32 / (1u32 << 24) as f32;
        (0..12).map(|_| uniform()).sum::<f32>() - 6.0
    }
}
