//! Inserts the new version of a row whose text stayed the same, without the model: the new node gets a copy
//! of the old one's sketch (README.md, "Update").

use super::index::Index;
use super::insert;
use super::pages::{AnyPage, NodeGuard, any_page};
use super::split::{self, Split};
use crate::guc;
use crate::pg::context::explained;
use crate::pg::old_row::OldRow;
use crate::pg::{Access, Rel, Strategy, interrupts, memory_context};
use crate::value::Embedding;
use leann_graph::NodePageRef;
use leann_layout::{Locations, Node};
use leann_page::HeapPointer;
use leann_value::Value;
use pgrx::pg_sys;

/// Pages of an index that can be searched for a heap pointer at one unit of the planner's cost: at the
/// default of `leann.recompute_cost`, 8,000 pages (a million rows) instead of one run of the model.
/// Measured, a page takes 2 to 3 µs, and a run of the default model on one text 10 to 40 ms.
const PAGES_PER_COST: f64 = 32.0;
/// Bytes that one location takes, with the free room of its table.
const LOCATION_BYTES: usize = 28;

/// What is known of the places of nodes, kept from row to row of a statement.
pub struct KnownNodes {
    locations: Locations,
    /// Whether a full page had no near page with room: a statement that updates many rows fills all alike,
    /// and looking for room would take most of its time.
    crowded: bool,
}

impl Default for KnownNodes {
    fn default() -> KnownNodes {
        // SAFETY: reads two settings.
        let bytes = unsafe { pg_sys::get_hash_memory_limit() };
        KnownNodes { locations: Locations::new(bytes / LOCATION_BYTES), crowded: false }
    }
}

/// Inserts a row, with the sketch of its old version if that had the same value and costs less to find than
/// to compute.
///
/// # Safety
/// The server passed `info` to the insert that runs.
pub unsafe fn insert_version(
    index: &Index,
    info: *mut pg_sys::IndexInfo,
    table: Rel,
    pointer: HeapPointer,
    value: Embedding,
) {
    // SAFETY: the caller promises it; it is the only place that keeps something with an index info.
    let (old, known) =
        unsafe { (OldRow::candidates(info, table), memory_context::kept_with::<KnownNodes>(info)) };
    let new_block = match copied(index, &mut known.locations, old, table, pointer, &value) {
        Some(Copied::Done) => None,
        Some(Copied::NoRoom { page, sketch }) => {
            put_near(index, &mut known.crowded, page, &Node { pointer, sketch })
        }
        None => insert::insert(index, pointer, value),
    };
    if let Some(block) = new_block
        && let Some(page) = index.node_page_on(block, Access::Share)
    {
        known.locations.note_moved(block, page.nodes().heap_pointers());
    }
}

/// Puts a node near the full page of the one that it copies. Returns the block of the page that a split
/// added.
fn put_near(index: &Index, crowded: &mut bool, page: NodePageRef, node: &Node) -> Option<u32> {
    if *crowded {
        match split::split_page(index, page, node) {
            Split::Done { new_block } => return Some(new_block),
            Split::Appended => return None,
            Split::Moved => {}
        }
    }
    let new_block = insert::place(index, &index.place_of_sketch(&node.sketch), node);
    *crowded = new_block.is_some();
    new_block
}

/// Copies the node of the old version that had the same value.
fn copied(
    index: &Index,
    known: &mut Locations,
    mut old: impl Iterator<Item = OldRow>,
    table: Rel,
    pointer: HeapPointer,
    value: &Embedding,
) -> Option<Copied> {
    let affordable = (guc::recompute_cost() * PAGES_PER_COST) as u64;
    if affordable == 0 || matches!(value.0, Value::Dense(_)) {
        return None;
    }
    known.earn(affordable);
    let say = || {
        format!(
            "It was raised for a row's old version by the expression of index \"{}\". \
             SET leann.recompute_cost = 0 makes an UPDATE do without the old version.",
            index.rel.name()
        )
    };
    let old = old.find(|old| explained(&say, || old.value::<Embedding>()).as_ref() == Some(value))?;
    let former = old.indexed_pointer(table)?;
    find(index, known, former, |page| copy(page, former, pointer))
}

/// The outcome of copying a node of a page onto that page.
enum Copied {
    Done,
    /// The page has no room: the sketch, to be put elsewhere.
    NoRoom {
        page: NodePageRef,
        sketch: Vec<u8>,
    },
}

/// Copies the node of the row `former`, for the row `pointer`. Returns None if it is not on the page.
fn copy(page: &mut NodeGuard<'_>, former: HeapPointer, pointer: HeapPointer) -> Option<Copied> {
    let nodes = page.nodes();
    let at = nodes.heap_pointers().position(|other| other == former)?;
    let bytes = nodes.sketch_bytes();
    let sketch = nodes.sketches()[at * bytes..][..bytes].to_vec();
    let node = Node { pointer, sketch };
    Some(if page.append(&node) {
        Copied::Done
    } else {
        Copied::NoRoom { page: page.reference(), sketch: node.sketch }
    })
}

/// Finds the page with a row's node and lends it, exclusively locked, to `take`, which returns None if the
/// node is not there. Nodes move while nobody holds a lock, so a location may be wrong; then the index is
/// searched once more.
fn find<R>(
    index: &Index,
    known: &mut Locations,
    row: HeapPointer,
    take: impl Fn(&mut NodeGuard<'_>) -> Option<R>,
) -> Option<R> {
    if !known.keeps(row) && !known.start_over(row, index.rel.blocks()) {
        return None;
    }
    for _ in 0..2 {
        let block = locate(index, known, row)?;
        let taken = index.node_page_on(block, Access::Exclusive).and_then(|mut page| take(&mut page));
        if taken.is_some() {
            return taken;
        }
        if !known.start_over(row, index.rel.blocks()) {
            return None;
        }
    }
    None
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
