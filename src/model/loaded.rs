//! Models that this session has loaded, and how texts go through them.
//!
//! A model is loaded when it is first needed and kept until its folder changes. Nothing of a failed attempt is kept, so
//! that the statement after the one that mends a setting or a folder works.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use leann_embed::{EmbedError, Embedded, Library, LoadOptions, MAX_DEPTH, Model, ModelSpec, Store};
use leann_value::Role;
use pgrx::prelude::*;

use super::cache::Key;
use super::{CACHE, COUNTERS, Reuse, interrupts, shared};
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::interrupts::with_signals_blocked;
use crate::pg::rights::Asker;
use crate::pg::{files, memory};

/// A model ready for use. Holding one keeps the session with that very model.
pub struct Loaded {
    model: Model,
}

/// A loaded model and what its folder looked like then.
struct Known {
    loaded: Rc<Loaded>,
    identity: u64,
    /// Start of the statement in which the folder was last looked at.
    seen_at: pg_sys::TimestampTz,
}

thread_local! {
    static KNOWN: RefCell<HashMap<(PathBuf, &'static str), Known>> = RefCell::new(HashMap::new());
}

/// The model of that name, loaded if need be. Its folder is looked at once in each statement: a folder that was
/// replaced is loaded anew in the next one, never in the midst of one.
pub fn get(name: &str) -> Result<Rc<Loaded>> {
    super::require_name(name)?;
    let model_dir = guc::model_dir();
    let dir = model_dir.join(name);
    let provider = guc::execution_provider();
    // SAFETY: reads a variable of this process.
    let now = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    let key = (dir, provider);

    if let Some(loaded) = KNOWN.with_borrow(|known| {
        known.get(&key).filter(|known| known.seen_at == now).map(|known| known.loaded.clone())
    }) {
        return Ok(loaded);
    }
    let identity = identity(&key.0);
    let unchanged = KNOWN.with_borrow_mut(|known| match known.entry(key.clone()) {
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
        let known = Known { loaded: loaded.clone(), identity, seen_at: now };
        KNOWN.with_borrow_mut(|all| all.insert(key, known));
    }
    Ok(loaded)
}

fn load(model_dir: &Path, name: &str, provider: &str) -> Result<Loaded> {
    let options = options(provider);
    let model = interrupts::interruptible(1, is_stopped, |job| {
        let spec = ModelSpec::find_stoppable(model_dir, name, job.should_stop)?;
        Model::load_stoppable(library()?, &spec, &options, job)
    })?;
    Ok(Loaded { model })
}

pub(super) fn options(provider: &str) -> LoadOptions {
    LoadOptions {
        execution_provider: provider.to_owned(),
        store: Store::in_folder(files::temporary_folder("leann")),
    }
}

pub(super) fn library() -> Result<&'static Library, EmbedError> {
    memory::share_one_arena();
    // It may start threads of its own when it is loaded.
    with_signals_blocked(|| Library::load(&guc::onnxruntime_library()))
}

/// A number that changes when a file in the folder does: from the names, inodes, sizes and times of all of them. `None`
/// if the folder cannot be read.
fn identity(dir: &Path) -> Option<u64> {
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
    add(dir, MAX_DEPTH - 1, &mut hasher).ok()?;
    Some(hasher.finish())
}

impl Loaded {
    pub fn name(&self) -> &str {
        self.model.name()
    }

    /// Dimensions of its embeddings.
    pub fn dim(&self) -> usize {
        self.model.dim()
    }

    /// Hash of the model's weights, tokenizer and settings: two models with the same give the same embeddings.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.model.fingerprint()
    }

    /// Longer texts are cut to this many tokens.
    pub fn max_tokens(&self) -> usize {
        self.model.max_tokens()
    }

    /// Whether the model would cut a text.
    pub fn cuts(&self, role: Role, text: &str) -> Result<bool> {
        // Every token is at least a byte long, and splitting takes time.
        let cuts = || interrupts::interruptible(1, is_stopped, |job| self.model.cuts(text, role, job));
        Ok(text.len() > self.max_tokens() && cuts()?)
    }

    /// What names this text's embedding for whoever asks now.
    pub fn key(&self, role: Role, text: &str) -> Key {
        Key::new(Asker::now(), &self.model.exact_fingerprint(), role, text)
    }

    /// Embeds texts, in their order, each of unit length.
    pub fn embed(&self, role: Role, texts: &[&str], reuse: Reuse) -> Result<Vec<Rc<[f32]>>> {
        if reuse == Reuse::Nowhere {
            let vectors = self.compute(role, texts)?;
            return Ok(vectors.chunks_exact(self.dim()).map(Rc::from).collect());
        }
        self.embed_missing(role, texts, reuse == Reuse::Everywhere)
    }

    /// What a cache has is not computed, nor is a text twice.
    fn embed_missing(&self, role: Role, texts: &[&str], share: bool) -> Result<Vec<Rc<[f32]>>> {
        let keys: Vec<Key> = texts.iter().map(|text| self.key(role, text)).collect();
        let mut found: HashMap<Key, Rc<[f32]>> = HashMap::new();
        let mut missing: Vec<(Key, &str)> = Vec::new();
        CACHE.with_borrow_mut(|cache| {
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
            // A vector of another length is none of this model's, whatever the key says.
            Some(vector) if vector.len() == self.dim() => {
                found.insert(*key, keep(*key, &vector));
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
                found.insert(*key, keep(*key, vector));
            }
        }
        count(|counters| counters.cache_hits += (texts.len() - missing.len()) as u64);
        Ok(keys.iter().map(|key| found[key].clone()).collect())
    }

    /// Embeds texts into one row-major matrix, past the cache.
    fn compute(&self, role: Role, texts: &[&str]) -> Result<Vec<f32>> {
        Ok(self.compute_texts(role, texts)?.vectors)
    }

    /// The same, and which texts were cut: for a build, which meets each row once.
    pub fn compute_texts(&self, role: Role, texts: &[&str]) -> Result<Embedded> {
        let begin = Instant::now();
        let result =
            interrupts::interruptible(guc::threads(), is_stopped, |job| self.model.embed(texts, role, job));
        memory::give_back();
        let embedded = result.map_err(Error::from)?;
        super::statement::embedded(texts.len());
        count(|counters| {
            match role {
                Role::Query => counters.queries += texts.len() as u64,
                Role::Passage => counters.recomputes += texts.len() as u64,
            }
            counters.batches += embedded.batches as u64;
            counters.truncated += embedded.truncated() as u64;
            counters.model_ms += begin.elapsed().as_secs_f64() * 1e3;
        });
        Ok(embedded)
    }
}

/// Puts an embedding into the session's cache.
fn keep(key: Key, vector: &[f32]) -> Rc<[f32]> {
    let embedding: Rc<[f32]> = Rc::from(vector);
    CACHE.with_borrow_mut(|cache| cache.put(key, embedding.clone(), guc::cache_bytes()));
    embedding
}

pub(super) fn is_stopped<T>(result: &Result<T, EmbedError>) -> bool {
    matches!(result, Err(EmbedError::Stopped))
}

fn count(add: impl FnOnce(&mut super::Counters)) {
    let mut counters = COUNTERS.get();
    add(&mut counters);
    COUNTERS.set(counters);
}
