//! Inserts a row: computes one embedding, walks over the hubs and writes one page. Splits are in `split`.

use super::hubs;
use super::index::{Index, embed_values};
use super::pages::{Damage, change_meta};
use super::row_embedding;
use super::split::{self, Split};
use crate::error::OrRaise;
use crate::model::{self, Reuse};
use crate::pg::context::explained;
use crate::pg::{Access, interrupts};
use crate::value::Embedding;
use leann_graph::tuning::{MAX_SPILL_RATIO, PLACE_BEAM, SPILL_PAGES};
use leann_graph::{HubMetric, HubWalk, NodePageRef};
use leann_layout::Node;
use leann_page::HeapPointer;
use leann_value::Value;
use std::rc::Rc;

/// Maximum attempts to find a page, each of which fails when a split or VACUUM has changed the page since its
/// hub was read. Beyond this, the index is damaged.
const MAX_RETRIES: usize = 1000;

/// Where a node was put.
pub enum Placed {
    /// On the page of this block.
    On(u32),
    /// On one of the halves of a page that was split. The new page is on this block.
    Split { new_block: u32 },
}

/// Inserts one row. Computes its embedding before it takes any lock.
pub fn insert(index: &Index, pointer: HeapPointer, value: Embedding) -> Placed {
    let (embedding, cut) = embed(index, value);
    insert_embedded(index, pointer, &embedding, cut)
}

/// Inserts one row whose embedding is known. `cut` says whether the model truncated its text.
pub fn insert_embedded(index: &Index, pointer: HeapPointer, embedding: &[f32], cut: bool) -> Placed {
    let node = Node { pointer, sketch: index.sketch(embedding) };
    let placed = place(index, &index.place_target(embedding), &node);
    if cut {
        // Each such row writes its own record on the page that all share. That costs next to nothing compared
        // with a run of the model on such a long text.
        change_meta(index.rel, |meta| {
            meta.truncated_rows += 1;
            true
        });
    }
    placed
}

/// Returns the row's embedding and whether the model truncated its text. Errors quote the text to a user who
/// may read it.
fn embed(index: &Index, value: Embedding) -> (Rc<[f32]>, bool) {
    let model = index.model();
    // The rights are read now because the catalogs cannot be read while an error is reported. They also
    // decide on the caches: a user who makes the server embed a text that they may not read, by an UPDATE of
    // another column, must find no trace of it there.
    let quote = row_embedding::may_quote(index.rel);
    let reuse = if quote { Reuse::InSession } else { Reuse::Nowhere };
    let detail = || row_embedding::insert_detail(&index.rel.name(), &value, quote);
    explained(&detail, || {
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

/// Puts a node on the nearest page, on a near one, or on a half of the nearest one.
pub fn place(index: &Index, target: &[f32], node: &Node) -> Placed {
    for _ in 0..MAX_RETRIES {
        interrupts::check();
        let mut near = near_pages(index, target);
        let Some(nearest) = near.next() else {
            Damage::new(index.meta.hub_first, "the index has no hub").raise(index.rel);
        };
        match append(index, nearest, node) {
            Appended::Done => return Placed::On(nearest.block),
            Appended::Moved => {}
            Appended::Full => {
                if let Some(page) = near.find(|page| matches!(append(index, *page, node), Appended::Done)) {
                    return Placed::On(page.block);
                }
                match split::split_page(index, nearest, node) {
                    Split::Done { new_block } => return Placed::Split { new_block },
                    Split::Appended => return Placed::On(nearest.block),
                    Split::Moved => {}
                }
            }
        }
    }
    Damage::new(index.meta.hub_first, "no hub leads to a node page of its generation").raise(index.rel);
}

/// Returns the page whose center is nearest and then the alternatives, nearest first. Searches for each only
/// on demand.
fn near_pages(index: &Index, target: &[f32]) -> impl Iterator<Item = NodePageRef> {
    let length: f32 = target.iter().map(|value| value * value).sum();
    let mut walk = HubWalk::new(target.to_vec(), HubMetric::Place, PLACE_BEAM);
    let mut farthest = None;
    let next = move || {
        let (_, page, score) = hubs::next_page(&mut walk, index)?;
        // The score is <t, c> - |c|^2 / 2.
        let squared = length - 2.0 * score;
        (squared <= *farthest.get_or_insert(squared * MAX_SPILL_RATIO)).then_some(page)
    };
    std::iter::from_fn(next).take(1 + SPILL_PAGES)
}

/// The outcome of an attempt to append a node to a page.
enum Appended {
    Done,
    /// The page is no longer the one that its hub named.
    Moved,
    /// The page has no room.
    Full,
}

/// Appends a node to the page that a hub named, if it still is that page and has room.
fn append(index: &Index, page: NodePageRef, node: &Node) -> Appended {
    let Some(mut page) = index.node_page(page, Access::Exclusive) else { return Appended::Moved };
    if page.append(node) { Appended::Done } else { Appended::Full }
}
