//! Evaluates the expression of an index on rows of its table.

use super::relation::Rel;
use pgrx::{FromDatum, pg_sys};

/// A compiled form of an index's expression, and a slot for the row to evaluate it on. What an evaluation
/// remembers lives as long as the evaluator. Must be closed (`close`); after an error, the server's abort
/// releases what it holds.
pub(super) struct Evaluator {
    info: *mut pg_sys::IndexInfo,
    estate: *mut pg_sys::EState,
    econtext: *mut pg_sys::ExprContext,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Evaluator {
    /// Makes an evaluator in the current memory context, which must live until `close`, as must both
    /// relations. `expressions` stand in place of those that the server caches for the index.
    pub(super) fn new(table: Rel, index: Rel, expressions: Option<*mut pg_sys::List>) -> Evaluator {
        // SAFETY: plain server calls on open relations; everything is allocated in the current context.
        unsafe {
            let info = pg_sys::BuildIndexInfo(index.raw());
            if let Some(expressions) = expressions {
                (*info).ii_Expressions = expressions;
            }
            let estate = pg_sys::CreateExecutorState();
            let econtext = pg_sys::MakePerTupleExprContext(estate);
            let slot = pg_sys::table_slot_create(table.raw(), std::ptr::null_mut());
            (*econtext).ecxt_scantuple = slot;
            Evaluator { info, estate, econtext, slot }
        }
    }

    /// Returns the slot of the row, which has the table's format.
    pub(super) fn slot(&self) -> *mut pg_sys::TupleTableSlot {
        self.slot
    }

    /// Returns whether the row in the slot belongs into the index, which may be a partial one.
    pub(super) fn is_indexed(&mut self) -> bool {
        // SAFETY: index info and state are live until `close`. The predicate is compiled for the same state.
        unsafe {
            if (*self.info).ii_Predicate.is_null() {
                return true;
            }
            if (*self.info).ii_PredicateState.is_null() {
                let predicate = pg_sys::ExecPrepareQual((*self.info).ii_Predicate, self.estate);
                (*self.info).ii_PredicateState = predicate;
            }
            let indexed = pg_sys::ExecQual((*self.info).ii_PredicateState, self.econtext);
            pg_sys::MemoryContextReset((*self.econtext).ecxt_per_tuple_memory);
            indexed
        }
    }

    /// Returns the value of the expression for the row in the slot; None for NULL.
    pub(super) fn value<T: FromDatum>(&mut self) -> Option<T> {
        // SAFETY: all are live until `close`. The expression is evaluated in the per-tuple context, which is
        // reset after the value has been copied out.
        unsafe {
            let former = pg_sys::MemoryContextSwitchTo((*self.econtext).ecxt_per_tuple_memory);
            let value = form_value(self.info, self.slot, self.estate);
            pg_sys::MemoryContextSwitchTo(former);
            pg_sys::MemoryContextReset((*self.econtext).ecxt_per_tuple_memory);
            value
        }
    }

    pub(super) fn close(self) {
        // SAFETY: `new` made both, and each is released once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::FreeExecutorState(self.estate);
        }
    }
}

/// Evaluates the expression of an index on the row in a slot. Returns None for NULL.
///
/// # Safety
/// `info` is that of an index of this access method, and `slot` holds a row of its table and is the scan
/// tuple of the per-tuple context of `estate`.
pub(super) unsafe fn form_value<T: FromDatum>(
    info: *mut pg_sys::IndexInfo,
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
) -> Option<T> {
    let mut values = [pg_sys::Datum::from(0usize); 1];
    let mut nulls = [true; 1];
    // SAFETY: the caller promises it. An index of this access method has one key column, so one value is
    // written.
    unsafe {
        pg_sys::FormIndexDatum(info, slot, estate, values.as_mut_ptr(), nulls.as_mut_ptr());
        T::from_datum(values[0], nulls[0])
    }
}
