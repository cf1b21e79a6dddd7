//! Writes a fresh index into an empty fork, one block after the other. The bodies come from crates/layout.

use super::errors;
use crate::error::raise_internal;
use crate::pg::buffer::BODY_BYTES;
use crate::pg::{PageGuard, Rel, interrupts};
use leann_layout::Image;
use pgrx::pg_sys;

/// Writes an index into an empty fork and returns the number of blocks. Writes WAL only for an init fork.
pub fn write(rel: Rel, fork: pg_sys::ForkNumber::Type, image: &Image<'_>) -> u32 {
    let mut next = 0;
    let mut put = |body: &[u8]| {
        interrupts::check();
        let mut page = PageGuard::extend(rel, fork);
        assert_eq!(page.block(), next, "a build writes into an empty fork");
        page.write_unlogged(body);
        if fork == pg_sys::ForkNumber::INIT_FORKNUM {
            page.log_whole();
        }
        next += 1;
    };
    // The pages were empty, so they refuse only a value that no page holds. That is no damage, and REINDEX
    // would not repair it.
    image
        .write(&mut put)
        .unwrap_or_else(|fault| raise_internal(format!("could not write index \"{}\": {fault}", rel.name())));
    next
}

/// Refuses to store embeddings if two of them do not fit on a page, because such a page could not be split.
pub fn check_room(rel: Rel, model: &str, dim: usize) {
    let sketch_bytes = leann_sketch::Sketcher::float16(dim).sketch_bytes();
    if leann_layout::any_page_capacity(BODY_BYTES, sketch_bytes) < 2 {
        errors::raise_too_large_to_store(&rel.name(), model, dim);
    }
}
