//! The untrained form: a seeded random rotation and one bit per dimension, for an index made before there are rows.
//!
//! RaBitQ (Gao and Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for approximate nearest neighbor
//! search", SIGMOD 2024): the code is the sign of each rotated value; dividing by the inner product with the code makes the estimate
//! unbiased; what is left is spread evenly over the other dimensions, which gives its standard error without any data.

use crate::code::{Code, Slot};
use crate::linear::dot;
use crate::log_byte::LogByte;
use crate::rotation::Rotation;
use crate::score::SketchQuery;

#[derive(Clone, Debug)]
pub(crate) struct Untrained {
    dim: usize,
    seed: u64,
    rotation: Rotation,
    code: Code,
}

impl Untrained {
    pub(crate) fn new(dim: usize, seed: u64) -> Untrained {
        let slots: Vec<Slot> =
            (0..dim).map(|i| Slot { byte: (i / 8) as u16, shift: (i % 8) as u8, width: 1 }).collect();
        let level = 1.0 / (dim as f32).sqrt();
        let levels = [-level, level].repeat(dim);
        // For unit rows the gain is 1 / <x, code>: at least 1, and near 1.25 (the square root of pi / 2) as dimensions grow. The error is
        // the square root of gain^2 - 1.
        let gain = LogByte::spanning(1.0, 2.0);
        let error = LogByte::spanning(0.1, 2.0);
        let code = Code::new(slots, levels, dim.div_ceil(8), gain, error);
        Untrained { dim, seed, rotation: Rotation::new(dim, seed), code }
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }

    pub(crate) fn project(&self, embedding: &[f32], out: &mut [f32]) {
        out.copy_from_slice(embedding);
        self.rotation.apply(out);
    }

    pub(crate) fn encode(&self, embedding: &[f32], out: &mut [u8]) {
        let mut projected = embedding.to_vec();
        self.rotation.apply(&mut projected);
        self.code.encode(&projected, dot(embedding, embedding), out);
    }

    pub(crate) fn query(&self, query: &[f32]) -> SketchQuery {
        let mut projected = query.to_vec();
        self.rotation.apply(&mut projected);
        // The remainder is orthogonal to the row, hence spread over dim - 1 dimensions.
        let sensitivity = dot(query, query).sqrt() / (self.dim.max(2) as f32 - 1.0).sqrt();
        let tables = self.code.tables(&projected);
        SketchQuery::new(0.0, projected, tables, self.code.gains(), self.code.errors(sensitivity))
    }
}
