//! A query made ready for scoring sketches.

use crate::code::{Code, Norm};
use crate::float16;
use crate::sums::{Sums, Terms};

/// What a sketch says about the similarity of its node to a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimated inner product of the row's embedding and the query.
    pub similarity: f32,
    /// The calibrated standard error of `similarity` for this node and this query: `similarity + z * error` is an optimistic estimate
    /// that holds as often for one corpus as for another. 0 if the sketch is the embedding itself.
    pub error: f32,
}

/// A query in the coordinates of a sketcher, ready to score sketches.
#[derive(Clone, Debug)]
pub struct SketchQuery {
    projected: Vec<f32>,
    scorer: Scorer,
}

/// How a sketch is scored.
#[derive(Clone, Debug)]
enum Scorer {
    Code(Box<CodeScorer>),
    /// The sketch is the row's embedding in 16-bit floats.
    Float16,
}

/// What scoring trellis codes needs.
#[derive(Clone, Debug)]
struct CodeScorer {
    base: f32,
    length: f32,
    terms: Terms,
    sketch_bytes: usize,
    norm: Norm,
    head: Head,
}

/// What the leading directions alone say of a sketch.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// So many groups of look-ups.
    len: usize,
    /// What a decoded vector is multiplied with, typically.
    gain: f32,
    /// The share of the other directions in the variance of estimates, and so, on average, in the similarity of a row.
    rest_share: f32,
    /// The standard deviation of what these directions add, among rows of one similarity.
    spread: f32,
    /// The standard error of an estimate from these directions.
    error: f32,
}

/// The head is long enough for the rest to have at most this share of the variance of estimates.
const REST_SHARE: f32 = 0.2;
/// A sketch is not looked at further if its head is this many standard deviations below what a row that is just similar
/// enough has there.
const HOPELESS: f32 = 3.5;

impl SketchQuery {
    pub(crate) fn new(base: f32, length: f32, projected: Vec<f32>, code: &Code) -> SketchQuery {
        let terms = code.terms(&projected);
        let head = Head::of(&projected, length, code, &terms);
        let (sketch_bytes, norm) = (code.sketch_bytes(), *code.norm());
        let scorer = Scorer::Code(Box::new(CodeScorer { base, length, terms, sketch_bytes, norm, head }));
        SketchQuery { projected, scorer }
    }

    pub(crate) fn float16(query: &[f32]) -> SketchQuery {
        SketchQuery { projected: query.to_vec(), scorer: Scorer::Float16 }
    }

    /// The similarity of the query to the mean of all rows, `<q, mean>`; 0 for any but a trained sketcher.
    pub fn base(&self) -> f32 {
        match &self.scorer {
            Scorer::Code(scorer) => scorer.base,
            Scorer::Float16 => 0.0,
        }
    }

    /// The query's inner products with the sketcher's directions, not centred: `V^T q`. The similarity of a row is about
    /// `base + <projected, decode(sketch)>`.
    pub fn projected(&self) -> &[f32] {
        &self.projected
    }

    /// Estimates the similarity of every sketch in `sketches` (one after the other, `sketch_bytes` each) and appends the estimates to
    /// `out` in the same order. Bytes after the last whole sketch are ignored. Any bytes are valid.
    pub fn score(&self, sketches: &[u8], out: &mut Vec<Estimate>) {
        self.score_above(f32::NEG_INFINITY, sketches, out);
    }

    /// As [`SketchQuery::score`], but a sketch whose leading directions show that it is almost surely less similar than `floor` is not
    /// looked at further: its estimate comes from these alone, below `floor`, with a larger error. Of the sketches of a page most are such,
    /// and cost a third. (The idea of ADSampling: Gao and Long, "High-dimensional approximate nearest neighbor search: with reliable and
    /// efficient distance comparison operations", SIGMOD 2023.)
    pub fn score_above(&self, floor: f32, sketches: &[u8], out: &mut Vec<Estimate>) {
        match &self.scorer {
            Scorer::Code(scorer) => scorer.score_above(floor, sketches, out),
            Scorer::Float16 => {
                let mut decoded = vec![0.0; self.projected.len()];
                let sketch_bytes = float16::sketch_bytes(decoded.len());
                out.extend(sketches.chunks_exact(sketch_bytes).map(|sketch| Estimate {
                    similarity: float16::similarity(&self.projected, sketch, &mut decoded),
                    error: 0.0,
                }));
            }
        }
    }
}

impl CodeScorer {
    fn score_above(&self, floor: f32, sketches: &[u8], out: &mut Vec<Estimate>) {
        let Head { len, gain, rest_share, spread, error } = self.head;
        // Near rows are near in all directions: what they have in the head is less than the whole.
        let above_base = floor - self.base;
        let enough = above_base.min((1.0 - rest_share) * above_base) - HOPELESS * spread;
        // What follows a sketch may be anything: mostly the next one does.
        let padded_bytes = self.terms.padded_bytes();
        let mut last = vec![0u8; padded_bytes];
        let starts = (0..sketches.len() / self.sketch_bytes).map(|i| i * self.sketch_bytes);
        out.extend(starts.map(|start| {
            let padded = sketches.get(start..start + padded_bytes).unwrap_or_else(|| {
                let rest = &sketches[start..];
                last[..rest.len()].copy_from_slice(rest);
                &last
            });
            let in_head = gain * self.terms.query_sum(padded, len);
            if in_head < enough {
                return Estimate { similarity: self.base + in_head, error };
            }
            self.estimate(self.terms.sums(padded))
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

impl Head {
    fn of(projected: &[f32], length: f32, code: &Code, terms: &Terms) -> Head {
        let variances: Vec<f32> = code.variances().collect();
        let squared: f32 = variances.iter().sum();
        let gain = code.norm().gain(squared, 0.0);
        let added: Vec<f32> = projected.iter().zip(&variances).map(|(q, v)| q * q * v).collect();
        let total: f32 = added.iter().sum();
        let (mut len, mut rest) = (0, total);
        for directions in terms.groups() {
            if rest <= REST_SHARE * total {
                break;
            }
            rest -= added[directions].iter().sum::<f32>();
            len += 1;
        }
        let rest = rest.max(0.0);
        let rest_share = rest / total.max(f32::MIN_POSITIVE);
        let spread = gain * (rest * (1.0 - rest_share)).sqrt();
        let error = (gain * rest.sqrt()).hypot(length * code.norm().error(squared, 0.0));
        Head { len, gain, rest_share, spread, error }
    }
}
