//! Vectors whose memory the system may refuse: training reports that instead of aborting the process.

use crate::error::SketchError;

/// Returns an empty vector with room for `capacity` values, or [`SketchError::NoMemory`].
pub(crate) fn try_with_capacity<T>(capacity: usize) -> Result<Vec<T>, SketchError> {
    let mut values = Vec::new();
    values.try_reserve_exact(capacity).map_err(|_| SketchError::NoMemory)?;
    Ok(values)
}

/// Returns `count` copies of `value`, or [`SketchError::NoMemory`].
pub(crate) fn try_filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, SketchError> {
    let mut values = try_with_capacity(count)?;
    values.resize(count, value);
    Ok(values)
}
