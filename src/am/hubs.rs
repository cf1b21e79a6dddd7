//! Hub pages as the walk reads them.

use super::errors;
use super::index::{Index, corrupted};
use crate::pg::{Access, PageGuard, interrupts, memory};
use leann_graph::{Hub, HubMetric, HubReader, HubRef, HubWalk, NodePageRef};
use leann_page::{HubEntry, HubPage, NO_PAGE, PageKind, kind};
use std::convert::Infallible;

/// How many of the best known hubs a walk expands before it gives its first page.
pub const SEARCH_BEAM: usize = 24;
/// The same for finding the page of a new row.
pub const PLACE_BEAM: usize = 16;

/// Reads hubs from an index's pages, one share-locked page at a time. Damaged pages raise an error; links that lead
/// nowhere do not, because links are hints.
pub struct HubPages<'a> {
    index: &'a Index,
}

impl<'a> HubPages<'a> {
    pub fn of(index: &'a Index) -> HubPages<'a> {
        HubPages { index }
    }
}

pub fn to_page(at: HubRef) -> leann_page::HubRef {
    leann_page::HubRef { page: at.page, slot: at.slot }
}

pub fn to_graph(at: leann_page::HubRef) -> HubRef {
    HubRef { page: at.page, slot: at.slot }
}

/// Fills `hub`, which is used again for one entry after the other.
fn read_entry(hub: &mut Hub, at: HubRef, entry: &HubEntry<'_>) {
    hub.at = at;
    hub.node_page = NodePageRef { block: entry.node_block(), generation: entry.node_generation() };
    hub.centre.resize(entry.centre_len(), 0.0);
    entry.decode_centre(&mut hub.centre);
    hub.spread = entry.spread();
    hub.links.clear();
    hub.links.extend(entry.links().map(to_graph));
}

impl HubReader for HubPages<'_> {
    type Error = Infallible;

    fn entry_hubs(&mut self) -> Result<Vec<HubRef>, Infallible> {
        Ok(self.index.meta.entry_hubs.iter().copied().map(to_graph).collect())
    }

    fn read(&mut self, at: &[HubRef], visit: &mut dyn FnMut(&Hub)) -> Result<(), Infallible> {
        let rel = self.index.rel;
        let blocks = rel.blocks();
        let mut sorted = at.to_vec();
        sorted.sort_unstable();
        let mut hub = Hub::default();
        for of_page in sorted.chunk_by(|a, b| a.page == b.page) {
            let block = of_page[0].page;
            if block == 0 || block >= blocks {
                continue;
            }
            let page = PageGuard::read(rel, block, Access::Share);
            page.must_serve(rel, self.index.snapshot);
            match kind(page.body()) {
                Ok(PageKind::Hub) => {}
                Ok(_) => continue,
                Err(fault) => corrupted(rel, block, fault),
            }
            let hubs = HubPage::parse(page.body()).unwrap_or_else(|fault| corrupted(rel, block, fault));
            for &at in of_page {
                if let Some(entry) = hubs.entry(at.slot) {
                    read_entry(&mut hub, at, &entry);
                    visit(&hub);
                }
            }
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut dyn FnMut(&Hub)) -> Result<(), Infallible> {
        let mut hub = Hub::default();
        for_each_entry(self.index, |at, entry| {
            read_entry(&mut hub, at, entry);
            visit(&hub);
        });
        Ok(())
    }
}

/// All node pages, as their hubs speak of them. Some may occur twice, with two generations.
pub fn node_pages(index: &Index) -> Vec<NodePageRef> {
    let mut pages = Vec::new();
    for_each_entry(index, |_, entry| {
        memory::reserve(&mut pages, 1, "the pages of an index");
        pages.push(NodePageRef { block: entry.node_block(), generation: entry.node_generation() })
    });
    pages
}

/// Visits every hub entry of the chain, in a pass during which no page was freed: passes are made until one is.
///
/// Whoever knows afterwards all (block, generation) that the pass has shown, and knew them all before, has missed no node
/// (am/README.md, "Nothing is missed"). Entries may be visited several times.
fn for_each_entry(index: &Index, mut visit: impl FnMut(HubRef, &HubEntry<'_>)) {
    loop {
        let mut before = None;
        for_each_hub_page(index, |block, hubs| {
            before.get_or_insert(hubs.generation());
            for (slot, entry) in hubs.entries() {
                visit(HubRef { page: block, slot }, &entry);
            }
        });
        if before.is_none_or(|before| before == pages_freed(index)) {
            return;
        }
        interrupts::check();
    }
}

/// How many pages have been freed: the generation of the chain's first page counts them.
fn pages_freed(index: &Index) -> u32 {
    let head = index.meta.hub_first;
    let page = PageGuard::read(index.rel, head, Access::Share);
    HubPage::parse(page.body()).unwrap_or_else(|fault| corrupted(index.rel, head, fault)).generation()
}

/// Visits the chain of hub pages, each under its share lock.
pub fn for_each_hub_page(index: &Index, mut visit: impl FnMut(u32, &HubPage<'_>)) {
    let rel = index.rel;
    let mut next = index.meta.hub_first;
    let mut steps = 0;
    while next != NO_PAGE {
        interrupts::check();
        let blocks = rel.blocks();
        if next == 0 || next >= blocks {
            errors::raise_corrupted(&rel.name(), next, "the chain of hub pages leaves the index");
        }
        steps += 1;
        if steps > blocks {
            errors::raise_corrupted(&rel.name(), next, "the chain of hub pages runs in a circle");
        }
        let page = PageGuard::read(rel, next, Access::Share);
        page.must_serve(rel, index.snapshot);
        let hubs = HubPage::parse(page.body()).unwrap_or_else(|fault| corrupted(rel, next, fault));
        visit(next, &hubs);
        next = hubs.next();
    }
}

/// The next page of a walk over an index's hubs.
pub fn next_page(walk: &mut HubWalk, index: &Index) -> Option<(HubRef, NodePageRef, f32)> {
    let next = match walk.next(&mut HubPages::of(index)) {
        Ok(next) => next,
        Err(never) => match never {},
    };
    if walk.out_of_memory() {
        memory::raise_no_room("the hubs of an index");
    }
    next
}

/// The hubs nearest to a centre, best first, at most `count`.
pub fn near_hubs(index: &Index, centre: &[f32], count: usize) -> Vec<(HubRef, Vec<f32>)> {
    let mut walk = HubWalk::new(centre.to_vec(), HubMetric::Place, PLACE_BEAM.max(count));
    let mut near = Vec::with_capacity(count);
    while near.len() < count {
        match next_page(&mut walk, index) {
            Some((at, _, _)) => near.push(at),
            None => break,
        }
    }
    let mut centres = Vec::with_capacity(near.len());
    match HubPages::of(index).read(&near, &mut |hub| centres.push((hub.at, hub.centre.clone()))) {
        Ok(()) => {}
        Err(never) => match never {},
    }
    let rank = |at: &HubRef| near.iter().position(|other| other == at);
    centres.sort_by_key(|(at, _)| rank(at));
    centres
}
