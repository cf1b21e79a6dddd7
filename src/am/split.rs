//! Splits a full node page (README.md, "Split"). All steps run under the structure lock.

use super::hubs;
use super::index::Index;
use super::pages::{HubGuard, NodeGuard, change_meta, read_meta};
use crate::pg::{Access, WalRecord, lock};
use leann_graph::{HubRef, NodePageRef, link_halves, links_with, select_links};
use leann_layout::{Half, Node};
use leann_page::{HubEntry, HubPageMut, MAX_ENTRY_HUBS, NO_PAGE};

/// Maximum hub pages of the chain that are searched for a free slot if many slots are free.
const MAX_HUB_PAGES_TRIED: usize = 64;

/// What became of a node that was to be put on a full page.
pub enum Split {
    /// The block holds another page by now.
    Moved,
    /// The page had room by then.
    Appended,
    /// The page was split; the new page is on this block.
    Done { new_block: u32 },
}

/// Puts `node` on `page`, and splits the page if it is still full.
pub fn split_page(index: &Index, page: NodePageRef, node: &Node) -> Split {
    let _structure = lock::StructureLock::acquire(index.rel);
    // The nodes may be of a sketcher that a VACUUM has trained since this index was opened.
    let trained_since =
        (read_meta(index.rel).index_id != index.meta.index_id).then(|| Index::open(index.rel));
    let index = trained_since.as_ref().unwrap_or(index);
    let Some(mut old) = index.node_page(page, Access::Exclusive) else { return Split::Moved };
    if old.append(node) {
        return Split::Appended;
    }
    let mut nodes = old.copied_nodes();
    nodes.push(node.clone());
    let halves = leann_layout::divide(nodes, &index.sketcher, index.meta.center_len as usize);
    let NewHalf { hub: new_hub, block: new_block, reused } = move_half(index, old, &halves);
    link(index, new_hub, &halves[1].center.values);
    add_entry_hub(index, new_hub);
    if reused {
        change_meta(index.rel, |meta| {
            meta.free_pages = meta.free_pages.saturating_sub(1);
            true
        });
    }
    Split::Done { new_block }
}

/// The new page of a split, and its hub's place.
struct NewHalf {
    hub: HubRef,
    block: u32,
    /// Whether the page was a free one.
    reused: bool,
}

/// Takes steps 2 to 4 of a split: finds places for the new page and its hub, and writes the one record.
fn move_half(index: &Index, mut old: NodeGuard<'_>, halves: &[Half; 2]) -> NewHalf {
    let (old_hub, old_generation) = (old.nodes().hub(), old.nodes().generation().wrapping_add(1));
    let mut own = index.hub_page_to_change(old_hub.page);
    let (mut other, slot) = match own.hubs().free_slot() {
        Some(slot) => (None, slot),
        None => {
            let (page, slot) = hub_page_with_room(index, &mut own);
            (Some(page), slot)
        }
    };
    let new_hub = HubRef { page: other.as_ref().map_or(own.block(), HubGuard::block), slot };
    let mut new = index.new_page();
    let new_generation = new.generation;
    let former: Vec<HubRef> = own.hub_of(old.block(), old_hub.slot).links().collect();
    let max_links = index.meta.max_links as usize;
    let [old_links, new_links] = link_halves(&former, old_hub, new_hub, max_links);
    let old_entry = halves[0].hub(old.block(), old_generation, &old_links);
    let new_entry = halves[1].hub(new.block(), new_generation, &new_links);
    let bytes = index.sketch_bytes();

    let record = WalRecord::start(index.rel);
    new.write(&record, |body| halves[1].write(body, new_generation, bytes, new_hub));
    old.rewrite(&record, |body| halves[0].write(body, old_generation, bytes, old_hub));
    own.edit(&record, |hubs| hubs.put(old_hub.slot, &old_entry));
    other.as_mut().unwrap_or(&mut own).edit(&record, |hubs| hubs.put(slot, &new_entry));
    record.finish();
    NewHalf { hub: new_hub, block: new.block(), reused: new.reused }
}

/// Locks a hub page with a free slot other than `own`, which is full. Tries the chain's head and the page
/// behind it, which is the newest, then other pages if many slots are free, and adds a page if all are full.
///
/// Slots are taken and freed under the structure lock only, so the slot stays free.
fn hub_page_with_room<'i>(index: &'i Index, own: &mut HubGuard<'i>) -> (HubGuard<'i>, u16) {
    let head_block = index.meta.hub_first;
    if own.block() == head_block {
        let found = hub_page_behind_head(index, own, own);
        return found.unwrap_or_else(|| append_hub_page(index, own));
    }
    let mut head = index.hub_page_to_change(head_block);
    if let Some(slot) = head.hubs().free_slot() {
        return (head, slot);
    }
    let found = hub_page_behind_head(index, own, &head);
    found.unwrap_or_else(|| append_hub_page(index, &mut head))
}

/// Locks a hub page with a free slot behind the full head of the chain.
fn hub_page_behind_head<'i>(
    index: &'i Index,
    own: &HubGuard<'_>,
    head: &HubGuard<'_>,
) -> Option<(HubGuard<'i>, u16)> {
    let newest = head.hubs().next();
    if newest != NO_PAGE && newest != own.block() {
        let page = index.hub_page_to_change(newest);
        if let Some(slot) = page.hubs().free_slot() {
            return Some((page, slot));
        }
    }
    hub_page_behind(index, own, head.block(), newest)
}

/// Adds a hub page to the index and puts it behind the chain's head, in a record of its own. If the split
/// does not follow, an empty hub page in the chain does no harm.
fn append_hub_page<'i>(index: &'i Index, head: &mut HubGuard<'i>) -> (HubGuard<'i>, u16) {
    let newest = head.hubs().next();
    let mut page = index.extend();
    let block = page.block();
    let (center_len, max_links) = (index.meta.center_len as usize, index.meta.max_links as usize);
    let record = WalRecord::start(index.rel);
    page.write(&record, |body| {
        HubPageMut::init(body, 0, center_len, max_links).map(|mut hubs| hubs.set_next(newest))
    });
    head.edit(&record, |hubs| {
        hubs.set_next(block);
        Ok(())
    });
    record.finish();
    (page.into_hub_page(&index.meta), 0)
}

/// Locks the next hub page behind `own` in the chain that has a free slot, if the last VACUUM left many free
/// slots. In an index whose rows come and go, these slots would otherwise never be used again. With few free
/// slots it does not search, because the chain may be long. The chain's head is full and, unless it is `own`,
/// locked by the caller; the page behind it is `newest`.
fn hub_page_behind<'i>(
    index: &'i Index,
    own: &HubGuard<'_>,
    head: u32,
    newest: u32,
) -> Option<(HubGuard<'i>, u16)> {
    let hubs = own.hubs();
    let slots = u64::from(index.meta.hub_pages) * hubs.capacity() as u64;
    if u64::from(index.meta.node_pages) * 4 > slots * 3 {
        return None;
    }
    let mut next = hubs.next();
    let mut from_start = false;
    for _ in 0..MAX_HUB_PAGES_TRIED {
        if next == NO_PAGE && !from_start {
            from_start = true;
            next = newest;
        }
        if [NO_PAGE, own.block(), head].contains(&next) {
            break;
        }
        let page = index.hub_page_to_change(next);
        if let Some(slot) = page.hubs().free_slot() {
            return Some((page, slot));
        }
        next = page.hubs().next();
    }
    None
}

/// Links a hub and hubs near it in both directions, in records of their own. All links are hints.
pub(super) fn link(index: &Index, hub: HubRef, center: &[f32]) {
    let max_links = index.meta.max_links as usize;
    let mut near = hubs::near_hubs(index, center, 2 * max_links);
    near.retain(|(at, _)| *at != hub);
    let chosen = select_links(center, &near, max_links);
    for &at in &chosen {
        add_link(index, at, hub, center);
    }
    set_links(index, hub, &chosen);
}

/// Adds to the hub at `at` a link to `new_hub`, in place of its least useful link if it has no room.
fn add_link(index: &Index, at: HubRef, new_hub: HubRef, center: &[f32]) {
    let max_links = index.meta.max_links as usize;
    let Some(hub) = hubs::hub(index, at) else { return };
    let read_centers = |links: &[HubRef]| hubs::centers(index, links);
    if let Some(links) = links_with(&hub.center, &hub.links, (new_hub, center), max_links, read_centers) {
        set_links(index, at, &links);
    }
}

/// Rewrites one hub's links in a record of its own, if the hub is still there.
fn set_links(index: &Index, at: HubRef, links: &[HubRef]) {
    let mut page = index.hub_page_to_change(at.page);
    let unchanged = |entry: HubEntry<'_>| entry.links().eq(links.iter().copied());
    if page.hubs().entry(at.slot).is_none_or(unchanged) {
        return;
    }
    let record = WalRecord::start(index.rel);
    page.edit(&record, |hubs| hubs.set_links(at.slot, links));
    record.finish();
}

/// Adds the hub to the entry hubs if it is the first on its hub page and the list has room. So entries of a
/// grown index are spread over its hubs, and the meta page is seldom written.
fn add_entry_hub(index: &Index, hub: HubRef) {
    if hub.slot != 0 {
        return;
    }
    change_meta(index.rel, |meta| {
        let wanted = meta.entry_hubs.len() < MAX_ENTRY_HUBS && !meta.entry_hubs.contains(&hub);
        if wanted {
            meta.entry_hubs.push(hub);
        }
        wanted
    });
}
