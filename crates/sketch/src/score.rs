//! A query made ready for scoring sketches.

use crate::code::TRAILER;

/// What a sketch says about the similarity of its node to a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimated inner product of the row's embedding and the query.
    pub similarity: f32,
    /// The calibrated standard error of `similarity` for this node and this query: `similarity + z * error` is an optimistic estimate
    /// that holds as often for one corpus as for another.
    pub error: f32,
}

/// A query, and for each code byte of a sketch a table of what its values add to the similarity.
///
/// About 1 KiB per code byte: 48 KiB for sketches of 50 bytes.
#[derive(Clone, Debug)]
pub struct SketchQuery {
    base: f32,
    projected: Vec<f32>,
    tables: Vec<[f32; 256]>,
    gains: [f32; 256],
    errors: [f32; 256],
}

impl SketchQuery {
    pub(crate) fn new(
        base: f32,
        projected: Vec<f32>,
        tables: Vec<[f32; 256]>,
        gains: [f32; 256],
        errors: [f32; 256],
    ) -> SketchQuery {
        SketchQuery { base, projected, tables, gains, errors }
    }

    /// The similarity of the query to the mean of all rows, `<q, mean>`; 0 for an untrained sketcher.
    pub fn base(&self) -> f32 {
        self.base
    }

    /// The query in the sketcher's directions, not centred: `V^T q`. The similarity of a row is about `base + <projected, decode(sketch)>`.
    pub fn projected(&self) -> &[f32] {
        &self.projected
    }

    /// Estimates the similarity of every sketch in `sketches` (one after the other, `sketch_bytes` each) and appends the estimates to
    /// `out` in the same order. Bytes after the last whole sketch are ignored. Any bytes are valid.
    pub fn score(&self, sketches: &[u8], out: &mut Vec<Estimate>) {
        let code_bytes = self.tables.len();
        out.extend(sketches.chunks_exact(code_bytes + TRAILER).map(|sketch| {
            let (code, trailer) = sketch.split_at(code_bytes);
            let sum = sum_portable(&self.tables, code);
            Estimate {
                similarity: self.base + self.gains[usize::from(trailer[0])] * sum,
                error: self.errors[usize::from(trailer[1])],
            }
        }));
    }
}

/// The sum of one look-up per byte. Four running sums hide the latency of additions.
fn sum_portable(tables: &[[f32; 256]], code: &[u8]) -> f32 {
    let (table_quads, code_quads) = (tables.chunks_exact(4), code.chunks_exact(4));
    let rest: f32 = table_quads
        .remainder()
        .iter()
        .zip(code_quads.remainder())
        .map(|(table, byte)| table[usize::from(*byte)])
        .sum();
    let mut sums = [0f32; 4];
    for (tables, bytes) in table_quads.zip(code_quads) {
        for lane in 0..4 {
            sums[lane] += tables[lane][usize::from(bytes[lane])];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}
