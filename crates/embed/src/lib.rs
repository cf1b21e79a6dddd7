//! Turns texts into vectors of unit length (embeddings) with a model run by ONNX Runtime.
//!
//! A *model* is a folder in the layout of sentence-transformers: an ONNX file, `tokenizer.json` and a few
//! settings. [`ModelSpec::open`] reads the settings and needs no ONNX Runtime. [`Library::load`] loads ONNX
//! Runtime, once per process. [`Model::load`] brings the two together, and [`Model::embed`] embeds texts in
//! batches on several threads and can be stopped while it runs.
//!
//! ```no_run
//! use leann_embed::{Job, Library, LoadOptions, Model, ModelSpec, Role};
//! # fn main() -> Result<(), leann_embed::EmbedError> {
//! let library = Library::load("/opt/onnxruntime/libonnxruntime.so".as_ref())?;
//! let spec = ModelSpec::open("/var/lib/models/all-MiniLM-L6-v2".as_ref())?;
//! let model = Model::load(library, &spec, &LoadOptions::default())?;
//! let embedded = model.embed(&["a text", "another"], Role::Passage, &Job::uninterrupted(2))?;
//! assert_eq!(embedded.vectors.len(), 2 * model.dim());
//! # Ok(())
//! # }
//! ```
//!
//! No input makes this crate panic: a panic in the tokenizer or in a worker thread is caught and returned as
//! an error.

mod batch;
mod error;
mod folder;
mod library;
mod mapped;
mod model;
mod model_settings;
mod onnx_file;
mod onnx_session;
mod pooling;
mod spec;
mod store;
mod tokens;
mod workers;

pub use error::EmbedError;
pub use folder::MAX_FOLDER_DEPTH;
pub use leann_value::Role;
pub use library::Library;
pub use model::{Embedded, LoadOptions, Model};
pub use model_settings::Pooling;
pub use spec::ModelSpec;
pub use store::ModelStore;
pub use workers::Job;

/// What the benches measure by itself. Not a part of the interface.
#[doc(hidden)]
pub mod internal {
    pub use crate::batch::{BatchLimits, plan};
    pub use crate::tokens::{TextTokenizer, Tokens};
}
