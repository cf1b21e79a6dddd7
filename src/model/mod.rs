//! Models in a backend: which there are, the ones this session has loaded, and the embeddings it computed last.
//!
//! `embed` is all that most callers need. A scan or a build takes a `Loaded` from `get` and keeps it, so that all its
//! embeddings come from the same model even if the model's folder is replaced meanwhile.

mod cache;
pub mod guard;
mod interrupts;
pub mod known;
mod listing;
mod loaded;
mod reuse;
mod ring;
pub mod shared;
pub mod statement;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use leann_value::Role;

use crate::error::{Error, Result};
use crate::guc;
use cache::Cache;
pub use cache::Key;

pub use leann_value::check_name;
pub use listing::list;
pub use loaded::{Loaded, get};
pub use reuse::Reuse;

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(Cache::new());
    static COUNTERS: Cell<Counters> = const { Cell::new(Counters::ZERO) };
}

/// What this session's models have done since it began. A caller takes the difference of two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Texts embedded in the passage role.
    pub recomputes: u64,
    /// Texts embedded in the query role.
    pub queries: u64,
    /// Texts whose embedding was at hand: in the cache, or asked for twice in one call.
    pub cache_hits: u64,
    /// Runs of a model.
    pub batches: u64,
    /// Texts that were longer than their model reads and were cut.
    pub truncated: u64,
    /// Milliseconds spent waiting for models, loading not counted.
    pub model_ms: f64,
}

impl Counters {
    const ZERO: Counters =
        Counters { recomputes: 0, queries: 0, cache_hits: 0, batches: 0, truncated: 0, model_ms: 0.0 };
}

pub fn counters() -> Counters {
    COUNTERS.get()
}

/// Embeds texts with the model of that name; the result is in their order. Unit-length vectors.
pub fn embed(model: &str, role: Role, texts: &[&str]) -> Result<Vec<Rc<[f32]>>> {
    get(model)?.embed(role, texts, Reuse::Everywhere)
}

/// The model of an embedding that names none.
pub fn default_name() -> String {
    guc::default_model()
}

/// Bytes that this session's cache takes, texts looked up in it, and those found.
pub fn cache_statistics() -> (usize, u64, u64) {
    CACHE.with_borrow(Cache::statistics)
}

/// Forgets every embedding that this session has kept.
pub fn clear_cache() {
    CACHE.with_borrow_mut(Cache::clear);
}

/// Forgets every trace of the texts that this session has embedded and searched.
pub fn forget() {
    CACHE.with_borrow_mut(Cache::forget);
    known::clear();
}

/// `check_name` as an error for a client.
pub fn require_name(name: &str) -> Result<()> {
    check_name(name).map_err(|reason| Error::invalid(format!("a model name {reason}")))
}
