//! Sketches: a few bytes per row that estimate its similarity to a query, and the error of that estimate.
//!
//! Embeddings and queries are `f32` vectors of unit length, and the similarity is their inner product. A
//! [`Sketcher`] turns a row's embedding into a sketch of a fixed number of bytes, and a query into a
//! [`SketchQuery`], which scores sketches.
//!
//! There are three forms:
//! - **trained** on a sample of the corpus: the mean, the leading principal components, and for each
//!   component a number of bits that depends on its variance (transform coding);
//! - **untrained**: a seeded random rotation and about one bit per dimension, for a table that has no rows
//!   yet, and for single rows that the components of a trained sketcher describe badly. The latter are coded
//!   relative to the mean;
//! - **float16**: the whole embedding in 16-bit floats, from which similarities need no recomputation.
//!
//! An untrained sketcher can be trained *in place*, on the sketches that it has made: they stay valid, and
//! later rows are encoded in the trained form where that fits.
//!
//! In the first two forms a trellis code encodes all coordinates of a row together, and a decoded vector is
//! scaled to unit length. The error of an estimate follows from the length that was missing. A sketch
//! therefore holds its code, and a last bit for its form.

mod axis;
mod bit_allocation;
mod calibrate;
mod coder;
mod eigen;
mod error;
mod float16;
mod format;
mod limits;
mod linear;
mod log_scale;
mod lut;
mod lut_scan;
mod pca;
mod query;
mod rotation;
mod sketcher;
mod train;
mod trained;
mod trellis;
mod try_vec;
mod untrained;

pub use error::SketchError;
pub use limits::{MAX_DIM, MAX_SKETCH_BYTES, MIN_SKETCH_BYTES};
pub use query::{Estimate, SketchQuery};
pub use sketcher::Sketcher;
pub use train::{MIN_TRAINING_ROWS, TrainOptions, max_training_rows};

/// What the benches measure by itself. Not a part of the interface.
#[doc(hidden)]
pub mod internal {
    pub use crate::trellis::encode as viterbi;
}
