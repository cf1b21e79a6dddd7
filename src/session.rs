//! What a backend keeps from one statement to the next. DISCARD ALL, by which connection poolers clean a
//! connection for its next user, makes it forget the embedded texts and what the latest search did.
//!
//! Each part of the extension declares its own state as a type with [`State`]; all of them are kept here, in
//! one thread-local. Only the backend's own thread calls the server, so only that thread has any.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::OnceLock;

use pgrx::pg_sys;

/// A part of what this backend keeps. It is made when it is first used.
pub trait State: Default + 'static {
    /// Forgets what the next user of the connection must not learn.
    fn forget(&mut self) {}
}

/// A state whose type only its owner knows.
struct Slot {
    state: Rc<dyn Any>,
    forget: fn(&dyn Any),
}

thread_local! {
    /// One state of each type, in the order of their first use. There are few, so a search by type takes a
    /// few comparisons.
    static SLOTS: RefCell<Vec<(TypeId, Slot)>> = const { RefCell::new(Vec::new()) };
}

/// Returns the state of type `S`, and makes it if there is none.
fn state<S: State>() -> Rc<RefCell<S>> {
    let id = TypeId::of::<S>();
    let known = SLOTS.with_borrow(|slots| {
        slots.iter().find(|(other, _)| *other == id).and_then(|(_, slot)| slot.state.clone().downcast().ok())
    });
    known.unwrap_or_else(|| {
        let state = Rc::new(RefCell::new(S::default()));
        let forget = |state: &dyn Any| {
            if let Some(state) = state.downcast_ref::<RefCell<S>>() {
                state.borrow_mut().forget();
            }
        };
        SLOTS.with_borrow_mut(|slots| slots.push((id, Slot { state: state.clone(), forget })));
        state
    })
}

/// Lends a part of the session's state. Neither `f` nor what it calls may use the same part again.
pub fn with<S: State, R>(f: impl FnOnce(&mut S) -> R) -> R {
    f(&mut state::<S>().borrow_mut())
}

/// Returns a copy of a part of the session's state.
pub fn get<S: State + Copy>() -> S {
    with(|state: &mut S| *state)
}

/// The hook that was installed before this one.
static PREVIOUS: OnceLock<pg_sys::ProcessUtility_hook_type> = OnceLock::new();

/// Installs the hook. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: the process's one server thread changes hooks; the hook calls the previous one, or what the
    // server does without one.
    unsafe {
        let _ = PREVIOUS.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

unsafe extern "C-unwind" {
    // Declared as in the server. The binding of `pg_sys` turns an ERROR into a panic and back, and so loses
    // what only an ERROR has: the position in the statement, the context, the names of table and constraint.
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

/// The hook, called for every utility statement. An ERROR of the statement passes over this function, which
/// is safe because nothing here waits to be dropped.
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
    // SAFETY: the server passes a planned utility statement. Its kind is read before it runs, because running
    // may free it. The other arguments are passed on unchanged.
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

/// Makes every state forget what the next user of the connection must not learn.
#[pgrx::pg_guard]
extern "C-unwind" fn forget() {
    let states: Vec<_> =
        SLOTS.with_borrow(|slots| slots.iter().map(|(_, slot)| (slot.state.clone(), slot.forget)).collect());
    for (state, forget) in states {
        forget(&*state);
    }
}

/// Returns whether a utility statement is DISCARD ALL.
///
/// # Safety
/// `statement` is a live node, or null.
unsafe fn discards_all(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the caller promises such a node; the cast follows a check of the tag.
    unsafe {
        !statement.is_null()
            && (*statement).type_ == pg_sys::NodeTag::T_DiscardStmt
            && (*(statement as *mut pg_sys::DiscardStmt)).target == pg_sys::DiscardMode::DISCARD_ALL
    }
}
