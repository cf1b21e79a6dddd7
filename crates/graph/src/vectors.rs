//! Row embeddings as clustering reads them: f16 or f32, in memory or in a memory map.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// `len` embeddings of `dim` values each, read one row at a time so that the f32 form of all of them never
/// exists.
pub trait Vectors: Sync {
    /// Returns the number of rows.
    fn len(&self) -> usize;
    /// Returns the number of values per row.
    fn dim(&self) -> usize;
    /// Writes row `index` (below `len`) to `out` (of `dim` values).
    fn read(&self, index: usize, out: &mut [f32]);
    /// Returns whether there are no rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Row-major f16 embeddings.
#[derive(Clone, Copy)]
pub struct F16Vectors<'a> {
    values: &'a [f16],
    dim: usize,
}

impl<'a> F16Vectors<'a> {
    /// Reads `values` as rows of `dim` values each; an incomplete last row is left out.
    pub const fn new(values: &'a [f16], dim: usize) -> F16Vectors<'a> {
        F16Vectors { values, dim }
    }
}

impl Vectors for F16Vectors<'_> {
    fn len(&self) -> usize {
        self.values.len().checked_div(self.dim).unwrap_or(0)
    }
    fn dim(&self) -> usize {
        self.dim
    }
    fn read(&self, index: usize, out: &mut [f32]) {
        self.values[index * self.dim..(index + 1) * self.dim].convert_to_f32_slice(out);
    }
}

/// Row-major f32 embeddings.
#[derive(Clone, Copy)]
pub struct F32Vectors<'a> {
    values: &'a [f32],
    dim: usize,
}

impl<'a> F32Vectors<'a> {
    /// Reads `values` as rows of `dim` values each; an incomplete last row is left out.
    pub fn new(values: &'a [f32], dim: usize) -> F32Vectors<'a> {
        F32Vectors { values, dim }
    }

    /// Returns all rows, one after the other.
    pub(crate) fn values(&self) -> &'a [f32] {
        self.values
    }

    /// Returns row `index` (below `len`).
    pub(crate) fn row(&self, index: u32) -> &'a [f32] {
        &self.values[index as usize * self.dim..(index as usize + 1) * self.dim]
    }
}

impl Vectors for F32Vectors<'_> {
    fn len(&self) -> usize {
        self.values.len().checked_div(self.dim).unwrap_or(0)
    }
    fn dim(&self) -> usize {
        self.dim
    }
    fn read(&self, index: usize, out: &mut [f32]) {
        out.copy_from_slice(self.row(index as u32));
    }
}
