//! Inserting a row: one embedding, one walk over the hubs, one page written. Splits are in `split`.

use super::errors;
use super::hubs::{self, PLACE_BEAM};
use super::incoming;
use super::index::{Index, change_meta, corrupted, embed_values};
use super::split;
use crate::error::OrRaise;
use crate::model::{self, Reuse};
use crate::pg::context::explained;
use crate::pg::{Access, PageGuard, WalRecord, interrupts};
use crate::sql::embedding::Embedding;
use leann_graph::{HubMetric, HubWalk, NodePageRef};
use leann_page::{HeapPointer, NodePage, NodePageMut, PageKind, kind};
use leann_value::Value;
use std::rc::Rc;

/// A row on its way into the index.
pub struct NewNode {
    pub pointer: HeapPointer,
    pub sketch: Vec<u8>,
}

/// How often a page may turn out to be another one than its hub says before that is taken for damage: each time means
/// that somebody split or freed just this page since the hub was read.
const ATTEMPTS: usize = 1000;

/// When the nearest page is full, so many of the next nearest are tried before it is split, if their centres are not much
/// farther: at most by this factor in squared distance. A row that lies between pages is found on either. Measured, pages
/// of a grown index are 79 % full instead of 70 %, at the same recall.
const ALTERNATIVES: usize = 3;
const NOT_MUCH_FARTHER: f32 = 1.6;

/// Inserts one row, whose embedding is computed before any lock is taken.
pub fn insert(index: &Index, pointer: HeapPointer, value: Embedding) {
    let (embedding, cut) = embed(index, value);
    let node = NewNode { pointer, sketch: index.sketch(&embedding) };
    place(index, &index.place_target(&embedding), &node);
    if cut {
        // A record of its own for each such row, on a page that all share: next to nothing beside the run of the model on so long a text.
        change_meta(index.rel, |meta| {
            meta.truncated_rows += 1;
            true
        });
    }
}

/// The row's embedding, and whether the model cut its text. Errors say which text it was.
fn embed(index: &Index, value: Embedding) -> (Rc<[f32]>, bool) {
    let model = index.model();
    // Asked now: while an error is reported the catalogs cannot be. And whoever has the server embed a text that he may not
    // read, by an UPDATE of another column, must find nothing of it in a cache.
    let quote = incoming::may_quote(index.rel);
    let reuse = if quote { Reuse::InSession } else { Reuse::Nowhere };
    let say = || incoming::say_inserting(&index.rel.name(), &value, quote);
    explained(&say, || {
        let before = model::counters();
        let embedding = embed_values(index.rel, &model, std::slice::from_ref(&value), reuse).swap_remove(0);
        let after = model::counters();
        let cut = match &value.0 {
            Value::Dense(_) => false,
            Value::Deferred { text, role, .. } if after.batches == before.batches => {
                model.cuts(*role, text).or_raise()
            }
            Value::Deferred { .. } => after.truncated > before.truncated,
        };
        (embedding, cut)
    })
}

/// Finds the node a page.
fn place(index: &Index, target: &[f32], node: &NewNode) {
    for _ in 0..ATTEMPTS {
        interrupts::check();
        let mut near = near_pages(index, target);
        let Some(nearest) = near.next() else {
            errors::raise_corrupted(&index.rel.name(), index.meta.hub_first, "the index has no hub");
        };
        match append(index, nearest, node) {
            Appended::Done => return,
            Appended::Moved => {}
            Appended::Full => {
                if near.any(|page| matches!(append(index, page, node), Appended::Done))
                    || split::split_page(index, nearest, node)
                {
                    return;
                }
            }
        }
    }
    errors::raise_corrupted(
        &index.rel.name(),
        index.meta.hub_first,
        "no hub leads to a node page of its generation",
    );
}

/// The page whose centre is nearest, and then the alternatives, nearest first. These are looked for only when asked for.
fn near_pages(index: &Index, target: &[f32]) -> impl Iterator<Item = NodePageRef> {
    let length: f32 = target.iter().map(|value| value * value).sum();
    let mut walk = HubWalk::new(target.to_vec(), HubMetric::Place, PLACE_BEAM);
    let mut farthest = None;
    let next = move || {
        let (_, page, score) = hubs::next_page(&mut walk, index)?;
        // The score is <t, c> - |c|^2 / 2.
        let squared = length - 2.0 * score;
        (squared <= *farthest.get_or_insert(squared * NOT_MUCH_FARTHER)).then_some(page)
    };
    std::iter::from_fn(next).take(1 + ALTERNATIVES)
}

enum Appended {
    Done,
    /// The page is no longer the one that its hub spoke of.
    Moved,
    Full,
}

fn append(index: &Index, page: NodePageRef, node: &NewNode) -> Appended {
    match lock_node_page(index, page) {
        None => Appended::Moved,
        Some(mut guard) => {
            if append_to(index, &mut guard, node) {
                Appended::Done
            } else {
                Appended::Full
            }
        }
    }
}

/// Locks a node page exclusively, if it still is the one that was meant.
pub fn lock_node_page(index: &Index, page: NodePageRef) -> Option<PageGuard> {
    read_node_page(index, page, Access::Exclusive)
}

/// Reads and locks a node page, if it still is the one that its hub spoke of.
pub fn read_node_page(index: &Index, page: NodePageRef, access: Access) -> Option<PageGuard> {
    let rel = index.rel;
    if page.block == 0 || page.block >= rel.blocks() {
        errors::raise_corrupted(&rel.name(), page.block, "a hub names a block beyond the end of the index");
    }
    let guard = PageGuard::read(rel, page.block, access);
    guard.must_serve(rel, index.snapshot);
    match kind(guard.body()) {
        Ok(PageKind::Node) => {}
        Ok(_) => return None,
        Err(fault) => corrupted(rel, page.block, fault),
    }
    let nodes = parse_nodes(index, &guard);
    let meant = nodes.generation() == page.generation;
    meant.then_some(guard)
}

/// Reads a node page that must be sound, with sketches of this index's size.
pub fn parse_nodes<'a>(index: &Index, guard: &'a PageGuard) -> NodePage<'a> {
    let nodes =
        NodePage::parse(guard.body()).unwrap_or_else(|fault| corrupted(index.rel, guard.block(), fault));
    if nodes.sketch_bytes() != index.sketch_bytes() {
        errors::raise_corrupted(
            &index.rel.name(),
            guard.block(),
            "sketches of another size than the index's",
        );
    }
    nodes
}

/// Appends to a locked page in one WAL record; false when it is full.
pub fn append_to(index: &Index, guard: &mut PageGuard, node: &NewNode) -> bool {
    let block = guard.block();
    let nodes = parse_nodes(index, guard);
    if !nodes.has_room_for(node.pointer) {
        return false;
    }
    let record = WalRecord::start(index.rel);
    NodePageMut::parse(record.page(guard))
        .and_then(|mut nodes| nodes.push(node.pointer, &node.sketch))
        .unwrap_or_else(|fault| corrupted(index.rel, block, fault));
    record.finish();
    true
}
