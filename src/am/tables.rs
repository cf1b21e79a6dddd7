//! Which tables can have an index.

use super::errors;
use crate::pg::Rel;
use pgrx::pg_sys;

/// Refuses tables that are not heaps: a scan counts on row pointers being block numbers of the table's file, and on what the
/// heap does with a pointer whose row is gone.
pub fn check_table(table: Rel, index: Rel) {
    // SAFETY: an open relation has its pg_class row.
    let method = unsafe { (*(*table.raw()).rd_rel).relam };
    if method != pg_sys::HEAP_TABLE_AM_OID {
        errors::raise_not_a_heap(&index.name(), &table.name());
    }
}
