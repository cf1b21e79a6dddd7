//! The algorithms of the index, over numbers and small traits.
//!
//! - [`clustering`] assigns rows to node pages, [`bisect()`] divides a full page, [`Center`] summarizes one.
//! - [`links`] connects the hubs of pages, [`walk`] searches their graph for the next page to visit,
//!   [`walks`] the graphs of several indexes.
//! - [`rerank`] decides which rows to recompute and when a row may be returned; [`patience`] when a walk
//!   ends.
//! - [`tuning`] holds the constants that the access method and the measuring programs share.
//!
//! Nothing here does I/O or knows a storage engine: hubs are read through [`HubReader`], embeddings through
//! [`Vectors`], and the rerank is a state machine that its caller drives. Everything is an *inner product*
//! inside: a similarity is higher for nearer things, and embeddings of rows and queries have unit length.

#![forbid(unsafe_code)]

pub mod bisect;
mod candidates;
pub mod center;
pub mod clustering;
mod equal;
pub mod fallible;
pub mod in_memory;
mod kmeans;
pub mod links;
mod order;
mod passing;
pub mod patience;
pub mod rerank;
mod rerank_options;
mod stop;
pub mod tuning;
pub mod vectors;
pub mod walk;
pub mod walks;

pub use bisect::bisect;
pub use center::Center;
pub use clustering::{PageSize, balanced_pages};
pub use kmeans::members_of;
pub use leann_page::HubRef;
pub use links::{entry_hubs, link_halves, link_hubs, links_with, select_links};
pub use patience::default_patience;
pub use rerank::{Rerank, Step};
pub use rerank_options::{LateRows, RerankOptions};
pub use stop::{Stop, Unfinished};
pub use vectors::{F16Vectors, F32Vectors, Vectors};
pub use walk::{Hub, HubMetric, HubReader, HubWalk, NodePageRef};
pub use walks::Walks;
