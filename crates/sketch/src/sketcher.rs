//! The sketcher: the interface over its forms.

use std::sync::Arc;

use crate::coder::Coder;
use crate::error::SketchError;
use crate::query::{SketchQuery, is_untrained};
use crate::train::{self, TrainOptions};
use crate::trained::{Places, Trained};
use crate::untrained::Untrained;
use crate::{float16, format};

/// Makes sketches of embeddings, and queries that score them. Clones are cheap: they share their parameters.
#[derive(Clone, Debug)]
pub struct Sketcher {
    form: Arc<Form>,
}

/// What a sketch consists of.
#[derive(Debug)]
enum Form {
    Trained(Trained),
    /// Trained on the sketches of an untrained sketcher, which stay valid. Rows lie where they lay.
    TrainedInPlace(Trained),
    Untrained(Untrained),
    Float16 {
        dim: usize,
    },
}

impl Sketcher {
    /// Returns a sketcher that has seen no rows and stores only `dim` and `seed`. Its sketches take one bit
    /// per dimension and two more bytes.
    pub fn untrained(dim: usize, seed: u64) -> Sketcher {
        Sketcher { form: Arc::new(Form::Untrained(Untrained::new(dim, seed))) }
    }

    /// Returns a sketcher whose sketches are the embeddings in 16-bit floats, 2 bytes per dimension.
    pub fn float16(dim: usize) -> Sketcher {
        Sketcher { form: Arc::new(Form::Float16 { dim }) }
    }

    /// Trains a sketcher on `sample`: rows of `dim` values each, one after the other, of unit length. Returns
    /// the untrained sketcher if the sample has too little to learn from: fewer than [`MIN_TRAINING_ROWS`]
    /// different rows, or hardly a component in which they differ.
    ///
    /// Polls `stop` and gives the work up within some ten milliseconds after it returns true. The same sample
    /// and options give the same sketcher on the same machine.
    ///
    /// [`MIN_TRAINING_ROWS`]: crate::MIN_TRAINING_ROWS
    ///
    /// # Errors
    ///
    /// [`SketchError::Stopped`] or [`SketchError::NoMemory`]; [`SketchError::Shape`],
    /// [`SketchError::SketchBytes`] or [`SketchError::NotFinite`] if the sample or the options are out of
    /// range.
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

    /// Trains this untrained sketcher on sketches that it has made: different ones, one after the other. The
    /// result reads them, and makes new ones of the same length; projected and decoded vectors mean the same
    /// as before. `rows` is the number of rows that the table has. Returns `None` if there is too little to
    /// learn from, as [`Sketcher::train`] says, and for a sketcher that is not untrained.
    ///
    /// # Errors
    ///
    /// [`SketchError::Stopped`] or [`SketchError::NoMemory`].
    pub fn train_in_place(
        &self,
        sketches: &[u8],
        rows: usize,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Sketcher>, SketchError> {
        let Form::Untrained(untrained) = &*self.form else { return Ok(None) };
        let options = TrainOptions { sketch_bytes: self.sketch_bytes(), rows, seed: untrained.seed() };
        let trained = train::train_on_sketches(untrained, sketches, &options, stop)?;
        Ok(trained.map(|trained| Sketcher { form: Arc::new(Form::TrainedInPlace(trained)) }))
    }

    /// Returns the parameters as bytes, for [`Sketcher::from_bytes`]: about `components() * dim() / 2` bytes
    /// if trained, at most 17 if not.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &*self.form {
            Form::Trained(trained) => format::write_trained(trained.parameters(), false),
            Form::TrainedInPlace(trained) => format::write_trained(trained.parameters(), true),
            Form::Untrained(untrained) => format::write_untrained(untrained.dim(), untrained.seed()),
            Form::Float16 { dim } => format::write_float16(*dim),
        }
    }

    /// Reads what [`Sketcher::to_bytes`] wrote. The result makes and scores the same sketches.
    ///
    /// # Errors
    ///
    /// [`SketchError::Damaged`] for anything else. Damaged bytes that still read as parameters give a
    /// sketcher whose estimates mean nothing, but which is safe to use.
    pub fn from_bytes(bytes: &[u8]) -> Result<Sketcher, SketchError> {
        let form = match format::read(bytes)? {
            format::Stored::Untrained { dim, seed } => Form::Untrained(Untrained::new(dim, seed)),
            format::Stored::Float16 { dim } => Form::Float16 { dim },
            format::Stored::Trained(parameters) => Form::Trained(Trained::new(parameters)?),
            format::Stored::TrainedInPlace(parameters) => in_place(Trained::in_place(parameters)?)?,
        };
        Ok(Sketcher { form: Arc::new(form) })
    }

    /// Returns whether this sketcher was trained on rows.
    pub fn is_trained(&self) -> bool {
        matches!(*self.form, Form::Trained(_) | Form::TrainedInPlace(_))
    }

    /// Returns whether this sketcher was trained on the sketches of an untrained one.
    pub fn is_trained_in_place(&self) -> bool {
        matches!(*self.form, Form::TrainedInPlace(_))
    }

    /// Returns whether a sketch is the embedding itself, so that estimates have no error.
    pub fn is_exact(&self) -> bool {
        matches!(*self.form, Form::Float16 { .. })
    }

    /// Returns the number of dimensions of an embedding.
    pub fn dim(&self) -> usize {
        match &*self.form {
            Form::Trained(trained) | Form::TrainedInPlace(trained) => trained.parameters().dim,
            Form::Untrained(untrained) => untrained.dim(),
            Form::Float16 { dim } => *dim,
        }
    }

    /// Returns the number of values in a projected or decoded vector: at most `dim()` if trained, in the
    /// order of falling variance, and `dim()` if not, or if trained in place.
    pub fn components(&self) -> usize {
        match &*self.form {
            Form::Trained(trained) => trained.coder().components(),
            _ => self.dim(),
        }
    }

    /// Returns the length in bytes of a sketch.
    pub fn sketch_bytes(&self) -> usize {
        self.coder().map_or(float16::sketch_bytes(self.dim()), Coder::sketch_bytes)
    }

    /// Returns the trellis coder; `None` if sketches are embeddings.
    fn coder(&self) -> Option<&Coder> {
        match &*self.form {
            Form::Trained(trained) | Form::TrainedInPlace(trained) => Some(trained.coder()),
            Form::Untrained(untrained) => Some(untrained.coder()),
            Form::Float16 { .. } => None,
        }
    }

    /// Writes the embedding's coordinates in the sketcher's components, relative to the mean: the `y` for
    /// which `mean + V y` is nearest to the embedding. Every column of `V` is a component.
    ///
    /// # Panics
    ///
    /// If the length of `embedding` is not [`Sketcher::dim`], or that of `out` not [`Sketcher::components`].
    pub fn project(&self, embedding: &[f32], out: &mut [f32]) {
        self.assert_dim(embedding);
        assert_eq!(out.len(), self.components(), "one value per component");
        match &*self.form {
            Form::Trained(trained) => out.copy_from_slice(&trained.project(embedding).coordinates),
            Form::TrainedInPlace(trained) => trained.untrained().project(embedding, out),
            Form::Untrained(untrained) => untrained.project(embedding, out),
            Form::Float16 { .. } => out.copy_from_slice(embedding),
        }
    }

    /// Writes the sketch of an embedding of unit length; one of another length gets roughly the sketch of its
    /// direction. Takes up to a tenth of a millisecond or so, because it searches for the best code.
    ///
    /// # Panics
    ///
    /// If the length of `embedding` is not [`Sketcher::dim`], or that of `out` not
    /// [`Sketcher::sketch_bytes`].
    pub fn encode(&self, embedding: &[f32], out: &mut [u8]) {
        self.assert_dim(embedding);
        assert_eq!(out.len(), self.sketch_bytes(), "a sketch has a fixed length");
        match &*self.form {
            Form::Trained(trained) | Form::TrainedInPlace(trained) => drop(trained.encode(embedding, out)),
            Form::Untrained(untrained) => untrained.encode(embedding, out),
            Form::Float16 { .. } => float16::encode(embedding, out),
        }
    }

    /// Writes the vector that a sketch stands for, an approximation of what [`Sketcher::project`] writes. Any
    /// bytes are valid.
    ///
    /// # Panics
    ///
    /// If the length of `sketch` is not [`Sketcher::sketch_bytes`], or that of `out` not
    /// [`Sketcher::components`].
    pub fn decode(&self, sketch: &[u8], out: &mut [f32]) {
        assert_eq!(sketch.len(), self.sketch_bytes(), "a sketch has a fixed length");
        assert_eq!(out.len(), self.components(), "one value per component");
        match &*self.form {
            Form::Trained(trained) => trained.decode(sketch, out),
            Form::TrainedInPlace(trained) => trained.decode_rotated(sketch, out),
            Form::Untrained(untrained) => untrained.coder().decode(sketch, out),
            Form::Float16 { .. } => float16::decode(sketch, out),
        }
    }

    /// Returns whether a sketch is in the untrained form: all of an untrained sketcher, and those of a
    /// trained one whose rows its components describe badly.
    pub fn is_untrained_sketch(&self, sketch: &[u8]) -> bool {
        match &*self.form {
            Form::Trained(_) | Form::TrainedInPlace(_) => is_untrained(sketch),
            Form::Untrained(_) => true,
            Form::Float16 { .. } => false,
        }
    }

    /// Returns about which share of its row's squared length a sketch keeps, 0 to 1. The larger it is, the
    /// better the row fits the sketcher.
    ///
    /// # Panics
    ///
    /// If the length of `sketch` is not [`Sketcher::sketch_bytes`].
    pub fn fit(&self, sketch: &[u8]) -> f32 {
        assert_eq!(sketch.len(), self.sketch_bytes(), "a sketch has a fixed length");
        match &*self.form {
            Form::Trained(trained) | Form::TrainedInPlace(trained) => trained.fit(sketch),
            Form::Untrained(untrained) => untrained.kept(),
            Form::Float16 { .. } => 1.0,
        }
    }

    /// Prepares a query for scoring. Takes some tens of microseconds.
    ///
    /// # Panics
    ///
    /// If the length of `query` is not [`Sketcher::dim`].
    pub fn query(&self, query: &[f32]) -> SketchQuery {
        self.assert_dim(query);
        match &*self.form {
            Form::Trained(trained) => trained.query(query, Places::Components),
            Form::TrainedInPlace(trained) => trained.query(query, Places::Rotation),
            Form::Untrained(untrained) => untrained.query(query),
            Form::Float16 { .. } => SketchQuery::float16(query),
        }
    }

    fn assert_dim(&self, embedding: &[f32]) {
        assert_eq!(embedding.len(), self.dim(), "the embedding has the wrong dimension");
    }
}

/// Returns the form of a sketcher trained in place.
///
/// # Errors
///
/// [`SketchError::Damaged`] if its untrained form does not have all dimensions, as every untrained sketcher's
/// has.
fn in_place(trained: Trained) -> Result<Form, SketchError> {
    if trained.untrained().coder().components() != trained.parameters().dim {
        return Err(SketchError::Damaged("sketches too short for the untrained form"));
    }
    Ok(Form::TrainedInPlace(trained))
}
