//! The untrained form: a seeded random rotation and one bit per dimension, for an index made before there are rows.
//!
//! After a random rotation every row's coordinates look Gaussian and what a code misses is spread evenly, so that gain and standard error
//! are known without data: Gao and Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound for approximate
//! nearest neighbor search", SIGMOD 2024. RaBitQ keeps signs; a trellis code of the same size leaves less (28 % against 36 %).

use crate::code::{Code, Norm};
use crate::linear::dot;
use crate::rotation::Rotation;
use crate::score::SketchQuery;
use crate::trellis::LEFT;

#[derive(Clone, Debug)]
pub(crate) struct Untrained {
    dim: usize,
    seed: u64,
    rotation: Rotation,
    code: Code,
}

impl Untrained {
    pub(crate) fn new(dim: usize, seed: u64) -> Untrained {
        let left = LEFT[1] as f32;
        // The decoded vector is sqrt(1 - left) of the row and as much again that is orthogonal to it as to make up its length: divided by that
        // root the estimate is unbiased, and what is orthogonal is spread over dim - 1 dimensions.
        let error = left / (1.0 - left) / (dim.max(2) as f32 - 1.0);
        let norm = Norm {
            room: 1.0,
            factor: 1.0 / (1.0 - left).sqrt(),
            error_base: error,
            error_slope: 0.0,
            error_min: error,
            error_max: error,
        };
        let spread = 1.0 / (dim.max(1) as f32).sqrt();
        let code = Code::new(
            vec![1; dim],
            vec![spread; dim],
            vec![1.0; dim],
            vec![0.0; dim],
            sketch_bytes(dim),
            norm,
        );
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

    pub(crate) fn query(&self, query: &[f32]) -> SketchQuery {
        let mut projected = query.to_vec();
        self.rotation.apply(&mut projected);
        SketchQuery::new(0.0, dot(query, query).sqrt(), projected, &self.code)
    }
}

/// One bit per dimension, and the first state.
fn sketch_bytes(dim: usize) -> usize {
    dim.div_ceil(8) + 2
}
