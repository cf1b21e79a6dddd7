//! Models in a backend: the available ones, those that this session has loaded, and the embeddings it
//! computed last.
//!
//! Most callers need only `embed`. A scan or a build takes a `Loaded` from `get` and keeps it, so that all
//! its embeddings come from the same model even if the model's folder is replaced meanwhile.

mod cache;
mod cancel;
mod counters;
mod errors;
pub mod guard;
mod listing;
mod loaded;
pub mod returned_rows;
mod reuse;
mod ring_cache;
pub mod shared;
pub mod statement;
mod vectors;

pub use crate::guc::default_model as default_name;
pub use cache::{Key, cache_statistics, clear_cache};
pub use counters::{Counters, counters};
pub use listing::list;
pub use loaded::{Loaded, get, require_name};
pub use reuse::Reuse;
pub use vectors::{embed, vector, vectors};
