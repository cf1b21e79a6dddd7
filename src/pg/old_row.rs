//! Finds the version of a row that a statement replaces. An access method is told of the new version only.
//!
//! When the executor starts a statement that changes tables, it is noted. An access method is given the
//! `IndexInfo` of the index that it inserts into, and that belongs to exactly one result relation of one
//! running statement: so nested statements, triggers, CTEs and partitions cannot be confused. The result
//! relation has the slot with the old version.
//!
//! No statement is noted for COPY and for the apply of logical replication, which do not pass the hook.

use super::evaluator::form_value;
use super::heap_page::HeapPage;
use super::memory_context::before_reset;
use super::relation::Rel;
use super::tid;
use crate::session::{self, State};
use leann_page::HeapPointer;
use pgrx::{FromDatum, PgList, pg_sys};
use std::ffi::c_void;

/// The statements that run and change tables, the innermost last. Each is forgotten with its memory.
#[derive(Default)]
struct Changing(Vec<*mut pg_sys::EState>);

impl State for Changing {}

/// Makes the session's part of the state, because callbacks must not.
pub fn register() {
    session::with(|_: &mut Changing| ());
}

/// Notes a statement that changes tables.
///
/// # Safety
/// `query` is a started query.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn note(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the caller promises a started query. The callback only compares its argument.
    unsafe {
        let estate = (*query).estate;
        if (*(*query).plannedstmt).resultRelations.is_null() {
            return;
        }
        before_reset((*estate).es_query_cxt, forget, estate.cast());
        session::with(|Changing(statements)| statements.push(estate));
    }
}

/// Forgets a statement whose memory is about to be freed.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget(estate: *mut c_void) {
    session::with(|Changing(statements)| statements.retain(|other| other.cast() != estate));
}

/// A statement that inserts into an index. It is valid until the access method's insert returns.
#[derive(Clone, Copy)]
pub struct Inserting {
    estate: *mut pg_sys::EState,
    relation: *mut pg_sys::ResultRelInfo,
    info: *mut pg_sys::IndexInfo,
}

impl Inserting {
    /// Returns the statement that inserts; None if it passed no hook.
    ///
    /// # Safety
    /// The server passed `info` to the insert that runs.
    pub unsafe fn of(info: *mut pg_sys::IndexInfo) -> Option<Inserting> {
        session::with(|Changing(statements)| {
            statements.iter().rev().find_map(|estate| {
                // SAFETY: a noted statement is live, and so are its result relations.
                let relation = unsafe { result_relation(*estate, info) }?;
                Some(Inserting { estate: *estate, relation, info })
            })
        })
    }

    /// Returns whether an expression of the index refers to the row as a whole. The server's hint that the
    /// index's columns are unchanged overlooks that.
    pub fn indexes_whole_row(self) -> bool {
        let whole_row = -pg_sys::FirstLowInvalidHeapAttributeNumber;
        let mut columns = std::ptr::null_mut();
        // SAFETY: the index info is live; its expressions refer to one relation, number 1.
        unsafe {
            pg_sys::pull_varattnos((*self.info).ii_Expressions.cast(), 1, &raw mut columns);
            pg_sys::bms_is_member(whole_row, columns)
        }
    }

    /// Returns whether a trigger may have changed the row before it was inserted.
    pub fn has_before_trigger(self) -> bool {
        // SAFETY: the result relation is live; its triggers are null or live.
        unsafe { (*self.relation).ri_TrigDesc.as_ref() }
            .is_some_and(|triggers| triggers.trig_update_before_row || triggers.trig_insert_before_row)
    }

    /// Returns the version that the row at `new` replaces; None if it replaces none, or if the table is not a
    /// heap. `table` is that of the index.
    pub fn old_row(self, table: Rel, new: HeapPointer) -> Option<OldRow> {
        let Inserting { estate, relation, info } = self;
        // SAFETY: the result relation is live; its slots are null or live.
        let slots = unsafe {
            let conflict = (*relation).ri_onConflict;
            let existing = if conflict.is_null() { std::ptr::null_mut() } else { (*conflict).oc_Existing };
            [(*relation).ri_oldTupleSlot, existing]
        };
        // SAFETY: as above.
        let holds_row = |slot: &*mut pg_sys::TupleTableSlot| unsafe {
            !slot.is_null()
                && u32::from((**slot).tts_flags) & pg_sys::TTS_FLAG_EMPTY == 0
                && (**slot).tts_tableOid == table.oid()
                && (**slot).tts_tid.ip_posid != 0
        };
        slots.into_iter().filter(holds_row).find_map(|slot| {
            // SAFETY: as above.
            let indexed = indexed_pointer(table, unsafe { tid::read(&raw mut (*slot).tts_tid) }, new)?;
            Some(OldRow { slot, estate, info, indexed })
        })
    }
}

/// An old version of a row. It is valid until the access method's insert returns.
#[derive(Clone, Copy)]
pub struct OldRow {
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
    info: *mut pg_sys::IndexInfo,
    indexed: HeapPointer,
}

impl OldRow {
    /// Returns the heap pointer by which indexes know the old version: that of the first member of its HOT
    /// chain.
    pub fn indexed(self) -> HeapPointer {
        self.indexed
    }

    /// Returns whether the index has a predicate.
    pub fn is_of_partial_index(self) -> bool {
        // SAFETY: the index info is live.
        unsafe { !(*self.info).ii_Predicate.is_null() }
    }

    /// Returns whether the old version passes the predicate of the index.
    pub fn passes_predicate(self) -> bool {
        // SAFETY: the index info is live. The server has compiled the predicate for the new version.
        unsafe {
            let predicate = (*self.info).ii_PredicateState;
            predicate.is_null() || self.in_scan_slot(|econtext| pg_sys::ExecQual(predicate, econtext))
        }
    }

    /// Calls `evaluate` with the context in which the server evaluates the expressions of the index, with the
    /// old version in place of the new one.
    fn in_scan_slot<R>(self, evaluate: impl FnOnce(*mut pg_sys::ExprContext) -> R) -> R {
        // SAFETY: slot and state are live while the insert runs. The server evaluates the expressions of
        // further indexes on the new version, so its slot is put back. (After an error, the statement ends.)
        unsafe {
            let mut econtext = (*self.estate).es_per_tuple_exprcontext;
            if econtext.is_null() {
                econtext = pg_sys::MakePerTupleExprContext(self.estate);
            }
            let former = std::mem::replace(&mut (*econtext).ecxt_scantuple, self.slot);
            let result = evaluate(econtext);
            (*econtext).ecxt_scantuple = former;
            result
        }
    }

    /// Evaluates the index expression on the old version, as the server does on the new one.
    pub fn value<T: FromDatum>(self) -> Option<T> {
        // SAFETY: slot, state and index info are live while the insert runs.
        self.in_scan_slot(|_| unsafe { form_value(self.info, self.slot, self.estate) })
    }
}

/// Returns the heap pointer of the first member of the HOT chain that the row version at `old` belongs to;
/// None unless it was replaced by the one at `new`, or if the table is not a heap.
fn indexed_pointer(table: Rel, old: HeapPointer, new: HeapPointer) -> Option<HeapPointer> {
    let page = HeapPage::read(table, old.block)?;
    let row = page.row(old.offset)?;
    // SAFETY: the row lies on the page, which is locked.
    let successor = unsafe { tid::read(&raw mut (*row.t_data).t_ctid) };
    let offset = if successor == new { page.root(old.offset) } else { None };
    offset.map(|offset| HeapPointer { block: old.block, offset })
}

/// Returns the result relation of a statement that an `IndexInfo` belongs to.
///
/// # Safety
/// `estate` is live.
unsafe fn result_relation(
    estate: *mut pg_sys::EState,
    info: *mut pg_sys::IndexInfo,
) -> Option<*mut pg_sys::ResultRelInfo> {
    // SAFETY: the caller promises a live state; its lists hold live result relations with so many indexes.
    unsafe {
        let opened = PgList::<pg_sys::ResultRelInfo>::from_pg((*estate).es_opened_result_relations);
        let routed = PgList::<pg_sys::ResultRelInfo>::from_pg((*estate).es_tuple_routing_result_relations);
        opened.iter_ptr().chain(routed.iter_ptr()).find(|relation| {
            let (infos, count) = ((**relation).ri_IndexRelationInfo, (**relation).ri_NumIndices);
            !infos.is_null() && std::slice::from_raw_parts(infos, count as usize).contains(&info)
        })
    }
}
