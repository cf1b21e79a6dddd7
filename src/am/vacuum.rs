//! VACUUM: one ascending sweep and what moved meanwhile, no model, no table reads (am/README.md, "VACUUM").

use super::hubs;
use super::index::{Index, change_meta, corrupted, read_meta};
use super::insert::parse_nodes;
use super::merge;
use super::renew::renew;
use super::split::{hub_page, lock_hub_page};
use crate::pg::{Access, PageGuard, Rel, Strategy, WalRecord, lock, memory};
use leann_graph::NodePageRef;
use leann_page::{FreePage, HeapPointer, HubPageMut, NodePageMut, PageKind, kind};
use pgrx::pg_sys;
use std::collections::HashSet;

/// What a sweep found on a node page when it was there last.
#[derive(Clone, Copy, Default)]
struct Visited {
    generation: u32,
    nodes: u16,
    /// 0 on any other page.
    capacity: u16,
    free: bool,
}

/// What one sweep found.
#[derive(Default)]
struct Sweep {
    removed: u64,
    /// Of every block.
    visited: Vec<Visited>,
    hub_pages: u32,
}

impl Sweep {
    fn node_pages(&self) -> impl Iterator<Item = (u32, Visited)> + '_ {
        (0..).zip(self.visited.iter().copied()).filter(|(_, page)| page.capacity > 0)
    }

    fn nodes(&self) -> u64 {
        self.node_pages().map(|(_, page)| u64::from(page.nodes)).sum()
    }

    fn knows(&self, page: NodePageRef) -> bool {
        self.visited
            .get(page.block as usize)
            .is_some_and(|known| known.capacity > 0 && known.generation == page.generation)
    }
}

/// The sweep's surroundings.
struct Sweeper<'a> {
    index: &'a Index,
    strategy: &'a Strategy,
    dead: &'a mut dyn FnMut(HeapPointer) -> bool,
}

impl Sweeper<'_> {
    /// Visits every block, those that are added meanwhile, and then pages that took nodes behind the sweep: until a look at
    /// all hubs shows none that was not visited as it is now.
    fn sweep(&mut self) -> Sweep {
        let mut found = Sweep::default();
        let mut block = 1;
        while block < self.index.rel.blocks() {
            self.visit(block, &mut found);
            block += 1;
        }
        // A hub may speak of a generation that is not the page's: of a former one, if the page was split since the look, and
        // on a damaged page of any. Asked for once, it is not asked for again.
        let mut asked = HashSet::new();
        loop {
            let mut moved = hubs::node_pages(self.index);
            let blocks = self.index.rel.blocks();
            memory::expect_room(asked.try_reserve(moved.len()), "the pages of an index");
            moved.retain(|&page| {
                (1..blocks).contains(&page.block) && !found.knows(page) && asked.insert(page)
            });
            if moved.is_empty() {
                return found;
            }
            moved.sort_unstable();
            for page in moved {
                self.visit(page.block, &mut found);
            }
        }
    }

    fn visit(&mut self, block: u32, found: &mut Sweep) {
        delay();
        let rel = self.index.rel;
        let at = block as usize;
        if found.visited.len() <= at {
            let more = at + 1 - found.visited.len();
            memory::reserve(&mut found.visited, more, "the pages of an index");
            found.visited.resize(at + 1, Visited::default());
        }
        found.visited[at] = Visited::default();
        let mut guard = PageGuard::read_by(self.strategy, rel, block, Access::Exclusive);
        match kind(guard.body()) {
            Ok(PageKind::Node) => {
                found.removed += remove_dead(self.index, &mut guard, self.dead) as u64;
                let nodes = parse_nodes(self.index, &guard);
                found.visited[at] = Visited {
                    generation: nodes.generation(),
                    nodes: nodes.count() as u16,
                    capacity: nodes.capacity() as u16,
                    free: false,
                };
            }
            Ok(PageKind::Hub) => found.hub_pages += 1,
            Ok(PageKind::Free | PageKind::Zero) => {
                found.visited[at].free = true;
                drop(guard);
                lock::record_free_block(rel, block);
            }
            Ok(PageKind::Meta | PageKind::Params) => {}
            Err(fault) => corrupted(rel, block, fault),
        }
    }
}

/// Removes the dead nodes of a page in one record. Returns how many went.
fn remove_dead(index: &Index, guard: &mut PageGuard, dead: &mut dyn FnMut(HeapPointer) -> bool) -> usize {
    // Asked once per node and remembered: the callback may count.
    let gone: HashSet<HeapPointer> =
        parse_nodes(index, guard).heap_pointers().filter(|&pointer| dead(pointer)).collect();
    if gone.is_empty() {
        return 0;
    }
    let block = guard.block();
    let record = WalRecord::start(index.rel);
    let removed = NodePageMut::parse(record.page(guard))
        .map(|mut nodes| nodes.remove_where(|pointer| gone.contains(&pointer)))
        .unwrap_or_else(|fault| corrupted(index.rel, block, fault));
    record.finish();
    removed
}

/// Frees empty pages, but never the last node page. Returns how many were freed.
fn free_empty(index: &Index, found: &Sweep, emptied: &[u32]) -> u32 {
    let node_pages = found.node_pages().count() as u32;
    let empty = found.node_pages().filter(|(_, page)| page.nodes == 0).map(|(block, _)| block);
    let mut freed = 0;
    for block in empty.chain(emptied.iter().copied()) {
        if node_pages - freed <= 1 {
            break;
        }
        delay();
        freed += u32::from(free_page(index, block));
    }
    freed
}

/// Frees one page if it still is an empty node page. One record clears the hub entry, marks the page, and counts in the
/// chain's first page, so that whoever reads the chain meanwhile reads it again.
fn free_page(index: &Index, block: u32) -> bool {
    let rel = index.rel;
    let head_block = index.meta.hub_first;
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
    let mut hubs = lock_hub_page(index, hub.page);
    merge::check_entry(index, &hubs, hub.slot, block);
    let mut head = (hub.page != head_block).then(|| lock_hub_page(index, head_block));
    let count = hub_page(index, head.as_ref().unwrap_or(&hubs)).generation().wrapping_add(1);

    let record = WalRecord::start(rel);
    HubPageMut::parse(record.page(&mut hubs))
        .and_then(|mut hubs| {
            if hub.page == head_block {
                hubs.set_generation(count);
            }
            hubs.clear(hub.slot)
        })
        .unwrap_or_else(|fault| corrupted(rel, hub.page, fault));
    if let Some(head) = &mut head {
        HubPageMut::parse(record.page(head))
            .map(|mut head| head.set_generation(count))
            .unwrap_or_else(|fault| corrupted(rel, head_block, fault));
    }
    FreePage::init(record.fresh_page(&mut page), generation)
        .unwrap_or_else(|fault| corrupted(rel, block, fault));
    record.finish();
    drop(page);
    lock::record_free_block(rel, block);
    true
}

/// The server's cost-based delay, which also serves interrupts.
pub fn delay() {
    // SAFETY: no lock is held.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::vacuum_delay_point();
        #[cfg(feature = "pg18")]
        pg_sys::vacuum_delay_point(false);
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
    // SAFETY: by the caller's promise; the server keeps both relations open, and the strategy as long as the vacuum runs.
    let (rel, strategy) = unsafe { (Rel::from_raw((*info).index), Strategy::borrowed((*info).strategy)) };
    let index = Index::open(rel);
    let found = Sweeper { index: &index, strategy: &strategy, dead }.sweep();
    // CREATE INDEX CONCURRENTLY sweeps to collect what there is, and a page that lost nothing was not worth it before.
    let emptied =
        if found.removed > 0 { merge::empty_sparse(&index, sparse_pages(&found)) } else { Vec::new() };
    let freed = free_empty(&index, &found, &emptied);
    if freed > 0 {
        renew(&index);
    }
    let (nodes, node_pages) = (found.nodes(), found.node_pages().count() as u32 - freed);
    let free = found.visited.iter().filter(|page| page.free).count() as u32 + freed;
    change_meta(rel, |meta| {
        let before = (meta.nodes, meta.node_pages, meta.hub_pages, meta.free_pages);
        (meta.nodes, meta.node_pages) = (nodes, node_pages);
        (meta.hub_pages, meta.free_pages) = (found.hub_pages, free);
        before != (nodes, node_pages, found.hub_pages, free)
    });
    // SAFETY: a result of the server's type, zeroed when new, in the current context.
    unsafe {
        let stats = or_new(stats);
        (*stats).num_pages = rel.blocks();
        (*stats).estimated_count = false;
        (*stats).num_index_tuples = nodes as f64;
        (*stats).tuples_removed += found.removed as f64;
        (*stats).pages_newly_deleted += freed;
        (*stats).pages_deleted = free;
        (*stats).pages_free = free;
        stats
    }
}

/// Node pages that hold so little that near pages may have room for it, the sparsest first.
fn sparse_pages(found: &Sweep) -> Vec<u32> {
    let mut sparse: Vec<(u16, u32)> = found
        .node_pages()
        .filter(|(_, page)| page.nodes > 0 && merge::is_sparse(page.nodes.into(), page.capacity.into()))
        .map(|(block, page)| (page.nodes, block))
        .collect();
    sparse.sort_unstable();
    sparse.into_iter().map(|(_, block)| block).collect()
}

/// # Safety
/// `stats` is null or a live result.
unsafe fn or_new(stats: *mut pg_sys::IndexBulkDeleteResult) -> *mut pg_sys::IndexBulkDeleteResult {
    if stats.is_null() {
        // SAFETY: allocates in the current context, which the server keeps for the result.
        unsafe {
            pg_sys::palloc0(size_of::<pg_sys::IndexBulkDeleteResult>()) as *mut pg_sys::IndexBulkDeleteResult
        }
    } else {
        stats
    }
}

/// What the meta page says, where nothing was removed: as of the last sweep, and splits since then.
///
/// # Safety
/// `info` is the server's description of this vacuum.
unsafe fn counts(info: *mut pg_sys::IndexVacuumInfo) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: by the caller's promise the index is open.
    unsafe {
        let rel = Rel::from_raw((*info).index);
        let meta = read_meta(rel);
        let stats = or_new(std::ptr::null_mut());
        (*stats).num_pages = rel.blocks();
        (*stats).estimated_count = true;
        (*stats).num_index_tuples = meta.nodes as f64;
        (*stats).pages_deleted = meta.free_pages;
        (*stats).pages_free = meta.free_pages;
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
        // Without a bulk delete before it there is nothing to gain by reading the index: pages went into the free space map
        // when they were freed.
        let stats = if stats.is_null() { counts(info) } else { stats };
        lock::vacuum_free_space_map(Rel::from_raw((*info).index));
        stats
    }
}
