//! Safe wrappers around the parts of the server that the access method needs. With the entry points of `am/` this is
//! the only place with `unsafe`; each use states what makes it sound.
//!
//! Two rules hold for every wrapper that releases something in `Drop`. First, a server error reaches Rust as a panic,
//! and by then the server has reset its interrupt bookkeeping: releasing a lock while unwinding would unbalance it, so
//! while a panic is under way nothing is released here; transaction abort releases it all (buffer locks through
//! `LWLockReleaseAll`, pins through the resource owner, memory with its context). Second, nothing here outlives the
//! transaction that made it.

pub mod buffer;
pub mod closed;
pub mod context;
pub mod deparse;
pub mod encoding;
pub mod expression;
pub mod extension;
pub mod files;
pub mod function;
pub mod interrupts;
pub mod lock;
pub mod memory;
pub mod only_index;
pub mod progress;
pub mod relation;
pub mod rights;
pub mod rows;
pub mod settings;
pub mod shmem;
pub mod spi;
pub mod spill;
pub mod statistics;
pub mod wal;

pub use buffer::{Access, PageGuard, Strategy};
pub use relation::Rel;
pub use wal::WalRecord;
