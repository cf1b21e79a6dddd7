//! Decides whether the plan of a subquery may run more often than the server would run it: it has no volatile
//! function, no expensive one, locks nothing and changes nothing.

use super::catalog;
use pgrx::{PgList, pg_sys};
use std::ffi::c_void;

/// COST of a function from which it counts as expensive: a tenth of that of a distance.
const MAX_FUNCTION_COST: f32 = 10_000.0;

/// Returns whether an expression of a plan is harmless, with the plans of its subqueries.
///
/// # Safety
/// Both are live parts of one plan.
pub unsafe fn expression(statement: *mut pg_sys::PlannedStmt, node: *mut pg_sys::Node) -> bool {
    // SAFETY: the caller promises live nodes.
    unsafe { !pg_sys::contain_volatile_functions(node) && !is_harmful(node, statement.cast()) }
}

/// Returns whether an expression calls an expensive function or has a subquery that is not harmless. The
/// context is the planned statement.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_harmful(node: *mut pg_sys::Node, statement: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the server's nodes; the cast follows a check of the tag.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_SubPlan
            && !subplan(statement.cast(), (*node.cast::<pg_sys::SubPlan>()).plan_id)
        {
            return true;
        }
        pg_sys::check_functions_in_node(node, Some(is_expensive), statement)
            || pg_sys::expression_tree_walker(node, Some(is_harmful), statement)
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_expensive(function: pg_sys::Oid, _context: *mut c_void) -> bool {
    catalog::function(function).is_some_and(|row| row.procost >= MAX_FUNCTION_COST)
}

/// Returns whether a subquery's plan is harmless.
///
/// # Safety
/// `id` is the number of a plan of `statement`.
unsafe fn subplan(statement: *mut pg_sys::PlannedStmt, id: i32) -> bool {
    // SAFETY: the caller promises a live statement.
    unsafe {
        let plans = PgList::<pg_sys::Plan>::from_pg((*statement).subplans);
        let at = usize::try_from(id - 1).ok();
        at.and_then(|at| plans.get_ptr(at)).is_some_and(|found| plan(statement, found))
    }
}

/// Returns whether a plan is harmless: all its nodes are of kinds that only read, and so are its expressions.
///
/// # Safety
/// `node` is a plan of `statement`, or null.
unsafe fn plan(statement: *mut pg_sys::PlannedStmt, node: *mut pg_sys::Plan) -> bool {
    if node.is_null() {
        return true;
    }
    // SAFETY: the caller promises live nodes.
    unsafe {
        pg_sys::check_stack_depth();
        let Some((expressions, plans)) = parts(node) else { return false };
        let init_plans = PgList::<pg_sys::SubPlan>::from_pg((*node).initPlan);
        let common = [(*node).targetlist, (*node).qual];
        common.into_iter().chain(expressions).all(|list| expression(statement, list.cast()))
            && init_plans.iter_ptr().all(|init| subplan(statement, (*init).plan_id))
            && [(*node).lefttree, (*node).righttree].into_iter().all(|child| plan(statement, child))
            && PgList::<pg_sys::Plan>::from_pg(plans).iter_ptr().all(|child| plan(statement, child))
    }
}

/// Returns the expressions of a plan node, beside those that all have, and the plans in a list of its own.
/// None for a kind of node that is not known to only read.
///
/// # Safety
/// `node` is a live plan node.
unsafe fn parts(node: *mut pg_sys::Plan) -> Option<(Vec<*mut pg_sys::List>, *mut pg_sys::List)> {
    use pg_sys::NodeTag::*;
    let none = std::ptr::null_mut();
    // SAFETY: the caller promises a live node; each cast follows a check of the tag.
    unsafe {
        Some(match (*node).type_ {
            T_SeqScan | T_BitmapAnd | T_BitmapOr | T_Sort | T_Material | T_Hash | T_Unique | T_Agg
            | T_Group => (vec![], none),
            T_IndexScan => {
                let scan = node.cast::<pg_sys::IndexScan>();
                (vec![(*scan).indexqualorig, (*scan).indexorderbyorig], none)
            }
            T_IndexOnlyScan => {
                let scan = node.cast::<pg_sys::IndexOnlyScan>();
                (vec![(*scan).indexqual, (*scan).recheckqual], none)
            }
            T_BitmapIndexScan => (vec![(*node.cast::<pg_sys::BitmapIndexScan>()).indexqualorig], none),
            T_BitmapHeapScan => (vec![(*node.cast::<pg_sys::BitmapHeapScan>()).bitmapqualorig], none),
            T_Result => (vec![(*node.cast::<pg_sys::Result>()).resconstantqual.cast()], none),
            T_Limit => {
                let limit = node.cast::<pg_sys::Limit>();
                (vec![(*limit).limitOffset.cast(), (*limit).limitCount.cast()], none)
            }
            T_FunctionScan => (vec![(*node.cast::<pg_sys::FunctionScan>()).functions], none),
            T_ValuesScan => (vec![(*node.cast::<pg_sys::ValuesScan>()).values_lists], none),
            T_NestLoop => (vec![(*node.cast::<pg_sys::NestLoop>()).join.joinqual], none),
            T_HashJoin => {
                let join = node.cast::<pg_sys::HashJoin>();
                (vec![(*join).join.joinqual, (*join).hashclauses], none)
            }
            T_MergeJoin => {
                let join = node.cast::<pg_sys::MergeJoin>();
                (vec![(*join).join.joinqual, (*join).mergeclauses], none)
            }
            T_Append => (vec![], (*node.cast::<pg_sys::Append>()).appendplans),
            T_MergeAppend => (vec![], (*node.cast::<pg_sys::MergeAppend>()).mergeplans),
            T_SubqueryScan => {
                let child = (*node.cast::<pg_sys::SubqueryScan>()).subplan;
                (vec![], pg_sys::lappend(none, child.cast()))
            }
            _ => return None,
        })
    }
}
