//! Tells the planner what a scan costs. An ordered scan pays for its walk and its first recomputes at
//! startup, and for one recompute per row after that. An index that stores embeddings recomputes none. A path
//! that the index cannot serve gets a prohibitive cost.

use super::pages::read_meta;
use crate::guc;
use crate::pg::heap::serves_isolated;
use crate::pg::rights::Asker;
use crate::pg::{Rel, bounds, expression};
use leann_page::{Meta, SketchForm};
use pgrx::{PgList, pg_sys};

/// Rows that a scan recomputes before it returns the first one, in addition to those that it returns: the
/// price of certainty about their order.
const STARTUP_RECOMPUTES: f64 = 8.0;
/// Share of rows whose recompute is wasted. It makes a scan of the whole index more expensive than sorting
/// the whole table.
const WASTED_RECOMPUTE_SHARE: f64 = 0.1;

/// Share of the rows that a scan looks at if a qual bounds the distance. Nobody knows how many rows are
/// within a bound before the query is embedded; whoever sets one wants few.
const BOUNDED_SHARE: f64 = 0.02;

/// Fills in the costs of an index path for the planner.
#[pgrx::pg_guard]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C-unwind" fn amcostestimate(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
    _loop_count: f64,
    startup: *mut pg_sys::Cost,
    total: *mut pg_sys::Cost,
    selectivity: *mut pg_sys::Selectivity,
    correlation: *mut f64,
    pages: *mut f64,
) {
    // SAFETY: the server passes a path over an index of this access method and a valid place for each result.
    unsafe {
        let info = (*path).indexinfo;
        let mut share = 1.0;
        let cost = match serves(root, path) {
            Some(meta) => {
                let in_use = (*info).pages.saturating_sub(meta.free_pages);
                let rows = (*info).tuples.max(1.0);
                let passing = ((*(*info).rel).rows / rows).clamp(0.0, 1.0);
                share = if is_bounded(path) { BOUNDED_SHARE } else { 1.0 };
                let scan = Extent { rows, share, passing: passing.min(share), pages: in_use };
                path_cost(&scan, meta.sketch_form, siblings(root, (*info).rel))
            }
            None => {
                reject(path);
                PathCost::NEVER
            }
        };
        *startup = cost.startup;
        *total = cost.total;
        *selectivity = share;
        *correlation = 0.0;
        *pages = cost.pages;
    }
}

/// Makes the planner discard the path. The sequential scan, which always comes first, is cheaper, and without
/// an order the path has no advantage over it that would keep both. With its order, an ordered append over
/// partitions would take the path as the partition's source of sorted rows, and its cost as a part of the
/// whole.
///
/// # Safety
/// `create_index_path` is making `path`, and its caller passes it to `add_path` next. No code reads its order
/// before.
unsafe fn reject(path: *mut pg_sys::IndexPath) {
    // SAFETY: the caller promises a live path. The list is not freed, because other paths may share it.
    unsafe {
        (*path).path.pathkeys = std::ptr::null_mut();
        // Since Postgres 18 the number of disabled nodes, as by enable_seqscan = off, counts before any cost.
        // A path that can never serve must have more of them than any other path.
        #[cfg(feature = "pg18")]
        {
            (*path).path.disabled_nodes = 1000;
        }
    }
}

/// The cost of a path in the planner's units.
struct PathCost {
    startup: f64,
    total: f64,
    pages: f64,
}

impl PathCost {
    /// Exceeds the cost of every disabled path (1e10 up to Postgres 17), and is finite because the planner
    /// subtracts costs.
    const NEVER: PathCost = PathCost { startup: 1e30, total: 1e30, pages: 0.0 };
}

/// What an ordered scan has to do with.
struct Extent {
    rows: f64,
    /// The share of the rows that it looks at.
    share: f64,
    /// The share of all rows that pass the query's filter.
    passing: f64,
    /// Pages of the index in use.
    pages: u32,
}

/// Returns how many scans may run as one search with that of a relation: those of the children of the same
/// parent, as partitions have.
///
/// # Safety
/// `root` is the planner's state for the query of `rel`.
unsafe fn siblings(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) -> usize {
    // SAFETY: the caller promises the planner's state. Children have an entry in its array.
    unsafe {
        if (*rel).reloptkind != pg_sys::RelOptKind::RELOPT_OTHER_MEMBER_REL
            || (*root).append_rel_array.is_null()
        {
            return 1;
        }
        let child = *(*root).append_rel_array.add((*rel).relid as usize);
        if child.is_null() {
            return 1;
        }
        let children = PgList::<pg_sys::AppendRelInfo>::from_pg((*root).append_rel_list);
        children.iter_ptr().filter(|other| (**other).parent_relid == (*child).parent_relid).count().max(1)
    }
}

/// Returns the cost of an ordered scan. The first recomputes are shared by all `siblings`.
fn path_cost(scan: &Extent, form: SketchForm, siblings: usize) -> PathCost {
    let Extent { rows, share, passing, pages: index_pages } = *scan;
    // SAFETY: reads planner settings.
    let (page_cost, operator_cost) = unsafe { (pg_sys::random_page_cost, pg_sys::cpu_operator_cost) };
    let recompute = if form == SketchForm::Float16 { 0.0 } else { guc::recompute_cost() };
    // The walk ends after `patience` consecutive pages without a new candidate. Measured, it reads about four
    // times as many pages in all.
    let pages = f64::from(index_pages).min(4.0 * guc::patience(index_pages, 1.0) as f64);
    let scored = rows * pages / f64::from(index_pages.max(1));
    let first = (STARTUP_RECOMPUTES / siblings as f64).min(rows) * recompute;
    let startup = pages * page_cost + scored * operator_cost + first;
    // The planner itself charges the distance of each returned row (`recompute_support`), and that pays for
    // the row's one recompute. Charged here are wasted recomputes.
    let recompute = WASTED_RECOMPUTE_SHARE * recompute;
    // Each row is fetched by its heap pointer; those that pass are recomputed.
    PathCost { startup, total: startup + rows * (passing * recompute + share * page_cost), pages }
}

/// Returns whether a qual bounds the distance that a path orders by.
///
/// # Safety
/// `path` is a live path over an index of this access method that orders by one distance.
unsafe fn is_bounded(path: *mut pg_sys::IndexPath) -> bool {
    // SAFETY: the caller promises a live path.
    unsafe {
        let info = (*path).indexinfo;
        let order_bys = PgList::<pg_sys::Node>::from_pg((*path).indexorderbys);
        let Some(order_by) = order_bys.get_ptr(0) else { return false };
        let quals = PgList::<pg_sys::RestrictInfo>::from_pg((*(*info).rel).baserestrictinfo);
        bounds::is_bounded(info, order_by, quals.iter_ptr().map(|qual| (*qual).clause.cast()))
    }
}

/// Returns the index's meta page if the index can serve this path: the path orders by one distance, the index
/// has the model of the query, and its expression can be evaluated on rows that the user may not see, if
/// there are any.
///
/// # Safety
/// `path` is a live path over an index of this access method, and `root` is the planner's state for its
/// query.
unsafe fn serves(root: *mut pg_sys::PlannerInfo, path: *mut pg_sys::IndexPath) -> Option<Meta> {
    // SAFETY: the caller promises a live path. The planner holds a lock on the index, so it opens without
    // one.
    unsafe {
        let order_bys = PgList::<pg_sys::Node>::from_pg((*path).indexorderbys);
        // The planner passes every distance that the query orders by.
        if order_bys.len() != 1 {
            return None;
        }
        let raw = pg_sys::index_open((*(*path).indexinfo).indexoid, pg_sys::NoLock as i32);
        let index = Rel::from_raw(raw);
        let meta = read_meta(index);
        let own = expression::definition(index).is_served_by(&meta.model);
        let table = (*(*raw).rd_index).indrelid;
        let for_all = serves_isolated(index);
        if !for_all {
            // Another role may need another plan.
            (*(*root).glob).dependsOnRole = true;
        }
        let shown = for_all || Asker::now().reads_whole(table);
        pg_sys::index_close(raw, pg_sys::NoLock as i32);
        (own && shown).then_some(meta)
    }
}
