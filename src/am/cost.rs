//! What the planner is told: an ordered scan pays for its walk and its first recomputes at once, and for one recompute
//! per row after that; one that stores embeddings recomputes none. A path that the index cannot serve is made useless.

use super::index::read_meta;
use crate::pg::rights::Asker;
use crate::pg::rows::serves_isolated;
use crate::pg::{Rel, expression};
use crate::{guc, model};
use leann_page::{Meta, SketchForm};
use pgrx::{PgList, pg_sys};

/// Rows that are recomputed before the first one goes out, beyond those that go out: the price of being sure.
const EXTRA_RECOMPUTES: f64 = 8.0;
/// The share of rows whose recompute brings nothing. It makes a scan of the whole index dearer than sorting the whole table.
const IN_VAIN: f64 = 0.1;
/// The COST of a distance function in the install script.
const DISTANCE_COST: f64 = 100_000.0;

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
    // SAFETY: the server passes a path over one of our indexes and places for the results.
    unsafe {
        let info = (*path).indexinfo;
        let estimate = match serves(root, path) {
            Some(meta) => {
                let in_use = (*info).pages.saturating_sub(meta.free_pages);
                let rows = (*info).tuples.max(1.0);
                let passing = ((*(*info).rel).rows / rows).clamp(0.0, 1.0);
                estimate(rows, passing, in_use, meta.sketch_form)
            }
            None => {
                reject(path);
                Estimate::NEVER
            }
        };
        *startup = estimate.startup;
        *total = estimate.total;
        *selectivity = 1.0;
        *correlation = 0.0;
        *pages = estimate.pages;
    }
}

/// Sees to it that the planner discards the path. The sequential scan, which is always there first, is cheaper; and with no
/// order of its own the path has no merit that would keep it beside that. Otherwise an ordered append over partitions takes
/// it for the partition's way to sorted rows, and its cost for the cost of the whole.
///
/// # Safety
/// `path` is being made by `create_index_path`, whose caller hands it to `add_path` next; nobody looks at its order before.
unsafe fn reject(path: *mut pg_sys::IndexPath) {
    // SAFETY: by the caller's promise. The list is not freed: others may share it.
    unsafe {
        (*path).path.pathkeys = std::ptr::null_mut();
        // From 18 on a switch like enable_seqscan = off counts before any cost: what can never serve must count as
        // switched off more often than whatever else there may be.
        #[cfg(feature = "pg18")]
        {
            (*path).path.disabled_nodes = 1000;
        }
    }
}

struct Estimate {
    startup: f64,
    total: f64,
    pages: f64,
}

impl Estimate {
    /// Dearer than anything that is switched off (1e10 up to Postgres 17), and finite: the planner subtracts costs.
    const NEVER: Estimate = Estimate { startup: 1e30, total: 1e30, pages: 0.0 };
}

/// For an index of so many rows and pages in use, with such sketches, and the share of its rows that pass the query's filter.
fn estimate(rows: f64, passing: f64, index_pages: u32, form: SketchForm) -> Estimate {
    // SAFETY: reads planner settings.
    let (page_cost, operator_cost) = unsafe { (pg_sys::random_page_cost, pg_sys::cpu_operator_cost) };
    let recompute = if form == SketchForm::Float16 { 0.0 } else { guc::recompute_cost() };
    // The walk reads until `patience` pages in a row brought nothing: about four times as many, measured.
    let pages = f64::from(index_pages).min(4.0 * guc::patience(index_pages) as f64);
    let scored = rows * pages / f64::from(index_pages.max(1));
    let first = EXTRA_RECOMPUTES.min(rows) * recompute;
    let startup = pages * page_cost + scored * operator_cost + first;
    // The planner itself charges the distance of each row that is returned, by the COST of its function, and that is the one
    // recompute of such a row. Here it is charged for the rows that a filter rejects, and for those recomputed in vain.
    let distance = DISTANCE_COST * operator_cost;
    let recompute = recompute - (passing - IN_VAIN).max(0.0) * recompute.min(distance);
    // Each row: fetched by its heap pointer, recomputed.
    Estimate { startup, total: startup + rows * (recompute + page_cost), pages }
}

/// The index's meta page, if it can answer this path: it orders by one distance, to a query of the index's model, and its
/// expression can be evaluated on rows that the user may not see, if there are any.
///
/// # Safety
/// `path` is a live path over one of our indexes, and `root` what it is planned for.
unsafe fn serves(root: *mut pg_sys::PlannerInfo, path: *mut pg_sys::IndexPath) -> Option<Meta> {
    // SAFETY: by the caller's promise; the planner holds a lock on the index, so it opens without one.
    unsafe {
        let order_bys = PgList::<pg_sys::Node>::from_pg((*path).indexorderbys);
        // The planner hands over as many as the query has.
        if order_bys.len() != 1 {
            return None;
        }
        let raw = pg_sys::index_open((*(*path).indexinfo).indexoid, pg_sys::NoLock as i32);
        let index = Rel::from_raw(raw);
        let meta = read_meta(index);
        let own = match expression::definition(index) {
            expression::Definition::Model(_) => true,
            expression::Definition::Default => model::default_name() == meta.model,
        };
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
