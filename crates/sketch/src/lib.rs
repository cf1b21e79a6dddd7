//! Sketches: the few bytes per node that estimate its similarity to a query, and know their own error.
//!
//! Embeddings and queries are unit-length `f32` vectors, and the similarity is their inner product. A [`Sketcher`] turns a row's
//! embedding into a sketch of a fixed number of bytes, and a query into a [`SketchQuery`], which scores sketches.
//!
//! Three forms:
//! - **trained** on a sample of the corpus: mean and leading directions of the covariance, bits by variance (transform coding);
//! - **untrained**: a seeded random rotation, one bit per dimension, for a table that has no rows yet;
//! - **float16**: the whole embedding in 16-bit floats, which estimates nothing and leaves nothing to recompute.
//!
//! In the first two all coordinates of a row are coded together by a trellis code, decoded vectors are scaled to unit length, and the error of an
//! estimate follows from how much had to be scaled: a sketch is its code and nothing else.

mod allot;
mod code;
mod eigen;
mod error;
mod float16;
mod format;
mod linear;
mod log_byte;
mod lookup;
mod pca;
mod random;
mod rotation;
mod score;
mod sums;
mod train;
mod trained;
mod trellis;
mod untrained;

use std::sync::Arc;

use code::Code;
pub use error::SketchError;
pub use score::{Estimate, SketchQuery};
pub use train::{MIN_TRAINING_ROWS, TrainOptions, most_training_rows};
use trained::Trained;
use untrained::Untrained;

/// Largest dimension of an embedding.
pub const MAX_DIM: usize = 16_384;
/// Smallest trained sketch.
pub const MIN_SKETCH_BYTES: usize = 4;
/// Largest trained sketch.
pub const MAX_SKETCH_BYTES: usize = 1024;

/// Makes sketches of embeddings, and queries that score them. Cheap to clone: clones share their parameters.
#[derive(Clone, Debug)]
pub struct Sketcher {
    form: Arc<Form>,
}

#[derive(Debug)]
enum Form {
    Trained(Trained),
    Untrained(Untrained),
    Float16 { dim: usize },
}

impl Sketcher {
    /// A sketcher that has seen no rows. It stores only `dim` and `seed`; its sketches take `dim / 8` bytes (rounded up) and two more.
    pub fn untrained(dim: usize, seed: u64) -> Sketcher {
        Sketcher { form: Arc::new(Form::Untrained(Untrained::new(dim, seed))) }
    }

    /// A sketcher whose sketches are the embeddings, in 16-bit floats: 2 bytes per dimension.
    pub fn float16(dim: usize) -> Sketcher {
        Sketcher { form: Arc::new(Form::Float16 { dim }) }
    }

    /// Learns a sketcher from `sample`: rows of `dim` values each, one after the other, each of unit length. Where there is too little to
    /// learn from, fewer than [`MIN_TRAINING_ROWS`] different rows or hardly a direction in which they differ, it is the untrained one.
    ///
    /// `stop` is asked again and again, and true ends it within some ten milliseconds. The same sample and options give the same sketcher
    /// on the same machine.
    ///
    /// # Errors
    ///
    /// [`SketchError::Stopped`], [`SketchError::NoMemory`]; the others if sample or options are out of range.
    pub fn train(
        sample: &[f32],
        dim: usize,
        options: &TrainOptions,
        stop: &dyn Fn() -> bool,
    ) -> Result<Sketcher, SketchError> {
        let trained = train::train(sample, dim, options, stop)?;
        Ok(trained.map_or_else(
            || Sketcher::untrained(dim, options.seed),
            |trained| Sketcher { form: Arc::new(Form::Trained(trained)) },
        ))
    }

    /// The parameters as bytes, for [`Sketcher::from_bytes`]. About `directions() * dim() / 2` bytes if trained, at most 17
    /// if not.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &*self.form {
            Form::Trained(trained) => format::write_trained(trained.parameters()),
            Form::Untrained(untrained) => format::write_untrained(untrained.dim(), untrained.seed()),
            Form::Float16 { dim } => format::write_float16(*dim),
        }
    }

    /// Reads what [`Sketcher::to_bytes`] wrote: the result makes and scores the same sketches.
    ///
    /// # Errors
    ///
    /// [`SketchError::Damaged`] for anything else. Damage that still reads as parameters gives a sketcher whose estimates mean nothing, but
    /// which is safe to use.
    pub fn from_bytes(bytes: &[u8]) -> Result<Sketcher, SketchError> {
        let form = match format::read(bytes)? {
            format::Stored::Untrained { dim, seed } => Form::Untrained(Untrained::new(dim, seed)),
            format::Stored::Float16 { dim } => Form::Float16 { dim },
            format::Stored::Trained(parameters) => {
                Form::Trained(Trained::new(parameters).map_err(SketchError::Damaged)?)
            }
        };
        Ok(Sketcher { form: Arc::new(form) })
    }

    /// Whether this sketcher was learned from rows.
    pub fn is_trained(&self) -> bool {
        matches!(*self.form, Form::Trained(_))
    }

    /// Whether a sketch is the embedding itself: estimates are then exact.
    pub fn is_exact(&self) -> bool {
        matches!(*self.form, Form::Float16 { .. })
    }

    /// Dimensions of an embedding.
    pub fn dim(&self) -> usize {
        match &*self.form {
            Form::Trained(trained) => trained.parameters().dim,
            Form::Untrained(untrained) => untrained.dim(),
            Form::Float16 { dim } => *dim,
        }
    }

    /// Length of a projected or decoded vector, in order of falling variance: at most `dim()` if trained, `dim()` if not.
    pub fn directions(&self) -> usize {
        self.code().map_or(self.dim(), Code::directions)
    }

    /// Length of a sketch.
    pub fn sketch_bytes(&self) -> usize {
        self.code().map_or(float16::sketch_bytes(self.dim()), Code::sketch_bytes)
    }

    /// None where sketches are no codes.
    fn code(&self) -> Option<&Code> {
        match &*self.form {
            Form::Trained(trained) => Some(trained.code()),
            Form::Untrained(untrained) => Some(untrained.code()),
            Form::Float16 { .. } => None,
        }
    }

    /// Writes the embedding's coordinates in the sketcher's directions, relative to the mean: the `y` for which `mean + V y` is nearest to it.
    ///
    /// # Panics
    ///
    /// If `embedding` is not [`Sketcher::dim`] long, or `out` not [`Sketcher::directions`].
    pub fn project(&self, embedding: &[f32], out: &mut [f32]) {
        self.assert_dim(embedding);
        assert_eq!(out.len(), self.directions(), "one value per direction");
        match &*self.form {
            Form::Trained(trained) => trained.project(embedding, out),
            Form::Untrained(untrained) => untrained.project(embedding, out),
            Form::Float16 { .. } => out.copy_from_slice(embedding),
        }
    }

    /// Writes the sketch of an embedding of unit length (that of any other is the sketch of its direction, more or less). Takes some tenths
    /// of a millisecond: it searches for the best code.
    ///
    /// # Panics
    ///
    /// If `embedding` is not [`Sketcher::dim`] long, or `out` not [`Sketcher::sketch_bytes`].
    pub fn encode(&self, embedding: &[f32], out: &mut [u8]) {
        self.assert_dim(embedding);
        let Some(code) = self.code() else {
            assert_eq!(out.len(), self.sketch_bytes(), "a sketch has a fixed length");
            return float16::encode(embedding, out);
        };
        let mut coordinates = vec![0.0; self.directions()];
        self.project(embedding, &mut coordinates);
        code.encode(&coordinates, out);
    }

    /// Writes the vector that a sketch stands for, an approximation of what [`Sketcher::project`] gives. Any bytes are valid.
    ///
    /// # Panics
    ///
    /// If `sketch` is not [`Sketcher::sketch_bytes`] long, or `out` not [`Sketcher::directions`].
    pub fn decode(&self, sketch: &[u8], out: &mut [f32]) {
        match self.code() {
            Some(code) => code.decode(sketch, out),
            None => {
                assert_eq!(sketch.len(), self.sketch_bytes(), "a sketch has a fixed length");
                assert_eq!(out.len(), self.dim(), "one value per direction");
                float16::decode(sketch, out);
            }
        }
    }

    /// Makes a query ready for scoring: some tens of microseconds.
    ///
    /// # Panics
    ///
    /// If `query` is not [`Sketcher::dim`] long.
    pub fn query(&self, query: &[f32]) -> SketchQuery {
        self.assert_dim(query);
        match &*self.form {
            Form::Trained(trained) => trained.query(query),
            Form::Untrained(untrained) => untrained.query(query),
            Form::Float16 { .. } => SketchQuery::float16(query),
        }
    }

    fn assert_dim(&self, embedding: &[f32]) {
        assert_eq!(embedding.len(), self.dim(), "the embedding has the wrong dimension");
    }
}
