//! Empties sparse node pages into near ones (am/README.md, "VACUUM"), so that an index whose rows come and go
//! holds no more pages than its rows need, and a search reads no more.

use super::hubs;
use super::index::Index;
use super::pages::{NodeGuard, corrupted};
use crate::pg::interrupts::vacuum_delay;
use crate::pg::{Access, WalRecord, lock};
use leann_graph::tuning::PLACE_BEAM;
use leann_graph::{Center, HubMetric, HubRef, HubWalk, NodePageRef};
use leann_layout::Node;
use leann_page::{HeapPointer, HubPageMut, NodePage, NodePageMut, PageError};
use std::collections::HashSet;

/// Maximum near pages that take the nodes of a sparse one.
const MAX_TARGETS: usize = 8;
/// Maximum percentage of a page's capacity that is full after it takes nodes of others. The rest is for new
/// rows.
const MAX_FILL_PERCENT: usize = 80;

/// Returns whether a page is worth emptying: it is at most half full.
pub fn is_sparse(nodes: usize, capacity: usize) -> bool {
    2 * nodes <= capacity
}

/// Empties sparse pages whose nodes find room on near pages. Returns the emptied ones, which can be freed.
pub fn empty_sparse(index: &Index, sparse: Vec<u32>) -> Vec<u32> {
    sparse
        .into_iter()
        .filter(|&block| {
            vacuum_delay();
            let _structure = lock::StructureLock::acquire(index.rel);
            empty_page(index, block)
        })
        .collect()
}

/// A page near the sparse one, and the nodes that it is to take.
struct Target {
    page: NodePageRef,
    center: Vec<f32>,
    room: usize,
    nodes: Vec<Node>,
}

/// Moves all nodes of a page to near ones, each to the nearest with room. Returns false without a change if
/// they have too little room, and false after moving some of the nodes if inserts fill one of the pages
/// meanwhile.
///
/// The caller holds the structure lock.
fn empty_page(index: &Index, block: u32) -> bool {
    let Some((page, hub, nodes)) = read_sparse(index, block) else { return false };
    let mut targets = near_targets(index, page, hub);
    if targets.iter().map(|target| target.room).sum::<usize>() < nodes.len() {
        return false;
    }
    for node in nodes {
        let place = index.place_of_sketch(&node.sketch);
        let squared =
            |center: &[f32]| -> f32 { place.iter().zip(center).map(|(a, b)| (a - b) * (a - b)).sum() };
        let nearest = targets
            .iter_mut()
            .filter(|target| target.nodes.len() < target.room)
            .min_by(|a, b| squared(&a.center).total_cmp(&squared(&b.center)));
        if let Some(target) = nearest {
            target.nodes.push(node);
        }
    }
    let mut page = page;
    for target in targets.iter().filter(|target| !target.nodes.is_empty()) {
        match move_nodes(index, page, target) {
            Some(now) => page = now,
            None => return false,
        }
    }
    true
}

/// Returns a page as it is now, its hub and its nodes, if it still is a sparse node page that has nodes.
fn read_sparse(index: &Index, block: u32) -> Option<(NodePageRef, HubRef, Vec<Node>)> {
    let page = index.node_page_on(block, Access::Share)?;
    let nodes = page.nodes();
    if nodes.count() == 0 || !is_sparse(nodes.count(), nodes.capacity()) {
        return None;
    }
    Some((page.reference(), nodes.hub(), page.copied_nodes()))
}

/// Returns the pages nearest to `page` that have nodes and room for more. Empty pages are left out because
/// they are about to be freed.
fn near_targets(index: &Index, page: NodePageRef, hub: HubRef) -> Vec<Target> {
    let Some(hub) = hubs::hub(index, hub) else { return Vec::new() };
    let mut walk = HubWalk::new(hub.center, HubMetric::Place, PLACE_BEAM);
    let mut targets = Vec::with_capacity(MAX_TARGETS);
    for _ in 0..2 * MAX_TARGETS {
        let Some((at, near, _)) = hubs::next_page(&mut walk, index) else { break };
        if targets.len() == MAX_TARGETS {
            break;
        }
        if near.block == page.block {
            continue;
        }
        let Some(room) = room_on(index, near) else { continue };
        if let Some(hub) = hubs::hub(index, at)
            && room > 0
        {
            targets.push(Target { page: near, center: hub.center, room, nodes: Vec::new() });
        }
    }
    targets
}

/// Returns how many nodes of others a page can take; None if it is another page by now, or empty.
fn room_on(index: &Index, page: NodePageRef) -> Option<usize> {
    let page = index.node_page(page, Access::Share)?;
    let nodes = page.nodes();
    let room = (nodes.capacity() * MAX_FILL_PERCENT / 100).saturating_sub(nodes.count());
    (nodes.count() > 0).then_some(room)
}

/// Moves nodes from one page to another in one record on at most four pages. Both pages and their hub entries
/// get another generation, so a reader that knows the former content looks again. Returns the source page as
/// it is now; None without a change if either page has changed or the target has too little room.
fn move_nodes(index: &Index, from: NodePageRef, target: &Target) -> Option<NodePageRef> {
    let mut source = index.node_page(from, Access::Exclusive)?;
    let mut goal = index.node_page(target.page, Access::Exclusive)?;
    let (source_hub, goal_hub) = (source.nodes().hub(), goal.nodes().hub());
    let (source_generation, goal_generation) =
        (from.generation.wrapping_add(1), target.page.generation.wrapping_add(1));
    let filled = filled_copy(index, &goal, goal_generation, &target.nodes)?;
    let center = center_of(index, &filled, target.page.block);

    let mut source_hubs = index.hub_page_to_change(source_hub.page);
    source_hubs.hub_of(from.block, source_hub.slot);
    let mut goal_hubs = (goal_hub.page != source_hub.page).then(|| index.hub_page_to_change(goal_hub.page));
    goal_hubs.as_ref().unwrap_or(&source_hubs).hub_of(target.page.block, goal_hub.slot);

    let gone: HashSet<HeapPointer> = target.nodes.iter().map(|node| node.pointer).collect();
    let record = WalRecord::start(index.rel);
    goal.rewrite(&record, |body| {
        body.copy_from_slice(&filled);
        Ok(())
    });
    source.edit(&record, |page| {
        page.remove_where(|pointer| gone.contains(&pointer));
        page.set_generation(source_generation);
        Ok(())
    });
    source_hubs.edit(&record, |hubs| hubs.set_node(source_hub.slot, from.block, source_generation));
    let tell_goal = |hubs: &mut HubPageMut<'_>| {
        hubs.set_node(goal_hub.slot, target.page.block, goal_generation)?;
        hubs.set_center(goal_hub.slot, &center.values, center.spread)
    };
    goal_hubs.as_mut().unwrap_or(&mut source_hubs).edit(&record, tell_goal);
    record.finish();
    Some(NodePageRef { block: from.block, generation: source_generation })
}

/// Returns a copy of a page's body with nodes added and another generation; None if the nodes do not fit.
/// Only an attempt shows whether they fit, because a pointer may need more bytes than those on the page, and
/// then fewer nodes fit.
fn filled_copy(index: &Index, page: &NodeGuard<'_>, generation: u32, nodes: &[Node]) -> Option<Vec<u8>> {
    let mut body = page.copy();
    match fill(&mut body, generation, nodes) {
        Ok(()) => Some(body),
        Err(PageError::Full) => None,
        Err(fault) => corrupted(index.rel, page.block(), fault),
    }
}

/// Sets the generation of a node page's body and adds nodes.
fn fill(body: &mut [u8], generation: u32, nodes: &[Node]) -> Result<(), PageError> {
    let mut page = NodePageMut::parse(body)?;
    page.set_generation(generation);
    nodes.iter().try_for_each(|node| page.push(node.pointer, &node.sketch))
}

/// Returns the center of the nodes on a page.
fn center_of(index: &Index, body: &[u8], block: u32) -> Center {
    let page = NodePage::parse(body).unwrap_or_else(|fault| corrupted(index.rel, block, fault));
    let places: Vec<Vec<f32>> = page
        .sketches()
        .chunks_exact(index.sketch_bytes())
        .map(|sketch| index.place_of_sketch(sketch))
        .collect();
    Center::from_vectors(places.iter().map(Vec::as_slice), index.meta.center_len as usize)
}
