//! The little linear algebra that encoding and queries need; training uses nalgebra.

const LANES: usize = 16;

/// The sum of `term` over the pairs of both. Sixteen running sums let the compiler use whatever vector registers the target has.
#[inline(always)]
fn summed(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| term(*x, *y)).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Inner product.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    summed(a, b, |x, y| x * y)
}

/// The square of the L2 distance.
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    summed(a, b, |x, y| (x - y) * (x - y))
}

/// `matrix` (rows of `vector.len()` values, one after the other) times `vector`.
pub(crate) fn multiply(matrix: &[f32], vector: &[f32], out: &mut [f32]) {
    for (row, value) in matrix.chunks_exact(vector.len()).zip(out) {
        *value = dot(row, vector);
    }
}

/// Takes from `remainder` the combination of `matrix`'s rows with the given coefficients.
pub(crate) fn subtract_combination(matrix: &[f32], coefficients: &[f32], remainder: &mut [f32]) {
    for (row, coefficient) in matrix.chunks_exact(remainder.len()).zip(coefficients) {
        for (value, entry) in remainder.iter_mut().zip(row) {
            *value -= coefficient * entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_handles_every_length() {
        for n in 0..70usize {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let expected = (0..n).map(|i| i * i).sum::<usize>() as f32;
            assert_eq!(dot(&a, &a), expected);
            assert_eq!(squared_distance(&a, &vec![0.0; n]), expected);
        }
    }
}
