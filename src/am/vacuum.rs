//! VACUUM: sweeps over all pages in ascending order and over those that took nodes meanwhile, without a model
//! and without reading the table (am/README.md, "VACUUM").

use super::advice::advice_to_train;
use super::index::Index;
use super::page_counts::PageCounts;
use super::pages::{AnyPage, NodeGuard, any_page, change_meta, read_meta};
use super::renew::renew;
use super::train_in_place::train_if_worthwhile;
use super::{errors, merge};
use crate::pg::buffer::BODY_BYTES;
use crate::pg::interrupts::vacuum_delay;
use crate::pg::{Access, Rel, Strategy, WalRecord, allocator, lock, tid};
use leann_graph::NodePageRef;
use leann_page::{HeapPointer, Meta, PageKind, ParamsPage};
use pgrx::pg_sys;
use std::collections::HashSet;

/// What a sweep found on a page at its latest visit.
#[derive(Clone, Copy, Default)]
struct PageVisit {
    generation: u32,
    nodes: u16,
    /// Nodes whose sketches are in the untrained form.
    untrained: u16,
    /// Nodes that fit on the page; 0 if it is not a node page.
    capacity: u16,
    free: bool,
}

/// What one sweep found on all pages.
#[derive(Default)]
struct SweepResult {
    removed: u64,
    /// The latest visit to each block.
    visited: Vec<PageVisit>,
    hub_pages: u32,
}

impl SweepResult {
    fn node_pages(&self) -> impl Iterator<Item = (u32, PageVisit)> + '_ {
        (0..).zip(self.visited.iter().copied()).filter(|(_, page)| page.capacity > 0)
    }

    fn nodes(&self) -> u64 {
        self.node_pages().map(|(_, page)| u64::from(page.nodes)).sum()
    }

    fn untrained_nodes(&self) -> u64 {
        self.node_pages().map(|(_, page)| u64::from(page.untrained)).sum()
    }

    /// Returns whether the sweep has visited the page in its present generation.
    fn knows(&self, page: NodePageRef) -> bool {
        self.visited
            .get(page.block as usize)
            .is_some_and(|known| known.capacity > 0 && known.generation == page.generation)
    }
}

/// A sweep over the pages of an index, which removes the nodes of dead rows.
struct PageSweep<'a> {
    index: &'a Index,
    strategy: &'a Strategy,
    dead: &'a mut dyn FnMut(HeapPointer) -> bool,
}

impl PageSweep<'_> {
    /// Visits every block, including those that are added meanwhile, and then pages that took nodes behind
    /// the sweep. Ends when the hubs name no page that was not visited in its present generation.
    fn sweep(&mut self) -> SweepResult {
        let mut found = SweepResult::default();
        let mut block = 1;
        while block < self.index.rel.blocks() {
            self.visit(block, &mut found);
            block += 1;
        }
        // A hub may name a generation that its page does not have: a former one if the page was split since
        // the hubs were read, and any one if a page is damaged. So each pair of page and generation is
        // visited at most once.
        let mut asked = HashSet::new();
        loop {
            let mut moved = self.index.all_node_pages();
            let blocks = self.index.rel.blocks();
            allocator::expect_room(asked.try_reserve(moved.len()), "the pages of an index");
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

    /// Removes the dead nodes of a page and records what is left.
    fn visit(&mut self, block: u32, found: &mut SweepResult) {
        vacuum_delay();
        let rel = self.index.rel;
        let at = block as usize;
        if found.visited.len() <= at {
            let more = at + 1 - found.visited.len();
            allocator::reserve(&mut found.visited, more, "the pages of an index");
            found.visited.resize(at + 1, PageVisit::default());
        }
        found.visited[at] = PageVisit::default();
        match any_page(rel, &self.index.meta, block, Access::Exclusive, self.strategy) {
            AnyPage::Node(mut page) => {
                found.removed += remove_dead(self.index, &mut page, self.dead) as u64;
                let nodes = page.nodes();
                found.visited[at] = PageVisit {
                    generation: nodes.generation(),
                    nodes: nodes.count() as u16,
                    untrained: untrained_on(self.index, nodes.sketches()),
                    capacity: nodes.capacity() as u16,
                    free: false,
                };
            }
            AnyPage::Hub(_) => found.hub_pages += 1,
            AnyPage::Other(PageKind::Free | PageKind::Zero) => {
                found.visited[at].free = true;
                lock::record_free_block(rel, block);
            }
            AnyPage::Other(_) => {}
        }
    }
}

/// Counts the sketches of a page that are in the untrained form.
fn untrained_on(index: &Index, sketches: &[u8]) -> u16 {
    let sketches = sketches.chunks_exact(index.sketch_bytes());
    sketches.filter(|sketch| index.sketcher.is_untrained_sketch(sketch)).count() as u16
}

/// Removes the dead nodes of a page in one record. Returns how many were removed.
fn remove_dead(index: &Index, page: &mut NodeGuard<'_>, dead: &mut dyn FnMut(HeapPointer) -> bool) -> usize {
    // The callback may count, so it runs once for each node.
    let gone: HashSet<HeapPointer> = page.nodes().heap_pointers().filter(|&pointer| dead(pointer)).collect();
    if gone.is_empty() {
        return 0;
    }
    let record = WalRecord::start(index.rel);
    let removed = page.edit(&record, |nodes| Ok(nodes.remove_where(|pointer| gone.contains(&pointer))));
    record.finish();
    removed
}

/// Frees empty pages, but never the last node page. Returns how many were freed.
fn free_empty(index: &Index, found: &SweepResult, emptied: &[u32]) -> u32 {
    let node_pages = found.node_pages().count() as u32;
    let empty = found.node_pages().filter(|(_, page)| page.nodes == 0).map(|(block, _)| block);
    let mut freed = 0;
    for block in empty.chain(emptied.iter().copied()) {
        if node_pages - freed <= 1 {
            break;
        }
        vacuum_delay();
        freed += u32::from(free_page(index, block));
    }
    freed
}

/// Frees a page if it still is an empty node page. One record clears the hub entry, marks the page and
/// increments the count in the chain's first page, so that a reader of the chain reads it again.
fn free_page(index: &Index, block: u32) -> bool {
    let head_block = index.meta.hub_first;
    let _structure = lock::StructureLock::acquire(index.rel);
    let Some(mut page) = index.node_page_on(block, Access::Exclusive) else { return false };
    if page.nodes().count() > 0 {
        return false;
    }
    let hub = page.nodes().hub();
    let mut own = index.hub_page_to_change(hub.page);
    own.hub_of(block, hub.slot);
    let mut head = (hub.page != head_block).then(|| index.hub_page_to_change(head_block));
    let freed = head.as_ref().unwrap_or(&own).hubs().generation().wrapping_add(1);

    let record = WalRecord::start(index.rel);
    own.edit(&record, |hubs| hubs.clear(hub.slot));
    head.as_mut().unwrap_or(&mut own).edit(&record, |hubs| {
        hubs.set_generation(freed);
        Ok(())
    });
    page.free(&record);
    record.finish();
    drop(page);
    lock::record_free_block(index.rel, block);
    true
}

/// Sweeps, empties sparse pages, frees empty ones, and writes the counts to the meta page and to `stats`.
///
/// # Safety
/// `info` is the server's description of this vacuum; `stats` is null or from an earlier call.
unsafe fn vacuum_index(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    dead: &mut dyn FnMut(HeapPointer) -> bool,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: the caller passes the server's description. The server keeps both relations open, and the
    // strategy as long as the vacuum runs.
    let (rel, strategy) = unsafe { (Rel::from_raw((*info).index), Strategy::borrowed((*info).strategy)) };
    let index = Index::open(rel);
    let found = PageSweep { index: &index, strategy: &strategy, dead }.sweep();
    // A page that lost no node was not worth emptying before either, and CREATE INDEX CONCURRENTLY sweeps
    // only to collect pointers.
    let emptied =
        if found.removed > 0 { merge::empty_sparse(&index, sparse_pages(&found)) } else { Vec::new() };
    let freed = free_empty(&index, &found, &emptied);
    if freed > 0 {
        renew(&index);
    }
    let (nodes, node_pages) = (found.nodes(), found.node_pages().count() as u32 - freed);
    let free = found.visited.iter().filter(|page| page.free).count() as u32 + freed;
    record_counts(
        rel,
        Counts {
            nodes,
            untrained_nodes: found.untrained_nodes(),
            node_pages,
            hub_pages: found.hub_pages,
            free_pages: free,
        },
    );
    // SAFETY: `or_new` returns a live result, zeroed if it is new.
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

/// What a vacuum writes to the meta page.
#[derive(PartialEq)]
struct Counts {
    nodes: u64,
    untrained_nodes: u64,
    node_pages: u32,
    hub_pages: u32,
    free_pages: u32,
}

/// Writes counts to the meta page if they have changed. Says in the log that a REINDEX is worth it if that
/// was not so at the last count.
fn record_counts(rel: Rel, counts: Counts) {
    let (nodes, untrained) = (counts.nodes, counts.untrained_nodes);
    let mut news = None;
    change_meta(rel, |meta| {
        let before = Counts {
            nodes: meta.nodes,
            untrained_nodes: meta.untrained_nodes,
            node_pages: meta.node_pages,
            hub_pages: meta.hub_pages,
            free_pages: meta.free_pages,
        };
        if advice_to_train(meta, before.nodes, before.untrained_nodes).is_none() {
            news = advice_to_train(meta, nodes, untrained);
        }
        (meta.nodes, meta.untrained_nodes) = (counts.nodes, counts.untrained_nodes);
        (meta.node_pages, meta.hub_pages) = (counts.node_pages, counts.hub_pages);
        meta.free_pages = counts.free_pages;
        before != counts
    });
    if let Some(advice) = news {
        errors::log_advice(&rel.name(), untrained, nodes, advice);
    }
}

/// Returns the node pages that hold so few nodes that near pages may have room for them, the sparsest first.
fn sparse_pages(found: &SweepResult) -> Vec<u32> {
    let mut sparse: Vec<(u16, u32)> = found
        .node_pages()
        .filter(|(_, page)| page.nodes > 0 && merge::is_sparse(page.nodes.into(), page.capacity.into()))
        .map(|(block, page)| (page.nodes, block))
        .collect();
    sparse.sort_unstable();
    sparse.into_iter().map(|(_, block)| block).collect()
}

/// Returns `stats`, or a new result if it is null.
///
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

/// Growth of the index since the last count from which a vacuum that removes nothing counts again.
const MIN_GROWTH_TO_COUNT: f64 = 1.1;

/// Returns whether the index has grown much since its pages were counted. Splits make it grow, or use free
/// pages, which the meta page then counts no longer.
fn has_grown(rel: Rel, meta: &Meta) -> bool {
    let params = meta.params_len.div_ceil(ParamsPage::chunk_capacity(BODY_BYTES) as u32);
    let counted = [1, params, meta.hub_pages, meta.node_pages, meta.free_pages].map(f64::from);
    f64::from(rel.blocks()) > MIN_GROWTH_TO_COUNT * counted.iter().sum::<f64>()
}

/// Returns the counts of the meta page, which are as of the last sweep and the splits since then. Counts
/// again before, if the index has grown much since: nothing else would notice that the new rows do not fit.
///
/// # Safety
/// `info` is the server's description of this vacuum.
unsafe fn stats_from_meta(info: *mut pg_sys::IndexVacuumInfo) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: the caller passes the server's description, whose index is open.
    unsafe {
        let rel = Rel::from_raw((*info).index);
        let mut meta = read_meta(rel);
        if has_grown(rel, &meta) {
            count_again(rel);
            meta = read_meta(rel);
        }
        let stats = or_new(std::ptr::null_mut());
        (*stats).num_pages = rel.blocks();
        (*stats).estimated_count = true;
        (*stats).num_index_tuples = meta.nodes as f64;
        (*stats).pages_deleted = meta.free_pages;
        (*stats).pages_free = meta.free_pages;
        stats
    }
}

/// Counts pages and nodes without removing any.
fn count_again(rel: Rel) {
    let index = Index::open(rel);
    let pages = PageCounts::of(rel, &index.meta, Some(&index.sketcher));
    record_counts(
        rel,
        Counts {
            nodes: pages.nodes,
            untrained_nodes: pages.fit.map_or(0, |fit| fit.untrained),
            node_pages: pages.node_pages as u32,
            hub_pages: pages.hub_pages as u32,
            free_pages: pages.free_pages as u32,
        },
    );
}

/// Removes the nodes of rows that the callback calls dead.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn ambulkdelete(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    callback: pg_sys::IndexBulkDeleteCallback,
    callback_state: *mut std::ffi::c_void,
) -> *mut pg_sys::IndexBulkDeleteResult {
    let mut dead = |pointer: HeapPointer| {
        let mut tid = tid::to_server(pointer);
        // SAFETY: the server's callback gets its own state and only reads the pointer. The boundary turns an
        // error of the callback into a panic, and nothing with a destructor lives inside it.
        unsafe {
            match callback {
                Some(callback) => pg_sys::ffi::pg_guard_ffi_boundary(|| callback(&mut tid, callback_state)),
                None => false,
            }
        }
    };
    // SAFETY: the server passes its description of this vacuum and the result of an earlier call, or null.
    unsafe { vacuum_index(info, stats, &mut dead) }
}

/// Trains an untrained index that has rows enough by now, updates the free space map at the end of a vacuum,
/// and returns the counts of the index.
#[pgrx::pg_guard]
pub unsafe extern "C-unwind" fn amvacuumcleanup(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: the server passes its description of this vacuum and the result of an earlier call, or null.
    unsafe {
        if (*info).analyze_only {
            return stats;
        }
        // Without a bulk delete there is no need to read the index, because pages entered the free space map
        // when they were freed.
        let stats = if stats.is_null() { stats_from_meta(info) } else { stats };
        train_if_worthwhile(Rel::from_raw((*info).index));
        lock::vacuum_free_space_map(Rel::from_raw((*info).index));
        stats
    }
}
