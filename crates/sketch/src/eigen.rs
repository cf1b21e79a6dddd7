//! Eigenvalues and eigenvectors of a symmetric matrix: Householder's reduction to tridiagonal form, then QL
//! with implicit shifts (Bowdler, Martin, Reinsch and Wilkinson, "The QR and QL algorithms for symmetric
//! matrices", 1968), in the arrangement of EISPACK's `tred2` and `tql2`.
//!
//! Matrices and eigenvalues have 64 bits: in 32 bits, a covariance whose spectrum falls steeply gives NaN.
//! The eigenvectors have 32 bits, more than a stored component keeps. The work grows with the third power of
//! the dimension and takes seconds at 2,048, so it polls `stop` every ten milliseconds or so.

use crate::error::SketchError;
use crate::try_vec::{try_filled, try_with_capacity};

/// The eigenvalues and eigenvectors of a matrix.
pub(crate) struct Eigen {
    /// Eigenvalues, the largest first.
    pub(crate) values: Vec<f64>,
    /// Eigenvectors of unit length in the same order, one after the other.
    pub(crate) vectors: Vec<f32>,
}

/// The most iterations for one eigenvalue. Two are usual.
const MAX_ITERATIONS: usize = 60;

/// Rotations that are collected before they are applied.
const ROTATION_BATCH: usize = 1 << 14;

/// Columns that rotations are applied to at a time. This many columns of all rows stay in the processor's
/// cache.
const COLUMN_BLOCK: usize = 64;

/// Decomposes `matrix`, symmetric with `n` rows of `n` values. Leaves out eigenvalues that are not finite or
/// do not converge.
///
/// # Errors
///
/// [`SketchError::Stopped`] or [`SketchError::NoMemory`].
pub(crate) fn symmetric(
    mut matrix: Vec<f64>,
    n: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Eigen, SketchError> {
    assert_eq!(matrix.len(), n * n);
    let scale = matrix.iter().fold(0f64, |most, value| most.max(value.abs()));
    if n == 0 || scale == 0.0 || !scale.is_finite() {
        return Ok(Eigen { values: Vec::new(), vectors: Vec::new() });
    }
    // Without this the squares of tiny numbers would be zero, and those of huge ones infinite.
    matrix.iter_mut().for_each(|value| *value /= scale);
    let mut tridiagonal = reduce(&mut matrix, n, stop)?;
    let mut vectors = transformation(&matrix, &tridiagonal.halves, n, stop)?;
    drop(matrix);
    let converged = tridiagonal.diagonalize(&mut vectors, stop)?;
    let mut order: Vec<usize> = (0..converged).filter(|&i| tridiagonal.diagonal[i].is_finite()).collect();
    order.sort_by(|a, b| tridiagonal.diagonal[*b].total_cmp(&tridiagonal.diagonal[*a]));
    let mut sorted = try_with_capacity(order.len() * n)?;
    order.iter().for_each(|&i| sorted.extend_from_slice(&vectors[i * n..(i + 1) * n]));
    Ok(Eigen { values: order.iter().map(|&i| tridiagonal.diagonal[i] * scale).collect(), vectors: sorted })
}

/// A symmetric tridiagonal matrix, and what is left of the reflections that led to it.
struct Tridiagonal {
    /// Its diagonal.
    diagonal: Vec<f64>,
    /// The element between each element of the diagonal and the next; the last is 0.
    off_diagonal: Vec<f64>,
    /// Half the squared length of each reflection's vector; 0 where no reflection was needed.
    halves: Vec<f64>,
}

/// Reflects row by row, until only the diagonal and the elements next to it are left. Each row of the matrix
/// keeps the vector of its reflection right of the diagonal.
fn reduce(matrix: &mut [f64], n: usize, stop: &dyn Fn() -> bool) -> Result<Tridiagonal, SketchError> {
    let (mut off_diagonal, mut halves) = (vec![0.0; n], vec![0.0; n]);
    let mut w = vec![0.0; n];
    for k in 0..n.saturating_sub(1) {
        if stop() {
            return Err(SketchError::Stopped);
        }
        let (done, rest) = matrix.split_at_mut((k + 1) * n);
        let v = &mut done[k * n + k + 1..];
        let length = dot(v, v).sqrt();
        if v.len() < 2 || length == 0.0 {
            off_diagonal[k] = v[0];
            continue;
        }
        let kept = if v[0] > 0.0 { -length } else { length };
        let half = length * length - v[0] * kept;
        v[0] -= kept;
        (off_diagonal[k], halves[k]) = (kept, half);
        let w = &mut w[k + 1..];
        for (value, row) in w.iter_mut().zip(rest.chunks_exact(n)) {
            *value = dot(&row[k + 1..], v) / half;
        }
        let share = dot(w, v) / (2.0 * half);
        w.iter_mut().zip(&*v).for_each(|(w, v)| *w -= share * v);
        for ((row, a), b) in rest.chunks_exact_mut(n).zip(&*v).zip(&*w) {
            for ((value, v), w) in row[k + 1..].iter_mut().zip(&*v).zip(&*w) {
                *value -= a * w + b * v;
            }
        }
    }
    let diagonal = (0..n).map(|i| matrix[i * n + i]).collect();
    Ok(Tridiagonal { diagonal, off_diagonal, halves })
}

/// Returns the transposed product of the reflections, whose rows become the eigenvectors.
fn transformation(
    matrix: &[f64],
    halves: &[f64],
    n: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<f32>, SketchError> {
    let mut product = try_filled(0f32, n * n)?;
    (0..n).for_each(|i| product[i * n + i] = 1.0);
    for k in (0..n.saturating_sub(1)).rev().filter(|&k| halves[k] > 0.0) {
        if stop() {
            return Err(SketchError::Stopped);
        }
        // Scaled to length sqrt(2), so that 32-bit numbers neither overflow nor vanish.
        let scale = halves[k].sqrt();
        let v: Vec<f32> = matrix[k * n + k + 1..(k + 1) * n].iter().map(|v| (v / scale) as f32).collect();
        for row in product[(k + 1) * n..].chunks_exact_mut(n) {
            let share = leann_vector::dot(&row[k + 1..], &v);
            row[k + 1..].iter_mut().zip(&v).for_each(|(value, v)| *value -= share * v);
        }
    }
    Ok(product)
}

/// A rotation of the rows `row` and `row + 1`.
struct Rotation {
    row: usize,
    sine: f32,
    cosine: f32,
}

impl Tridiagonal {
    /// Rotates until the elements off the diagonal are negligible, and applies the same rotations to
    /// `vectors`. Returns the number of eigenvalues that converged: all, except for matrices that do not
    /// occur in practice.
    fn diagonalize(&mut self, vectors: &mut [f32], stop: &dyn Fn() -> bool) -> Result<usize, SketchError> {
        let n = self.diagonal.len();
        let (mut total_shift, mut largest) = (0.0, 0f64);
        let mut rotations = Vec::new();
        let mut converged = n;
        'values: for l in 0..n {
            largest = largest.max(self.diagonal[l].abs() + self.off_diagonal[l].abs());
            let negligible = f64::EPSILON * largest;
            // The last element is 0, so there is always one.
            let end =
                |off_diagonal: &[f64]| (l..n).find(|&m| off_diagonal[m].abs() <= negligible).unwrap_or(n - 1);
            for iteration in 0.. {
                let m = end(&self.off_diagonal);
                if m == l {
                    break;
                }
                if iteration == MAX_ITERATIONS || self.off_diagonal[l].is_nan() {
                    converged = l;
                    break 'values;
                }
                total_shift += self.shift(l);
                self.sweep(l, m, &mut rotations);
                if rotations.len() >= ROTATION_BATCH {
                    apply(&mut rotations, vectors, n, stop)?;
                }
            }
            self.diagonal[l] += total_shift;
            self.off_diagonal[l] = 0.0;
        }
        apply(&mut rotations, vectors, n, stop)?;
        Ok(converged)
    }

    /// Subtracts the implicit shift from the part that is not yet diagonal, and returns it.
    fn shift(&mut self, l: usize) -> f64 {
        let (d, e) = (&mut self.diagonal, &self.off_diagonal);
        let g = d[l];
        let p = (d[l + 1] - g) / (2.0 * e[l]);
        let r = if p < 0.0 { -p.hypot(1.0) } else { p.hypot(1.0) };
        d[l] = e[l] / (p + r);
        d[l + 1] = e[l] * (p + r);
        let shift = g - d[l];
        d[l + 2..].iter_mut().for_each(|value| *value -= shift);
        shift
    }

    /// Makes one implicit QL step from row `m` up to row `l`, and appends its rotations.
    fn sweep(&mut self, l: usize, m: usize, rotations: &mut Vec<Rotation>) {
        let (d, e) = (&mut self.diagonal, &mut self.off_diagonal);
        let (below_first, first_off_diagonal) = (d[l + 1], e[l + 1]);
        let mut p = d[m];
        let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
        let (mut s, mut s2) = (0.0, 0.0);
        for i in (l..m).rev() {
            (c3, c2, s2) = (c2, c, s);
            let (g, h) = (c * e[i], c * p);
            let r = p.hypot(e[i]);
            e[i + 1] = s * r;
            // If both are 0, no rotation is needed.
            (s, c) = if r > 0.0 { (e[i] / r, p / r) } else { (0.0, 1.0) };
            p = c * d[i] - s * g;
            d[i + 1] = h + s * (c * g + s * d[i]);
            rotations.push(Rotation { row: i, sine: s as f32, cosine: c as f32 });
        }
        let p = -s * s2 * c3 * first_off_diagonal * e[l] / below_first;
        e[l] = s * p;
        d[l] = c * p;
    }
}

/// Applies the rotations in their order, to one block of columns after the other, and clears the list.
fn apply(
    rotations: &mut Vec<Rotation>,
    vectors: &mut [f32],
    n: usize,
    stop: &dyn Fn() -> bool,
) -> Result<(), SketchError> {
    for first in (0..n).step_by(COLUMN_BLOCK) {
        if stop() {
            return Err(SketchError::Stopped);
        }
        let columns = first..(first + COLUMN_BLOCK).min(n);
        for &Rotation { row, sine, cosine } in &*rotations {
            let (upper, lower) = vectors[row * n..(row + 2) * n].split_at_mut(n);
            for (a, b) in upper[columns.clone()].iter_mut().zip(&mut lower[columns.clone()]) {
                (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
            }
        }
    }
    rotations.clear();
    Ok(())
}

/// Returns the inner product. Several partial sums let the compiler use vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    /// Partial sums.
    const LANES: usize = 8;
    let mut sums = [0f64; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use leann_vector::Rng;
    use proptest::prelude::*;

    fn never() -> bool {
        false
    }

    /// Returns Q diag(values) Q^T for an orthogonal Q, a product of reflections.
    fn with_spectrum(values: &[f64], seed: u64) -> Vec<f64> {
        let n = values.len();
        let mut matrix = vec![0.0; n * n];
        (0..n).for_each(|i| matrix[i * n + i] = values[i]);
        let mut rng = Rng::new(seed);
        for _ in 0..4 {
            let v: Vec<f64> = (0..n).map(|_| (rng.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5).collect();
            let half = dot(&v, &v) / 2.0;
            let w: Vec<f64> = (0..n).map(|i| dot(&matrix[i * n..(i + 1) * n], &v) / half).collect();
            let share = dot(&w, &v) / (2.0 * half);
            for i in 0..n {
                for j in 0..n {
                    matrix[i * n + j] -= v[i] * (w[j] - share * v[j]) + v[j] * (w[i] - share * v[i]);
                }
            }
        }
        matrix
    }

    fn assert_decomposes(matrix: &[f64], n: usize) -> Eigen {
        let found = symmetric(matrix.to_vec(), n, &never).unwrap();
        assert_eq!(found.values.len(), n);
        assert!(found.values.windows(2).all(|pair| pair[0] >= pair[1]));
        let largest = found.values.iter().fold(0f64, |most, value| most.max(value.abs()));
        for (value, vector) in found.values.iter().zip(found.vectors.chunks_exact(n)) {
            let vector: Vec<f64> = vector.iter().map(|v| f64::from(*v)).collect();
            assert!((dot(&vector, &vector) - 1.0).abs() < 1e-4);
            for (i, component) in vector.iter().enumerate() {
                let off = dot(&matrix[i * n..(i + 1) * n], &vector) - value * component;
                assert!(off.abs() <= 1e-4 * largest, "{off} of {largest}");
            }
        }
        found
    }

    #[test]
    fn spectra_that_fall_steeply_are_found() {
        for base in [0.9f64, 0.6, 0.3, 0.01] {
            let values: Vec<f64> = (0..150).map(|k| base.powf(k as f64 / 2.0)).collect();
            let found = assert_decomposes(&with_spectrum(&values, 3), 150);
            for (found, value) in found.values.iter().zip(&values) {
                assert!((found - value).abs() < 1e-12, "{found} for {value}");
            }
        }
    }

    #[test]
    fn equal_values_and_odd_matrices() {
        assert_decomposes(&with_spectrum(&[2.0; 40], 1), 40);
        assert_decomposes(&with_spectrum(&[3.0, 3.0, 3.0, 0.0, 0.0, -1.0], 1), 6);
        assert_decomposes(&[5.0], 1);
        assert_decomposes(&[1.0, 2.0, 2.0, 1.0], 2);
        // Many small eigenvalues after a few large ones, and numbers at the ends of their range.
        let graded: Vec<f64> = (0..60).map(|k| if k < 3 { 1.0 } else { 1e-14 }).collect();
        assert_decomposes(&with_spectrum(&graded, 2), 60);
        for scale in [1e-300, 1e300] {
            let matrix: Vec<f64> = with_spectrum(&graded, 2).iter().map(|value| value * scale).collect();
            assert!((symmetric(matrix, 60, &never).unwrap().values[0] / scale - 1.0).abs() < 1e-9);
        }
        assert!(symmetric(vec![0.0; 9], 3, &never).unwrap().values.is_empty());
        assert!(symmetric(vec![f64::NAN; 9], 3, &never).unwrap().values.is_empty());
        assert!(symmetric(Vec::new(), 0, &never).unwrap().values.is_empty());
    }

    #[test]
    fn it_stops_on_request() {
        let matrix = with_spectrum(&(0..200).map(f64::from).collect::<Vec<_>>(), 1);
        let polls = std::cell::Cell::new(0);
        let _ = symmetric(matrix.clone(), 200, &|| {
            polls.set(polls.get() + 1);
            false
        });
        let all = polls.get();
        for at in [1, all / 3, all / 2, all - 1] {
            polls.set(0);
            let stop = || {
                polls.set(polls.get() + 1);
                polls.get() >= at
            };
            assert_eq!(symmetric(matrix.clone(), 200, &stop).err(), Some(SketchError::Stopped));
            assert_eq!(polls.get(), at);
        }
    }

    proptest! {
        #[test]
        fn any_symmetric_matrix_is_decomposed(
            n in 1usize..12,
            values in prop::collection::vec(-1f64..1.0, 144),
        ) {
            let value = |row: usize, column: usize| values[row.max(column) * 12 + row.min(column)];
            let matrix: Vec<f64> = (0..n * n).map(|at| value(at / n, at % n)).collect();
            if matrix.iter().any(|value| *value != 0.0) {
                assert_decomposes(&matrix, n);
            }
        }
    }
}
