//! Finds the nodes of rows' old versions by their heap pointers (README.md, "Update").

use super::index::Index;
use super::pages::{AnyPage, NodeGuard, any_page};
use crate::pg::{Access, Rel, Strategy, interrupts};
use crate::session::{self, State};
use leann_layout::Locations;
use leann_page::HeapPointer;
use lru::LruCache;
use pgrx::pg_sys;
use std::num::NonZeroUsize;

/// Bytes that one location takes, with the free room of its table.
const LOCATION_BYTES: usize = 28;
/// Nodes that a session knows of, of those that it inserted last: rows that are updated often are updated
/// again soon.
const RECENT_NODES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// The blocks of nodes that this session inserted, by index and heap pointer. Each is only a place to look
/// at.
struct RecentNodes(LruCache<(pg_sys::Oid, HeapPointer), u32>);

impl Default for RecentNodes {
    fn default() -> RecentNodes {
        RecentNodes(LruCache::new(RECENT_NODES))
    }
}

impl State for RecentNodes {}

/// Notes the block that a new node is on.
pub fn note_new(index: Rel, row: HeapPointer, block: u32) {
    session::with(|RecentNodes(recent)| recent.put((index.oid(), row), block));
}

/// What a statement knows of the places of nodes in one index.
pub struct FormerNodes(Locations);

impl Default for FormerNodes {
    fn default() -> FormerNodes {
        // SAFETY: reads two settings.
        let bytes = unsafe { pg_sys::get_hash_memory_limit() };
        FormerNodes(Locations::new(bytes / LOCATION_BYTES))
    }
}

impl FormerNodes {
    /// Notes the nodes that a split of this statement moved to a new page.
    pub fn note_moved(&mut self, block: u32, rows: impl Iterator<Item = HeapPointer>) {
        self.0.note_moved(block, rows);
    }

    /// Finds the page with a row's node and lends it, exclusively locked, to `take`, which returns None if
    /// the node is not there. Nodes move while nobody holds a lock, so a location may be wrong; then the
    /// index is searched once more. `affordable` is the number of pages that may be read for one row.
    pub fn find<R>(
        &mut self,
        index: &Index,
        affordable: u64,
        row: HeapPointer,
        take: impl Fn(&mut NodeGuard<'_>) -> Option<R>,
    ) -> Option<R> {
        let known = &mut self.0;
        let take_on = |block: u32| {
            let in_index = block != 0 && block < index.rel.blocks();
            in_index
                .then(|| index.node_page_on(block, Access::Exclusive))
                .flatten()
                .and_then(|mut page| take(&mut page))
        };
        let recent = session::with(|RecentNodes(recent)| recent.pop(&(index.rel.oid(), row)));
        if let Some(taken) = recent.and_then(take_on) {
            return Some(taken);
        }
        known.earn(affordable);
        if known.is_single(index.rel.blocks()) {
            return block_of(index, row).and_then(take_on);
        }
        if !known.keeps(row) && !known.start_over(row, index.rel.blocks()) {
            return None;
        }
        for _ in 0..2 {
            let taken = take_on(locate(index, known, row)?);
            if taken.is_some() || !known.start_over(row, index.rel.blocks()) {
                return taken;
            }
        }
        None
    }
}

/// Returns the block that a row's node is on.
fn block_of(index: &Index, row: HeapPointer) -> Option<u32> {
    let strategy = Strategy::bulk_read();
    (1..index.rel.blocks()).find(|&block| {
        interrupts::check();
        match any_page(index.rel, &index.meta, block, Access::Share, &strategy) {
            AnyPage::Node(page) => page.nodes().heap_pointers().any(|other| other == row),
            AnyPage::Hub(_) | AnyPage::Other(_) => false,
        }
    })
}

/// Returns the block that a row's node was seen on, and reads as much of the index as that takes.
fn locate(index: &Index, known: &mut Locations, row: HeapPointer) -> Option<u32> {
    let mut strategy = None;
    loop {
        if let Some(block) = known.block_of(row) {
            return Some(block);
        }
        let block = known.next_block(index.rel.blocks())?;
        interrupts::check();
        let strategy = strategy.get_or_insert_with(Strategy::bulk_read);
        if let AnyPage::Node(page) = any_page(index.rel, &index.meta, block, Access::Share, strategy)
            && !known.note(block, page.nodes().heap_pointers(), row)
        {
            return None;
        }
    }
}
