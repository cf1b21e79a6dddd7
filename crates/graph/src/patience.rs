//! The default patience of a walk, by the number of node pages.

/// Pages of an index per page of patience.
const PAGES_PER_PATIENCE: u32 = 12;
/// Patience of the smallest index, in pages.
const MIN_PATIENCE: u32 = 8;
/// Patience, in pages, beyond which it grows with the square root of the number of pages.
const SQRT_GROWTH_FROM: u32 = 128;
/// Strangeness of a query beyond which the patience does not grow.
const MAX_STRANGENESS: f32 = 4.0;
/// Exponent of the strangeness.
///
/// Of 500 rows of SciFact among 13,977 of FiQA, a search for questions of SciFact, whose strangeness is about
/// 3, finds .926 with 0 and .967 with 1; reading all pages, .979.
const STRANGENESS_EXPONENT: f32 = 1.5;

/// Returns how many consecutive pages without a new candidate end the walk of an index of `pages` pages.
///
/// A small index ranks its few pages well and should not be read whole. In a large one the pages that still
/// hold one of the nearest rows lie farther down the ranking, but not in proportion to its size: beyond 128
/// the patience is the geometric mean of 128 and a twelfth of the pages. Measured on 50,000 to a million rows
/// (docs/ideas.md, "Larger indexes").
///
/// Centers of pages rank badly for a query unlike most rows, whose near rows may be few and scattered. Its
/// `strangeness` is how much more of it lies outside of what centers describe than of a usual query; the
/// patience grows with it.
pub fn default_patience(pages: u32, strangeness: f32) -> u32 {
    let share = pages / PAGES_PER_PATIENCE;
    let root = (u64::from(share) * u64::from(SQRT_GROWTH_FROM)).isqrt() as u32;
    let factor = strangeness.clamp(1.0, MAX_STRANGENESS).powf(STRANGENESS_EXPONENT);
    // A cast from float to integer saturates, and turns NaN into 0.
    (f64::from(share.min(root).max(MIN_PATIENCE)) * f64::from(factor)) as u32
}
