//! Principal directions of a sample, and how much variance a *new* row has along them.

use nalgebra::{DMatrixView, DMatrixViewMut, Dyn, MatrixView};

use crate::eigen::{self, Unfinished, filled, with_room};

/// Below this many rows per dimension the sample's own variances mislead (too large along the leading directions, too small along
/// the last), and variances are cross-validated instead.
const ROWS_PER_DIM: usize = 8;
/// One part in so many is left out at a time.
const FOLDS: usize = 5;
/// Rows of which products are summed at once.
const ROWS_AT_ONCE: usize = 1024;
/// Parts are left out in turn until about so many rows have been looked at (each of them costs another decomposition).
const VALIDATION_ROWS: usize = 200;

/// Directions of unit length as rows of `dim` values, in the order of falling variance, and the variance along each.
pub(crate) struct Principal {
    pub(crate) basis: Vec<f32>,
    pub(crate) variances: Vec<f64>,
}

/// Up to `limit` principal directions of `rows` (centred, `dim` values each).
pub(crate) fn principal(
    rows: &[f32],
    dim: usize,
    limit: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Principal, Unfinished> {
    let mut found = eigen(rows, dim, limit, stop)?;
    let count = rows.len() / dim;
    if count < ROWS_PER_DIM * dim {
        found.variances = cross_validated(rows, dim, limit, stop)?;
        found.variances.resize(found.basis.len() / dim, 0.0);
    }
    Ok(found)
}

/// Eigenvectors of the covariance, by way of whichever Gram matrix is smaller.
fn eigen(rows: &[f32], dim: usize, limit: usize, stop: &dyn Fn() -> bool) -> Result<Principal, Unfinished> {
    let count = rows.len() / dim;
    let wide = count < dim;
    let size = if wide { count } else { dim };
    let gram = if wide { products(rows, dim, stop)? } else { covariance(rows, dim, stop)? };
    let found = eigen::symmetric(gram, size, stop)?;
    // What is below this is rounding error, and its direction is arbitrary.
    let floor = found.values.first().map_or(0.0, |largest| largest.max(0.0) * 1e-6);
    let mut principal =
        Principal { basis: with_room(limit.min(found.values.len()) * dim)?, variances: Vec::new() };
    for (value, vector) in found.values.iter().zip(found.vectors.chunks_exact(size)).take(limit) {
        if *value <= floor {
            break;
        }
        let direction = if wide { combination(rows, dim, vector) } else { Some(vector.to_vec()) };
        if let Some(direction) = direction {
            principal.basis.extend(direction);
            principal.variances.push(value / count as f64);
        }
    }
    Ok(principal)
}

/// The sum of the rows' outer products. Some rows at a time, so that it can be stopped.
fn covariance(rows: &[f32], dim: usize, stop: &dyn Fn() -> bool) -> Result<Vec<f64>, Unfinished> {
    let mut sum = filled(0f64, dim * dim)?;
    let mut product = filled(0f32, dim * dim)?;
    for some in rows.chunks(ROWS_AT_ONCE * dim) {
        if stop() {
            return Err(Unfinished::Stopped);
        }
        // nalgebra stores columns one after the other, so that each row of the sample is a column here.
        let columns = DMatrixView::from_slice(some, dim, some.len() / dim);
        DMatrixViewMut::from_slice(&mut product, dim, dim).gemm(1.0, &columns, &transposed(some, dim), 0.0);
        sum.iter_mut().zip(&product).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    mirror(&mut sum, dim);
    Ok(sum)
}

/// The rows' inner products.
fn products(rows: &[f32], dim: usize, stop: &dyn Fn() -> bool) -> Result<Vec<f64>, Unfinished> {
    if stop() {
        return Err(Unfinished::Stopped);
    }
    let count = rows.len() / dim;
    let sample = DMatrixView::from_slice(rows, dim, count);
    let mut product = filled(0f32, count * count)?;
    DMatrixViewMut::from_slice(&mut product, count, count).gemm(1.0, &transposed(rows, dim), &sample, 0.0);
    let mut wide = with_room(count * count)?;
    wide.extend(product.iter().map(|value| f64::from(*value)));
    mirror(&mut wide, count);
    Ok(wide)
}

/// The rows as rows of a matrix, without a copy.
fn transposed(rows: &[f32], dim: usize) -> MatrixView<'_, f32, Dyn, Dyn, Dyn, Dyn> {
    MatrixView::from_slice_with_strides_generic(rows, Dyn(rows.len() / dim), Dyn(dim), Dyn(dim), Dyn(1))
}

/// Makes a matrix exactly symmetric that is so but for rounding.
fn mirror(matrix: &mut [f64], n: usize) {
    for i in 0..n {
        for j in 0..i {
            matrix[j * n + i] = matrix[i * n + j];
        }
    }
}

/// The rows with these weights added up, at unit length. None if nothing is left.
fn combination(rows: &[f32], dim: usize, weights: &[f32]) -> Option<Vec<f32>> {
    let mut sum = vec![0f64; dim];
    for (row, weight) in rows.chunks_exact(dim).zip(weights) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*weight) * f64::from(*value));
    }
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    (length.is_normal()).then(|| sum.iter().map(|value| (value / length) as f32).collect())
}

/// The variance of rows that were not looked at along the first, second, ... direction found without them, averaged over folds and made to
/// fall (Bartz, "Cross-validation based nonlinear shrinkage", 2016).
fn cross_validated(
    rows: &[f32],
    dim: usize,
    limit: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<f64>, Unfinished> {
    let count = rows.len() / dim;
    let mut sums: Vec<(f64, usize)> = Vec::new();
    for fold in 0..(VALIDATION_ROWS * FOLDS).div_ceil(count).min(FOLDS) {
        let (from, to) = (count * fold / FOLDS * dim, count * (fold + 1) / FOLDS * dim);
        let mut others = with_room(rows.len() - (to - from))?;
        others.extend_from_slice(&rows[..from]);
        others.extend_from_slice(&rows[to..]);
        let found = eigen(&others, dim, limit, stop)?;
        sums.resize(sums.len().max(found.variances.len()), (0.0, 0));
        for (direction, (sum, seen)) in found.basis.chunks_exact(dim).zip(&mut sums) {
            for row in rows[from..to].chunks_exact(dim) {
                *sum += f64::from(crate::linear::dot(direction, row)).powi(2);
                *seen += 1;
            }
        }
    }
    Ok(falling(&sums.iter().map(|(sum, seen)| sum / (*seen).max(1) as f64).collect::<Vec<_>>()))
}

/// The falling sequence nearest to `values` (pool adjacent violators).
fn falling(values: &[f64]) -> Vec<f64> {
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for value in values {
        pools.push((*value, 1));
        while let [.., (before, m), (last, n)] = pools[..] {
            if before >= last {
                break;
            }
            pools.truncate(pools.len() - 2);
            pools.push(((before * m as f64 + last * n as f64) / (m + n) as f64, m + n));
        }
    }
    pools.iter().flat_map(|(value, n)| std::iter::repeat_n(*value, *n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Rows with independent values of the given standard deviations, nearly Gaussian.
    fn sample(count: usize, deviations: &[f32]) -> Vec<f32> {
        let mut random = Random::new(5);
        let mut uniform = || (random.next() >> 40) as f32 / (1u32 << 24) as f32;
        (0..count)
            .flat_map(|_| {
                deviations
                    .iter()
                    .map(|d| d * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn finds_the_axes_of_a_stretched_cloud() {
        let rows = sample(500, &[1.0, 5.0, 0.1, 2.0]);
        let found = principal(&rows, 4, 3, &|| false).unwrap();
        assert_eq!(found.variances.len(), 3);
        for (direction, axis) in found.basis.chunks_exact(4).zip([1, 3, 0]) {
            assert!(direction[axis].abs() > 0.99, "{direction:?}");
        }
        assert!((found.variances[0] / 25.0 - 1.0).abs() < 0.15);
    }

    #[test]
    fn a_sample_smaller_than_the_dimension_does_not_fool_it() {
        // All directions alike: any apparent structure is chance, and new rows know nothing of it.
        let rows = sample(100, &[1.0; 200]);
        let naive = eigen(&rows, 200, 90, &|| false).unwrap();
        let found = principal(&rows, 200, 90, &|| false).unwrap();
        assert!(naive.variances[0] > 4.0, "{}", naive.variances[0]);
        assert!(found.variances[0] < 1.6, "{}", found.variances[0]);
        let norm: f32 = found.basis[..200].iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-3);
    }

    #[test]
    fn pools_until_it_falls() {
        assert_eq!(falling(&[3.0, 1.0, 2.0, 0.5]), [3.0, 1.5, 1.5, 0.5]);
        assert_eq!(falling(&[1.0, 2.0, 3.0]), [2.0, 2.0, 2.0]);
        assert!(falling(&[]).is_empty());
    }

    #[test]
    fn rows_that_do_not_differ_have_no_directions() {
        assert!(principal(&[0.0; 400], 4, 4, &|| false).unwrap().basis.is_empty());
    }
}
