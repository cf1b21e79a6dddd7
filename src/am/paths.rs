//! Paths over leann indexes that the planner does not think of:
//! - an index whose distance is only the first of several ORDER BY keys, as in `ORDER BY distance, id`. The
//!   planner itself then sorts rows of equal distance (Incremental Sort). Since Postgres 17 it thinks of most
//!   of these paths itself, but not where another key is a distance too;
//! - an index whose distance a qual bounds, without ORDER BY, as in `WHERE distance < 0.3`.

use super::cost;
use crate::pg::bounds;
use pgrx::{PgList, pg_sys};
use std::sync::OnceLock;

/// The order of a key that an index gives.
#[cfg(feature = "pg18")]
const ASCENDING: pg_sys::CompareType::Type = pg_sys::CompareType::COMPARE_LT;
/// The order of a key that an index gives.
#[cfg(not(feature = "pg18"))]
const ASCENDING: i32 = pg_sys::BTLessStrategyNumber as i32;

/// The hook that was installed before this one.
static PREVIOUS: OnceLock<pg_sys::set_rel_pathlist_hook_type> = OnceLock::new();

/// Installs the hook. Called once, from `_PG_init`. It is never removed.
pub fn register() {
    // SAFETY: hooks are changed while the process has one thread; the previous hook is called first.
    unsafe {
        let _ = PREVIOUS.set(pg_sys::set_rel_pathlist_hook);
        pg_sys::set_rel_pathlist_hook = Some(set_rel_pathlist);
    }
}

/// The hook, called when a relation has its paths. An ERROR of the previous hook passes over this function
/// unchanged, which is safe because nothing here waits to be dropped.
unsafe extern "C-unwind" fn set_rel_pathlist(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    rti: pg_sys::Index,
    rte: *mut pg_sys::RangeTblEntry,
) {
    // SAFETY: the planner's own pointers.
    unsafe {
        if let Some(Some(previous)) = PREVIOUS.get() {
            previous(root, rel, rti, rte);
        }
        if !(*rel).indexlist.is_null() {
            add_paths(root, rel);
        }
    }
}

/// Adds paths to a table.
///
/// # Safety
/// The planner is making the paths of `rel`.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn add_paths(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) {
    // SAFETY: the caller promises the planner's own structures.
    unsafe {
        if pg_sys::is_dummy_rel(rel) || !(*rel).lateral_relids.is_null() {
            return;
        }
        let (limited, only_reads) = (is_limited(root), only_reads(root));
        for index in PgList::<pg_sys::IndexOptInfo>::from_pg((*rel).indexlist).iter_ptr() {
            if !is_usable(index) {
                continue;
            }
            if limited {
                add_first_key_path(root, rel, index);
            }
            if only_reads {
                add_bounded_path(root, rel, index);
            }
        }
    }
}

/// Returns whether a query wants some rows only. Otherwise a sort is as cheap as an index, and loses none:
/// an Incremental Sort relies on the order, so that late rows are left out below it.
///
/// # Safety
/// `root` is the planner's state.
unsafe fn is_limited(root: *mut pg_sys::PlannerInfo) -> bool {
    // SAFETY: the caller promises it.
    unsafe { !(*(*root).parse).limitCount.is_null() || (*root).tuple_fraction >= 1.0 }
}

/// Returns whether a statement changes and locks nothing. What is changed must not depend on a row or two
/// that a bounded scan may miss.
///
/// # Safety
/// `root` is the planner's state.
unsafe fn only_reads(mut root: *mut pg_sys::PlannerInfo) -> bool {
    // SAFETY: the caller promises it; so are those of the queries around it.
    unsafe {
        while !root.is_null() {
            let query = &*(*root).parse;
            if query.commandType != pg_sys::CmdType::CMD_SELECT
                || query.hasModifyingCTE
                || !query.rowMarks.is_null()
            {
                return false;
            }
            root = (*root).parent_root;
        }
        true
    }
}

/// Returns whether an index is one of this access method that the query may use.
///
/// # Safety
/// `index` is the planner's description of an index.
unsafe fn is_usable(index: *mut pg_sys::IndexOptInfo) -> bool {
    let own = cost::amcostestimate as *const ();
    // SAFETY: the caller promises a live description.
    unsafe {
        let estimates = (*index).amcostestimate.map(|estimate| estimate as *const ());
        estimates == Some(own) && !(*index).hypothetical && ((*index).indpred.is_null() || (*index).predOK)
    }
}

/// Adds the path over an index that gives the first of several ORDER BY keys.
///
/// # Safety
/// As [`add_paths`].
unsafe fn add_first_key_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    index: *mut pg_sys::IndexOptInfo,
) {
    // SAFETY: the caller promises the planner's own structures.
    unsafe {
        let keys = PgList::<pg_sys::PathKey>::from_pg((*root).query_pathkeys);
        let Some(first) = keys.get_ptr(0).filter(|_| keys.len() > 1) else { return };
        let class = (*first).pk_eclass;
        #[cfg(feature = "pg18")]
        let is_ascending = (*first).pk_cmptype == ASCENDING;
        #[cfg(not(feature = "pg18"))]
        let is_ascending = (*first).pk_strategy == ASCENDING;
        let of_floats = (*first).pk_opfamily.to_u32() == bounds::FLOAT_FAMILY;
        if !of_floats || !is_ascending || (*first).pk_nulls_first || (*class).ec_has_volatile {
            return;
        }
        // (Since Postgres 18, those of partitions are kept elsewhere. There the planner knows this path.)
        let members = PgList::<pg_sys::EquivalenceMember>::from_pg((*class).ec_members);
        let distance = members.iter_ptr().find_map(|member| {
            let own = pg_sys::bms_equal((*member).em_relids, (*rel).relids);
            let expression: *mut pg_sys::Node = (*member).em_expr.cast();
            (own && bounds::is_distance_of(index, expression)).then_some(expression)
        });
        if let Some(distance) = distance {
            add_path(root, rel, index, distance, first);
        }
    }
}

/// Adds the path over an index whose distance a qual bounds, if the query does not order by it anyway.
///
/// # Safety
/// As [`add_paths`].
unsafe fn add_bounded_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    index: *mut pg_sys::IndexOptInfo,
) {
    // SAFETY: the caller promises the planner's own structures.
    unsafe {
        // A key for a partition cannot be made at this time.
        if (*rel).reloptkind != pg_sys::RelOptKind::RELOPT_BASEREL {
            return;
        }
        let quals = PgList::<pg_sys::RestrictInfo>::from_pg((*rel).baserestrictinfo);
        let clauses = quals.iter_ptr().map(|qual| (*qual).clause.cast());
        if let Some(distance) = bounds::bounded_distance(index, clauses) {
            add_path(root, rel, index, distance, path_key(root, rel, distance));
        }
    }
}

/// Adds the path over an index in the order of a distance.
///
/// # Safety
/// As [`add_paths`]; `distance` is one of the index, and `key` its key.
unsafe fn add_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    index: *mut pg_sys::IndexOptInfo,
    distance: *mut pg_sys::Node,
    key: *mut pg_sys::PathKey,
) {
    // SAFETY: the caller promises the planner's own structures; lists are made in its memory.
    unsafe {
        let null = std::ptr::null_mut();
        let (mut distances, mut keys) = (PgList::<pg_sys::Node>::new(), PgList::<pg_sys::PathKey>::new());
        distances.push(distance);
        keys.push(key);
        let columns = pg_sys::lappend_int(null, 0);
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        let path = pg_sys::create_index_path(
            root,
            index,
            null,
            distances.into_pg(),
            columns,
            keys.into_pg(),
            forward,
            false,
            std::ptr::null_mut(),
            1.0,
            false,
        );
        pg_sys::add_path(rel, path.cast());
    }
}

/// Returns the planner's key for a distance, ascending.
///
/// # Safety
/// As [`add_paths`]; `distance` is an expression of `rel`, which is no child.
unsafe fn path_key(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    distance: *mut pg_sys::Node,
) -> *mut pg_sys::PathKey {
    // SAFETY: the caller promises the planner's own structures.
    unsafe {
        let family = pg_sys::Oid::from(bounds::FLOAT_FAMILY);
        let families = pg_sys::lappend_oid(std::ptr::null_mut(), family);
        let class = pg_sys::get_eclass_for_sort_expr(
            root,
            distance.cast(),
            #[cfg(feature = "pg15")]
            std::ptr::null_mut(),
            families,
            pg_sys::FLOAT8OID,
            pg_sys::InvalidOid,
            0,
            (*rel).relids,
            true,
        );
        pg_sys::make_canonical_pathkey(root, class, family, ASCENDING, false)
    }
}
