//! A group: the index scans below one MergeAppend, such as those of partitions, which run as one search. What
//! drives it is in `merge_append`; here is what its scans see of it.

use super::ordered::{OrderedScan, Searches};
use super::stats::{Question, ScanStats};
use crate::pg::heap::RowReader;
use crate::pg::scan_node::{AppendNode, ScanNode};
use crate::session::{self, State};
use leann_page::HeapPointer;
use pgrx::pg_sys;

/// How the scans of a group are run.
pub enum Mode {
    /// Not begun, or to begin again: the scans return nothing.
    Idle,
    /// As one search.
    Together(Box<OrderedScan>),
    /// By the server's own function.
    Apart,
}

/// The scans below a MergeAppend. It lives as long as the statement.
pub struct Group {
    pub append: AppendNode,
    /// The server's own function of the node.
    pub original: pg_sys::ExecProcNodeMtd,
    pub mode: Mode,
    /// The numbers of the scans that are searched together: those that the server has not pruned.
    pub members: Vec<usize>,
    /// Their row readers, once they were searched.
    pub readers: Vec<RowReader>,
    /// The row that a scan is to return next: the scan's number and the row.
    pub chosen: Option<(usize, HeapPointer)>,
    /// The earlier searches.
    pub searches: Searches,
}

impl Group {
    /// Ends the search, if there is one.
    pub fn finish(&mut self) {
        if let Mode::Together(search) = &self.mode {
            self.searches.end(search);
            self.mode = Mode::Idle;
        }
    }

    /// Returns what the searches have done so far, and what the latest was asked for.
    #[cfg_attr(not(feature = "pg18"), allow(dead_code, reason = "shown by EXPLAIN from Postgres 18 on"))]
    pub fn figures(&self) -> Option<(ScanStats, Question)> {
        let running = if let Mode::Together(search) = &self.mode { Some(&**search) } else { None };
        self.searches.figures(running)
    }
}

/// The groups of the statements that run.
#[derive(Default)]
struct Groups(Vec<*mut Group>);

impl State for Groups {}

impl Drop for Group {
    fn drop(&mut self) {
        let own: *mut Group = self;
        session::with(|groups: &mut Groups| groups.0.retain(|group| *group != own));
    }
}

/// Notes a group that lives until it is dropped.
pub fn note(group: *mut Group) {
    session::with(|groups: &mut Groups| groups.0.push(group));
}

/// Returns the group of a MergeAppend.
pub fn of_append(node: *mut pg_sys::MergeAppendState) -> Option<*mut Group> {
    // SAFETY: a group is in the list as long as it lives.
    let own = |group: &*mut Group| unsafe { (**group).append.node() == node };
    session::with(|groups: &mut Groups| groups.0.iter().rev().copied().find(own))
}

/// Returns the group of a scan's node, and its number in the group.
pub fn of_scan(node: ScanNode) -> Option<(*mut Group, usize)> {
    session::with(|groups: &mut Groups| {
        groups.0.iter().rev().find_map(|&group| {
            // SAFETY: a group is in the list as long as it lives, and its statement runs as long.
            let scans = unsafe { (*group).append.scans() }?;
            let number = scans.iter().position(|scan| node.is(*scan))?;
            Some((group, number))
        })
    })
}

/// What a scan of a group is to do.
pub enum Turn {
    /// Return this row, or nothing.
    Return(Option<HeapPointer>),
    /// What it would do alone.
    Alone,
}

/// Returns what a scan of a group is to do next.
///
/// # Safety
/// `group` comes from [`of_scan`], and its statement runs.
pub unsafe fn turn(group: *mut Group, number: usize) -> Turn {
    // SAFETY: the caller promises a live group; no reference to it is alive while a scan runs.
    let group = unsafe { &mut *group };
    match group.mode {
        Mode::Apart => Turn::Alone,
        _ => Turn::Return(group.chosen.take_if(|chosen| chosen.0 == number).map(|chosen| chosen.1)),
    }
}

/// Leaves the search of a group, if there is one: one of its scans begins again.
///
/// # Safety
/// `group` is live, and no reference to it is alive.
pub unsafe fn leave(group: *mut Group) {
    // SAFETY: the caller promises a live group.
    unsafe { &mut *group }.finish();
}

/// Leaves the search of a group, and closes its readers: one of its scans ends.
///
/// # Safety
/// `group` is live, and no reference to it is alive.
pub unsafe fn end(group: *mut Group) {
    // SAFETY: the caller promises a live group.
    unsafe {
        leave(group);
        (*group).readers.drain(..).for_each(RowReader::close);
    }
}
