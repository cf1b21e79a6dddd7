//! Principal components of a sample, and how much variance a *new* row has along them.

use nalgebra::{DMatrixView, DMatrixViewMut, Dyn, MatrixView};

use crate::eigen;
use crate::error::SketchError;
use crate::try_vec::{try_filled, try_with_capacity};

/// Rows per dimension below which variances are cross-validated. The sample's own variances would be too
/// large along the leading components and too small along the last.
const ROWS_PER_DIM: usize = 8;

/// Parts of the sample in the cross-validation, of which one is left out at a time.
const FOLDS: usize = 5;

/// Rows whose outer products are summed at once, between two polls of `stop`.
const ROW_BATCH: usize = 1024;

/// Rows that suffice for the cross-validation. Each part that is left out costs another decomposition, so no
/// more parts are left out than hold this many rows.
const VALIDATION_ROWS: usize = 200;

/// The components of a sample in the order of falling variance.
pub(crate) struct PrincipalComponents {
    /// Components of unit length, `dim` values each, one after the other.
    pub(crate) basis: Vec<f32>,
    /// The variance of a new row along each component.
    pub(crate) variances: Vec<f64>,
}

/// Returns up to `limit` principal components of `rows` (centered, `dim` values each).
///
/// # Errors
///
/// [`SketchError::Stopped`] or [`SketchError::NoMemory`].
pub(crate) fn principal_components(
    rows: &[f32],
    dim: usize,
    limit: usize,
    stop: &dyn Fn() -> bool,
) -> Result<PrincipalComponents, SketchError> {
    let mut found = eigen(rows, dim, limit, stop)?;
    let count = rows.len() / dim;
    if count < ROWS_PER_DIM * dim {
        found.variances = cross_validated(rows, dim, limit, stop)?;
        found.variances.resize(found.basis.len() / dim, 0.0);
    }
    Ok(found)
}

/// Returns the eigenvectors of the covariance with the sample's own variances. Decomposes the covariance or
/// the matrix of the rows' inner products, whichever is smaller: they have the same eigenvalues except for
/// zeros.
fn eigen(
    rows: &[f32],
    dim: usize,
    limit: usize,
    stop: &dyn Fn() -> bool,
) -> Result<PrincipalComponents, SketchError> {
    let count = rows.len() / dim;
    let wide = count < dim;
    let size = if wide { count } else { dim };
    let gram = if wide { products(rows, dim, stop)? } else { covariance(rows, dim, stop)? };
    let found = eigen::symmetric(gram, size, stop)?;
    // A value below this is rounding error, and its component is arbitrary.
    let floor = found.values.first().map_or(0.0, |largest| largest.max(0.0) * 1e-6);
    let mut principal = PrincipalComponents {
        basis: try_with_capacity(limit.min(found.values.len()) * dim)?,
        variances: Vec::new(),
    };
    for (value, vector) in found.values.iter().zip(found.vectors.chunks_exact(size)).take(limit) {
        if *value <= floor {
            break;
        }
        let component = if wide { combination(rows, dim, vector) } else { Some(vector.to_vec()) };
        if let Some(component) = component {
            principal.basis.extend(component);
            principal.variances.push(value / count as f64);
        }
    }
    Ok(principal)
}

/// Returns the sum of the rows' outer products.
fn covariance(rows: &[f32], dim: usize, stop: &dyn Fn() -> bool) -> Result<Vec<f64>, SketchError> {
    let mut sum = try_filled(0f64, dim * dim)?;
    let mut product = try_filled(0f32, dim * dim)?;
    for batch in rows.chunks(ROW_BATCH * dim) {
        if stop() {
            return Err(SketchError::Stopped);
        }
        // nalgebra stores columns one after the other, so each row of the sample is a column here.
        let columns = DMatrixView::from_slice(batch, dim, batch.len() / dim);
        DMatrixViewMut::from_slice(&mut product, dim, dim).gemm(1.0, &columns, &transposed(batch, dim), 0.0);
        sum.iter_mut().zip(&product).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    mirror(&mut sum, dim);
    Ok(sum)
}

/// Returns the matrix of the rows' inner products.
fn products(rows: &[f32], dim: usize, stop: &dyn Fn() -> bool) -> Result<Vec<f64>, SketchError> {
    if stop() {
        return Err(SketchError::Stopped);
    }
    let count = rows.len() / dim;
    let sample = DMatrixView::from_slice(rows, dim, count);
    let mut product = try_filled(0f32, count * count)?;
    DMatrixViewMut::from_slice(&mut product, count, count).gemm(1.0, &transposed(rows, dim), &sample, 0.0);
    let mut wide = try_with_capacity(count * count)?;
    wide.extend(product.iter().map(|value| f64::from(*value)));
    mirror(&mut wide, count);
    Ok(wide)
}

/// Returns the rows as rows of a matrix, without a copy.
fn transposed(rows: &[f32], dim: usize) -> MatrixView<'_, f32, Dyn, Dyn, Dyn, Dyn> {
    MatrixView::from_slice_with_strides_generic(rows, Dyn(rows.len() / dim), Dyn(dim), Dyn(dim), Dyn(1))
}

/// Makes a matrix exactly symmetric that rounding has made slightly asymmetric.
fn mirror(matrix: &mut [f64], n: usize) {
    for i in 0..n {
        for j in 0..i {
            matrix[j * n + i] = matrix[i * n + j];
        }
    }
}

/// Returns the weighted sum of the rows, scaled to unit length; `None` if it has no length.
fn combination(rows: &[f32], dim: usize, weights: &[f32]) -> Option<Vec<f32>> {
    let mut sum = vec![0f64; dim];
    for (row, weight) in rows.chunks_exact(dim).zip(weights) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*weight) * f64::from(*value));
    }
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    (length.is_normal()).then(|| sum.iter().map(|value| (value / length) as f32).collect())
}

/// Returns the variance that rows have along the first, second and following components of a decomposition
/// without these rows, averaged over parts and made non-increasing (Bartz, "Cross-validation based nonlinear
/// shrinkage", 2016).
fn cross_validated(
    rows: &[f32],
    dim: usize,
    limit: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<f64>, SketchError> {
    let count = rows.len() / dim;
    let mut sums: Vec<(f64, usize)> = Vec::new();
    for fold in 0..(VALIDATION_ROWS * FOLDS).div_ceil(count).min(FOLDS) {
        let (from, to) = (count * fold / FOLDS * dim, count * (fold + 1) / FOLDS * dim);
        let mut others = try_with_capacity(rows.len() - (to - from))?;
        others.extend_from_slice(&rows[..from]);
        others.extend_from_slice(&rows[to..]);
        let found = eigen(&others, dim, limit, stop)?;
        sums.resize(sums.len().max(found.variances.len()), (0.0, 0));
        for (component, (sum, seen)) in found.basis.chunks_exact(dim).zip(&mut sums) {
            for row in rows[from..to].chunks_exact(dim) {
                *sum += f64::from(leann_vector::dot(component, row)).powi(2);
                *seen += 1;
            }
        }
    }
    Ok(non_increasing(&sums.iter().map(|(sum, seen)| sum / (*seen).max(1) as f64).collect::<Vec<_>>()))
}

/// Returns the non-increasing sequence nearest to `values` (pool adjacent violators).
fn non_increasing(values: &[f64]) -> Vec<f64> {
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
    use leann_vector::Rng;

    /// Rows with independent values of the given standard deviations, nearly Gaussian.
    fn sample(count: usize, deviations: &[f32]) -> Vec<f32> {
        let mut rng = Rng::new(5);
        let mut uniform = || (rng.next() >> 40) as f32 / (1u32 << 24) as f32;
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
        let found = principal_components(&rows, 4, 3, &|| false).unwrap();
        assert_eq!(found.variances.len(), 3);
        for (component, axis) in found.basis.chunks_exact(4).zip([1, 3, 0]) {
            assert!(component[axis].abs() > 0.99, "{component:?}");
        }
        assert!((found.variances[0] / 25.0 - 1.0).abs() < 0.15);
    }

    #[test]
    fn variances_of_a_sample_smaller_than_the_dimension_are_those_of_new_rows() {
        // All components have the same variance, so any structure of the sample is chance.
        let rows = sample(100, &[1.0; 200]);
        let own = eigen(&rows, 200, 90, &|| false).unwrap();
        let found = principal_components(&rows, 200, 90, &|| false).unwrap();
        assert!(own.variances[0] > 4.0, "{}", own.variances[0]);
        assert!(found.variances[0] < 1.6, "{}", found.variances[0]);
        let norm: f32 = found.basis[..200].iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-3);
    }

    #[test]
    fn pooling_gives_a_non_increasing_sequence() {
        assert_eq!(non_increasing(&[3.0, 1.0, 2.0, 0.5]), [3.0, 1.5, 1.5, 0.5]);
        assert_eq!(non_increasing(&[1.0, 2.0, 3.0]), [2.0, 2.0, 2.0]);
        assert!(non_increasing(&[]).is_empty());
    }

    #[test]
    fn rows_that_do_not_differ_have_no_components() {
        assert!(principal_components(&[0.0; 400], 4, 4, &|| false).unwrap().basis.is_empty());
    }
}
