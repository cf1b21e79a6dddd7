//! The on-disk formats of a leann index: bytes of a page's *body* in, values out.
//!
//! A body is a byte slice of any length from 1 KiB to 64 KiB; where it lies within a page of the
//! relation, and what surrounds it, is the caller's business. All numbers are little-endian. The byte
//! layout of every kind is in this crate's `README.md`.
//!
//! Every `parse` checks all it reads, so that the accessors of a view cannot fail, and no input, however
//! damaged, makes this crate panic. A mutable view changes only the bytes it must (a log of the change
//! stays small), and a change it refuses leaves the page as it was. Whatever a mutable view has written,
//! `parse` accepts.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bytes;
mod error;
mod free;
mod header;
mod hub;
mod meta;
mod node;
mod params;
mod pointer_form;
mod refs;

pub use error::PageError;
pub use free::FreePage;
pub use header::{FORMAT_VERSION, PageKind, generation, kind};
pub use hub::{HubEntry, HubPage, HubPageMut, MAX_LINKS, NewHub};
pub use meta::{MAX_DIM, MAX_ENTRY_HUBS, MAX_MODEL_NAME, Meta, SketchForm};
pub use node::{NodePage, NodePageMut};
pub use params::ParamsPage;
pub use pointer_form::PointerForm;
pub use refs::{HeapPointer, HubRef};

/// "No page" wherever a block number is stored: the end of a chain, or a chain that is empty.
pub const NO_PAGE: u32 = u32::MAX;
