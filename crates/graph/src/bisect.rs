//! Bisecting a full page: which nodes go to the new page.
//!
//! 2-means on the decoded sketches, so that neither the model nor the rows are needed. It starts from the
//! direction of greatest variance (power iteration), which makes it deterministic and saves restarts.

use leann_vector::{dot, normalize};

/// Rounds of power iteration. The axis only starts the 2-means, so it need not be exact.
const POWER_ROUNDS: usize = 12;
/// Rounds of 2-means at most; most pages need fewer.
const MAX_LLOYD_ROUNDS: usize = 16;
/// Extent of positions, relative to the largest, up to which they differ by rounding only.
const ROUNDING: f32 = 1e-6;

/// Returns, for each of n vectors (row-major, n x d), whether it goes to the new page.
///
/// Either side gets at least `min_share` of them (at most one half), and at least one if n >= 2. Identical
/// vectors are halved.
pub fn bisect(vectors: &[f32], d: usize, min_share: f32) -> Vec<bool> {
    let n = vectors.len().checked_div(d).unwrap_or(0);
    if n < 2 {
        return vec![false; n];
    }
    let share = if min_share.is_finite() { min_share.clamp(0.0, 0.5) } else { 0.5 };
    let min_count = ((share * n as f32) as usize).clamp(1, n / 2);
    let mean = mean_where(vectors, d, |_| true);
    let mut axis = principal_axis(vectors, &mean);
    let mut sides = cut(&project(vectors, d, &axis), dot(&mean, &axis), min_count);
    for _ in 0..MAX_LLOYD_ROUNDS {
        let old = mean_where(vectors, d, |index| !sides[index]);
        let new = mean_where(vectors, d, |index| sides[index]);
        let means = || old.iter().zip(&new);
        axis.iter_mut().zip(means()).for_each(|(axis, (a, b))| *axis = b - a);
        let middle: f32 = axis.iter().zip(means()).map(|(axis, (a, b))| axis * 0.5 * (a + b)).sum();
        let next = cut(&project(vectors, d, &axis), middle, min_count);
        if next == sides {
            break;
        }
        sides = next;
    }
    sides
}

/// Puts the positions beyond `middle` on the new side, but at least `min_count` on either. Ties go by index.
fn cut(positions: &[f32], middle: f32, min_count: usize) -> Vec<bool> {
    let n = positions.len();
    let beyond = positions.iter().filter(|&&p| p > middle).count();
    // When nothing lies apart the choice is free, and halves leave the most room.
    let one_sided = beyond == 0 || beyond == n;
    let wanted =
        if one_sided && are_equal(positions) { n / 2 } else { beyond.clamp(min_count, n - min_count) };
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| positions[b].total_cmp(&positions[a]).then(b.cmp(&a)));
    let mut sides = vec![false; n];
    for &index in &order[..wanted] {
        sides[index] = true;
    }
    sides
}

/// Returns whether positions differ by no more than rounding.
fn are_equal(positions: &[f32]) -> bool {
    let (low, high) =
        positions.iter().fold((f32::MAX, f32::MIN), |(low, high), &p| (low.min(p), high.max(p)));
    high - low <= ROUNDING * high.abs().max(low.abs())
}

/// Returns the unit-length direction of greatest variance, found by power iteration from the vector farthest
/// from the mean; the origin if all vectors are alike.
fn principal_axis(vectors: &[f32], mean: &[f32]) -> Vec<f32> {
    let d = mean.len();
    let from_mean = |vector: &[f32]| -> Vec<f32> { vector.iter().zip(mean).map(|(x, m)| x - m).collect() };
    let far = vectors.chunks_exact(d).map(from_mean).max_by(|a, b| dot(a, a).total_cmp(&dot(b, b)));
    let mut axis = far.unwrap_or_else(|| vec![0.0; d]);
    for _ in 0..POWER_ROUNDS {
        if !normalize(&mut axis) {
            break;
        }
        let offset = dot(mean, &axis);
        let mut next = vec![0.0; d];
        for vector in vectors.chunks_exact(d) {
            let weight = dot(vector, &axis) - offset;
            next.iter_mut().zip(vector.iter().zip(mean)).for_each(|(next, (x, m))| *next += weight * (x - m));
        }
        axis = next;
    }
    let _ = normalize(&mut axis);
    axis
}

/// Returns the position of each vector along the axis.
fn project(vectors: &[f32], d: usize, axis: &[f32]) -> Vec<f32> {
    vectors.chunks_exact(d).map(|vector| dot(vector, axis)).collect()
}

/// Returns the mean of the vectors whose index is chosen; the origin if none is.
fn mean_where(vectors: &[f32], d: usize, chosen: impl Fn(usize) -> bool) -> Vec<f32> {
    let mut sum = vec![0.0; d];
    let mut count = 0.0;
    for (_, vector) in vectors.chunks_exact(d).enumerate().filter(|(index, _)| chosen(*index)) {
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        count += 1.0;
    }
    sum.iter_mut().for_each(|sum| *sum /= f32::max(count, 1.0));
    sum
}
