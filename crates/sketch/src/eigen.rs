//! Eigenvalues and eigenvectors of a symmetric matrix: Householder's reduction to tridiagonal form, then QL with implicit shifts
//! (Bowdler, Martin, Reinsch and Wilkinson, "The QR and QL algorithms for symmetric matrices", 1968), in the arrangement of EISPACK's
//! `tred2` and `tql2`.
//!
//! Numbers that decide are of 64 bits: in 32, covariances whose spectrum falls steeply give eigenvalues that are no numbers.
//! The vectors are of 32 bits, which is more than is kept of them. The work grows with the third power of the dimension, seconds at
//! 2,048: so it can be stopped, within some ten milliseconds.

/// Why there is no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unfinished {
    /// The caller wanted none any more.
    Stopped,
    /// The system refused memory.
    NoMemory,
}

/// An empty list with room for `count` values, if the system grants it.
pub(crate) fn with_room<T>(count: usize) -> Result<Vec<T>, Unfinished> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Unfinished::NoMemory)?;
    Ok(list)
}

/// `count` times `value`.
pub(crate) fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, Unfinished> {
    let mut list = with_room(count)?;
    list.resize(count, value);
    Ok(list)
}

/// The largest eigenvalues first, and to each its vector: row by row, of unit length.
pub(crate) struct Eigen {
    pub(crate) values: Vec<f64>,
    pub(crate) vectors: Vec<f32>,
}

/// Iterations for one eigenvalue; two are usual.
const MOST_ITERATIONS: usize = 60;
/// Rotations that are collected before they are applied.
const ROTATIONS_AT_ONCE: usize = 1 << 14;
/// Columns that rotations are applied to at a time: these of all rows stay in the processor's cache.
const COLUMNS_AT_ONCE: usize = 64;

/// Decomposes `matrix`, symmetric with `n` rows of `n` values. What is not finite, or does not converge, is left out.
pub(crate) fn symmetric(
    mut matrix: Vec<f64>,
    n: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Eigen, Unfinished> {
    assert_eq!(matrix.len(), n * n);
    let scale = matrix.iter().fold(0f64, |most, value| most.max(value.abs()));
    if n == 0 || scale == 0.0 || !scale.is_finite() {
        return Ok(Eigen { values: Vec::new(), vectors: Vec::new() });
    }
    // Of a matrix of tiny numbers the squares would be none.
    matrix.iter_mut().for_each(|value| *value /= scale);
    let mut tridiagonal = reduce(&mut matrix, n, stop)?;
    let mut vectors = transformation(&matrix, &tridiagonal.halves, n, stop)?;
    drop(matrix);
    let converged = tridiagonal.diagonalise(&mut vectors, stop)?;
    let mut order: Vec<usize> = (0..converged).filter(|&i| tridiagonal.diagonal[i].is_finite()).collect();
    order.sort_by(|a, b| tridiagonal.diagonal[*b].total_cmp(&tridiagonal.diagonal[*a]));
    let mut sorted = with_room(order.len() * n)?;
    order.iter().for_each(|&i| sorted.extend_from_slice(&vectors[i * n..(i + 1) * n]));
    Ok(Eigen { values: order.iter().map(|&i| tridiagonal.diagonal[i] * scale).collect(), vectors: sorted })
}

struct Tridiagonal {
    diagonal: Vec<f64>,
    /// Between each and the next; the last is 0.
    beside: Vec<f64>,
    /// Half the squared length of each reflection's vector; 0 where there was nothing to reflect.
    halves: Vec<f64>,
}

/// Reflects row by row, until only the diagonal and its neighbours are left. The vectors of the reflections stay in the rows of the
/// matrix, right of the diagonal.
fn reduce(matrix: &mut [f64], n: usize, stop: &dyn Fn() -> bool) -> Result<Tridiagonal, Unfinished> {
    let (mut beside, mut halves) = (vec![0.0; n], vec![0.0; n]);
    let mut w = vec![0.0; n];
    for k in 0..n.saturating_sub(1) {
        if stop() {
            return Err(Unfinished::Stopped);
        }
        let (done, rest) = matrix.split_at_mut((k + 1) * n);
        let v = &mut done[k * n + k + 1..];
        let length = dot(v, v).sqrt();
        if v.len() < 2 || length == 0.0 {
            beside[k] = v[0];
            continue;
        }
        let kept = if v[0] > 0.0 { -length } else { length };
        let half = length * length - v[0] * kept;
        v[0] -= kept;
        (beside[k], halves[k]) = (kept, half);
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
    Ok(Tridiagonal { diagonal, beside, halves })
}

/// The product of the reflections, transposed: its rows become the eigenvectors.
fn transformation(
    matrix: &[f64],
    halves: &[f64],
    n: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<f32>, Unfinished> {
    let mut product = filled(0f32, n * n)?;
    (0..n).for_each(|i| product[i * n + i] = 1.0);
    for k in (0..n.saturating_sub(1)).rev().filter(|&k| halves[k] > 0.0) {
        if stop() {
            return Err(Unfinished::Stopped);
        }
        // Vectors of the length of the square root of two: numbers of 32 bits then neither grow nor vanish.
        let scale = halves[k].sqrt();
        let v: Vec<f32> = matrix[k * n + k + 1..(k + 1) * n].iter().map(|v| (v / scale) as f32).collect();
        for row in product[(k + 1) * n..].chunks_exact_mut(n) {
            let share = crate::linear::dot(&row[k + 1..], &v);
            row[k + 1..].iter_mut().zip(&v).for_each(|(value, v)| *value -= share * v);
        }
    }
    Ok(product)
}

/// Turns two neighbouring rows, the first of which is `row`.
struct Rotation {
    row: usize,
    sine: f32,
    cosine: f32,
}

impl Tridiagonal {
    /// Until nothing is left beside the diagonal; `vectors` is turned along. Gives the number of eigenvalues that converged: all of
    /// them, but for numbers that nobody has met.
    fn diagonalise(&mut self, vectors: &mut [f32], stop: &dyn Fn() -> bool) -> Result<usize, Unfinished> {
        let n = self.diagonal.len();
        let (mut shifted, mut largest) = (0.0, 0f64);
        let mut rotations = Vec::new();
        let mut converged = n;
        'values: for l in 0..n {
            largest = largest.max(self.diagonal[l].abs() + self.beside[l].abs());
            let negligible = f64::EPSILON * largest;
            // The last is 0, so there is one.
            let end = |beside: &[f64]| (l..n).find(|&m| beside[m].abs() <= negligible).unwrap_or(n - 1);
            for iteration in 0.. {
                let m = end(&self.beside);
                if m == l {
                    break;
                }
                if iteration == MOST_ITERATIONS || self.beside[l].is_nan() {
                    converged = l;
                    break 'values;
                }
                shifted += self.shift(l);
                self.sweep(l, m, &mut rotations);
                if rotations.len() >= ROTATIONS_AT_ONCE {
                    apply(&mut rotations, vectors, n, stop)?;
                }
            }
            self.diagonal[l] += shifted;
            self.beside[l] = 0.0;
        }
        apply(&mut rotations, vectors, n, stop)?;
        Ok(converged)
    }

    /// Takes the shift from what is not yet diagonal.
    fn shift(&mut self, l: usize) -> f64 {
        let (d, e) = (&mut self.diagonal, &self.beside);
        let g = d[l];
        let p = (d[l + 1] - g) / (2.0 * e[l]);
        let r = if p < 0.0 { -p.hypot(1.0) } else { p.hypot(1.0) };
        d[l] = e[l] / (p + r);
        d[l + 1] = e[l] * (p + r);
        let shift = g - d[l];
        d[l + 2..].iter_mut().for_each(|value| *value -= shift);
        shift
    }

    /// One implicit step from `m` up to `l`.
    fn sweep(&mut self, l: usize, m: usize, rotations: &mut Vec<Rotation>) {
        let (d, e) = (&mut self.diagonal, &mut self.beside);
        let (below_first, first_beside) = (d[l + 1], e[l + 1]);
        let mut p = d[m];
        let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
        let (mut s, mut s2) = (0.0, 0.0);
        for i in (l..m).rev() {
            (c3, c2, s2) = (c2, c, s);
            let (g, h) = (c * e[i], c * p);
            let r = p.hypot(e[i]);
            e[i + 1] = s * r;
            // Both are 0 only where there is nothing to turn.
            (s, c) = if r > 0.0 { (e[i] / r, p / r) } else { (0.0, 1.0) };
            p = c * d[i] - s * g;
            d[i + 1] = h + s * (c * g + s * d[i]);
            rotations.push(Rotation { row: i, sine: s as f32, cosine: c as f32 });
        }
        let p = -s * s2 * c3 * first_beside * e[l] / below_first;
        e[l] = s * p;
        d[l] = c * p;
    }
}

/// Applies the rotations, in their order, to some columns of all rows after the other.
fn apply(
    rotations: &mut Vec<Rotation>,
    vectors: &mut [f32],
    n: usize,
    stop: &dyn Fn() -> bool,
) -> Result<(), Unfinished> {
    for first in (0..n).step_by(COLUMNS_AT_ONCE) {
        if stop() {
            return Err(Unfinished::Stopped);
        }
        let columns = first..(first + COLUMNS_AT_ONCE).min(n);
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

/// Inner product; some running sums let the compiler use vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
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
    use crate::random::Random;
    use proptest::prelude::*;

    fn never() -> bool {
        false
    }

    /// Q diag(values) Q^T for some orthogonal Q, by reflections.
    fn with_spectrum(values: &[f64], seed: u64) -> Vec<f64> {
        let n = values.len();
        let mut matrix = vec![0.0; n * n];
        (0..n).for_each(|i| matrix[i * n + i] = values[i]);
        let mut random = Random::new(seed);
        for _ in 0..4 {
            let v: Vec<f64> =
                (0..n).map(|_| (random.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5).collect();
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
        // Much that is small after little that is large, and numbers at the ends of their range.
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
    fn it_stops_when_told() {
        let matrix = with_spectrum(&(0..200).map(f64::from).collect::<Vec<_>>(), 1);
        let asked = std::cell::Cell::new(0);
        let _ = symmetric(matrix.clone(), 200, &|| {
            asked.set(asked.get() + 1);
            false
        });
        let all = asked.get();
        for at in [1, all / 3, all / 2, all - 1] {
            asked.set(0);
            let stop = || {
                asked.set(asked.get() + 1);
                asked.get() >= at
            };
            assert_eq!(symmetric(matrix.clone(), 200, &stop).err(), Some(Unfinished::Stopped));
            assert_eq!(asked.get(), at);
        }
    }

    proptest! {
        #[test]
        fn any_symmetric_matrix_is_decomposed(n in 1usize..12, values in prop::collection::vec(-1f64..1.0, 144)) {
            let matrix: Vec<f64> = (0..n * n).map(|at| values[(at / n).max(at % n) * 12 + (at / n).min(at % n)]).collect();
            if matrix.iter().any(|value| *value != 0.0) {
                assert_decomposes(&matrix, n);
            }
        }
    }
}
