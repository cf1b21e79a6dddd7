//! A page of a heap table, for what the server's functions for tables do not tell: which rows a command has
//! put there, and by which row indexes know a HOT chain.

use super::relation::Rel;
use super::tid;
use leann_page::HeapPointer;
use pgrx::pg_sys;

/// Maximum line pointers on a page, with room to spare.
const MAX_LINES: usize = pg_sys::BLCKSZ as usize / size_of::<pg_sys::ItemIdData>();

/// A page of a heap table, pinned and locked in share mode.
pub(super) struct HeapPage {
    table: Rel,
    block: u32,
    buffer: pg_sys::Buffer,
}

impl HeapPage {
    /// Reads and locks a page, whose block must be below the table's length. Returns None if the table is not
    /// a heap.
    pub(super) fn read(table: Rel, block: u32) -> Option<HeapPage> {
        // SAFETY: the relation is open. An error releases what is held with the transaction.
        unsafe {
            if (*table.raw()).rd_tableam != pg_sys::GetHeapamTableAmRoutine() {
                return None;
            }
            let buffer = pg_sys::ReadBuffer(table.raw(), block);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            Some(HeapPage { table, block, buffer })
        }
    }

    fn page(&self) -> pg_sys::Page {
        // SAFETY: the buffer is pinned.
        unsafe { pg_sys::BufferGetPage(self.buffer) }
    }

    /// Returns the number of line pointers.
    pub(super) fn lines(&self) -> u16 {
        // SAFETY: the page is locked.
        unsafe { pg_sys::PageGetMaxOffsetNumber(self.page()) }
    }

    /// Returns the row version of a line; None if there is none. It lies on the page.
    pub(super) fn row(&self, offset: u16) -> Option<pg_sys::HeapTupleData> {
        if offset == 0 || offset > self.lines() {
            return None;
        }
        // SAFETY: the page is locked. Line pointers up to its maximum are there; a normal one points to a
        // row.
        unsafe {
            let line = pg_sys::PageGetItemId(self.page(), offset);
            let is_row = (*line).lp_flags() == pg_sys::LP_NORMAL;
            is_row.then(|| pg_sys::HeapTupleData {
                t_len: (*line).lp_len(),
                t_self: tid::to_server(HeapPointer { block: self.block, offset }),
                t_tableOid: self.table.oid(),
                t_data: pg_sys::PageGetItem(self.page(), line).cast(),
            })
        }
    }

    /// Returns the line of the first member of the HOT chain that a row version belongs to, by which indexes
    /// know it; None if there is none.
    pub(super) fn root(&self, offset: u16) -> Option<u16> {
        let mut roots = [0u16; MAX_LINES];
        // SAFETY: the page is locked, and the array has room for every line of a page.
        unsafe { pg_sys::heap_get_root_tuples(self.page(), roots.as_mut_ptr()) };
        let root = *roots.get(usize::from(offset).checked_sub(1)?)?;
        (root != 0).then_some(root)
    }
}

impl Drop for HeapPage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: `read` locked and pinned the buffer, and it is released once.
            unsafe { pg_sys::UnlockReleaseBuffer(self.buffer) };
        }
    }
}
