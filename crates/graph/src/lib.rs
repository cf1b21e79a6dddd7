//! The algorithms of the index, over numbers and small traits: where nodes lie (`layout`, `split`), how hubs are
//! linked (`links`), how a search finds node pages (`walk`) and how long it looks for more (`patience`), and in which
//! order rows come out (`rerank`).
//!
//! Nothing here does I/O or knows a storage engine: hubs are read through [`HubReader`], embeddings through
//! [`Rows`], and the rerank is a state machine that its caller drives. Everything is *inner product* inside: a
//! similarity is higher for nearer things, row embeddings and queries are unit length.

mod kmeans;
pub mod layout;
pub mod links;
pub mod memory;
pub mod patience;
pub mod rerank;
pub mod room;
pub mod rows;
pub mod split;
pub mod walk;

mod hash;
mod order;
mod rng;

pub use kmeans::members_of;
pub use layout::{PageSize, balanced_pages};
pub use links::{entry_hubs, link_hubs, select_links};
pub use patience::default_patience;
pub use rerank::{Counters, Rerank, RerankOptions, Step};
pub use rows::{F16Rows, F32Rows, Rows};
pub use split::split;
pub use walk::{Hub, HubMetric, HubReader, HubRef, HubWalk, NodePageRef};

/// Why there is no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfinished {
    /// The caller's `stop` answered true, and the work was given up.
    #[error("stopped by the caller")]
    Stopped,
    /// The system refused memory.
    #[error("out of memory")]
    NoMemory,
}
