//! A query made ready for scoring sketches.

use crate::code::{Code, Norm};
use crate::sums::{Sums, Terms};

/// What a sketch says about the similarity of its node to a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimated inner product of the row's embedding and the query.
    pub similarity: f32,
    /// The calibrated standard error of `similarity` for this node and this query: `similarity + z * error` is an optimistic estimate
    /// that holds as often for one corpus as for another.
    pub error: f32,
}

/// A query in the coordinates of a sketcher, ready to score sketches.
#[derive(Clone, Debug)]
pub struct SketchQuery {
    base: f32,
    length: f32,
    projected: Vec<f32>,
    terms: Terms,
    sketch_bytes: usize,
    norm: Norm,
}

impl SketchQuery {
    pub(crate) fn new(base: f32, length: f32, projected: Vec<f32>, code: &Code) -> SketchQuery {
        let terms = code.terms(&projected);
        SketchQuery { base, length, projected, terms, sketch_bytes: code.sketch_bytes(), norm: *code.norm() }
    }

    /// The similarity of the query to the mean of all rows, `<q, mean>`; 0 for an untrained sketcher.
    pub fn base(&self) -> f32 {
        self.base
    }

    /// The query's inner products with the sketcher's directions, not centred: `V^T q`. The similarity of a row is about
    /// `base + <projected, decode(sketch)>`.
    pub fn projected(&self) -> &[f32] {
        &self.projected
    }

    /// Estimates the similarity of every sketch in `sketches` (one after the other, `sketch_bytes` each) and appends the estimates to
    /// `out` in the same order. Bytes after the last whole sketch are ignored. Any bytes are valid.
    pub fn score(&self, sketches: &[u8], out: &mut Vec<Estimate>) {
        let mut padded = vec![0u8; self.terms.padded_bytes()];
        out.extend(sketches.chunks_exact(self.sketch_bytes).map(|sketch| {
            padded[..self.sketch_bytes].copy_from_slice(sketch);
            self.estimate(self.terms.sums(&padded))
        }));
    }

    fn estimate(&self, sums: Sums) -> Estimate {
        let gain = self.norm.gain(sums.squared, sums.mean);
        Estimate {
            similarity: self.base + gain * sums.query,
            error: self.length * self.norm.error(sums.squared, sums.mean),
        }
    }
}
