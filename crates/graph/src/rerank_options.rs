//! The settings of a rerank.

use crate::patience::default_patience;
use crate::tuning;

/// Settings of one scan.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RerankOptions {
    /// A group is ready once the remaining candidates are expected to hold less than `expected_rows` times
    /// the share of a normal distribution beyond `z` of better rows: 1.4 allows 8 % at worst. A smaller
    /// value, which may be negative, takes fewer recomputes and lets more rows be late.
    pub z: f32,
    /// Group size: rows that are decided on together, at least 1. A query for fewer rows pays for this many,
    /// one for more goes in steps.
    pub expected_rows: usize,
    /// Recomputes after which rows follow by estimate; 0 is no limit.
    pub max_recompute: usize,
    /// What happens to rows that turn out better than the last one returned.
    pub late_rows: LateRows,
    /// Size of the candidate list: the walk looks for the `ef` best estimates.
    pub ef: usize,
    /// Consecutive pages without one of the best `ef` estimates that satisfy the walk.
    pub patience: usize,
    /// Whether rows must pass a filter before they are recomputed.
    pub filtered: bool,
    /// Candidates that are checked in any case, as far as there are so many. How many are checked tells how
    /// many rows are near, also of those that do not pass.
    pub min_checks: usize,
    /// Similarity below which no row is wanted: those that turn out below are dropped, and the scan ends once
    /// no more are expected above. Negative infinity wants all rows.
    pub min_similarity: f32,
    /// Similarity above which no row is wanted: candidates that are almost surely above are passed over, and
    /// rows that turn out above are dropped. Infinity wants all rows.
    pub max_similarity: f32,
}

/// What happens to late rows, which turn out better than the last one returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LateRows {
    /// They are not returned, because something relies on the order.
    Drop,
    /// They are returned after all others, the best first.
    AtEnd,
    /// They are returned next.
    AtOnce,
}

impl Default for RerankOptions {
    fn default() -> RerankOptions {
        RerankOptions {
            z: tuning::DEFAULT_RERANK_Z as f32,
            expected_rows: tuning::DEFAULT_EXPECTED_ROWS,
            max_recompute: 0,
            late_rows: LateRows::Drop,
            ef: tuning::DEFAULT_EF_SEARCH,
            patience: default_patience(0, 1.0) as usize,
            filtered: false,
            min_checks: 0,
            min_similarity: f32::NEG_INFINITY,
            max_similarity: f32::INFINITY,
        }
    }
}
