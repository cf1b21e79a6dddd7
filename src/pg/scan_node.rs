//! Finds the plan node that drives an index scan. The server tells an access method neither the quals of its
//! node nor the LIMIT above it, and both decide how much a scan has to do.
//!
//! When the executor starts a statement, the hook walks its plan and notes every index scan with an order. A
//! scan recognizes its node by the scan descriptor. Nodes are forgotten with the memory of their statement.
//! EvalPlanQual builds plan trees of its own, which pass no hook: their scans find no node, and do what they
//! would do without one.

use super::memory_context::before_reset;
use super::old_row;
use crate::session::{self, State};
use pgrx::pg_sys;
use std::ffi::c_void;
use std::sync::OnceLock;

/// The hook that was installed before this one.
static PREVIOUS: OnceLock<pg_sys::ExecutorStart_hook_type> = OnceLock::new();

/// The node of an index scan that runs. It lives as long as its statement, and so longer than its scan.
#[derive(Clone, Copy)]
pub struct ScanNode {
    pub(super) node: *mut pg_sys::IndexScanState,
    pub above: Above,
}

/// What the nodes above say of the rows of a node.
#[derive(Clone, Copy)]
pub struct Above {
    limit: Option<Limit>,
    /// Whether nothing above relies on the order of the rows, not even to tell equal ones together.
    pub order_is_only_shown: bool,
}

impl Above {
    /// Returns the number of rows that the LIMIT above wants, if there is one and it says.
    pub fn limit(&self) -> Option<usize> {
        self.limit.and_then(Limit::rows)
    }
}

/// A LIMIT above a scan, with nothing between that takes rows out or adds some.
#[derive(Clone, Copy)]
struct Limit {
    node: *mut pg_sys::LimitState,
    /// Whether one row more is read, to see whether it equals the last.
    one_more: bool,
}

impl Limit {
    /// Returns the number of rows that the limit wants in all, without those that OFFSET skips. None if it
    /// wants all, or does not know yet.
    fn rows(self) -> Option<usize> {
        // SAFETY: the node lives as long as its statement. The server computes its numbers before it asks
        // the nodes below for a row.
        let limit = unsafe { &*self.node };
        if limit.noCount || limit.lstate == pg_sys::LimitStateCond::LIMIT_INITIAL {
            return None;
        }
        let rows = limit.count.max(1).saturating_add(i64::from(self.one_more));
        usize::try_from(rows).ok()
    }
}

impl ScanNode {
    /// Returns the node of a scan; None if it was not started with a statement's plan.
    ///
    /// # Safety
    /// The executor began `scan` for a node that still lives, or no executor did.
    pub unsafe fn of(scan: pg_sys::IndexScanDesc) -> Option<ScanNode> {
        session::with(|running: &mut Running| {
            // SAFETY: nodes are forgotten before their memory is freed.
            let drives = |noted: &&Noted| unsafe { (*noted.scan.node).iss_ScanDesc == scan };
            running.0.iter().rev().find(drives).map(|noted| noted.scan)
        })
    }

    /// Returns whether this is the node of `scan`.
    pub fn is(self, scan: *mut pg_sys::IndexScanState) -> bool {
        self.node == scan
    }
}

/// A MergeAppend of a statement that runs.
#[derive(Clone, Copy)]
pub struct AppendNode {
    node: *mut pg_sys::MergeAppendState,
    pub above: Above,
}

impl AppendNode {
    pub fn node(&self) -> *mut pg_sys::MergeAppendState {
        self.node
    }

    /// Returns the nodes below, if all of them are index scans.
    ///
    /// # Safety
    /// The node's statement runs.
    pub unsafe fn scans(&self) -> Option<&[*mut pg_sys::IndexScanState]> {
        // SAFETY: the caller promises a live node, whose array has so many nodes. Pointers to nodes of
        // different types have the same size.
        unsafe {
            let (plans, count) = ((*self.node).mergeplans, (*self.node).ms_nplans as usize);
            let plans = std::slice::from_raw_parts(plans, count);
            let scans = plans.iter().all(|plan| (**plan).type_ == pg_sys::NodeTag::T_IndexScanState);
            scans.then(|| std::slice::from_raw_parts(plans.as_ptr().cast(), count))
        }
    }
}

/// A node and the memory context that it lives in.
struct Noted {
    scan: ScanNode,
    context: pg_sys::MemoryContext,
}

/// The index scans with an order of the statements that run, the innermost statement last.
#[derive(Default)]
struct Running(Vec<Noted>);

impl State for Running {}

/// What is done with each MergeAppend of a statement that was started.
static ADOPT: OnceLock<unsafe fn(AppendNode)> = OnceLock::new();

/// Installs the hook. Called once, from `_PG_init`. It is never removed. `adopt` is given each MergeAppend of
/// a statement that was started and not run yet.
pub fn register(adopt: unsafe fn(AppendNode)) {
    // Makes the state now: callbacks must not.
    session::with(|_: &mut Running| ());
    let _ = ADOPT.set(adopt);
    // SAFETY: hooks are changed while the process has one thread; the hook calls the previous one, or what
    // the server does without one.
    unsafe {
        let _ = PREVIOUS.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(executor_start);
    }
}

unsafe extern "C-unwind" {
    // Declared as in the server: an ERROR passes unchanged, and keeps its position and context, which a
    // binding of `pg_sys` would lose.
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: i32);

    #[cfg(feature = "pg15")]
    fn planstate_tree_walker(
        node: *mut pg_sys::PlanState,
        walker: unsafe extern "C-unwind" fn(*mut pg_sys::PlanState, *mut c_void) -> bool,
        context: *mut c_void,
    ) -> bool;
}

/// The hook, called when the executor starts a statement. An ERROR of the statement passes over this
/// function, which is safe because nothing here waits to be dropped.
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: the server passes a query to start; it is started before its plan's state is read.
    unsafe {
        match PREVIOUS.get() {
            Some(Some(previous)) => previous(query, flags),
            _ => standard_ExecutorStart(query, flags),
        }
        if flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as i32 == 0 {
            note_scans(query);
            old_row::note(query);
        }
    }
}

/// Notes the index scans of a statement that was started.
///
/// # Safety
/// `query` is a started query.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn note_scans(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the caller promises a started query. The callback is in the context whose reset it waits for,
    // and its argument is the context, which it only compares.
    unsafe {
        let above = Above { limit: None, order_is_only_shown: true };
        let mut visit = Visit { parent: std::ptr::null_mut(), above, found: Vec::new(), appends: Vec::new() };
        visit_node((*query).planstate, (&raw mut visit).cast());
        if visit.found.is_empty() {
            return;
        }
        let context = (*(*query).estate).es_query_cxt;
        before_reset(context, forget, context.cast());
        session::with(|running: &mut Running| {
            running.0.extend(visit.found.into_iter().map(|scan| Noted { scan, context }));
        });
        if let Some(adopt) = ADOPT.get() {
            visit.appends.into_iter().for_each(|append| adopt(append));
        }
    }
}

/// Forgets the nodes of a memory context that is about to be freed.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget(context: *mut c_void) {
    session::with(|running: &mut Running| running.0.retain(|noted| noted.context.cast() != context));
}

/// What a walk over a plan's state hands down.
struct Visit {
    /// The node whose children are visited.
    parent: *mut pg_sys::PlanState,
    /// What holds for the rows that `parent` takes.
    above: Above,
    found: Vec<ScanNode>,
    appends: Vec<AppendNode>,
}

/// Visits a node of a plan's state and those below. Returns false, which goes on.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn visit_node(node: *mut pg_sys::PlanState, visit: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: the server's plan state; each cast follows a check of the tag. `visit` is the `Visit` of
    // `note_scans`, and no reference to it is alive during the walk below.
    unsafe {
        pg_sys::check_stack_depth();
        let visit = visit.cast::<Visit>();
        let (parent, above) = ((*visit).parent, (*visit).above);
        let own = Above {
            limit: above.limit.filter(|_| is_source(parent, node)),
            // How a subquery in an expression or a CTE uses the order is not looked at.
            order_is_only_shown: above.order_is_only_shown
                && (parent.is_null() || is_source(parent, node) || (*parent).righttree == node),
        };
        if (*node).type_ == pg_sys::NodeTag::T_MergeAppendState {
            (*visit).appends.push(AppendNode { node: node.cast(), above: own });
        }
        if (*node).type_ == pg_sys::NodeTag::T_IndexScanState {
            let scan = node.cast::<pg_sys::IndexScanState>();
            if (*scan).iss_NumOrderByKeys > 0 {
                (*visit).found.push(ScanNode { node: scan, above: own });
            }
        }
        ((*visit).parent, (*visit).above) = (node, handed_down(node, own));
        walk_children(node, visit.cast());
        ((*visit).parent, (*visit).above) = (parent, above);
    }
    false
}

/// Visits the children of a node, and the plans of its subqueries.
///
/// # Safety
/// `node` is a live node; `visit` is the `Visit` of `note_scans`.
unsafe fn walk_children(node: *mut pg_sys::PlanState, visit: *mut c_void) {
    // SAFETY: the caller promises both.
    unsafe {
        #[cfg(feature = "pg15")]
        planstate_tree_walker(node, visit_node, visit);
        #[cfg(not(feature = "pg15"))]
        pg_sys::planstate_tree_walker_impl(node, Some(visit_node), visit);
    }
}

/// Returns whether `node` is where `parent` takes its rows from, and not the plan of a subquery in one of
/// its expressions.
///
/// # Safety
/// Both are live nodes; `parent` may be null.
unsafe fn is_source(parent: *mut pg_sys::PlanState, node: *mut pg_sys::PlanState) -> bool {
    if parent.is_null() {
        return false;
    }
    let among = |plans: *mut *mut pg_sys::PlanState, count: i32| {
        // SAFETY: the server's array of so many children.
        !plans.is_null() && unsafe { std::slice::from_raw_parts(plans, count as usize) }.contains(&node)
    };
    // SAFETY: the caller promises live nodes; each cast follows a check of the tag.
    unsafe {
        match (*parent).type_ {
            pg_sys::NodeTag::T_SubqueryScanState => {
                (*parent.cast::<pg_sys::SubqueryScanState>()).subplan == node
            }
            pg_sys::NodeTag::T_AppendState => {
                let append = parent.cast::<pg_sys::AppendState>();
                among((*append).appendplans, (*append).as_nplans)
            }
            pg_sys::NodeTag::T_MergeAppendState => {
                let append = parent.cast::<pg_sys::MergeAppendState>();
                among((*append).mergeplans, (*append).ms_nplans)
            }
            _ => (*parent).lefttree == node,
        }
    }
}

/// Returns what holds for the rows that a node takes from below, if `own` holds for its own.
///
/// # Safety
/// `node` is a live node.
unsafe fn handed_down(node: *mut pg_sys::PlanState, own: Above) -> Above {
    use pg_sys::NodeTag::*;
    // SAFETY: the caller promises a live node; each cast follows a check of the tag.
    unsafe {
        let limit = match (*node).type_ {
            T_LimitState => {
                let node = node.cast::<pg_sys::LimitState>();
                let one_more = has_ties(node);
                (!(*node).limitCount.is_null()).then_some(Limit { node, one_more })
            }
            // It reads on until the first key changes.
            T_IncrementalSortState => own.limit.map(|limit| Limit { one_more: true, ..limit }),
            T_ResultState | T_SubqueryScanState => own.limit.filter(|_| (*node).qual.is_null()),
            T_LockRowsState | T_AppendState | T_MergeAppendState => own.limit,
            _ => None,
        };
        let order_is_only_shown = match (*node).type_ {
            T_UniqueState
            | T_GroupState
            | T_WindowAggState
            | T_SetOpState
            | T_MergeAppendState
            | T_MergeJoinState
            | T_GatherMergeState
            | T_IncrementalSortState => false,
            T_AggState => own.order_is_only_shown && !needs_sorted_input(node.cast()),
            T_LimitState => own.order_is_only_shown && !has_ties(node.cast()),
            T_SortState => true,
            _ => own.order_is_only_shown,
        };
        Above { limit, order_is_only_shown }
    }
}

/// Returns whether a LIMIT is WITH TIES.
///
/// # Safety
/// `limit` is a live node.
unsafe fn has_ties(limit: *mut pg_sys::LimitState) -> bool {
    // SAFETY: the caller promises a live node.
    unsafe { (*limit).limitOption == pg_sys::LimitOption::LIMIT_OPTION_WITH_TIES }
}

/// Returns whether an aggregation finds its groups, or an aggregate its rows, by their order.
///
/// # Safety
/// `aggregation` is a live node.
unsafe fn needs_sorted_input(aggregation: *mut pg_sys::AggState) -> bool {
    // SAFETY: the caller promises a live node, whose list holds Aggrefs.
    unsafe {
        let strategy = (*aggregation).aggstrategy;
        let groups =
            strategy == pg_sys::AggStrategy::AGG_SORTED || strategy == pg_sys::AggStrategy::AGG_MIXED;
        #[cfg(feature = "pg15")]
        let presorted = false;
        #[cfg(not(feature = "pg15"))]
        let presorted = pgrx::PgList::<pg_sys::Aggref>::from_pg((*aggregation).aggs)
            .iter_ptr()
            .any(|aggregate| (*aggregate).aggpresorted);
        groups || presorted
    }
}
