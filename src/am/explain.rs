//! Shows in EXPLAIN (ANALYZE) what the searches of a plan node did, from Postgres 18 on. Earlier versions
//! have no hook for that; `leann.last_scan()` has the same figures for the whole statement.

use super::stats::{Question, ScanStats};
use super::{group, scan};
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};
use std::sync::OnceLock;

/// The hook that was installed before this one.
static PREVIOUS: OnceLock<pg_sys::explain_per_node_hook_type> = OnceLock::new();

/// Installs the hook. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: hooks are changed while the process has one thread; the hook calls the previous one.
    unsafe {
        let _ = PREVIOUS.set(pg_sys::explain_per_node_hook);
        pg_sys::explain_per_node_hook = Some(explain_node);
    }
}

/// The hook, called when EXPLAIN has written what the server knows of a node.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn explain_node(
    node: *mut pg_sys::PlanState,
    ancestors: *mut pg_sys::List,
    relationship: *const c_char,
    plan_name: *const c_char,
    explained: *mut pg_sys::ExplainState,
) {
    // SAFETY: the server passes a live node and the state of its EXPLAIN; each cast follows a check of the
    // tag.
    unsafe {
        if let Some(Some(previous)) = PREVIOUS.get() {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                previous(node, ancestors, relationship, plan_name, explained)
            });
        }
        if !(*explained).analyze {
            return;
        }
        let figures = match (*node).type_ {
            pg_sys::NodeTag::T_IndexScanState if scan::is_own(node.cast()) => scan::figures(node.cast()),
            pg_sys::NodeTag::T_MergeAppendState => {
                group::of_append(node.cast()).and_then(|group| (*group).figures())
            }
            _ => None,
        };
        if let Some((stats, question)) = figures {
            Output(explained).show(&stats, question);
        }
    }
}

/// The output of a live EXPLAIN.
struct Output(*mut pg_sys::ExplainState);

impl Output {
    fn show(&self, stats: &ScanStats, question: Question) {
        if let Some(bound) = question.bound {
            self.number(c"Distance Bound", None, bound, 4);
        }
        self.count(c"Group Size", question.group_size as u64);
        self.count(c"Recomputes", stats.recomputes);
        self.count(c"Cache Hits", stats.cache_hits);
        self.count(c"Node Pages", stats.pages);
        if stats.checked > 0 {
            self.count(c"Rows Checked", stats.checked);
        }
        if stats.late > 0 {
            self.count(c"Late Rows", stats.late);
        }
        // SAFETY: the EXPLAIN is live.
        if unsafe { (*self.0).timing } {
            self.number(c"Model Time", Some(c"ms"), stats.model_ms, 3);
            self.number(c"Walk Time", Some(c"ms"), stats.walk_ms, 3);
        }
    }

    fn count(&self, label: &CStr, value: u64) {
        // SAFETY: the EXPLAIN is live, and the server copies the label.
        unsafe {
            pg_sys::ExplainPropertyInteger(label.as_ptr(), std::ptr::null(), value as i64, self.0);
        }
    }

    fn number(&self, label: &CStr, unit: Option<&CStr>, value: f64, digits: i32) {
        let unit = unit.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: as above.
        unsafe { pg_sys::ExplainPropertyFloat(label.as_ptr(), unit, value, digits, self.0) };
    }
}
