//! Emptying sparse node pages into near ones (am/README.md, "VACUUM"), so that an index whose content comes and goes holds no
//! more pages than its rows need, and a search reads no more.

use super::errors;
use super::hubs::{self, to_graph};
use super::index::{Index, corrupted};
use super::insert::{parse_nodes, read_node_page};
use super::layout::Centre;
use super::split::{hub_page, lock_hub_page, read_centres};
use super::vacuum::delay;
use crate::pg::buffer::BODY_BYTES;
use crate::pg::{Access, PageGuard, WalRecord, lock};
use leann_graph::{HubMetric, HubRef, HubWalk, NodePageRef};
use leann_page::{HeapPointer, HubPageMut, NodePageMut, PageError};
use std::collections::HashSet;

/// Near pages that may take the nodes of a sparse one.
const NEAR: usize = 8;
/// Percentage of its capacity up to which a page takes nodes of others. The rest is for rows to come.
const FILL_PERCENT: usize = 80;

/// Whether a page is worth emptying: at most half full.
pub fn is_sparse(nodes: usize, capacity: usize) -> bool {
    2 * nodes <= capacity
}

/// Empties those of the sparse pages whose nodes find room on near pages. Returns the emptied ones, which can be freed.
pub fn empty_sparse(index: &Index, sparse: Vec<u32>) -> Vec<u32> {
    sparse
        .into_iter()
        .filter(|&block| {
            delay();
            let _structure = lock::StructureLock::acquire(index.rel);
            empty_page(index, block)
        })
        .collect()
}

/// A node on its way to another page.
struct Node {
    pointer: HeapPointer,
    sketch: Vec<u8>,
}

/// A page near the sparse one, and what it is to take.
struct Target {
    page: NodePageRef,
    centre: Vec<f32>,
    room: usize,
    nodes: Vec<Node>,
}

/// Under the structure lock: moves all nodes of a page to near ones, each to the nearest with room. False, and nothing done,
/// if they have not enough; false, too, if somebody fills one of the pages meanwhile, and then some nodes are moved.
fn empty_page(index: &Index, block: u32) -> bool {
    let Some((page, hub, nodes)) = read_sparse(index, block) else { return false };
    let mut targets = near_targets(index, page, hub);
    if targets.iter().map(|target| target.room).sum::<usize>() < nodes.len() {
        return false;
    }
    for node in nodes {
        let place = index.place_of_sketch(&node.sketch);
        let squared =
            |centre: &[f32]| -> f32 { place.iter().zip(centre).map(|(a, b)| (a - b) * (a - b)).sum() };
        let nearest = targets
            .iter_mut()
            .filter(|target| target.nodes.len() < target.room)
            .min_by(|a, b| squared(&a.centre).total_cmp(&squared(&b.centre)));
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

/// A page as it is now, its hub and its nodes, if it still is a sparse node page with nodes.
fn read_sparse(index: &Index, block: u32) -> Option<(NodePageRef, HubRef, Vec<Node>)> {
    let guard = PageGuard::read(index.rel, block, Access::Share);
    if !matches!(leann_page::kind(guard.body()), Ok(leann_page::PageKind::Node)) {
        return None;
    }
    let page = parse_nodes(index, &guard);
    if page.count() == 0 || !is_sparse(page.count(), page.capacity()) {
        return None;
    }
    let sketches = page.sketches().chunks_exact(index.sketch_bytes());
    let nodes = page.heap_pointers().zip(sketches);
    let nodes = nodes.map(|(pointer, sketch)| Node { pointer, sketch: sketch.to_vec() }).collect();
    Some((NodePageRef { block, generation: page.generation() }, to_graph(page.hub()), nodes))
}

/// The pages nearest to `page` that have nodes and room for more. Empty ones are left out: they are about to be freed.
fn near_targets(index: &Index, page: NodePageRef, hub: HubRef) -> Vec<Target> {
    let mut centres = Vec::new();
    read_centres(index, &[hub], &mut centres);
    let Some((_, centre)) = centres.pop() else { return Vec::new() };
    let mut walk = HubWalk::new(centre, HubMetric::Place, hubs::PLACE_BEAM);
    let mut targets = Vec::with_capacity(NEAR);
    for _ in 0..2 * NEAR {
        let Some((at, near, _)) = hubs::next_page(&mut walk, index) else { break };
        if targets.len() == NEAR {
            break;
        }
        if near.block == page.block {
            continue;
        }
        let Some(guard) = read_node_page(index, near, Access::Share) else { continue };
        let nodes = parse_nodes(index, &guard);
        let room = (nodes.capacity() * FILL_PERCENT / 100).saturating_sub(nodes.count());
        let empty = nodes.count() == 0;
        drop(guard);
        let mut centre = Vec::new();
        read_centres(index, &[at], &mut centre);
        if let Some((_, centre)) = centre.pop()
            && room > 0
            && !empty
        {
            targets.push(Target { page: near, centre, room, nodes: Vec::new() });
        }
    }
    targets
}

/// Moves nodes from one page to another in one record on at most four pages. Both pages get another generation, and their
/// hubs say so: whoever knows the former content looks again. None, and nothing done, if either page has changed or has not
/// enough room; else the first page as it is now.
fn move_nodes(index: &Index, from: NodePageRef, target: &Target) -> Option<NodePageRef> {
    let rel = index.rel;
    let mut source = read_node_page(index, from, Access::Exclusive)?;
    let mut goal = read_node_page(index, target.page, Access::Exclusive)?;
    let (source_hub, goal_hub) = (parse_nodes(index, &source).hub(), parse_nodes(index, &goal).hub());
    let (source_generation, goal_generation) =
        (from.generation.wrapping_add(1), target.page.generation.wrapping_add(1));
    // Tried on a copy: a pointer may need more bytes than the page's have, and then fewer nodes fit.
    let mut filled = goal.body().to_vec();
    match fill(&mut filled, goal_generation, &target.nodes) {
        Ok(()) => {}
        Err(PageError::Full) => return None,
        Err(fault) => corrupted(rel, target.page.block, fault),
    }
    let centre = centre_of(index, &filled, target.page.block);

    let mut source_hubs = lock_hub_page(index, source_hub.page);
    check_entry(index, &source_hubs, source_hub.slot, from.block);
    let mut goal_hubs = (goal_hub.page != source_hub.page).then(|| lock_hub_page(index, goal_hub.page));
    check_entry(index, goal_hubs.as_ref().unwrap_or(&source_hubs), goal_hub.slot, target.page.block);

    let record = WalRecord::start(rel);
    record.page(&mut goal).copy_from_slice(&filled);
    let gone: HashSet<HeapPointer> = target.nodes.iter().map(|node| node.pointer).collect();
    NodePageMut::parse(record.page(&mut source))
        .map(|mut page| {
            page.remove_where(|pointer| gone.contains(&pointer));
            page.set_generation(source_generation);
        })
        .unwrap_or_else(|fault| corrupted(rel, from.block, fault));
    let tell_source =
        |hubs: &mut HubPageMut<'_>| hubs.set_node(source_hub.slot, from.block, source_generation);
    let tell_goal = |hubs: &mut HubPageMut<'_>| {
        hubs.set_node(goal_hub.slot, target.page.block, goal_generation)?;
        hubs.set_centre(goal_hub.slot, &centre.values, centre.spread)
    };
    let told = match &mut goal_hubs {
        None => HubPageMut::parse(record.page(&mut source_hubs))
            .and_then(|mut hubs| tell_source(&mut hubs).and_then(|()| tell_goal(&mut hubs))),
        Some(goal_hubs) => HubPageMut::parse(record.page(&mut source_hubs))
            .and_then(|mut hubs| tell_source(&mut hubs))
            .and_then(|()| HubPageMut::parse(record.page(goal_hubs)))
            .and_then(|mut hubs| tell_goal(&mut hubs)),
    };
    told.unwrap_or_else(|fault| corrupted(rel, source_hub.page, fault));
    record.finish();
    Some(NodePageRef { block: from.block, generation: source_generation })
}

fn fill(body: &mut [u8], generation: u32, nodes: &[Node]) -> Result<(), PageError> {
    let mut page = NodePageMut::parse(body)?;
    page.set_generation(generation);
    nodes.iter().try_for_each(|node| page.push(node.pointer, &node.sketch))
}

/// The centre of the nodes on a page.
fn centre_of(index: &Index, body: &[u8], block: u32) -> Centre {
    debug_assert!(body.len() == BODY_BYTES);
    let page = leann_page::NodePage::parse(body).unwrap_or_else(|fault| corrupted(index.rel, block, fault));
    let places: Vec<Vec<f32>> = page
        .sketches()
        .chunks_exact(index.sketch_bytes())
        .map(|sketch| index.place_of_sketch(sketch))
        .collect();
    Centre::of(places.iter().map(Vec::as_slice), index.meta.centre_len as usize)
}

/// Raises an error unless the slot holds the hub of this node page.
pub fn check_entry(index: &Index, hubs: &PageGuard, slot: u16, node_block: u32) {
    match hub_page(index, hubs).entry(slot) {
        Some(entry) if entry.node_block() == node_block => {}
        Some(_) => errors::raise_corrupted(
            &index.rel.name(),
            hubs.block(),
            "a node page's hub entry speaks of another page",
        ),
        None => errors::raise_corrupted(&index.rel.name(), hubs.block(), "a node page's hub entry is free"),
    }
}
