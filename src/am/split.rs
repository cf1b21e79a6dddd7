//! Splitting a full node page (am/README.md, "Split"). All of it runs under the structure lock.

use super::errors;
use super::hubs::{self, to_graph, to_page};
use super::index::{Index, change_meta, corrupted};
use super::insert::{NewNode, append_to, lock_node_page, parse_nodes};
use super::layout::Centre;
use crate::pg::{Access, PageGuard, WalRecord, lock};
use leann_graph::{HubRef, NodePageRef, select_links};
use leann_page::{
    FreePage, HeapPointer, HubPage, HubPageMut, MAX_ENTRY_HUBS, NO_PAGE, NewHub, NodePageMut, PageKind, kind,
};

/// The smaller half of a split holds at least this share of the nodes. The larger then fits on a page however many bytes its
/// pointers need: those of the full page had three at least, and six are the most, beside a sketch of eight or more.
const MIN_SHARE: f32 = 0.3;
/// How many blocks of the free space map are tried before the index is extended: the map may name pages that are in use.
const FREE_BLOCKS_TRIED: usize = 8;

/// How many hub pages are looked at for a free slot, where many are free.
const HUB_PAGES_TRIED: usize = 64;

/// Puts `node` on `page`, splitting it if it is still full. False: the page is no longer the one that was meant.
pub fn split_page(index: &Index, page: NodePageRef, node: &NewNode) -> bool {
    let _structure = lock::StructureLock::acquire(index.rel);
    let Some(mut old) = lock_node_page(index, page) else { return false };
    if append_to(index, &mut old, node) {
        return true;
    }
    let halves = divide(index, &old, node);
    let old_hub = to_graph(parse_nodes(index, &old).hub());
    let (new_hub, reused) = move_half(index, old, &halves, old_hub);
    link(index, new_hub, &halves[1].centre.values);
    add_entry_hub(index, new_hub);
    if reused {
        change_meta(index.rel, |meta| {
            meta.free_pages = meta.free_pages.saturating_sub(1);
            true
        });
    }
    true
}

/// The nodes of one half of a split page.
struct Half {
    nodes: Vec<(HeapPointer, Vec<u8>)>,
    centre: Centre,
}

/// Divides the nodes of a full page and the new one by 2-means on their decoded sketches.
fn divide(index: &Index, old: &PageGuard, node: &NewNode) -> [Half; 2] {
    let page = parse_nodes(index, old);
    let mut nodes: Vec<(HeapPointer, Vec<u8>)> = page
        .heap_pointers()
        .zip(page.sketches().chunks_exact(index.sketch_bytes()))
        .map(|(p, s)| (p, s.to_vec()))
        .collect();
    nodes.push((node.pointer, node.sketch.clone()));
    let directions = index.sketcher.directions();
    let mut decoded = vec![0.0; nodes.len() * directions];
    for ((_, sketch), out) in nodes.iter().zip(decoded.chunks_exact_mut(directions)) {
        index.sketcher.decode(sketch, out);
    }
    let moves = leann_graph::split(&decoded, directions, MIN_SHARE);
    let half = |second: bool| {
        let chosen = || moves.iter().enumerate().filter(move |(_, m)| **m == second).map(|(i, _)| i);
        Half {
            nodes: chosen().map(|i| nodes[i].clone()).collect(),
            centre: Centre::of(
                chosen().map(|i| &decoded[i * directions..(i + 1) * directions]),
                index.meta.centre_len as usize,
            ),
        }
    };
    [half(false), half(true)]
}

/// Steps 2 to 4: finds the places of the new page and its hub, and writes the one record. Returns the new hub's place, and
/// whether the page was a free one.
fn move_half(index: &Index, mut old: PageGuard, halves: &[Half; 2], old_hub: HubRef) -> (HubRef, bool) {
    let rel = index.rel;
    let mut own = lock_hub_page(index, old_hub.page);
    let (mut other, slot) = match hub_page(index, &own).free_slot() {
        Some(slot) => (None, slot),
        None => {
            let (page, slot) = hub_page_with_room(index, &mut own);
            (Some(page), slot)
        }
    };
    let new_hub = HubRef { page: other.as_ref().map_or(own.block(), PageGuard::block), slot };
    let NewPage { guard: mut new, generation: new_generation, reused } = take_page(index);
    let (new_block, old_block, own_block) = (new.block(), old.block(), own.block());
    let old_generation = parse_nodes(index, &old).generation().wrapping_add(1);

    let entry = hub_page(index, &own).entry(old_hub.slot).unwrap_or_else(|| {
        errors::raise_corrupted(&rel.name(), own_block, "a node page's hub entry is free")
    });
    if entry.node_block() != old_block {
        errors::raise_corrupted(&rel.name(), own_block, "a node page's hub entry speaks of another page");
    }
    let former: Vec<HubRef> = entry.links().map(to_graph).collect();
    let max_links = index.meta.max_links as usize;
    let with_first = |first: HubRef| -> Vec<leann_page::HubRef> {
        std::iter::once(first)
            .chain(former.iter().copied().filter(|&at| at != first))
            .take(max_links)
            .map(to_page)
            .collect()
    };
    let (old_links, new_links) = (with_first(new_hub), with_first(old_hub));

    let record = WalRecord::start(rel);
    write_half(index, record.fresh_page(&mut new), new_block, new_generation, new_hub, &halves[1]);
    write_half(index, record.page(&mut old), old_block, old_generation, old_hub, &halves[0]);
    let new_entry = NewHub {
        node_block: new_block,
        node_generation: new_generation,
        spread: halves[1].centre.spread,
        centre: &halves[1].centre.values,
        links: &new_links,
    };
    let old_entry = NewHub {
        node_block: old_block,
        node_generation: old_generation,
        spread: halves[0].centre.spread,
        centre: &halves[0].centre.values,
        links: &old_links,
    };
    let put = |body: &mut [u8], block: u32, entries: &[(u16, &NewHub<'_>)]| {
        HubPageMut::parse(body)
            .and_then(|mut hubs| entries.iter().try_for_each(|(slot, hub)| hubs.put(*slot, hub)))
            .unwrap_or_else(|fault| corrupted(rel, block, fault));
    };
    match &mut other {
        None => put(record.page(&mut own), own_block, &[(old_hub.slot, &old_entry), (slot, &new_entry)]),
        Some(page) => {
            let block = page.block();
            put(record.page(page), block, &[(slot, &new_entry)]);
            put(record.page(&mut own), own_block, &[(old_hub.slot, &old_entry)]);
        }
    }
    record.finish();
    (new_hub, reused)
}

fn write_half(index: &Index, body: &mut [u8], block: u32, generation: u32, hub: HubRef, half: &Half) {
    NodePageMut::init(body, generation, index.sketch_bytes(), to_page(hub))
        .and_then(|mut page| half.nodes.iter().try_for_each(|(pointer, sketch)| page.push(*pointer, sketch)))
        .unwrap_or_else(|fault| corrupted(index.rel, block, fault));
}

pub(super) fn lock_hub_page(index: &Index, block: u32) -> PageGuard {
    if block == 0 || block >= index.rel.blocks() {
        errors::raise_corrupted(
            &index.rel.name(),
            block,
            "a node page names a hub page beyond the end of the index",
        );
    }
    PageGuard::read(index.rel, block, Access::Exclusive)
}

pub(super) fn hub_page<'a>(index: &Index, guard: &'a PageGuard) -> HubPage<'a> {
    let hubs =
        HubPage::parse(guard.body()).unwrap_or_else(|fault| corrupted(index.rel, guard.block(), fault));
    if hubs.centre_len() != index.meta.centre_len as usize
        || hubs.max_links() != index.meta.max_links as usize
    {
        errors::raise_corrupted(
            &index.rel.name(),
            guard.block(),
            "hub entries of another size than the index's",
        );
    }
    hubs
}

/// A hub page other than the full `own` with a free slot: the newest of the chain (the one behind its head), else another
/// one if many slots are free, else a new one, put there in a record of its own. An empty hub page in the chain harms nobody,
/// whatever comes after. (Hub entries change under the structure lock only, so what is seen here stays.)
fn hub_page_with_room(index: &Index, own: &mut PageGuard) -> (PageGuard, u16) {
    let rel = index.rel;
    let head_block = index.meta.hub_first;
    let mut separate_head = (head_block != own.block()).then(|| lock_hub_page(index, head_block));
    let head = separate_head.as_ref().unwrap_or(&*own);
    let (head_slot, newest) = {
        let hubs = hub_page(index, head);
        (hubs.free_slot(), hubs.next())
    };
    if let Some(slot) = head_slot
        && let Some(head) = separate_head.take()
    {
        return (head, slot);
    }
    if newest != NO_PAGE && newest != own.block() {
        let page = lock_hub_page(index, newest);
        if let Some(slot) = hub_page(index, &page).free_slot() {
            return (page, slot);
        }
    }
    if let Some(found) = hub_page_behind(index, own, head_block, newest) {
        return found;
    }
    let mut page = PageGuard::extend(rel, pgrx::pg_sys::ForkNumber::MAIN_FORKNUM);
    let block = page.block();
    let record = WalRecord::start(rel);
    let (centre_len, max_links) = (index.meta.centre_len as usize, index.meta.max_links as usize);
    HubPageMut::init(record.fresh_page(&mut page), 0, centre_len, max_links)
        .map(|mut hubs| hubs.set_next(newest))
        .unwrap_or_else(|fault| corrupted(rel, block, fault));
    HubPageMut::parse(record.page(separate_head.as_mut().unwrap_or(own)))
        .map(|mut hubs| hubs.set_next(block))
        .unwrap_or_else(|fault| corrupted(rel, head_block, fault));
    record.finish();
    (page, 0)
}

/// The next hub page behind `own` in the chain with a free slot, if the last VACUUM left many free slots: where content comes
/// and goes, their pages would else never be used again. Not looked for otherwise: the chain may be long. The chain's head is
/// full and, unless it is `own`, locked by the caller; what follows it is `newest`.
fn hub_page_behind(index: &Index, own: &PageGuard, head: u32, newest: u32) -> Option<(PageGuard, u16)> {
    let hubs = hub_page(index, own);
    let slots = u64::from(index.meta.hub_pages) * hubs.capacity() as u64;
    if u64::from(index.meta.node_pages) * 4 > slots * 3 {
        return None;
    }
    let mut next = hubs.next();
    let mut from_start = false;
    for _ in 0..HUB_PAGES_TRIED {
        if next == NO_PAGE && !from_start {
            from_start = true;
            next = newest;
        }
        if [NO_PAGE, own.block(), head].contains(&next) {
            break;
        }
        let page = lock_hub_page(index, next);
        let hubs = hub_page(index, &page);
        if let Some(slot) = hubs.free_slot() {
            return Some((page, slot));
        }
        next = hubs.next();
    }
    None
}

/// A page for the new half.
struct NewPage {
    guard: PageGuard,
    generation: u32,
    /// Whether it was a free page, not an extension.
    reused: bool,
}

/// Takes a free page, else extends the index.
fn take_page(index: &Index) -> NewPage {
    let rel = index.rel;
    for _ in 0..FREE_BLOCKS_TRIED {
        let Some(free) = lock::take_free_block(rel) else { break };
        // The map is a hint: whatever is there must be free by its own word.
        if free < rel.blocks()
            && let Some(guard) = PageGuard::try_exclusive(rel, free)
            && let Some(generation) = reusable(guard.body())
        {
            return NewPage { guard, generation, reused: true };
        }
    }
    let guard = PageGuard::extend(rel, pgrx::pg_sys::ForkNumber::MAIN_FORKNUM);
    NewPage { guard, generation: 1, reused: false }
}

/// The generation that a page gets when it is used again; None when it is in use. Its time has come as soon as it is free:
/// whoever still thinks of its former nodes sees by the generation that they are gone.
fn reusable(body: &[u8]) -> Option<u32> {
    match kind(body) {
        Ok(PageKind::Zero) => Some(1),
        Ok(PageKind::Free) => FreePage::parse(body).ok().map(|free| free.generation().wrapping_add(1)),
        _ => None,
    }
}

/// Links between a hub and hubs near it, in both directions and in records of their own. All of them are hints.
pub(super) fn link(index: &Index, hub: HubRef, centre: &[f32]) {
    let max_links = index.meta.max_links as usize;
    let mut near = hubs::near_hubs(index, centre, 2 * max_links);
    near.retain(|(at, _)| *at != hub);
    let chosen = select_links(centre, &near, max_links);
    for &at in &chosen {
        add_link(index, at, hub, centre);
    }
    set_links(index, hub, &chosen);
}

/// Gives the hub at `at` a link to `new_hub`, in place of its least useful one if it has no room.
fn add_link(index: &Index, at: HubRef, new_hub: HubRef, centre: &[f32]) {
    let max_links = index.meta.max_links as usize;
    let mut known = Vec::new();
    let mut own_centre = Vec::new();
    read_hub(index, at, |hub_centre, links| {
        own_centre = hub_centre;
        known = links;
    });
    if own_centre.is_empty() || known.contains(&new_hub) {
        return;
    }
    let links = if known.len() < max_links {
        known.push(new_hub);
        known
    } else {
        let mut candidates = vec![(new_hub, centre.to_vec())];
        read_centres(index, &known, &mut candidates);
        let mut chosen = select_links(&own_centre, &candidates, max_links);
        if !chosen.contains(&new_hub) {
            return;
        }
        // What the selection left out still fills the room that is left.
        chosen.extend(known.into_iter().filter(|link| !chosen.contains(link)).collect::<Vec<_>>());
        chosen.truncate(max_links);
        chosen
    };
    set_links(index, at, &links);
}

pub(super) fn read_hub(index: &Index, at: HubRef, mut visit: impl FnMut(Vec<f32>, Vec<HubRef>)) {
    use leann_graph::HubReader;
    match hubs::HubPages::of(index).read(&[at], &mut |hub| visit(hub.centre.clone(), hub.links.clone())) {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

pub(super) fn read_centres(index: &Index, at: &[HubRef], out: &mut Vec<(HubRef, Vec<f32>)>) {
    use leann_graph::HubReader;
    match hubs::HubPages::of(index).read(at, &mut |hub| out.push((hub.at, hub.centre.clone()))) {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

/// Rewrites one hub's links in a record of its own, if the hub is still there.
pub(super) fn set_links(index: &Index, at: HubRef, links: &[HubRef]) {
    let links: Vec<_> = links.iter().copied().map(to_page).collect();
    let mut guard = PageGuard::read(index.rel, at.page, Access::Exclusive);
    let Some(entry) = hub_page(index, &guard).entry(at.slot) else { return };
    if entry.links().eq(links.iter().copied()) {
        return;
    }
    let record = WalRecord::start(index.rel);
    HubPageMut::parse(record.page(&mut guard))
        .and_then(|mut hubs| hubs.set_links(at.slot, &links))
        .unwrap_or_else(|fault| corrupted(index.rel, at.page, fault));
    record.finish();
}

/// The first hub of every hub page is an entry hub while the list has room, so that a grown index has entries spread
/// over its hubs without the meta page being written often.
fn add_entry_hub(index: &Index, hub: HubRef) {
    if hub.slot != 0 {
        return;
    }
    let hub = to_page(hub);
    change_meta(index.rel, |meta| {
        let wanted = meta.entry_hubs.len() < MAX_ENTRY_HUBS && !meta.entry_hubs.contains(&hub);
        if wanted {
            meta.entry_hubs.push(hub);
        }
        wanted
    });
}
