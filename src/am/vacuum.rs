//! VACUUM: one ascending sweep, no model, no table reads (am/README.md, "VACUUM").

use super::index::{Index, change_meta, corrupted};
use super::insert::parse_nodes;
use super::split::reusable;
use crate::pg::{Access, PageGuard, Rel, WalRecord, interrupts, lock};
use leann_page::{FreePage, HeapPointer, HubPageMut, NodePageMut, PageError, PageKind, kind};
use pgrx::pg_sys;

/// What one sweep found.
#[derive(Default)]
struct Sweep {
    nodes: u64,
    removed: u64,
    node_pages: u32,
    hub_pages: u32,
    /// Pages that a split may use again now.
    reusable: u32,
    /// Free pages, reusable or not yet.
    free: u32,
    empty: Vec<u32>,
}

/// Visits every block, and those that are added meanwhile. `dead` is asked about every node.
fn sweep(index: &Index, table: Option<Rel>, dead: &mut dyn FnMut(HeapPointer) -> bool) -> Sweep {
    let mut found = Sweep::default();
    let mut block = 1;
    while block < index.rel.blocks() {
        delay();
        visit(index, table, block, dead, &mut found);
        block += 1;
    }
    found
}

fn visit(
    index: &Index,
    table: Option<Rel>,
    block: u32,
    dead: &mut dyn FnMut(HeapPointer) -> bool,
    found: &mut Sweep,
) {
    let mut guard = PageGuard::read(index.rel, block, Access::Exclusive);
    match kind(guard.body()) {
        Ok(PageKind::Node) => {
            let (left, removed) = remove_dead(index, &mut guard, dead);
            found.node_pages += 1;
            found.nodes += left as u64;
            found.removed += removed as u64;
            if left == 0 {
                found.empty.push(block);
            }
        }
        Ok(PageKind::Hub) => found.hub_pages += 1,
        Ok(PageKind::Free | PageKind::Zero) => {
            found.free += 1;
            if reusable(table, guard.body()).is_some() {
                found.reusable += 1;
                drop(guard);
                lock::record_free_block(index.rel, block);
            }
        }
        Ok(PageKind::Meta | PageKind::Params) => {}
        Err(fault) => corrupted(index.rel, block, fault),
    }
}

/// Removes the dead nodes of a page in one record. Returns how many are left and how many went.
fn remove_dead(
    index: &Index,
    guard: &mut PageGuard,
    dead: &mut dyn FnMut(HeapPointer) -> bool,
) -> (usize, usize) {
    let nodes = parse_nodes(index, guard);
    let count = nodes.count();
    // Asked once per node and remembered: the callback may count.
    let gone: Vec<HeapPointer> = nodes.heap_pointers().filter(|&pointer| dead(pointer)).collect();
    if gone.is_empty() {
        return (count, 0);
    }
    let block = guard.block();
    let record = WalRecord::start(index.rel);
    let removed = NodePageMut::parse(record.page(guard))
        .map(|mut nodes| nodes.remove_where(|pointer| gone.contains(&pointer)))
        .unwrap_or_else(|fault| corrupted(index.rel, block, fault));
    record.finish();
    (count - removed, removed)
}

/// Frees empty pages, but never the last node page. Returns how many were freed.
fn free_empty(index: &Index, found: &Sweep) -> u32 {
    let mut freed = 0;
    for &block in &found.empty {
        if found.node_pages - freed <= 1 {
            break;
        }
        interrupts::check();
        freed += u32::from(free_page(index, block));
    }
    freed
}

/// Frees one page if it still is an empty node page: hub entry and page in one record.
fn free_page(index: &Index, block: u32) -> bool {
    let rel = index.rel;
    let _structure = lock::StructureLock::acquire(rel);
    let mut page = PageGuard::read(rel, block, Access::Exclusive);
    if !matches!(kind(page.body()), Ok(PageKind::Node)) {
        return false;
    }
    let nodes = parse_nodes(index, &page);
    if nodes.count() > 0 {
        return false;
    }
    let (hub, generation) = (nodes.hub(), nodes.generation());
    if hub.page == 0 || hub.page >= rel.blocks() {
        corrupted(rel, block, PageError::Impossible { what: "hub page", value: hub.page.into() });
    }
    let mut hubs = PageGuard::read(rel, hub.page, Access::Exclusive);
    let record = WalRecord::start(rel);
    HubPageMut::parse(record.page(&mut hubs))
        .and_then(|mut hubs| hubs.clear(hub.slot))
        .unwrap_or_else(|fault| corrupted(rel, hub.page, fault));
    FreePage::init(record.fresh_page(&mut page), generation, lock::next_transaction_id())
        .unwrap_or_else(|fault| corrupted(rel, block, fault));
    record.finish();
    true
}

/// The server's cost-based delay, which also serves interrupts.
fn delay() {
    // SAFETY: no lock is held.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::vacuum_delay_point();
        #[cfg(feature = "pg18")]
        pg_sys::vacuum_delay_point(false);
    }
}

/// The table, where the server says which it is; None makes visibility checks more cautious.
///
/// # Safety
/// `info` is the server's description of this vacuum.
unsafe fn table_of(info: *mut pg_sys::IndexVacuumInfo) -> Option<Rel> {
    #[cfg(feature = "pg15")]
    {
        let _ = info;
        None
    }
    #[cfg(not(feature = "pg15"))]
    // SAFETY: by the caller's promise; the server keeps the table open.
    unsafe {
        Some(Rel::from_raw((*info).heaprel))
    }
}

/// One sweep with everything that belongs to it; its counts go into the meta page and into `stats`.
///
/// # Safety
/// `info` is the server's description of this vacuum; `stats` is null or from an earlier call.
unsafe fn run(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    dead: &mut dyn FnMut(HeapPointer) -> bool,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: by the caller's promise; the server keeps both relations open.
    let rel = unsafe { Rel::from_raw((*info).index) };
    // SAFETY: as above.
    let table = unsafe { table_of(info) };
    let index = Index::open(rel);
    let found = sweep(&index, table, dead);
    let freed = free_empty(&index, &found);
    let (nodes, node_pages, free) = (found.nodes, found.node_pages - freed, found.free + freed);
    change_meta(rel, |meta| {
        let before = (meta.nodes, meta.node_pages, meta.hub_pages, meta.free_pages);
        (meta.nodes, meta.node_pages) = (nodes, node_pages);
        (meta.hub_pages, meta.free_pages) = (found.hub_pages, free);
        before != (nodes, node_pages, found.hub_pages, free)
    });
    // SAFETY: a result of the server's type, zeroed when new, in the current context.
    unsafe {
        let stats = if stats.is_null() {
            pg_sys::palloc0(size_of::<pg_sys::IndexBulkDeleteResult>()) as *mut pg_sys::IndexBulkDeleteResult
        } else {
            stats
        };
        (*stats).num_pages = rel.blocks();
        (*stats).estimated_count = false;
        (*stats).num_index_tuples = found.nodes as f64;
        (*stats).tuples_removed += found.removed as f64;
        (*stats).pages_newly_deleted += freed;
        (*stats).pages_deleted = free;
        (*stats).pages_free = found.reusable;
        stats
    }
}

#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn ambulkdelete(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    callback: pg_sys::IndexBulkDeleteCallback,
    callback_state: *mut std::ffi::c_void,
) -> *mut pg_sys::IndexBulkDeleteResult {
    let mut dead = |pointer: HeapPointer| {
        let mut tid = pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData {
                bi_hi: (pointer.block >> 16) as u16,
                bi_lo: (pointer.block & 0xffff) as u16,
            },
            ip_posid: pointer.offset,
        };
        // SAFETY: the server's callback with its own state; it reads the pointer only. The boundary turns an error of
        // the callback into a panic, and nothing with a destructor lives inside it.
        unsafe {
            match callback {
                Some(callback) => pg_sys::ffi::pg_guard_ffi_boundary(|| callback(&mut tid, callback_state)),
                None => false,
            }
        }
    };
    // SAFETY: handed over by the server.
    unsafe { run(info, stats, &mut dead) }
}

#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amvacuumcleanup(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: handed over by the server.
    unsafe {
        if (*info).analyze_only {
            return stats;
        }
        // Without a bulk delete before it, the sweep still counts and finds pages to use again.
        let stats = if stats.is_null() { run(info, stats, &mut |_| false) } else { stats };
        lock::vacuum_free_space_map(Rel::from_raw((*info).index));
        stats
    }
}
