//! The on-disk formats of a leann index: bytes of a page's *body* in, values out.
//!
//! A body is a byte slice of 1 KiB to 64 KiB. Its place within a page of the relation, and what surrounds
//! it, are up to the caller. All numbers are little-endian. `README.md` has the byte layout of every kind.
//!
//! Every `parse` checks all that it reads. Therefore the accessors of a view cannot fail, and no input,
//! however damaged, makes this crate panic. A mutable view changes as few bytes as it can, so that a log of
//! the change stays small, and a change that it refuses leaves the page unchanged. `parse` accepts whatever
//! a mutable view has written.

#![forbid(unsafe_code)]

mod bytes;
mod error;
mod free;
mod header;
mod hub;
mod meta;
mod node;
mod page_kind;
mod params;
mod pointer_form;
mod refs;

pub use error::PageError;
pub use free::FreePage;
pub use header::{FORMAT_VERSION, kind};
pub use hub::{HubEntry, HubPage, HubPageMut, MAX_LINKS, NewHub};
pub use meta::{MAX_ENTRY_HUBS, Meta, SketchForm};
pub use node::{NodePage, NodePageMut};
pub use page_kind::PageKind;
pub use params::ParamsPage;
pub use pointer_form::PointerForm;
pub use refs::{HeapPointer, HubRef, NO_PAGE};
