//! Keeps all indexes of a table but one from the planner for a while, so that of two indexes on the same expression the one
//! asked about is used.

use pgrx::prelude::*;
use pgrx::{PgList, pg_sys};
use std::cell::Cell;

thread_local! {
    /// While an `OnlyIndex` lives: a table, and the index of it that the planner may see.
    static VISIBLE: Cell<(pg_sys::Oid, pg_sys::Oid)> = const { Cell::new((pg_sys::InvalidOid, pg_sys::InvalidOid)) };
    static PREVIOUS_HOOK: Cell<pg_sys::get_relation_info_hook_type> = const { Cell::new(None) };
}

/// Installs the hook; called once, when the library is loaded. It stays for good: a hook that is taken out again takes those
/// with it that others installed after it.
pub fn register() {
    // SAFETY: hooks are changed while the process has one thread; the one before is called first.
    unsafe {
        PREVIOUS_HOOK.set(pg_sys::get_relation_info_hook);
        pg_sys::get_relation_info_hook = Some(hide_other_indexes);
    }
}

/// While this lives, the planner sees no other index of the table.
pub struct OnlyIndex;

impl OnlyIndex {
    pub fn of_table(table: pg_sys::Oid, index: pg_sys::Oid) -> OnlyIndex {
        VISIBLE.set((table, index));
        OnlyIndex
    }
}

impl Drop for OnlyIndex {
    fn drop(&mut self) {
        VISIBLE.set((pg_sys::InvalidOid, pg_sys::InvalidOid));
    }
}

/// The hook, for every table that is planned. An ERROR of the hook before passes over this function as it is, in which
/// nothing waits to be dropped: caught and raised again, it would lose its position and its context.
unsafe extern "C-unwind" fn hide_other_indexes(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    inherited: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the planner's own pointers, passed on.
    unsafe {
        if let Some(previous) = PREVIOUS_HOOK.get() {
            previous(root, relation, inherited, rel);
        }
        if VISIBLE.get().0 != pg_sys::InvalidOid {
            keep_visible(relation, rel);
        }
    }
}

/// # Safety
/// `rel` is the planner's description of the table `relation`.
#[pg_guard]
unsafe extern "C-unwind" fn keep_visible(relation: pg_sys::Oid, rel: *mut pg_sys::RelOptInfo) {
    let (table, index) = VISIBLE.get();
    if relation != table {
        return;
    }
    // SAFETY: by the caller's promise; `indexlist` is a list of IndexOptInfo.
    unsafe {
        let mut kept = PgList::<pg_sys::IndexOptInfo>::new();
        for info in PgList::<pg_sys::IndexOptInfo>::from_pg((*rel).indexlist).iter_ptr() {
            if (*info).indexoid == index {
                kept.push(info);
            }
        }
        (*rel).indexlist = kept.into_pg();
    }
}
