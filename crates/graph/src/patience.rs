//! How long a walk goes on when the caller does not say: patience by the number of pages.

/// Patience is this fraction of the pages of an index that is not large, and at least `LEAST`.
const SHARE: u32 = 12;
const LEAST: u32 = 8;
/// Beyond so much it grows as the root of the pages.
const LARGE: u32 = 128;

/// Pages in a row without a new candidate that end the walk of an index of so many pages.
///
/// A small index ranks its few pages well and should not be read whole. In a large one the pages that still hold one of the
/// nearest rows lie farther down the ranking, but not in proportion to its size: there it is the geometric mean of that
/// share and 128.
pub fn default_patience(pages: u32) -> u32 {
    let share = pages / SHARE;
    let root = (u64::from(share) * u64::from(LARGE)).isqrt() as u32;
    share.min(root).max(LEAST)
}
