//! Finds the version of a row that a statement replaces. An access method is told of the new version only.
//!
//! When the executor starts a statement that changes tables, it is noted. An access method is given the
//! `IndexInfo` of the index that it inserts into, and that belongs to exactly one result relation of one
//! running statement: so nested statements, triggers, CTEs and partitions cannot be confused. The result
//! relation has the slot with the old version.
//!
//! No statement is noted for COPY and for the apply of logical replication, which do not pass the hook.

use super::memory_context::before_reset;
use super::relation::Rel;
use crate::session::{self, State};
use leann_page::HeapPointer;
use pgrx::{FromDatum, PgList, pg_sys};
use std::ffi::c_void;

/// Maximum line pointers on a page of a table, with room to spare.
const MAX_LINES: usize = pg_sys::BLCKSZ as usize / size_of::<pg_sys::ItemIdData>();

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

/// An old version of a row. It is valid until the access method's insert returns.
#[derive(Clone, Copy)]
pub struct OldRow {
    slot: *mut pg_sys::TupleTableSlot,
    estate: *mut pg_sys::EState,
    info: *mut pg_sys::IndexInfo,
}

impl OldRow {
    /// Returns the versions that the row may replace that is being inserted into an index. They may be left
    /// from another row of the statement: compare what must be equal.
    ///
    /// # Safety
    /// The server passed `info` to the insert that runs, for an index on `table`.
    pub unsafe fn candidates(info: *mut pg_sys::IndexInfo, table: Rel) -> impl Iterator<Item = OldRow> {
        let found = session::with(|Changing(statements)| {
            let inserting = |estate: &*mut pg_sys::EState| {
                // SAFETY: a noted statement is live, and so are its result relations.
                unsafe { result_relation(*estate, info) }.map(|relation| (*estate, relation))
            };
            statements.iter().rev().find_map(inserting)
        });
        // SAFETY: the result relation is live; its slots are null or live.
        let slots = found.map_or([std::ptr::null_mut(); 2], |(_, relation)| unsafe {
            let conflict = (*relation).ri_onConflict;
            let existing = if conflict.is_null() { std::ptr::null_mut() } else { (*conflict).oc_Existing };
            [(*relation).ri_oldTupleSlot, existing]
        });
        // SAFETY: as above.
        let holds_row = move |slot: &*mut pg_sys::TupleTableSlot| unsafe {
            !slot.is_null()
                && u32::from((**slot).tts_flags) & pg_sys::TTS_FLAG_EMPTY == 0
                && (**slot).tts_tableOid == table.oid()
                && (**slot).tts_tid.ip_posid != 0
        };
        slots.into_iter().filter(holds_row).filter_map(move |slot| {
            let (estate, _) = found?;
            Some(OldRow { slot, estate, info })
        })
    }

    /// Evaluates the index expression on the old version, as the server does on the new one.
    pub fn value<T: FromDatum>(self) -> Option<T> {
        let mut values = [pg_sys::Datum::from(0usize); pg_sys::INDEX_MAX_KEYS as usize];
        let mut nulls = [true; pg_sys::INDEX_MAX_KEYS as usize];
        // SAFETY: slot, state and index info are live while the insert runs. The server evaluates the
        // expressions of further indexes on the new version, so its slot is put back. (After an error, the
        // statement ends.)
        unsafe {
            let mut econtext = (*self.estate).es_per_tuple_exprcontext;
            if econtext.is_null() {
                econtext = pg_sys::MakePerTupleExprContext(self.estate);
            }
            let former = std::mem::replace(&mut (*econtext).ecxt_scantuple, self.slot);
            pg_sys::FormIndexDatum(
                self.info,
                self.slot,
                self.estate,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            (*econtext).ecxt_scantuple = former;
            T::from_datum(values[0], nulls[0])
        }
    }

    /// Returns the heap pointer by which indexes know the old version: that of the first member of its HOT
    /// chain. None if the table is not a heap.
    pub fn indexed_pointer(self, table: Rel) -> Option<HeapPointer> {
        let mut roots = [0u16; MAX_LINES];
        // SAFETY: the slot is live. The page is read under its lock; the array has room for every line of a
        // page, and nothing between lock and release can fail.
        let (block, offset) = unsafe {
            if (*table.raw()).rd_tableam != pg_sys::GetHeapamTableAmRoutine() {
                return None;
            }
            let (block, offset) = pgrx::itemptr::item_pointer_get_both((*self.slot).tts_tid);
            let buffer = pg_sys::ReadBuffer(table.raw(), block);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            pg_sys::heap_get_root_tuples(pg_sys::BufferGetPage(buffer), roots.as_mut_ptr());
            pg_sys::UnlockReleaseBuffer(buffer);
            (block, offset)
        };
        let root = *roots.get(usize::from(offset).checked_sub(1)?)?;
        (root != 0).then_some(HeapPointer { block, offset: root })
    }
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
