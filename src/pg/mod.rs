//! Safe wrappers around the parts of the server that the extension needs. Most `unsafe` code of the package
//! is here and in the entry points of `am`; settings, models, errors, values and SQL functions contain a few
//! blocks of their own. Each block states what makes it sound.
//!
//! Two rules hold for every wrapper that releases something in `Drop`. First, it releases nothing while a
//! panic unwinds, unless it says otherwise. A server error reaches Rust as a panic, and by then the server
//! has reset its interrupt bookkeeping, so that releasing a lock while unwinding would unbalance it. The
//! abort of the transaction releases everything: buffer locks through `LWLockReleaseAll`, pins through the
//! resource owner, memory with its context. Second, no wrapper outlives the transaction that made it.

pub mod allocator;
pub mod bounds;
pub mod buffer;
pub mod catalog;
pub mod context;
pub mod copied_rows;
pub mod deparse;
mod evaluator;
pub mod expression;
pub mod extension;
pub mod files;
pub mod filter;
pub mod function;
pub mod harmless;
pub mod heap;
mod heap_page;
pub mod hide_indexes;
pub mod interrupts;
pub mod lock;
pub mod memory_context;
pub mod old_row;
pub mod progress;
pub mod random;
pub mod relation;
pub mod rights;
pub mod scan_node;
pub mod settings;
pub mod settled;
pub mod shmem;
pub mod spi;
pub mod spill;
pub mod statistics;
pub mod tid;
pub mod wal;

pub use buffer::{Access, PageGuard, Strategy};
pub use relation::Rel;
pub use wal::WalRecord;
