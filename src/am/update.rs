//! Inserts a row in the cheapest way. The new version of a row whose text stayed the same gets a copy of the
//! old node's sketch, without the model (README.md, "Update"). Rows of COPY are embedded in batches. All
//! others are embedded one by one.

use super::ahead::Ahead;
use super::former_nodes::{self, FormerNodes};
use super::index::Index;
use super::insert::{self, Placed};
use super::pages::NodeGuard;
use super::row_embedding;
use super::split::{self, Split};
use crate::guc;
use crate::pg::context::explained;
use crate::pg::old_row::{Inserting, OldRow};
use crate::pg::{Access, Rel, memory_context};
use crate::value::Embedding;
use leann_graph::NodePageRef;
use leann_layout::Node;
use leann_page::HeapPointer;
use leann_value::Value;
use pgrx::pg_sys;

/// Pages of an index that can be searched for a heap pointer at one unit of the planner's cost: at the
/// default of `leann.recompute_cost`, 8,000 pages (a million rows) instead of one run of the model.
/// Measured, a page takes 1 to 3 µs, and a run of the default model on one text 10 to 40 ms.
const PAGES_PER_COST: f64 = 32.0;

/// What is kept from row to row of a statement.
#[derive(Default)]
struct Kept {
    nodes: FormerNodes,
    /// Whether a full page had no near page with room: a statement that updates many rows fills all alike,
    /// and looking for room would take most of its time.
    crowded: bool,
    /// Whether the index expression refers to the row as a whole, once that is known.
    whole_row: Option<bool>,
    ahead: Ahead,
}

/// A row to insert.
struct NewRow {
    table: Rel,
    pointer: HeapPointer,
    value: Embedding,
    /// Whether the statement sets no column of the index.
    unchanged: bool,
}

/// Inserts a row, with the sketch of its old version if that had the same value and costs less to find than
/// to compute. `unchanged` is the server's hint that the statement sets no column of the index.
///
/// # Safety
/// The server passed `info` to the insert that runs.
pub unsafe fn insert_version(
    index: &Index,
    info: *mut pg_sys::IndexInfo,
    unchanged: bool,
    table: Rel,
    pointer: HeapPointer,
    value: Embedding,
) {
    // SAFETY: the caller promises it; it is the only place that keeps something with an index info.
    let (statement, kept) = unsafe { (Inserting::of(info), memory_context::kept_with::<Kept>(info)) };
    let placed = match statement {
        Some(statement) => {
            let row = NewRow { table, pointer, value, unchanged };
            insert_of_statement(index, kept, statement, row)
        }
        None => match kept.ahead.take(index, table, pointer, &value) {
            Some(row) => insert::insert_embedded(index, pointer, &row.embedding, row.cut),
            None => insert::insert(index, pointer, value),
        },
    };
    match placed {
        Placed::On(block) => former_nodes::note_new(index.rel, pointer, block),
        Placed::Split { new_block } => {
            if let Some(page) = index.node_page_on(new_block, Access::Share) {
                kept.nodes.note_moved(new_block, page.nodes().heap_pointers());
            }
        }
    }
}

/// Inserts a row of a statement that may have replaced an old version.
fn insert_of_statement(index: &Index, kept: &mut Kept, statement: Inserting, row: NewRow) -> Placed {
    match copied(index, kept, statement, &row) {
        Some(Copied::On(block)) => Placed::On(block),
        Some(Copied::NoRoom { page, sketch }) => {
            put_near(index, &mut kept.crowded, page, &Node { pointer: row.pointer, sketch })
        }
        None => insert::insert(index, row.pointer, row.value),
    }
}

/// Puts a node near the full page of the one that it copies.
fn put_near(index: &Index, crowded: &mut bool, page: NodePageRef, node: &Node) -> Placed {
    if *crowded {
        match split::split_page(index, page, node) {
            Split::Done { new_block } => return Placed::Split { new_block },
            Split::Appended => return Placed::On(page.block),
            Split::Moved => {}
        }
    }
    let placed = insert::place(index, &index.place_of_sketch(&node.sketch), node);
    *crowded = matches!(placed, Placed::Split { .. });
    placed
}

/// Copies the node of the old version, if that had the same value.
fn copied(index: &Index, kept: &mut Kept, statement: Inserting, row: &NewRow) -> Option<Copied> {
    let affordable = (guc::recompute_cost() * PAGES_PER_COST) as u64;
    if affordable == 0 || matches!(row.value.0, Value::Dense(_)) {
        return None;
    }
    let old = statement.old_row(row.table, row.pointer)?;
    let settled = row.unchanged
        && !statement.has_before_trigger()
        && !*kept.whole_row.get_or_insert_with(|| statement.indexes_whole_row());
    if !has_value(index, old, settled, &row.value) {
        return None;
    }
    kept.nodes.find(index, affordable, old.indexed(), |page| copy(page, old.indexed(), row.pointer))
}

/// Returns whether the old version of a row was in the index with this value. `settled` says that its value
/// is the same in any case.
///
/// The expressions of the index may say something about a row, in an error or a NOTICE. So they are evaluated
/// on the old version only for a user who may read it.
fn has_value(index: &Index, old: OldRow, settled: bool, value: &Embedding) -> bool {
    if settled && !old.is_of_partial_index() {
        return true;
    }
    if !row_embedding::may_quote(index.rel) {
        return settled;
    }
    let say = || {
        format!(
            "It was raised for a row's old version by the expression of index \"{}\". \
             SET leann.recompute_cost = 0 makes an UPDATE do without the old version.",
            index.rel.name()
        )
    };
    explained(&say, || {
        old.passes_predicate() && (settled || old.value::<Embedding>().as_ref() == Some(value))
    })
}

/// The outcome of copying a node of a page.
enum Copied {
    /// The copy is on the same page, which is on this block.
    On(u32),
    /// The page has no room: the sketch, to be put elsewhere.
    NoRoom { page: NodePageRef, sketch: Vec<u8> },
}

/// Copies the node of the row `former`, for the row `pointer`. Returns None if it is not on the page.
fn copy(page: &mut NodeGuard<'_>, former: HeapPointer, pointer: HeapPointer) -> Option<Copied> {
    let nodes = page.nodes();
    let at = nodes.heap_pointers().position(|other| other == former)?;
    let bytes = nodes.sketch_bytes();
    let sketch = nodes.sketches()[at * bytes..][..bytes].to_vec();
    let node = Node { pointer, sketch };
    Some(if page.append(&node) {
        Copied::On(page.block())
    } else {
        Copied::NoRoom { page: page.reference(), sketch: node.sketch }
    })
}
