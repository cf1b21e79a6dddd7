//! What a session must not hand on to the next user of its connection: DISCARD ALL, by which poolers clean a connection,
//! forgets the texts that were embedded and what the latest search did.

use std::sync::OnceLock;

use pgrx::pg_sys;

use crate::{model, stats};

/// The hook before ours.
static PREVIOUS: OnceLock<pg_sys::ProcessUtility_hook_type> = OnceLock::new();

/// Installs the hook. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: hooks are changed by the process's one server thread; the one before is called, or what the server does without
    // one.
    unsafe {
        let _ = PREVIOUS.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

unsafe extern "C-unwind" {
    // As the server has it. That of `pg_sys` turns an ERROR into a panic and back, and so loses what only an ERROR has: the
    // position in the statement, the context, the names of table and constraint.
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        source: *const std::ffi::c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// The hook, for every utility statement. An ERROR of the statement passes over this function, in which nothing waits to
/// be dropped.
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    source: *const std::ffi::c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the server passes a planned utility statement, whose kind is read before it runs, since that may free it. The
    // rest is the server's own, passed on.
    unsafe {
        let forgets = discards_all((*statement).utilityStmt);
        let run = match PREVIOUS.get() {
            Some(Some(previous)) => *previous,
            _ => standard_ProcessUtility,
        };
        run(statement, source, read_only_tree, context, parameters, environment, destination, completion);
        if forgets {
            forget();
        }
    }
}

#[pgrx::pg_guard]
extern "C-unwind" fn forget() {
    model::forget();
    stats::forget();
}

/// # Safety
/// `statement` is a live node, or null.
unsafe fn discards_all(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: by the caller's promise; the cast follows a check of the tag.
    unsafe {
        !statement.is_null()
            && (*statement).type_ == pg_sys::NodeTag::T_DiscardStmt
            && (*(statement as *mut pg_sys::DiscardStmt)).target == pg_sys::DiscardMode::DISCARD_ALL
    }
}
