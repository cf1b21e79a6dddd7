//! What the view `leann.models` shows: the models in `leann.model_dir`, the broken ones with what is wrong with them.
//!
//! Only what has been loaded and has embedded a text counts as usable: a tokenizer, a graph or a step behind it may each
//! be such that only the first run shows it. One model is held at a time, and each can be interrupted.

use std::path::Path;

use leann_embed::{EmbedError, Job, LoadOptions, Model, ModelSpec, Pooling};
use leann_value::Role;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;

use super::interrupts::interruptible;
use super::loaded;
use crate::error::{Error, Result};
use crate::guc;

// Vectors and models' names have one limit each, in crates/value. What an index keeps of them holds as much.
const _: () = assert!(leann_value::MAX_DIM <= leann_sketch::MAX_DIM);

/// A model as its folder describes it. Where `error` is set, it cannot be used, and the rest may be missing.
pub struct Listed {
    pub name: String,
    pub dimensions: Option<usize>,
    pub max_tokens: Option<usize>,
    pub pooling: Option<&'static str>,
    pub normalised: Option<bool>,
    pub query_prompt: Option<String>,
    pub passage_prompt: Option<String>,
    pub fingerprint: Option<[u8; 32]>,
    pub error: Option<String>,
}

/// All models in `leann.model_dir`, by name.
pub fn list() -> Result<Vec<Listed>> {
    let model_dir = guc::model_dir();
    let names = ModelSpec::list(&model_dir).map_err(|_| {
        Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_FILE, "the folder of models cannot be read")
            .hint("Set leann.model_dir to the folder that holds the folders of models.")
    })?;
    Ok(names.into_iter().map(|name| look_at(&model_dir, name)).collect())
}

/// Loads a model and runs it once, unless that has been done on this server and nothing has changed since.
fn look_at(model_dir: &Path, name: String) -> Listed {
    if let Err(reason) = super::check_name(&name) {
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
    let tried = interruptible(1, loaded::is_stopped, |job| try_out(&spec, &options, job));
    let fingerprint = interruptible(1, loaded::is_stopped, |job| {
        spec.fingerprint_stoppable(&options.store, job.should_stop)
    });
    Listed {
        name,
        dimensions: tried.as_ref().ok().copied().or(spec.dim()),
        max_tokens: Some(spec.max_tokens()),
        pooling: spec.pooling().map(|pooling| match pooling {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::LastToken => "last token",
        }),
        normalised: Some(spec.normalises()),
        query_prompt: Some(spec.prompt(Role::Query).to_owned()),
        passage_prompt: Some(spec.prompt(Role::Passage).to_owned()),
        fingerprint: fingerprint.ok(),
        error: tried.err().map(|error| Error::from(error).summary()),
    }
}

/// The dimensions of a model that can be used.
fn try_out(spec: &ModelSpec, options: &LoadOptions, job: &Job) -> Result<usize, EmbedError> {
    let library = loaded::library()?;
    if let Some(dim) = Model::dim_if_it_ran(library, spec, options, job.should_stop)? {
        return Ok(dim);
    }
    let model = Model::load_stoppable(library, spec, options, job)?;
    let dim = model.dim();
    // The copy of the default model will be needed; those of all the others may be many.
    if spec.name() != guc::default_model() {
        model.discard();
    }
    Ok(dim)
}

fn broken(name: String, error: String) -> Listed {
    Listed {
        name,
        dimensions: None,
        max_tokens: None,
        pooling: None,
        normalised: None,
        query_prompt: None,
        passage_prompt: None,
        fingerprint: None,
        error: Some(error),
    }
}
