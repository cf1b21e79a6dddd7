//! Runs the index scans below one MergeAppend, such as those of partitions, as one search: one queue of
//! candidates and one group of rows for all, instead of one for each.
//!
//! The server's MergeAppend asks every scan for its best row before it returns one, and every scan decides on
//! that row alone. Here the node's function is replaced: the search says which scan has the next row, and
//! only that scan is asked, which then returns just this row. So the scans keep all that the server does for
//! them: locks, snapshots, quals, projections and statistics.
//!
//! Where the scans do not belong together, because their queries or models differ or a query is NULL, the
//! server's own function runs.

use super::group::{self, Group, Mode};
use super::ordered::{Context, Searches};
use super::scan;
use crate::error::raise_internal;
use crate::pg::heap::RowReader;
use crate::pg::scan_node::AppendNode;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::{PgMemoryContexts, pg_sys};

/// Makes a group of the scans below a MergeAppend if all are scans of leann indexes.
///
/// # Safety
/// The node was started and not run yet.
pub unsafe fn adopt(append: AppendNode) {
    // SAFETY: the caller promises a live node. The group lives as long as the node.
    unsafe {
        let node = append.node();
        let all_own = append.scans().is_some_and(|scans| scans.iter().all(|scan| scan::is_own(*scan)));
        if !all_own || (*node).ms_nkeys != 1 {
            return;
        }
        let original = (*node).ps.ExecProcNodeReal;
        let context = (*(*node).ps.state).es_query_cxt;
        let made = Group {
            append,
            original,
            mode: Mode::Idle,
            members: Vec::new(),
            readers: Vec::new(),
            chosen: None,
            searches: Searches::default(),
        };
        group::note(PgMemoryContexts::For(context).leak_and_drop_on_delete(made));
        (*node).ps.ExecProcNodeReal = Some(next_slot);
    }
}

/// Returns the next row of a MergeAppend.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn next_slot(state: *mut pg_sys::PlanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor runs the node that `adopt` gave this function. No reference to the group is alive
    // while a scan runs, because scans look at it.
    unsafe {
        let node = state.cast::<pg_sys::MergeAppendState>();
        let Some(group) = group::of_append(node) else { raise_internal("a group that is not known") };
        if !(*node).ms_initialized {
            begin(group);
            (*node).ms_initialized = !matches!((*group).mode, Mode::Apart);
        }
        if matches!((*group).mode, Mode::Apart) {
            let Some(original) = (*group).original else { raise_internal("a node without a function") };
            return pg_guard_ffi_boundary(|| original(state));
        }
        let scans = (*group).append.scans().unwrap_or_default();
        loop {
            let Group { mode: Mode::Together(search), members, readers, .. } = &mut *group else {
                raise_internal("a group without a search")
            };
            let Some(row) = search.next_of_all(readers) else {
                return pg_sys::ExecClearTuple((*node).ps.ps_ResultTupleSlot);
            };
            let number = members[row.source];
            (*group).chosen = Some((number, row.pointer));
            let slot = ask(scans[number]);
            if !slot.is_null() && !is_empty(slot) {
                return slot;
            }
        }
    }
}

unsafe extern "C-unwind" {
    /// Declared in the server's executor/execPartition.h.
    #[cfg(not(feature = "pg18"))]
    fn ExecFindMatchingSubPlans(
        pruning: *mut pg_sys::PartitionPruneState,
        initial: bool,
    ) -> *mut pg_sys::Bitmapset;
    #[cfg(feature = "pg18")]
    fn ExecFindMatchingSubPlans(
        pruning: *mut pg_sys::PartitionPruneState,
        initial: bool,
        relations: *mut *mut pg_sys::Bitmapset,
    ) -> *mut pg_sys::Bitmapset;
}

/// Returns the numbers of the scans that the server has not pruned, as its own function finds them out when
/// it begins.
///
/// # Safety
/// `node` is a live node of a statement that runs.
unsafe fn left_by_pruning(node: *mut pg_sys::MergeAppendState) -> Vec<usize> {
    // SAFETY: the caller promises a live node. If the server has not pruned yet, it has what it needs for it.
    unsafe {
        if (*node).ms_valid_subplans.is_null() && !(*node).ms_prune_state.is_null() {
            (*node).ms_valid_subplans = pg_guard_ffi_boundary(|| {
                #[cfg(not(feature = "pg18"))]
                let left = ExecFindMatchingSubPlans((*node).ms_prune_state, false);
                #[cfg(feature = "pg18")]
                let left = ExecFindMatchingSubPlans((*node).ms_prune_state, false, std::ptr::null_mut());
                left
            });
        }
        let left = (*node).ms_valid_subplans;
        (0..(*node).ms_nplans)
            .filter(|&number| pg_sys::bms_is_member(number, left))
            .map(|n| n as usize)
            .collect()
    }
}

/// Begins all scans of a group, and the search if they belong together.
///
/// # Safety
/// `group` is live, its statement runs, and no reference to it is alive.
unsafe fn begin(group: *mut Group) {
    // SAFETY: the caller promises it.
    unsafe {
        (*group).chosen = None;
        (*group).finish();
        // While the scans are asked, so that each of them begins.
        (*group).mode = Mode::Idle;
        let members = left_by_pruning((*group).append.node());
        if members != (*group).members {
            (*group).readers.drain(..).for_each(RowReader::close);
            (*group).members = members;
        }
        let all = (*group).append.scans().unwrap_or_default();
        let scans: Vec<_> = (*group).members.iter().map(|&number| all[number]).collect();
        for scan in &scans {
            ask(*scan);
        }
        let above = Context {
            limit: (*group).append.above.limit(),
            order_is_only_shown: (*group).append.above.order_is_only_shown,
            ..Context::default()
        };
        (*group).mode = match scan::together(&scans, above, &mut (*group).readers) {
            Some(search) => Mode::Together(Box::new(search)),
            None => Mode::Apart,
        };
        scans.iter().for_each(|scan| (**scan).iss_ReachedEnd = false);
    }
}

/// Asks a scan for its next row.
///
/// # Safety
/// `scan` is a live node of a statement that runs.
unsafe fn ask(scan: *mut pg_sys::IndexScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: what the server's ExecProcNode does. The scan may be at its end, for lack of a row to return.
    unsafe {
        let node = &raw mut (*scan).ss.ps;
        (*scan).iss_ReachedEnd = false;
        if !(*node).chgParam.is_null() {
            pg_sys::ExecReScan(node);
        }
        let Some(run) = (*node).ExecProcNode else { raise_internal("a node without a function") };
        pg_guard_ffi_boundary(|| run(node))
    }
}

/// Returns whether a slot holds no row.
///
/// # Safety
/// `slot` is live.
unsafe fn is_empty(slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: the caller promises a live slot.
    unsafe { u32::from((*slot).tts_flags) & pg_sys::TTS_FLAG_EMPTY != 0 }
}
