//! Hides all indexes of a table but one from the planner for a while, so that of two indexes on the same
//! expression it uses the one asked about.

use pgrx::prelude::*;
use pgrx::{PgList, pg_sys};
use std::sync::OnceLock;

use crate::session::{self, State};

/// The hook that was installed before this one.
static PREVIOUS: OnceLock<pg_sys::get_relation_info_hook_type> = OnceLock::new();

/// While a [`HideOtherIndexes`] lives: a table, and the only index of it that the planner sees.
#[derive(Clone, Copy, Default)]
struct VisibleIndex(Option<(pg_sys::Oid, pg_sys::Oid)>);

impl State for VisibleIndex {}

/// Installs the hook. Called once, when the library is loaded. The hook is never removed: removing it would
/// also remove the hooks that were installed after it.
pub fn register() {
    // Makes the state now: the hook itself allocates nothing outside the guard of `keep_visible`.
    session::with(|_: &mut VisibleIndex| ());
    // SAFETY: hooks are changed while the process has one thread; the previous hook is called first.
    unsafe {
        let _ = PREVIOUS.set(pg_sys::get_relation_info_hook);
        pg_sys::get_relation_info_hook = Some(hide_other_indexes);
    }
}

/// While this lives, the planner sees no other index of the table.
pub struct HideOtherIndexes(());

impl HideOtherIndexes {
    pub fn new(table: pg_sys::Oid, index: pg_sys::Oid) -> HideOtherIndexes {
        session::with(|visible: &mut VisibleIndex| visible.0 = Some((table, index)));
        HideOtherIndexes(())
    }
}

impl Drop for HideOtherIndexes {
    fn drop(&mut self) {
        session::with(|visible: &mut VisibleIndex| visible.0 = None);
    }
}

/// The hook, called for every table that is planned. An ERROR of the previous hook passes over this function
/// unchanged, which is safe because nothing here waits to be dropped. If it were caught and raised again, it
/// would lose its position and its context.
unsafe extern "C-unwind" fn hide_other_indexes(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    inherited: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the planner's own pointers, passed on.
    unsafe {
        if let Some(Some(previous)) = PREVIOUS.get() {
            previous(root, relation, inherited, rel);
        }
        if session::get::<VisibleIndex>().0.is_some() {
            keep_visible(relation, rel);
        }
    }
}

/// Removes all indexes but the visible one from the planner's description of a table.
///
/// # Safety
/// `rel` is the planner's description of the table `relation`.
#[pg_guard]
unsafe extern "C-unwind" fn keep_visible(relation: pg_sys::Oid, rel: *mut pg_sys::RelOptInfo) {
    let Some((table, index)) = session::get::<VisibleIndex>().0 else { return };
    if relation != table {
        return;
    }
    // SAFETY: the caller promises a live description; its `indexlist` is a list of IndexOptInfo.
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
