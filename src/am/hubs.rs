//! Hubs of an index as the walk reads them.

use super::index::Index;
use crate::pg::allocator;
use leann_graph::tuning::PLACE_BEAM;
use leann_graph::{Hub, HubMetric, HubReader, HubRef, HubWalk, NodePageRef};
use leann_page::HubEntry;

/// Reads hubs from an index's pages, one share-locked page at a time. Damaged pages raise an error. Links
/// that lead nowhere do not, because links are hints.
pub struct HubPages<'a> {
    index: &'a Index,
}

impl<'a> HubPages<'a> {
    pub fn new(index: &'a Index) -> HubPages<'a> {
        HubPages { index }
    }
}

/// Fills `hub`, which is reused for one entry after the other.
fn read_entry(hub: &mut Hub, at: HubRef, entry: &HubEntry<'_>) {
    hub.at = at;
    hub.node_page = NodePageRef { block: entry.node_block(), generation: entry.node_generation() };
    hub.center.resize(entry.center_len(), 0.0);
    entry.decode_center(&mut hub.center);
    hub.spread = entry.spread();
    hub.links.clear();
    hub.links.extend(entry.links());
}

impl HubReader for HubPages<'_> {
    fn entry_hubs(&mut self) -> Vec<HubRef> {
        self.index.meta.entry_hubs.clone()
    }

    fn read(&mut self, at: &[HubRef], visit: &mut dyn FnMut(&Hub)) {
        let mut sorted = at.to_vec();
        sorted.sort_unstable();
        let mut hub = Hub::default();
        for on_page in sorted.chunk_by(|a, b| a.page == b.page) {
            let Some(page) = self.index.linked_hub_page(on_page[0].page) else { continue };
            let hubs = page.hubs();
            for &at in on_page {
                if let Some(entry) = hubs.entry(at.slot) {
                    read_entry(&mut hub, at, &entry);
                    visit(&hub);
                }
            }
        }
    }

    fn read_all(&mut self, visit: &mut dyn FnMut(&Hub)) {
        let mut hub = Hub::default();
        self.index.for_each_hub(|at, entry| {
            read_entry(&mut hub, at, entry);
            visit(&hub);
        });
    }
}

/// Returns the next page of a walk over an index's hubs, its hub and the hub's score.
pub fn next_page(walk: &mut HubWalk, index: &Index) -> Option<(HubRef, NodePageRef, f32)> {
    let next = walk.next(&mut HubPages { index });
    if walk.out_of_memory() {
        allocator::raise_no_room("the hubs of an index");
    }
    next
}

/// Reads hubs in the order of their places. Hubs that are gone are left out.
fn read(index: &Index, at: &[HubRef], mut visit: impl FnMut(&Hub)) {
    HubPages { index }.read(at, &mut visit);
}

/// Returns a hub, if it is still there.
pub fn hub(index: &Index, at: HubRef) -> Option<Hub> {
    let mut found = None;
    read(index, &[at], |hub| found = Some(hub.clone()));
    found
}

/// Returns the centers of those of the hubs that are still there.
pub fn centers(index: &Index, at: &[HubRef]) -> Vec<(HubRef, Vec<f32>)> {
    let mut centers = Vec::with_capacity(at.len());
    read(index, at, |hub| centers.push((hub.at, hub.center.clone())));
    centers
}

/// Returns the hubs nearest to a center and their centers, best first, at most `count`.
pub fn near_hubs(index: &Index, center: &[f32], count: usize) -> Vec<(HubRef, Vec<f32>)> {
    let mut walk = HubWalk::new(center.to_vec(), HubMetric::Place, PLACE_BEAM.max(count));
    let mut near = Vec::with_capacity(count);
    while near.len() < count {
        match next_page(&mut walk, index) {
            Some((at, _, _)) => near.push(at),
            None => break,
        }
    }
    let mut centers = centers(index, &near);
    centers.sort_by_key(|(at, _)| near.iter().position(|other| other == at));
    centers
}
