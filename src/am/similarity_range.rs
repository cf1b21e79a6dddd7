//! The similarities of the rows that a query wants, from the bounds that it sets on their distance.

use crate::pg::bounds::{Bound, Side};
use crate::sql::operators::{self, Strategy};

/// Width by which a range is larger than its bounds: similarities are rounded, bounds are not.
const SLACK: f64 = 2e-6;

/// A range of similarities. It may be empty.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SimilarityRange {
    pub least: f32,
    pub most: f32,
}

impl Default for SimilarityRange {
    fn default() -> SimilarityRange {
        SimilarityRange::all()
    }
}

impl SimilarityRange {
    /// Returns the range of all similarities.
    pub const fn all() -> SimilarityRange {
        SimilarityRange { least: f32::NEG_INFINITY, most: f32::INFINITY }
    }

    /// Returns the largest L2 distance in the range, rounded; None if it has no bound.
    pub fn largest_distance(self) -> Option<f64> {
        (self.least > f32::NEG_INFINITY).then(|| {
            let squared = 2.0 - 2.0 * (f64::from(self.least) + SLACK);
            (squared.max(0.0).sqrt() * 1e4).round() / 1e4
        })
    }

    /// Returns the range that holds both.
    pub fn or(self, other: SimilarityRange) -> SimilarityRange {
        SimilarityRange { least: self.least.min(other.least), most: self.most.max(other.most) }
    }

    /// Returns the part of the range that is within a bound.
    pub fn within(self, bound: &Bound) -> SimilarityRange {
        let (Some(value), Some(strategy)) = (bound.value, Strategy::of_number(bound.strategy)) else {
            // No distance compares with NULL.
            return SimilarityRange { least: f32::INFINITY, most: f32::NEG_INFINITY };
        };
        let similarity = operators::similarity(strategy.squared(value));
        let mut range = self;
        // The larger the distance, the smaller the similarity.
        if matches!(bound.side, Side::AtMost | Side::Exactly) {
            let least = if strategy.is_possible(value) { similarity - SLACK } else { f64::INFINITY };
            range.least = range.least.max(least as f32);
        }
        if matches!(bound.side, Side::AtLeast | Side::Exactly) && strategy.is_possible(value) {
            range.most = range.most.min((similarity + SLACK) as f32);
        }
        range
    }
}
