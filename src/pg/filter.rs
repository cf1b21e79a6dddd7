//! Evaluates the quals of a scan's plan node on a row, before anything is computed for the row.
//!
//! The executor evaluates the same quals again on the rows that the scan returns. So a qual may be left to
//! it, and these are:
//! - volatile ones, whose answer may differ the second time, also if what is volatile is in a subquery;
//! - those that call a function as expensive as running the model. The distances are such functions;
//! - after one that is left out, those that could tell their function something about a row which the one
//!   left out hides. The planner has put the quals into the order in which that cannot happen: row security
//!   first, then the views' own, then the user's.

use super::harmless;
use super::scan_node::ScanNode;
use pgrx::{PgList, pg_sys};

/// Quals of a scan's node, compiled. They live as long as the statement.
#[derive(Clone, Copy)]
pub struct Filter {
    node: ScanNode,
    quals: *mut pg_sys::ExprState,
    context: *mut pg_sys::ExprContext,
}

impl Filter {
    /// Compiles the quals of a node that can be evaluated early; None if there are none.
    pub fn of(node: ScanNode) -> Option<Filter> {
        // SAFETY: the node lives; what is made lives in the memory of its statement, as its own quals do.
        unsafe {
            let state = &raw mut (*node.node).ss.ps;
            let statement = (*(*state).state).es_plannedstmt;
            let quals = early_quals(statement, (*(*state).plan).qual)?;
            let former = pg_sys::MemoryContextSwitchTo((*(*state).state).es_query_cxt);
            let context = pg_sys::CreateExprContext((*state).state);
            let quals = pg_sys::ExecInitQual(quals, state);
            pg_sys::MemoryContextSwitchTo(former);
            Some(Filter { node, quals, context })
        }
    }

    /// Returns whether the row in a slot passes, and counts it for EXPLAIN if it does not.
    ///
    /// # Safety
    /// The slot holds a row of the node's table, in the format of that table.
    pub(super) unsafe fn passes(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: the quals were compiled for slots of the node's table.
        unsafe {
            (*self.context).ecxt_scantuple = slot;
            let passes = pg_sys::ExecQual(self.quals, self.context);
            pg_sys::MemoryContextReset((*self.context).ecxt_per_tuple_memory);
            (*self.context).ecxt_scantuple = std::ptr::null_mut();
            let instrument = (*self.node.node).ss.ps.instrument;
            if !passes && !instrument.is_null() {
                (*instrument).nfiltered1 += 1.0;
            }
            passes
        }
    }
}

/// Returns the quals of a list that can be evaluated early, in their order; None if there are none.
///
/// # Safety
/// `quals` is the planner's list of quals of a scan of `statement`, or null.
unsafe fn early_quals(
    statement: *mut pg_sys::PlannedStmt,
    quals: *mut pg_sys::List,
) -> Option<*mut pg_sys::List> {
    // SAFETY: the caller promises a list of nodes; the server's functions read them.
    unsafe {
        let (mut early, mut left_out) = (PgList::<pg_sys::Node>::new(), false);
        for qual in PgList::<pg_sys::Node>::from_pg(quals).iter_ptr() {
            let waits =
                !harmless::expression(statement, qual) || (left_out && pg_sys::contain_leaked_vars(qual));
            if waits {
                left_out = true;
            } else {
                early.push(qual);
            }
        }
        (!early.is_empty()).then(|| early.into_pg())
    }
}
