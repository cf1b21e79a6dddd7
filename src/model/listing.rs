//! What the view `leann.models` shows: the models in `leann.model_dir`, the broken ones with what is wrong with them.

use leann_embed::{ModelSpec, Pooling};
use leann_value::Role;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;

use crate::error::{Error, Result};
use crate::guc;

/// A model as its folder describes it; no model is loaded to find out. Where `error` is set, the rest may be missing.
pub struct Listed {
    pub name: String,
    /// Unknown until the model is loaded, if its settings do not say.
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
    Ok(names
        .into_iter()
        .map(|name| match ModelSpec::find(&model_dir, &name) {
            Ok(spec) => describe(name, &spec),
            Err(error) => broken(name, Error::from(error).summary()),
        })
        .collect())
}

fn describe(name: String, spec: &ModelSpec) -> Listed {
    let (fingerprint, error) = match spec.fingerprint() {
        Ok(fingerprint) => (Some(fingerprint), None),
        Err(error) => (None, Some(Error::from(error).summary())),
    };
    Listed {
        name,
        dimensions: spec.dim(),
        max_tokens: Some(spec.max_tokens()),
        pooling: Some(match spec.pooling() {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::LastToken => "last token",
        }),
        normalised: Some(spec.normalises()),
        query_prompt: Some(spec.prompt(Role::Query).to_owned()),
        passage_prompt: Some(spec.prompt(Role::Passage).to_owned()),
        fingerprint,
        error,
    }
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
