//! Row embeddings as the layout reads them: f16 or f32, in memory or in a memory map.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// `len` embeddings of `dim` values each, read one row at a time so that the f32 form of all of them never exists.
pub trait Rows: Sync {
    fn len(&self) -> usize;
    fn dim(&self) -> usize;
    /// Writes row `index` (below `len`) to `out` (of `dim` values).
    fn read(&self, index: usize, out: &mut [f32]);
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Row-major f16 embeddings.
#[derive(Clone, Copy)]
pub struct F16Rows<'a> {
    values: &'a [f16],
    dim: usize,
}

impl<'a> F16Rows<'a> {
    /// `values` holds whole rows of `dim` values; an incomplete last row is left out.
    pub const fn new(values: &'a [f16], dim: usize) -> F16Rows<'a> {
        F16Rows { values, dim }
    }
}

impl Rows for F16Rows<'_> {
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
pub struct F32Rows<'a> {
    values: &'a [f32],
    dim: usize,
}

impl<'a> F32Rows<'a> {
    /// `values` holds whole rows of `dim` values; an incomplete last row is left out.
    pub fn new(values: &'a [f32], dim: usize) -> F32Rows<'a> {
        F32Rows { values, dim }
    }
}

impl Rows for F32Rows<'_> {
    fn len(&self) -> usize {
        self.values.len().checked_div(self.dim).unwrap_or(0)
    }
    fn dim(&self) -> usize {
        self.dim
    }
    fn read(&self, index: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.values[index * self.dim..(index + 1) * self.dim]);
    }
}
