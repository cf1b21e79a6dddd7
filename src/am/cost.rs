//! What the planner is told: an ordered scan pays for its walk and its first recomputes at once, and for one recompute
//! per row after that; one that stores embeddings recomputes none. Anything else is infinitely dear.

use super::index::read_meta;
use crate::pg::{Rel, expression};
use crate::{guc, model};
use leann_page::SketchForm;
use pgrx::{PgList, pg_sys};

/// Rows that are recomputed before the first one goes out, beyond those that go out: the price of being sure.
const EXTRA_RECOMPUTES: f64 = 8.0;

#[pgrx::pg_guard]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C-unwind" fn amcostestimate(
    _root: *mut pg_sys::PlannerInfo,
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
        let estimate = match serves(path) {
            Some(form) => estimate((*info).tuples, (*info).pages, form),
            None => Estimate::NEVER,
        };
        *startup = estimate.startup;
        *total = estimate.total;
        *selectivity = 1.0;
        *correlation = 0.0;
        *pages = estimate.pages;
        // From 18 on a switch like enable_seqscan = off counts before any cost: what can never serve must count as
        // switched off more often than whatever else there may be.
        #[cfg(feature = "pg18")]
        if estimate.total.is_infinite() {
            (*path).path.disabled_nodes = NEVER_DISABLED;
        }
    }
}

/// How often a path that cannot serve counts as switched off.
#[cfg(feature = "pg18")]
const NEVER_DISABLED: i32 = 1000;

struct Estimate {
    startup: f64,
    total: f64,
    pages: f64,
}

impl Estimate {
    const NEVER: Estimate = Estimate { startup: f64::INFINITY, total: f64::INFINITY, pages: 0.0 };
}

/// For an index of so many rows and pages, with such sketches.
fn estimate(rows: f64, index_pages: u32, form: SketchForm) -> Estimate {
    // SAFETY: reads planner settings.
    let (page_cost, operator_cost) = unsafe { (pg_sys::random_page_cost, pg_sys::cpu_operator_cost) };
    let recompute = if form == SketchForm::Float16 { 0.0 } else { guc::recompute_cost() };
    let rows = rows.max(1.0);
    // The walk reads until `patience` pages in a row brought nothing: about four times as many, measured.
    let pages = f64::from(index_pages).min(4.0 * guc::patience(index_pages) as f64);
    let scored = rows * pages / f64::from(index_pages.max(1));
    let first = EXTRA_RECOMPUTES.min(rows) * recompute;
    let startup = pages * page_cost + scored * operator_cost + first;
    // Each row: fetched by its heap pointer, recomputed.
    Estimate { startup, total: startup + rows * (recompute + page_cost), pages }
}

/// What the index's sketches are, if it can answer this path: it orders by a distance, to a query of the index's model.
///
/// # Safety
/// `path` is a live path over one of our indexes.
unsafe fn serves(path: *mut pg_sys::IndexPath) -> Option<SketchForm> {
    // SAFETY: by the caller's promise; the planner holds a lock on the index, so it opens without one.
    unsafe {
        let order_bys = PgList::<pg_sys::Node>::from_pg((*path).indexorderbys);
        if order_bys.is_empty() {
            return None;
        }
        let raw = pg_sys::index_open((*(*path).indexinfo).indexoid, pg_sys::NoLock as i32);
        let index = Rel::from_raw(raw);
        let meta = read_meta(index);
        let own = match expression::definition(index) {
            expression::Definition::Model(_) => true,
            expression::Definition::Default => model::default_name() == meta.model,
        };
        pg_sys::index_close(raw, pg_sys::NoLock as i32);
        own.then_some(meta.sketch_form)
    }
}
