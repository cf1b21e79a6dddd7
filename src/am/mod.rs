//! The access method `leann`, one file per phase. README.md in this folder explains how the phases work
//! together.

pub mod advice;
mod ahead;
pub mod build;
pub mod build_scan;
pub mod check;
pub mod cost;
pub mod errors;
#[cfg(feature = "pg18")]
pub mod explain;
pub mod former_nodes;
mod group;
pub mod hubs;
pub mod index;
pub mod insert;
pub mod introspect;
pub mod merge;
pub mod merge_append;
pub mod model_identity;
pub mod obstacle;
pub mod options;
pub mod ordered;
pub mod page_counts;
pub mod page_writer;
pub mod pages;
pub mod paths;
pub mod recall;
pub mod recall_sample;
pub mod renew;
pub mod row_embedding;
pub mod scan;
pub mod search;
mod similarity_range;
pub mod source;
pub mod split;
pub mod stat_indexes;
pub mod stats;
pub mod train_in_place;
mod update;
pub mod vacuum;
pub mod validate;

use crate::pg::progress::Phase;
use crate::pg::{Rel, tid};
use crate::value::Embedding;
use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, pg_sys};

/// Returns the access method's properties and entry points: `leann_handler(internal) returns
/// index_am_handler`.
#[pg_extern(sql = false)]
fn leann_handler(_fcinfo: pg_sys::FunctionCallInfo) -> PgBox<pg_sys::IndexAmRoutine> {
    // SAFETY: allocates a zeroed node of this tag and size in the caller's context.
    let mut routine =
        unsafe { PgBox::<pg_sys::IndexAmRoutine>::alloc_node(pg_sys::NodeTag::T_IndexAmRoutine) };
    routine.amstrategies = 3;
    routine.amsupport = 0;
    routine.amcanorderbyop = true;
    // No scan has index conditions, because the operators only order rows.
    routine.amoptionalkey = true;
    routine.amusemaintenanceworkmem = false;
    routine.amparallelvacuumoptions = pg_sys::VACUUM_OPTION_PARALLEL_BULKDEL as u8;
    routine.amkeytype = pg_sys::InvalidOid;

    routine.ambuild = Some(build::ambuild);
    routine.ambuildempty = Some(build::ambuildempty);
    routine.aminsert = Some(aminsert);
    routine.ambulkdelete = Some(vacuum::ambulkdelete);
    routine.amvacuumcleanup = Some(vacuum::amvacuumcleanup);
    routine.amcostestimate = Some(cost::amcostestimate);
    routine.amoptions = Some(options::amoptions);
    routine.ambuildphasename = Some(ambuildphasename);
    routine.amproperty = Some(amproperty);
    routine.amvalidate = Some(validate::amvalidate);
    routine.ambeginscan = Some(scan::ambeginscan);
    routine.amrescan = Some(scan::amrescan);
    routine.amgettuple = Some(scan::amgettuple);
    routine.amendscan = Some(scan::amendscan);
    routine.into_pg_boxed()
}

/// Answers `pg_index_column_has_property(…, 'distance_orderable')`, which the server leaves to access
/// methods. It holds for every column of a leann index: the one operator class without ordering operators
/// cannot be built on.
#[pg_guard]
unsafe extern "C-unwind" fn amproperty(
    _index: pg_sys::Oid,
    column: i32,
    property: pg_sys::IndexAMProperty::Type,
    _name: *const std::ffi::c_char,
    result: *mut bool,
    null: *mut bool,
) -> bool {
    if column == 0 || property != pg_sys::IndexAMProperty::AMPROP_DISTANCE_ORDERABLE {
        return false;
    }
    // SAFETY: the server passes a valid place for each result.
    unsafe {
        *result = true;
        *null = false;
    }
    true
}

/// Returns the name of a build's phase for `pg_stat_progress_create_index`, or null.
#[pg_guard]
unsafe extern "C-unwind" fn ambuildphasename(phase: i64) -> *mut std::ffi::c_char {
    Phase::name(phase).map_or(std::ptr::null_mut(), |name| name.as_ptr().cast_mut())
}

/// Inserts one row, unless its value is NULL.
#[pg_guard]
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn aminsert(
    index: pg_sys::Relation,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    tid: pg_sys::ItemPointer,
    table: pg_sys::Relation,
    _unique: pg_sys::IndexUniqueCheck::Type,
    unchanged: bool,
    info: *mut pg_sys::IndexInfo,
) -> bool {
    // SAFETY: the server passes open relations, one value and one null flag for the one key column, a valid
    // heap pointer, and the index info of the statement that inserts.
    unsafe {
        if !*nulls {
            PgMemoryContexts::new("leann row").switch_to(|_| {
                if let Some(value) = Embedding::from_datum(*values, false) {
                    let index = index::Index::open(Rel::from_raw(index));
                    let (table, pointer) = (Rel::from_raw(table), tid::read(tid));
                    update::insert_version(&index, info, unchanged, table, pointer, value);
                }
            });
        }
    }
    // The result matters for unique indexes only.
    false
}
