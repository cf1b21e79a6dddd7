//! Scores in heaps: a total order over f32 in which NaN is the worst.

use std::cmp::Ordering;

/// A score that can be compared. Only [`Score::new`] makes one, so that it is never NaN.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Score(f32);

impl Score {
    /// Wraps a value; NaN becomes negative infinity.
    pub fn new(value: f32) -> Score {
        Score(if value.is_nan() { f32::NEG_INFINITY } else { value })
    }

    /// Returns the value.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Score) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Score) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}
