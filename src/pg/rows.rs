//! Reading table rows by heap pointer with a scan's snapshot, and evaluating the index expression on them.

use super::relation::Rel;
use crate::sql::embedding::Embedding;
use leann_page::HeapPointer;
use pgrx::{FromDatum, pg_sys};

/// Reads rows of an index's table. Must be closed (`close`); after an error the server's abort releases what it holds.
pub struct RowReader {
    fetch: *mut pg_sys::IndexFetchTableData,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
    econtext: *mut pg_sys::ExprContext,
    info: *mut pg_sys::IndexInfo,
    table: Rel,
    /// Blocks of the table when last looked at.
    blocks: u32,
    snapshot: pg_sys::Snapshot,
}

impl RowReader {
    /// Prepares reading in the current memory context, which must live until `close`. None when the snapshot is not an
    /// MVCC snapshot: only under one is it certain that a recycled line pointer shows no foreign row.
    ///
    /// # Safety
    /// `snapshot` is registered or active, and stays so until `close`; both relations stay open as long.
    pub unsafe fn open(table: Rel, index: Rel, snapshot: pg_sys::Snapshot) -> Option<RowReader> {
        // SAFETY: by the caller's promise the snapshot is live.
        let kind = unsafe { (*snapshot).snapshot_type };
        if kind != pg_sys::SnapshotType::SNAPSHOT_MVCC {
            return None;
        }
        // SAFETY: plain server calls on open relations; everything is allocated in the current context.
        unsafe {
            let estate = pg_sys::CreateExecutorState();
            let econtext = pg_sys::MakePerTupleExprContext(estate);
            let slot = pg_sys::table_slot_create(table.raw(), std::ptr::null_mut());
            (*econtext).ecxt_scantuple = slot;
            Some(RowReader {
                fetch: pg_sys::table_index_fetch_begin(table.raw()),
                slot,
                estate,
                econtext,
                info: pg_sys::BuildIndexInfo(index.raw()),
                table,
                blocks: 0,
                snapshot,
            })
        }
    }

    /// Whether a row can be at `pointer` at all. Reading one beyond the end of the table would be an error of the storage
    /// that says nothing of the index that the pointer came from. (The table cannot shrink under a scan's lock.)
    pub fn in_table(&mut self, pointer: HeapPointer) -> bool {
        if pointer.block >= self.blocks {
            self.blocks = self.table.blocks();
        }
        pointer.block < self.blocks
    }

    /// Tells the storage that these rows will be read soon.
    pub fn prefetch(&self, pointers: &[HeapPointer]) {
        for pointer in pointers {
            // SAFETY: the relation is open.
            unsafe {
                pg_sys::PrefetchBuffer(self.table.raw(), pg_sys::ForkNumber::MAIN_FORKNUM, pointer.block)
            };
        }
    }

    /// The value of the index expression for the row version at `pointer` (or of its HOT chain) that the snapshot sees;
    /// None when it sees none, or the value is NULL.
    pub fn read(&mut self, pointer: HeapPointer) -> Option<Embedding> {
        let mut tid = pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData {
                bi_hi: (pointer.block >> 16) as u16,
                bi_lo: (pointer.block & 0xffff) as u16,
            },
            ip_posid: pointer.offset,
        };
        let mut call_again = false;
        loop {
            // SAFETY: fetch, slot and snapshot are live until `close`; `tid` is a local copy, because the call
            // overwrites it with the member of the HOT chain that it found.
            let found = unsafe {
                pg_sys::table_index_fetch_tuple(
                    self.fetch,
                    &mut tid,
                    self.snapshot,
                    self.slot,
                    &mut call_again,
                    std::ptr::null_mut(),
                )
            };
            if found {
                return self.evaluate();
            }
            if !call_again {
                return None;
            }
        }
    }

    /// Evaluates the index expression on the row in the slot, as the table's owner and in a security-restricted
    /// operation: the expression may call functions that the owner of the table wrote.
    fn evaluate(&mut self) -> Option<Embedding> {
        let _owner = AsOwner::of(self.table);
        let mut values = [pg_sys::Datum::from(0usize); 1];
        let mut nulls = [true; 1];
        // SAFETY: an index of this access method has one key column, so one value is written. Evaluation happens in
        // the per-tuple context, which is reset once the value is copied out.
        unsafe {
            let former = pg_sys::MemoryContextSwitchTo((*self.econtext).ecxt_per_tuple_memory);
            pg_sys::FormIndexDatum(
                self.info,
                self.slot,
                self.estate,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            let value = Embedding::from_datum(values[0], nulls[0]);
            pg_sys::MemoryContextSwitchTo(former);
            pg_sys::MemoryContextReset((*self.econtext).ecxt_per_tuple_memory);
            value
        }
    }

    /// Lets go of the row last read, so that no pin is held while the model runs.
    pub fn release_row(&mut self) {
        // SAFETY: slot and fetch are live; both calls drop buffer pins only.
        unsafe {
            pg_sys::ExecClearTuple(self.slot);
            pg_sys::table_index_fetch_reset(self.fetch);
        }
    }

    pub fn close(self) {
        // SAFETY: each was made in `open` and is released once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::table_index_fetch_end(self.fetch);
            pg_sys::FreeExecutorState(self.estate);
        }
    }
}

/// The user id switched to a table's owner until dropped, under SECURITY_RESTRICTED_OPERATION.
pub struct AsOwner {
    user: pg_sys::Oid,
    context: i32,
}

impl AsOwner {
    pub fn of(table: Rel) -> AsOwner {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: reads and writes this backend's user id; the former values are put back on drop, or by transaction
        // abort after an error.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(
                table.owner(),
                context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32,
            );
        }
        AsOwner { user, context }
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        // SAFETY: puts back what `of` found; also right while unwinding.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}
