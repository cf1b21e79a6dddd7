//! A query prepared for scoring sketches.

use crate::axis::AxisTerms;
use crate::coder::{Calibration, Coder};
use crate::float16;
use crate::lut_scan::{Accumulators, LutScan};

/// What a sketch says about the similarity of its row to a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The estimated inner product of the row's embedding and the query.
    pub similarity: f32,
    /// The standard error of `similarity` for this row and this query. It is calibrated: `similarity + z *
    /// error` is an optimistic estimate that holds as often for one corpus as for another. 0 if the sketch is
    /// the embedding itself.
    pub error: f32,
}

/// What scoring needs to know of a query.
#[derive(Clone, Debug)]
pub(crate) struct QueryTerms {
    /// Inner product with the mean of the rows.
    pub(crate) mean_similarity: f32,
    /// Squared length of what is not part of the mean.
    pub(crate) norm_squared: f32,
    /// Squared length of what the components do not span.
    pub(crate) outside: f32,
    /// The query's part in scoring codes that have an axis.
    pub(crate) axis: Option<AxisTerms>,
    /// Inner products with the components.
    pub(crate) projected: Vec<f32>,
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
    /// The sketch is a trellis code.
    Code(Box<CodeScorer>),
    /// The sketch is a trellis code of the first form, or of the second where [`is_untrained`] says so.
    EitherCode(Box<[CodeScorer; 2]>),
    /// The sketch is the row's embedding in 16-bit floats.
    Float16,
}

/// What scoring trellis codes of one form needs.
#[derive(Clone, Debug)]
struct CodeScorer {
    /// Inner product of the query with the mean of the rows.
    mean_similarity: f32,
    /// Squared length of the query.
    norm_squared: f32,
    /// Increase of the estimate within the components per [`Calibration::outside_ratio`] of a row: see
    /// [`outside_gain`].
    outside_gain: f32,
    /// Increase of the squared error per squared length that the components do not span of a row.
    outside_slope: f32,
    /// See [`SketchQuery::strangeness`].
    strangeness: f32,
    scan: LutScan,
    sketch_bytes: usize,
    calibration: Calibration,
    axis: Option<AxisTerms>,
    prefix: PrefixFilter,
}

/// Returns whether a sketch is in the untrained form: its last bit says so.
pub(crate) fn is_untrained(sketch: &[u8]) -> bool {
    sketch.last().is_some_and(|last| last & 1 == 1)
}

/// Marks a sketch as one in the untrained form.
pub(crate) fn mark_untrained(sketch: &mut [u8]) {
    if let Some(last) = sketch.last_mut() {
        *last |= 1;
    }
}

/// The cosine that a near row and a query unlike the rows have outside of the components, relative to the one
/// that they have within.
///
/// Between SciFact, FiQA and wiki50k it is .4 to .8 for the true ten nearest rows, whose residuals tell only
/// a part of what they have outside. With 1.2 the mean error of their estimates is within .32 standard errors
/// for rows of each set and queries of each (`benches/calibration.rs`), with .8 and 1.6 within .45.
const OUTSIDE_SIMILARITY: f32 = 1.2;

/// A query's share outside of the components, relative to a row's, from which it counts as unlike the rows.
/// Questions are shorter than rows and less typical: they have 1.2 to 2.2 times as much outside.
const TYPICAL_QUERY: f32 = 1.5;

/// Estimates from the leading components alone, the *prefix*, which suffice for most sketches. The other
/// components are the *suffix*.
#[derive(Clone, Copy, Debug, Default)]
struct PrefixFilter {
    /// Blocks of look-ups in the prefix; 0 if there is none.
    blocks: usize,
    /// The typical gain of a decoded vector.
    gain: f32,
    /// Share of the suffix in the variance of estimates, and so, on average, in the similarity of a row.
    suffix_share: f32,
    /// Standard deviation of what the prefix adds, among rows of one similarity.
    deviation: f32,
    /// Standard error of an estimate from the prefix.
    error: f32,
}

/// The largest share of the suffix in the variance of estimates. The prefix is as short as this allows.
const MAX_SUFFIX_SHARE: f32 = 0.2;

/// Standard deviations below the expected prefix of a row whose similarity is the floor, from which a sketch
/// is pruned.
const PRUNE_THRESHOLD: f32 = 3.5;

impl SketchQuery {
    /// Prepares a query for the sketches of `coder`.
    pub(crate) fn new(terms: QueryTerms, coder: &Coder) -> SketchQuery {
        let scorer = CodeScorer::new(&terms, coder);
        SketchQuery { projected: terms.projected, scorer: Scorer::Code(Box::new(scorer)) }
    }

    /// Prepares a query for sketches of two forms: the terms and the coder of each, the untrained one second.
    /// Both coders make sketches of the same length. `places` is the form whose components tell where rows
    /// lie.
    pub(crate) fn of_either_form(forms: [(QueryTerms, &Coder); 2], places: usize) -> SketchQuery {
        let mut scorers = forms.each_ref().map(|(terms, coder)| CodeScorer::new(terms, coder));
        if places != 0 {
            // The rotation leaves nothing outside.
            scorers[0].strangeness = 1.0;
        }
        let projected = forms.map(|(terms, _)| terms.projected);
        SketchQuery {
            projected: projected.into_iter().nth(places).unwrap_or_default(),
            scorer: Scorer::EitherCode(Box::new(scorers)),
        }
    }

    /// Prepares a query for sketches that are embeddings.
    pub(crate) fn float16(query: &[f32]) -> SketchQuery {
        SketchQuery { projected: query.to_vec(), scorer: Scorer::Float16 }
    }

    /// Returns the query's inner products with the sketcher's components, not centered: `V^T q`. The
    /// similarity of a row is about `<q, mean> + <projected, decode(sketch)>`; the mean is 0 unless the
    /// sketcher is trained.
    pub fn projected(&self) -> &[f32] {
        &self.projected
    }

    /// Returns how much more of the query lies outside of the components than of a usual one, in squared
    /// lengths: 1 for a usual query, and for every query of a sketcher without components of its own. Where
    /// it is large, similarities within the components say less, also those to the centers of pages.
    pub fn strangeness(&self) -> f32 {
        match &self.scorer {
            Scorer::EitherCode(scorers) => scorers[0].strangeness,
            Scorer::Code(_) | Scorer::Float16 => 1.0,
        }
    }

    /// Estimates the similarity of every sketch in `sketches` (one after the other, `sketch_bytes` each) and
    /// appends the estimates to `out` in the same order. Ignores bytes after the last whole sketch. Any bytes
    /// are valid.
    pub fn score(&self, sketches: &[u8], out: &mut Vec<Estimate>) {
        self.score_above(f32::NEG_INFINITY, sketches, out);
    }

    /// Estimates as [`SketchQuery::score`] does, but prunes: if the leading components show that a row is
    /// almost surely less similar than `floor`, the estimate comes from these components alone, lies below
    /// `floor`, and has a larger error. Most sketches of a page are pruned, and a pruned one takes a third of
    /// the time.
    ///
    /// The idea is that of ADSampling: Gao and Long, "High-dimensional approximate nearest neighbor search:
    /// with reliable and efficient distance comparison operations", SIGMOD 2023.
    pub fn score_above(&self, floor: f32, sketches: &[u8], out: &mut Vec<Estimate>) {
        match &self.scorer {
            Scorer::Code(scorer) => {
                let filter = scorer.filter(floor);
                scorer.each_padded(sketches, |padded| out.push(scorer.estimate_above(filter, padded)));
            }
            Scorer::EitherCode(scorers) => {
                let filters = scorers.each_ref().map(|scorer| scorer.filter(floor));
                let last = scorers[0].sketch_bytes - 1;
                scorers[0].each_padded(sketches, |padded| {
                    let form = usize::from(is_untrained(&padded[..=last]));
                    out.push(scorers[form].estimate_above(filters[form], padded));
                });
            }
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
    fn new(terms: &QueryTerms, coder: &Coder) -> CodeScorer {
        let calibration = *coder.calibration();
        let scan = coder.scan(&terms.projected);
        let outside_gain = outside_gain(terms, &calibration);
        let outside_slope = calibration.outside_alignment * terms.outside;
        let mut scorer = CodeScorer {
            mean_similarity: terms.mean_similarity,
            norm_squared: terms.norm_squared,
            outside_gain,
            outside_slope,
            strangeness: strangeness(terms, &calibration),
            scan,
            sketch_bytes: coder.sketch_bytes(),
            calibration,
            axis: terms.axis,
            prefix: PrefixFilter::default(),
        };
        // A similar row may be anywhere along an axis, so a prefix tells little.
        if terms.axis.is_none() {
            scorer.prefix = PrefixFilter::new(&terms.projected, coder, &scorer);
        }
        scorer
    }

    /// Passes every sketch to `each`, followed by padding.
    fn each_padded(&self, sketches: &[u8], mut each: impl FnMut(&[u8])) {
        // The padding may be any bytes. For all sketches but the last few it is the sketches that follow.
        let padded_bytes = self.scan.padded_bytes();
        let mut last = vec![0u8; padded_bytes];
        for start in (0..sketches.len() / self.sketch_bytes).map(|i| i * self.sketch_bytes) {
            match sketches.get(start..start + padded_bytes) {
                Some(padded) => each(padded),
                None => {
                    let rest = &sketches[start..];
                    last[..rest.len()].copy_from_slice(rest);
                    each(&last);
                }
            }
        }
    }

    /// Returns what the prefix of a sketch has to add at least, so that the sketch is not pruned.
    fn filter(&self, floor: f32) -> f32 {
        if self.prefix.blocks == 0 {
            return f32::NEG_INFINITY;
        }
        // A similar row is similar in all components, so its prefix holds less than its whole similarity.
        let needed = floor - self.mean_similarity;
        needed.min((1.0 - self.prefix.suffix_share) * needed) - PRUNE_THRESHOLD * self.prefix.deviation
    }

    /// Returns the estimate of a sketch, a rough one if its prefix adds less than `min_prefix`.
    fn estimate_above(&self, min_prefix: f32, padded: &[u8]) -> Estimate {
        let prefix = self.prefix.gain * self.scan.accumulate_query(padded, self.prefix.blocks);
        if prefix < min_prefix {
            return Estimate { similarity: self.mean_similarity + prefix, error: self.prefix.error };
        }
        self.estimate(self.scan.accumulate(padded))
    }

    /// Returns the estimate of a sketch with these sums.
    fn estimate(&self, sums: Accumulators) -> Estimate {
        if let Some(axis) = &self.axis {
            let beside_error = self.norm_squared * self.calibration.squared_error(0.0);
            let (similarity, squared_error) = axis.estimate(sums, beside_error);
            return Estimate { similarity, error: squared_error.sqrt() };
        }
        let residual = self.calibration.residual(sums.squared, sums.mean);
        let outside = self.calibration.outside(residual);
        let gain = self.factor(outside) * self.calibration.gain(sums.squared, sums.mean);
        Estimate {
            similarity: self.mean_similarity + gain * sums.query,
            error: self.error(residual, outside),
        }
    }

    /// Returns the factor of the similarity within the components that makes it the whole similarity, for a
    /// row with so much outside.
    fn factor(&self, outside: f32) -> f32 {
        1.0 + self.outside_gain * self.calibration.outside_ratio(outside)
    }

    /// Returns the standard error of an estimate for a row with this residual and so much outside: that of
    /// the code, and that of what row and query have outside of the components.
    fn error(&self, residual: f32, outside: f32) -> f32 {
        (self.norm_squared * self.calibration.squared_error(residual) + self.outside_slope * outside).sqrt()
    }
}

/// Returns [`SketchQuery::strangeness`].
fn strangeness(terms: &QueryTerms, calibration: &Calibration) -> f32 {
    let usual = TYPICAL_QUERY * calibration.outside_mean / calibration.total_variance * terms.norm_squared;
    // `max` also takes a NaN to the bound.
    (terms.outside / usual).max(1.0)
}

/// Returns by how much a query's similarity to near rows is larger than it is within the components, as a
/// share of the latter and per [`Calibration::outside_ratio`] of the row. What lies outside adds to the
/// similarity of a query unlike the rows: such a query has more outside than others, and near rows have some
/// of the same there. For other queries [`Calibration::gain_correction`] takes care of it.
fn outside_gain(terms: &QueryTerms, calibration: &Calibration) -> f32 {
    let all = terms.norm_squared;
    let query =
        (terms.outside / (all - terms.outside).max(0.05 * all).max(f32::MIN_POSITIVE)).max(0.0).sqrt();
    let usual = TYPICAL_QUERY.sqrt() * calibration.outside_ratio(calibration.outside_mean);
    OUTSIDE_SIMILARITY * (query - usual).max(0.0)
}

impl PrefixFilter {
    /// Chooses the prefix for a query and derives what its estimates need. Takes the components for
    /// independent, with the variances of decoded vectors.
    fn new(projected: &[f32], coder: &Coder, scorer: &CodeScorer) -> PrefixFilter {
        let variances: Vec<f32> = coder.variances().collect();
        let norm_squared: f32 = variances.iter().sum();
        let calibration = coder.calibration();
        let residual = calibration.residual(norm_squared, 0.0);
        let outside = calibration.outside(residual);
        let gain = scorer.factor(outside) * calibration.gain(norm_squared, 0.0);
        let contributions: Vec<f32> = projected.iter().zip(&variances).map(|(q, v)| q * q * v).collect();
        let total: f32 = contributions.iter().sum();
        let (mut blocks, mut suffix) = (0, total);
        for components in scorer.scan.blocks() {
            if suffix <= MAX_SUFFIX_SHARE * total {
                break;
            }
            suffix -= contributions[components].iter().sum::<f32>();
            blocks += 1;
        }
        let suffix = suffix.max(0.0);
        let suffix_share = suffix / total.max(f32::MIN_POSITIVE);
        let deviation = gain * (suffix * (1.0 - suffix_share)).sqrt();
        let error = (gain * suffix.sqrt()).hypot(scorer.error(residual, outside));
        PrefixFilter { blocks, gain, suffix_share, deviation, error }
    }
}
