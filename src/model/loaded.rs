//! The models that this session has loaded, and how they embed texts.
//!
//! A model is loaded when it is first needed and kept until its folder changes. Nothing is kept of a failed
//! attempt, so that the next statement works once a setting or a folder has been corrected.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use leann_embed::{
    EmbedError, Embedded, Library, LoadOptions, MAX_FOLDER_DEPTH, Model, ModelSpec, ModelStore,
};
use leann_value::Role;
use pgrx::prelude::*;

use super::cache::Cache;
use super::cache::Key;
use super::counters::count;
use super::reuse::Reuse;
use super::{cancel, shared, statement};
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::interrupts::with_signals_blocked;
use crate::pg::rights::Asker;
use crate::pg::{allocator, files};
use crate::session::{self, State};

/// A model ready for use. While a caller holds it, the session uses this very model.
pub struct Loaded {
    model: Model,
}

/// A loaded model, and the state of its folder when it was loaded.
struct LoadedFolder {
    loaded: Rc<Loaded>,
    identity: u64,
    /// Start of the statement in which the folder was last checked.
    seen_at: pg_sys::TimestampTz,
}

/// The models that this session has loaded, by folder and execution provider.
#[derive(Default)]
struct LoadedModels(HashMap<(PathBuf, &'static str), LoadedFolder>);

impl State for LoadedModels {}

/// Checks a model name that a client gave.
pub fn require_name(name: &str) -> Result<()> {
    leann_value::check_name(name).map_err(|reason| Error::invalid(format!("a model name {reason}")))
}

/// Returns the model called `name`, and loads it if necessary. Its folder is checked once in each statement:
/// a replaced folder is loaded by the next statement, never within one.
pub fn get(name: &str) -> Result<Rc<Loaded>> {
    require_name(name)?;
    let model_dir = guc::model_dir();
    let dir = model_dir.join(name);
    let provider = guc::execution_provider();
    let now = statement::began();
    let key = (dir, provider);

    let seen = session::with(|LoadedModels(models)| {
        models.get(&key).filter(|folder| folder.seen_at == now).map(|folder| folder.loaded.clone())
    });
    if let Some(loaded) = seen {
        return Ok(loaded);
    }
    let identity = folder_identity(&key.0);
    let unchanged = session::with(|LoadedModels(models)| match models.entry(key.clone()) {
        Entry::Occupied(mut entry) if Some(entry.get().identity) == identity => {
            entry.get_mut().seen_at = now;
            Some(entry.get().loaded.clone())
        }
        Entry::Occupied(entry) => {
            entry.remove();
            None
        }
        Entry::Vacant(_) => None,
    });
    if let Some(loaded) = unchanged {
        return Ok(loaded);
    }
    let loaded = Rc::new(load(&model_dir, name, provider)?);
    if let Some(identity) = identity {
        let folder = LoadedFolder { loaded: loaded.clone(), identity, seen_at: now };
        session::with(|LoadedModels(models)| models.insert(key, folder));
    }
    Ok(loaded)
}

fn load(model_dir: &Path, name: &str, provider: &str) -> Result<Loaded> {
    let options = options(provider);
    let model = cancel::interruptible(1, is_stopped, |job| {
        let spec = ModelSpec::find_stoppable(model_dir, name, job.should_stop)?;
        Model::load_stoppable(library()?, &spec, &options, job)
    })?;
    Ok(Loaded { model })
}

pub(super) fn options(provider: &str) -> LoadOptions {
    LoadOptions {
        execution_provider: provider.to_owned(),
        store: ModelStore::in_folder(files::temporary_folder("leann")),
    }
}

pub(super) fn library() -> Result<&'static Library, EmbedError> {
    allocator::share_one_arena();
    // The library may start threads of its own when it is loaded.
    with_signals_blocked(|| Library::load(&guc::onnxruntime_library()))
}

/// Returns a number that changes when a file in the folder changes: a hash of the names, inodes, sizes and
/// times of all files. Returns None if the folder cannot be read.
fn folder_identity(dir: &Path) -> Option<u64> {
    fn add(dir: &Path, levels: usize, hasher: &mut DefaultHasher) -> std::io::Result<()> {
        let mut entries = std::fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let Ok(data) = std::fs::metadata(entry.path()) else { continue };
            entry.file_name().hash(hasher);
            (data.dev(), data.ino(), data.size(), data.mtime(), data.mtime_nsec()).hash(hasher);
            (data.ctime(), data.ctime_nsec()).hash(hasher);
            if data.is_dir() && levels > 0 {
                add(&entry.path(), levels - 1, hasher)?;
            }
        }
        Ok(())
    }
    let mut hasher = DefaultHasher::new();
    add(dir, MAX_FOLDER_DEPTH - 1, &mut hasher).ok()?;
    Some(hasher.finish())
}

impl Loaded {
    pub fn name(&self) -> &str {
        self.model.name()
    }

    /// Returns the dimensions of the model's embeddings.
    pub fn dim(&self) -> usize {
        self.model.dim()
    }

    /// Returns the hash of the model's weights, tokenizer and settings. Two models with the same hash give
    /// the same embeddings.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.model.fingerprint()
    }

    /// Returns the number of tokens that longer texts are cut to.
    pub fn max_tokens(&self) -> usize {
        self.model.max_tokens()
    }

    /// Returns whether the model would cut a text.
    pub fn cuts(&self, role: Role, text: &str) -> Result<bool> {
        // Every token takes at least a byte, and tokenizing takes time, so short texts are not tokenized.
        let cuts = || cancel::interruptible(1, is_stopped, |job| self.model.truncates(text, role, job));
        Ok(text.len() > self.max_tokens() && cuts()?)
    }

    /// Returns the cache key of this text's embedding for the present roles.
    pub fn key(&self, role: Role, text: &str) -> Key {
        Key::new(Asker::now(), &self.model.exact_fingerprint(), role, text)
    }

    /// Embeds texts, and returns vectors of unit length in the order of the texts.
    pub fn embed(&self, role: Role, texts: &[&str], reuse: Reuse) -> Result<Vec<Rc<[f32]>>> {
        if reuse == Reuse::Nowhere {
            let vectors = self.compute(role, texts)?;
            return Ok(vectors.chunks_exact(self.dim()).map(Rc::from).collect());
        }
        self.embed_missing(role, texts, reuse == Reuse::Everywhere)
    }

    /// Embeds texts that no cache has, each distinct text once.
    fn embed_missing(&self, role: Role, texts: &[&str], share: bool) -> Result<Vec<Rc<[f32]>>> {
        let keys: Vec<Key> = texts.iter().map(|text| self.key(role, text)).collect();
        let mut found: HashMap<Key, Rc<[f32]>> = HashMap::new();
        let mut missing: Vec<(Key, &str)> = Vec::new();
        session::with(|cache: &mut Cache| {
            let mut asked = std::collections::HashSet::new();
            for (key, text) in keys.iter().zip(texts) {
                if !asked.insert(*key) {
                    continue;
                }
                match cache.get(key) {
                    Some(embedding) => drop(found.insert(*key, embedding)),
                    None => missing.push((*key, text)),
                }
            }
        });
        missing.retain(|(key, _)| match shared::get(key) {
            // A vector of another length is not of this model, whatever the key says.
            Some(vector) if vector.len() == self.dim() => {
                found.insert(*key, keep_in_session(*key, &vector));
                false
            }
            _ => true,
        });
        if !missing.is_empty() {
            let misses: Vec<&str> = missing.iter().map(|(_, text)| *text).collect();
            let vectors = self.compute(role, &misses)?;
            for ((key, _), vector) in missing.iter().zip(vectors.chunks_exact(self.dim())) {
                if share {
                    shared::put(key, vector);
                }
                found.insert(*key, keep_in_session(*key, vector));
            }
        }
        count(|counters| counters.cache_hits += (texts.len() - missing.len()) as u64);
        Ok(keys.iter().map(|key| found[key].clone()).collect())
    }

    /// Embeds texts into one row-major matrix, without the caches.
    fn compute(&self, role: Role, texts: &[&str]) -> Result<Vec<f32>> {
        Ok(self.compute_texts(role, texts)?.vectors)
    }

    /// Embeds texts without the caches, and also returns which of them were cut. A build calls this, because
    /// it meets each row once.
    pub fn compute_texts(&self, role: Role, texts: &[&str]) -> Result<Embedded> {
        let begin = Instant::now();
        let result =
            cancel::interruptible(guc::threads(), is_stopped, |job| self.model.embed(texts, role, job));
        allocator::give_back();
        let embedded = result.map_err(Error::from)?;
        statement::add_embedded(texts.len());
        count(|counters| {
            match role {
                Role::Query => counters.queries += texts.len() as u64,
                Role::Passage => counters.recomputes += texts.len() as u64,
            }
            counters.batches += embedded.batches as u64;
            counters.truncated += embedded.truncated_count() as u64;
            counters.model_ms += begin.elapsed().as_secs_f64() * 1e3;
        });
        Ok(embedded)
    }
}

/// Puts an embedding into the session's cache.
fn keep_in_session(key: Key, vector: &[f32]) -> Rc<[f32]> {
    let embedding: Rc<[f32]> = Rc::from(vector);
    session::with(|cache: &mut Cache| cache.put(key, embedding.clone(), guc::cache_bytes()));
    embedding
}

pub(super) fn is_stopped<T>(result: &Result<T, EmbedError>) -> bool {
    matches!(result, Err(EmbedError::Stopped))
}
