//! The float16 form: the whole embedding in 16-bit floats, for indexes that store embeddings.
//!
//! Rounding changes a number of a unit vector by at most 2^-11 of itself. The error of a similarity is at
//! most 2^-11 times the distance of the two vectors: 1e-3 where they are opposite, 1e-5 typically, and none
//! of a vector to itself.

use half::f16;
use half::slice::HalfFloatSliceExt;
use leann_vector::squared_distance;

/// Returns the length in bytes of a sketch.
pub(crate) fn sketch_bytes(dim: usize) -> usize {
    2 * dim
}

/// Writes the embedding, each number in little-endian order.
pub(crate) fn encode(embedding: &[f32], out: &mut [u8]) {
    for (bytes, value) in out.chunks_exact_mut(2).zip(embedding) {
        bytes.copy_from_slice(&f16::from_f32(*value).to_le_bytes());
    }
}

/// Reads an embedding. NaN and infinities, which only a damaged sketch holds, become 0.
pub(crate) fn decode(sketch: &[u8], out: &mut [f32]) {
    /// Numbers that are converted at once.
    const BLOCK: usize = 64;
    let mut halves = [f16::ZERO; BLOCK];
    for (bytes, out) in sketch.chunks(2 * BLOCK).zip(out.chunks_mut(BLOCK)) {
        let halves = &mut halves[..out.len()];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        // Converts with the processor's instruction where there is one.
        halves.convert_to_f32_slice(out);
    }
    for value in out.iter_mut().filter(|value| !value.is_finite()) {
        *value = 0.0;
    }
}

/// Returns the similarity of a query and a sketch, both of unit length. `decoded` is scratch space of the
/// query's length.
///
/// The similarity comes from the squared distance, whose error is small where the two are near. An inner
/// product has the rounding errors of all numbers even between an embedding and itself.
pub(crate) fn similarity(query: &[f32], sketch: &[u8], decoded: &mut [f32]) -> f32 {
    decode(sketch, decoded);
    1.0 - squared_distance(query, decoded) / 2.0
}

#[cfg(test)]
mod tests {
    use crate::{SketchQuery, Sketcher};
    use leann_vector::squared_distance;
    use proptest::prelude::*;

    /// Scales a vector to unit length.
    fn unit(mut vector: Vec<f32>) -> Vec<f32> {
        assert!(leann_vector::normalize(&mut vector));
        vector
    }

    /// Returns the similarity and the error of one sketch.
    fn score(query: &SketchQuery, sketch: &[u8]) -> (f32, f32) {
        let mut out = Vec::new();
        query.score_above(2.0, sketch, &mut out);
        (out[0].similarity, out[0].error)
    }

    proptest! {
        #[test]
        fn similarities_are_those_of_the_embeddings(
            (row, query) in (1usize..300).prop_flat_map(|dim| {
                let number = || (-1.0f32..1.0).prop_filter("not 0", |v| v.abs() > 1e-3);
                let vector = || prop::collection::vec(number(), dim);
                (vector(), vector())
            })
        ) {
            let (row, query) = (unit(row), unit(query));
            let sketcher = Sketcher::float16(row.len());
            let mut sketch = vec![0; sketcher.sketch_bytes()];
            sketcher.encode(&row, &mut sketch);
            let again = Sketcher::from_bytes(&sketcher.to_bytes()).unwrap();
            prop_assert!(again.is_exact() && again.dim() == row.len());
            let exact = leann_vector::dot(&row, &query);
            let (own, _) = score(&sketcher.query(&row), &sketch);
            prop_assert!((own - 1.0).abs() < 1e-6, "{own} to itself");
            let (similarity, error) = score(&sketcher.query(&query), &sketch);
            let most = 2.0f32.powi(-11) * squared_distance(&row, &query).sqrt() + 1e-6;
            prop_assert!((similarity - exact).abs() <= most, "{similarity} for {exact}");
            prop_assert_eq!(error, 0.0);
            let mut decoded = vec![0.0; row.len()];
            sketcher.decode(&sketch, &mut decoded);
            for (a, b) in decoded.iter().zip(&row) {
                prop_assert!((a - b).abs() <= 5e-4 * b.abs() + 1e-7);
            }
        }

        #[test]
        fn any_bytes_have_a_similarity(bytes in prop::collection::vec(any::<u8>(), 32)) {
            let query = unit((1..=16).map(|i| i as f32).collect());
            prop_assert!(score(&Sketcher::float16(16).query(&query), &bytes).0.is_finite());
        }
    }
}
