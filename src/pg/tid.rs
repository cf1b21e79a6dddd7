//! Converts heap pointers between the server's form and that of the index's pages.

use leann_page::HeapPointer;
use pgrx::itemptr::{item_pointer_get_both, item_pointer_set_all};
use pgrx::pg_sys;

/// Returns the heap pointer that is stored at an address.
///
/// # Safety
/// `tid` points to an item pointer.
pub unsafe fn read(tid: pg_sys::ItemPointer) -> HeapPointer {
    // SAFETY: the caller promises an item pointer.
    let (block, offset) = item_pointer_get_both(unsafe { *tid });
    HeapPointer { block, offset }
}

/// Returns the server's form of a heap pointer.
pub fn to_server(pointer: HeapPointer) -> pg_sys::ItemPointerData {
    let mut tid = pg_sys::ItemPointerData::default();
    item_pointer_set_all(&mut tid, pointer.block, pointer.offset);
    tid
}
