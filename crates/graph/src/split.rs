//! A full page in two: which nodes go to the new page.
//!
//! 2-means on the decoded sketches, so that no model and no row is needed. The start is the direction of greatest
//! variance (power iteration), which makes it deterministic and saves restarts.

const POWER_ROUNDS: usize = 12;
const LLOYD_ROUNDS: usize = 16;

/// For each of the n vectors (row-major, n x d) whether it goes to the new page. Either side gets at least
/// `min_share` of them (at most one half), and at least one when n >= 2. Identical vectors are halved.
pub fn split(vectors: &[f32], d: usize, min_share: f32) -> Vec<bool> {
    let n = vectors.len().checked_div(d).unwrap_or(0);
    if n < 2 {
        return vec![false; n];
    }
    let share = if min_share.is_finite() { min_share.clamp(0.0, 0.5) } else { 0.5 };
    let least = ((share * n as f32) as usize).clamp(1, n / 2);
    let mut axis = principal_axis(vectors, d);
    let mut sides = cut(&project(vectors, d, &axis), offset_of_mean(vectors, d, &axis), least);
    for _ in 0..LLOYD_ROUNDS {
        let (first, second) = (mean_of(vectors, d, &sides, false), mean_of(vectors, d, &sides, true));
        axis.iter_mut().zip(first.iter().zip(&second)).for_each(|(axis, (a, b))| *axis = b - a);
        let middle: f32 =
            axis.iter().zip(first.iter().zip(&second)).map(|(axis, (a, b))| axis * 0.5 * (a + b)).sum();
        let next = cut(&project(vectors, d, &axis), middle, least);
        if next == sides {
            break;
        }
        sides = next;
    }
    sides
}

/// Those beyond `middle` are on the new side, but at least `least` on either. Ties go by position.
fn cut(positions: &[f32], middle: f32, least: usize) -> Vec<bool> {
    let n = positions.len();
    let beyond = positions.iter().filter(|&&p| p > middle).count();
    // When nothing lies apart the choice is free, and halves leave the most room.
    let flat = beyond == 0 || beyond == n;
    let wanted = if flat && spread_is_noise(positions) { n / 2 } else { beyond.clamp(least, n - least) };
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| positions[b].total_cmp(&positions[a]).then(b.cmp(&a)));
    let mut sides = vec![false; n];
    for &index in &order[..wanted] {
        sides[index] = true;
    }
    sides
}

fn spread_is_noise(positions: &[f32]) -> bool {
    let (low, high) =
        positions.iter().fold((f32::MAX, f32::MIN), |(low, high), &p| (low.min(p), high.max(p)));
    high - low <= 1e-6 * high.abs().max(low.abs())
}

fn principal_axis(vectors: &[f32], d: usize) -> Vec<f32> {
    let mean = mean(vectors, d);
    let from_mean = |vector: &[f32]| -> Vec<f32> { vector.iter().zip(&mean).map(|(x, m)| x - m).collect() };
    let far = vectors.chunks_exact(d).map(from_mean).max_by(|a, b| dot(a, a).total_cmp(&dot(b, b)));
    let mut axis = far.unwrap_or_else(|| vec![0.0; d]);
    for _ in 0..POWER_ROUNDS {
        let length = dot(&axis, &axis).sqrt();
        if length <= f32::MIN_POSITIVE {
            break;
        }
        axis.iter_mut().for_each(|x| *x /= length);
        let offset = dot(&mean, &axis);
        let mut next = vec![0.0; d];
        for vector in vectors.chunks_exact(d) {
            let weight = dot(vector, &axis) - offset;
            next.iter_mut()
                .zip(vector.iter().zip(&mean))
                .for_each(|(next, (x, m))| *next += weight * (x - m));
        }
        axis = next;
    }
    let length = dot(&axis, &axis).sqrt();
    if length > f32::MIN_POSITIVE {
        axis.iter_mut().for_each(|x| *x /= length);
    }
    axis
}

fn offset_of_mean(vectors: &[f32], d: usize, axis: &[f32]) -> f32 {
    dot(&mean(vectors, d), axis)
}

fn project(vectors: &[f32], d: usize, axis: &[f32]) -> Vec<f32> {
    vectors.chunks_exact(d).map(|vector| dot(vector, axis)).collect()
}

fn mean(vectors: &[f32], d: usize) -> Vec<f32> {
    mean_where(vectors, d, |_| true)
}

fn mean_of(vectors: &[f32], d: usize, sides: &[bool], side: bool) -> Vec<f32> {
    mean_where(vectors, d, |index| sides[index] == side)
}

fn mean_where(vectors: &[f32], d: usize, belongs: impl Fn(usize) -> bool) -> Vec<f32> {
    let mut sum = vec![0.0; d];
    let mut count = 0.0;
    for (_, vector) in vectors.chunks_exact(d).enumerate().filter(|(index, _)| belongs(*index)) {
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        count += 1.0;
    }
    sum.iter_mut().for_each(|sum| *sum /= f32::max(count, 1.0));
    sum
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
