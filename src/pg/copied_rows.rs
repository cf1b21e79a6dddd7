//! Reads rows that COPY has put into a table and not yet into its indexes. COPY inserts rows into the table
//! by the hundred, and only then hands them to the indexes one by one: so an index can see what comes next.

use super::context::explained;
use super::relation::Rel;
use super::tid;
use leann_page::HeapPointer;
use pgrx::{FromDatum, pg_sys};

/// The most blocks of a table that are looked at.
const MAX_BLOCKS: u32 = 64;

/// Calls `take` with the values of an index's expression for rows that the current command has inserted at
/// higher places than `row`: with their heap pointers, in ascending order, until it returns false. There are
/// none if the table is not a heap.
pub fn following<T: FromDatum>(
    table: Rel,
    index: Rel,
    row: HeapPointer,
    mut take: impl FnMut(HeapPointer, T) -> bool,
) {
    // SAFETY: the relation is open.
    if unsafe { (*table.raw()).rd_tableam != pg_sys::GetHeapamTableAmRoutine() } {
        return;
    }
    let mut reader = None;
    'blocks: for block in row.block..table.blocks().min(row.block.saturating_add(MAX_BLOCKS)) {
        let first = if block == row.block { row.offset + 1 } else { 1 };
        let tuples = inserted_now(table, block, first);
        if tuples.is_empty() && block > row.block {
            break;
        }
        for tuple in tuples {
            let reader = reader.get_or_insert_with(|| Reader::new(table, index));
            // SAFETY: the tuple is a copy of a row of the reader's table.
            let (pointer, value) = unsafe { (tid::read(&raw mut (*tuple).t_self), reader.evaluate(tuple)) };
            if value.is_some_and(|value| !take(pointer, value)) {
                break 'blocks;
            }
        }
    }
    if let Some(reader) = reader {
        reader.close();
    }
}

/// Returns copies of the rows on a block that the current command has inserted, from a line on, in the
/// current memory context.
fn inserted_now(table: Rel, block: u32, first: u16) -> Vec<pg_sys::HeapTuple> {
    let mut tuples = Vec::new();
    // SAFETY: the block is below the table's length, and its page is read under its lock, which an error
    // releases with the transaction. Line pointers below the page's maximum are there; a normal one points to
    // a row.
    unsafe {
        let (transaction, command) =
            (pg_sys::GetCurrentTransactionIdIfAny(), pg_sys::GetCurrentCommandId(false));
        let buffer = pg_sys::ReadBuffer(table.raw(), block);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let page = pg_sys::BufferGetPage(buffer);
        for offset in first..=pg_sys::PageGetMaxOffsetNumber(page) {
            let line = pg_sys::PageGetItemId(page, offset);
            if (*line).lp_flags() != pg_sys::LP_NORMAL {
                continue;
            }
            let header: pg_sys::HeapTupleHeader = pg_sys::PageGetItem(page, line).cast();
            let mask = u32::from((*header).t_infomask);
            let own = (*header).t_choice.t_heap.t_xmin == transaction
                && (*header).t_choice.t_heap.t_field3.t_cid == command
                && mask & pg_sys::HEAP_COMBOCID == 0
                && mask & pg_sys::HEAP_XMAX_INVALID != 0;
            if own {
                let mut tuple = pg_sys::HeapTupleData {
                    t_len: (*line).lp_len(),
                    t_tableOid: table.oid(),
                    t_data: header,
                    ..Default::default()
                };
                tuple.t_self = tid::to_server(HeapPointer { block, offset });
                tuples.push(pg_sys::heap_copytuple(&raw mut tuple));
            }
        }
        pg_sys::UnlockReleaseBuffer(buffer);
    }
    tuples
}

/// Evaluates an index expression on rows. It has a compiled form of its own: what an evaluation remembers
/// lives as long as the state that it was made for.
struct Reader {
    index: Rel,
    info: *mut pg_sys::IndexInfo,
    predicate: *mut pg_sys::ExprState,
    estate: *mut pg_sys::EState,
    econtext: *mut pg_sys::ExprContext,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Reader {
    fn new(table: Rel, index: Rel) -> Reader {
        // SAFETY: plain server calls on open relations. What they allocate is in the current context or in
        // the executor state, and lives until `close`.
        unsafe {
            let info = pg_sys::BuildIndexInfo(index.raw());
            let estate = pg_sys::CreateExecutorState();
            let econtext = pg_sys::MakePerTupleExprContext(estate);
            let format = (*table.raw()).rd_att;
            let slot = pg_sys::MakeSingleTupleTableSlot(format, &raw const pg_sys::TTSOpsHeapTuple);
            (*econtext).ecxt_scantuple = slot;
            let predicate = pg_sys::ExecPrepareQual((*info).ii_Predicate, estate);
            Reader { index, info, predicate, estate, econtext, slot }
        }
    }

    /// Returns the value of the expression on a row; None for NULL, and for a row that does not belong into a
    /// partial index.
    ///
    /// # Safety
    /// `tuple` is a row of the reader's table that lives until the next call.
    unsafe fn evaluate<T: FromDatum>(&mut self, tuple: pg_sys::HeapTuple) -> Option<T> {
        let say = || {
            // SAFETY: the caller promises a row.
            let HeapPointer { block, offset } = unsafe { tid::read(&raw mut (*tuple).t_self) };
            let index = self.index.name();
            format!(
                "It was raised by the expression of index \"{index}\" for the row at ctid ({block},{offset})."
            )
        };
        // SAFETY: the caller promises it.
        explained(&say, || unsafe { self.form_value(tuple) })
    }

    /// # Safety
    /// As that of [`Reader::evaluate`].
    unsafe fn form_value<T: FromDatum>(&self, tuple: pg_sys::HeapTuple) -> Option<T> {
        let mut values = [pg_sys::Datum::from(0usize); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [true; pg_sys::INDEX_MAX_KEYS as usize];
        // SAFETY: the slot is of the table's format. The value is copied out before the per-tuple context is
        // reset.
        unsafe {
            pg_sys::ExecForceStoreHeapTuple(tuple, self.slot, false);
            (*self.slot).tts_tableOid = (*tuple).t_tableOid;
            let former = pg_sys::MemoryContextSwitchTo((*self.econtext).ecxt_per_tuple_memory);
            if self.predicate.is_null() || pg_sys::ExecQual(self.predicate, self.econtext) {
                pg_sys::FormIndexDatum(
                    self.info,
                    self.slot,
                    self.estate,
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                );
            }
            let value = T::from_datum(values[0], nulls[0]);
            pg_sys::MemoryContextSwitchTo(former);
            pg_sys::MemoryContextReset((*self.econtext).ecxt_per_tuple_memory);
            value
        }
    }

    fn close(self) {
        // SAFETY: `new` made both, and each is released once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::FreeExecutorState(self.estate);
        }
    }
}
