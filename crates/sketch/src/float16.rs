//! The form that leaves nothing out: the whole embedding, in 16-bit floats. For who would rather store than recompute.
//!
//! A number of a unit vector is rounded by at most 2^-12 of itself: similarities are off by 1e-4 at worst, 1e-5 as a rule.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::linear::squared_distance;

pub(crate) fn sketch_bytes(dim: usize) -> usize {
    2 * dim
}

/// Writes the embedding, little-endian.
pub(crate) fn encode(embedding: &[f32], out: &mut [u8]) {
    for (bytes, value) in out.chunks_exact_mut(2).zip(embedding) {
        bytes.copy_from_slice(&f16::from_f32(*value).to_le_bytes());
    }
}

/// Reads an embedding. Numbers that no embedding has, which only a damaged sketch can hold, count as 0.
pub(crate) fn decode(sketch: &[u8], out: &mut [f32]) {
    const BLOCK: usize = 64;
    let mut halves = [f16::ZERO; BLOCK];
    for (bytes, out) in sketch.chunks(2 * BLOCK).zip(out.chunks_mut(BLOCK)) {
        let halves = &mut halves[..out.len()];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        // Uses the processor's own conversion where there is one.
        halves.convert_to_f32_slice(out);
    }
    for value in out.iter_mut().filter(|value| !value.is_finite()) {
        *value = 0.0;
    }
}

/// The similarity of a query and a sketch, both of unit length; `decoded` is scratch of the query's length.
///
/// From the sum of squared differences, which is small where the two are near: the inner product would be off by the
/// rounding of all numbers even between an embedding and itself.
pub(crate) fn similarity(query: &[f32], sketch: &[u8], decoded: &mut [f32]) -> f32 {
    decode(sketch, decoded);
    1.0 - squared_distance(query, decoded) / 2.0
}

#[cfg(test)]
mod tests {
    use crate::{SketchQuery, Sketcher};
    use proptest::prelude::*;

    fn unit(mut vector: Vec<f32>) -> Vec<f32> {
        let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|value| *value /= norm);
        vector
    }

    fn score(query: &SketchQuery, sketch: &[u8]) -> (f32, f32) {
        let mut out = Vec::new();
        query.score_above(2.0, sketch, &mut out);
        (out[0].similarity, out[0].error)
    }

    proptest! {
        #[test]
        fn similarities_are_those_of_the_embeddings(
            (row, query) in (1usize..300).prop_flat_map(|dim| {
                let vector = || prop::collection::vec((-1.0f32..1.0).prop_filter("not 0", |v| v.abs() > 1e-3), dim);
                (vector(), vector())
            })
        ) {
            let (row, query) = (unit(row), unit(query));
            let sketcher = Sketcher::float16(row.len());
            let mut sketch = vec![0; sketcher.sketch_bytes()];
            sketcher.encode(&row, &mut sketch);
            let again = Sketcher::from_bytes(&sketcher.to_bytes()).unwrap();
            prop_assert!(again.is_exact() && again.dim() == row.len());
            let exact: f32 = row.iter().zip(&query).map(|(a, b)| a * b).sum();
            let (own, _) = score(&sketcher.query(&row), &sketch);
            prop_assert!((own - 1.0).abs() < 1e-6, "{own} to itself");
            let (similarity, error) = score(&sketcher.query(&query), &sketch);
            prop_assert!((similarity - exact).abs() < 5e-4, "{similarity} for {exact}");
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
