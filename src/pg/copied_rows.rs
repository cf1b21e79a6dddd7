//! Reads rows that COPY has put into a table and not yet into its indexes. COPY inserts rows into the table
//! by the hundred, and only then hands them to the indexes one by one: so an index can see what comes next.

use super::relation::Rel;
use super::tid;
use leann_page::HeapPointer;
use pgrx::{FromDatum, pg_sys};

/// The most blocks of a table that are looked at.
const MAX_BLOCKS: u32 = 64;

/// Returns the values of an index's expression for rows that the current command has inserted at higher
/// places than `row`: their heap pointers, and their values in ascending order, until `take` returns false.
/// None are returned for a table that is not a heap.
///
/// # Safety
/// The server passed `info` to the insert of `row` that runs, for an index on `table`.
pub unsafe fn following<T: FromDatum>(
    table: Rel,
    info: *mut pg_sys::IndexInfo,
    row: HeapPointer,
    mut take: impl FnMut(HeapPointer, T) -> bool,
) {
    // SAFETY: the caller promises a live index info.
    let unreadable = unsafe {
        (*table.raw()).rd_tableam != pg_sys::GetHeapamTableAmRoutine()
            // The server compiles the expressions for the row that it inserts. What were compiled here would
            // not live long enough.
            || ((*info).ii_ExpressionsState.is_null() && !(*info).ii_Expressions.is_null())
            || ((*info).ii_PredicateState.is_null() && !(*info).ii_Predicate.is_null())
    };
    if unreadable {
        return;
    }
    let mut reader = Reader::new(table, info);
    'blocks: for block in row.block..table.blocks().min(row.block.saturating_add(MAX_BLOCKS)) {
        let first = if block == row.block { row.offset + 1 } else { 1 };
        let tuples = inserted_now(table, block, first);
        if tuples.is_empty() && block > row.block {
            break;
        }
        for tuple in tuples {
            // SAFETY: the tuple is a copy of a row of the reader's table.
            let (pointer, value) = unsafe { (tid::read(&raw mut (*tuple).t_self), reader.evaluate(tuple)) };
            if value.is_some_and(|value| !take(pointer, value)) {
                break 'blocks;
            }
        }
    }
    reader.close();
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

/// Evaluates an index expression on rows.
struct Reader {
    info: *mut pg_sys::IndexInfo,
    estate: *mut pg_sys::EState,
    econtext: *mut pg_sys::ExprContext,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Reader {
    fn new(table: Rel, info: *mut pg_sys::IndexInfo) -> Reader {
        // SAFETY: plain server calls on an open table; everything is allocated in the current context.
        unsafe {
            let estate = pg_sys::CreateExecutorState();
            let econtext = pg_sys::MakePerTupleExprContext(estate);
            let slot =
                pg_sys::MakeSingleTupleTableSlot((*table.raw()).rd_att, &raw const pg_sys::TTSOpsHeapTuple);
            (*econtext).ecxt_scantuple = slot;
            Reader { info, estate, econtext, slot }
        }
    }

    /// Returns the value of the expression on a row; None for NULL, and for a row that does not belong into a
    /// partial index.
    ///
    /// # Safety
    /// `tuple` is a row of the reader's table that lives until the next call.
    unsafe fn evaluate<T: FromDatum>(&mut self, tuple: pg_sys::HeapTuple) -> Option<T> {
        let mut values = [pg_sys::Datum::from(0usize); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [true; pg_sys::INDEX_MAX_KEYS as usize];
        // SAFETY: the slot is of the table's format. The value is copied out before the per-tuple context is
        // reset.
        unsafe {
            pg_sys::ExecForceStoreHeapTuple(tuple, self.slot, false);
            (*self.slot).tts_tableOid = (*tuple).t_tableOid;
            let former = pg_sys::MemoryContextSwitchTo((*self.econtext).ecxt_per_tuple_memory);
            let predicate = (*self.info).ii_PredicateState;
            if predicate.is_null() || pg_sys::ExecQual(predicate, self.econtext) {
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
