//! Lists the models in `leann.model_dir` for the view `leann.models`, the broken ones with their error.
//!
//! A model counts as usable only if it has been loaded and has embedded a text: faults of a tokenizer, a
//! graph or a later step may show only then. One model is held at a time, and each can be interrupted.

use std::path::Path;

use leann_embed::{EmbedError, Job, LoadOptions, Model, ModelSpec, Pooling};
use leann_value::Role;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;

use super::cancel::interruptible;
use super::loaded;
use crate::error::{Error, Result};
use crate::guc;

// crates/value limits the dimensions of vectors; sketches must support as many.
const _: () = assert!(leann_value::MAX_DIM <= leann_sketch::MAX_DIM);

/// A model as its folder describes it. Where `error` is set, the model cannot be used, and other fields may
/// be missing.
pub struct ModelListing {
    pub name: String,
    pub dimensions: Option<usize>,
    pub max_tokens: Option<usize>,
    pub pooling: Option<&'static str>,
    pub normalized: Option<bool>,
    pub query_prompt: Option<String>,
    pub passage_prompt: Option<String>,
    pub fingerprint: Option<[u8; 32]>,
    pub error: Option<String>,
}

/// Returns all models in `leann.model_dir`, by name.
pub fn list() -> Result<Vec<ModelListing>> {
    let model_dir = guc::model_dir();
    let names = ModelSpec::list(&model_dir).map_err(|_| {
        Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_FILE, "the folder of models cannot be read")
            .hint("Set leann.model_dir to the folder that holds the folders of models.")
    })?;
    Ok(names.into_iter().map(|name| inspect(&model_dir, name)).collect())
}

/// Loads a model and runs it once, unless this server has done so and the model has not changed since.
fn inspect(model_dir: &Path, name: String) -> ModelListing {
    if let Err(reason) = leann_value::check_name(&name) {
        return broken(name, format!("the name of a model {reason}"));
    }
    let options = loaded::options(guc::execution_provider());
    let spec = interruptible(1, loaded::is_stopped, |job| {
        ModelSpec::find_stoppable(model_dir, &name, job.should_stop)
    });
    let spec = match spec {
        Ok(spec) => spec,
        Err(error) => return broken(name, Error::from(error).summary()),
    };
    let tried = interruptible(1, loaded::is_stopped, |job| test_model(&spec, &options, job));
    let fingerprint = interruptible(1, loaded::is_stopped, |job| {
        spec.fingerprint_stoppable(&options.store, job.should_stop)
    });
    ModelListing {
        name,
        dimensions: tried.as_ref().ok().copied().or(spec.dim()),
        max_tokens: Some(spec.max_tokens()),
        pooling: spec.pooling().map(|pooling| match pooling {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::LastToken => "last token",
        }),
        normalized: Some(spec.normalizes()),
        query_prompt: Some(spec.prompt(Role::Query).to_owned()),
        passage_prompt: Some(spec.prompt(Role::Passage).to_owned()),
        fingerprint: fingerprint.ok(),
        error: tried.err().map(|error| Error::from(error).summary()),
    }
}

/// Returns the dimensions of a model if it can be used.
fn test_model(spec: &ModelSpec, options: &LoadOptions, job: &Job) -> Result<usize, EmbedError> {
    let library = loaded::library()?;
    if let Some(dim) = Model::remembered_dim(library, spec, options, job.should_stop)? {
        return Ok(dim);
    }
    let model = Model::load_stoppable(library, spec, options, job)?;
    let dim = model.dim();
    // The default model's copy will be needed. Copies of all other models would take much space.
    if spec.name() != guc::default_model() {
        model.discard();
    }
    Ok(dim)
}

/// Returns the listing of a model that cannot be read.
fn broken(name: String, error: String) -> ModelListing {
    ModelListing {
        name,
        dimensions: None,
        max_tokens: None,
        pooling: None,
        normalized: None,
        query_prompt: None,
        passage_prompt: None,
        fingerprint: None,
        error: Some(error),
    }
}
