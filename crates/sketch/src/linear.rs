//! The matrix arithmetic of encoding and queries. (Training uses nalgebra.)

use leann_vector::dot;

/// Writes the product of `matrix` (rows of `vector.len()` values, one after the other) and `vector`.
pub(crate) fn multiply(matrix: &[f32], vector: &[f32], out: &mut [f32]) {
    for (row, value) in matrix.chunks_exact(vector.len()).zip(out) {
        *value = dot(row, vector);
    }
}

/// Subtracts from `remainder` the rows of `matrix`, each times its coefficient.
pub(crate) fn subtract_combination(matrix: &[f32], coefficients: &[f32], remainder: &mut [f32]) {
    for (row, coefficient) in matrix.chunks_exact(remainder.len()).zip(coefficients) {
        for (value, entry) in remainder.iter_mut().zip(row) {
            *value -= coefficient * entry;
        }
    }
}
