//! The access method `leann`: a file per phase. Read README.md in this folder first.

pub mod build;
pub mod check;
pub mod collect;
pub mod cost;
pub mod errors;
pub mod hubs;
pub mod identity;
pub mod incoming;
pub mod index;
pub mod insert;
pub mod layout;
pub mod merge;
pub mod options;
pub mod ordered;
pub mod renew;
pub mod scan;
pub mod split;
pub mod state;
pub mod tables;
pub mod vacuum;
pub mod validate;

use crate::pg::Rel;
use crate::pg::progress::Phase;
use crate::sql::embedding::Embedding;
use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, pg_sys};

/// `leann_handler(internal) returns index_am_handler`.
#[pg_extern(sql = false)]
fn leann_handler(_fcinfo: pg_sys::FunctionCallInfo) -> PgBox<pg_sys::IndexAmRoutine> {
    // SAFETY: a node of this tag and size, zeroed, in the caller's context.
    let mut routine =
        unsafe { PgBox::<pg_sys::IndexAmRoutine>::alloc_node(pg_sys::NodeTag::T_IndexAmRoutine) };
    routine.amstrategies = 3;
    routine.amsupport = 0;
    routine.amcanorderbyop = true;
    // A scan without index conditions is the only kind there is.
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

/// Answers `pg_index_column_has_property(…, 'distance_orderable')`, which the server leaves to access methods: every index
/// column of ours is of a class with ordering operators, since the one without cannot be built on.
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
    // SAFETY: the server passes places for both.
    unsafe {
        *result = true;
        *null = false;
    }
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn ambuildphasename(phase: i64) -> *mut std::ffi::c_char {
    Phase::name(phase).map_or(std::ptr::null_mut(), |name| name.as_ptr().cast_mut())
}

#[pg_guard]
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn aminsert(
    index: pg_sys::Relation,
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    tid: pg_sys::ItemPointer,
    _table: pg_sys::Relation,
    _unique: pg_sys::IndexUniqueCheck::Type,
    _unchanged: bool,
    _info: *mut pg_sys::IndexInfo,
) -> bool {
    // SAFETY: the server passes open relations, one value and null flag for the one key column, and a valid pointer.
    unsafe {
        if !*nulls {
            let value =
                PgMemoryContexts::new("leann row").switch_to(|_| Embedding::from_datum(*values, false));
            if let Some(value) = value {
                let index = index::Index::open(Rel::from_raw(index));
                insert::insert(&index, build::heap_pointer(tid), value);
            }
        }
    }
    // Only unique indexes have something to say here.
    false
}
