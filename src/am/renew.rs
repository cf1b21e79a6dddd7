//! Entry hubs and links of the hubs that are left when pages were freed. Both are hints; without them a walk has to read all
//! hubs, or ends before it has met the near ones.

use super::hubs::{self, to_graph, to_page};
use super::index::{Index, change_meta};
use super::layout::ENTRY_HUBS;
use super::split::{link, read_centres};
use super::vacuum::delay;
use crate::pg::lock;
use leann_graph::HubRef;
use std::collections::HashSet;

/// A hub with fewer links that lead to hubs is linked anew.
const FEWEST_LINKS: usize = 8;

/// Renews what the freeing of pages has left of entry hubs and links.
pub fn renew(index: &Index) {
    let mut all = Vec::new();
    hubs::for_each_hub_page(index, |block, page| {
        all.extend(page.entries().map(|(slot, _)| HubRef { page: block, slot }));
    });
    let there: HashSet<HubRef> = all.iter().copied().collect();
    entry_hubs(index, &all, &there);
    let wanted = FEWEST_LINKS.min(index.meta.max_links.into()).min(all.len().saturating_sub(1));
    let mut lonely = Vec::new();
    hubs::for_each_hub_page(index, |block, page| {
        for (slot, entry) in page.entries() {
            let at = HubRef { page: block, slot };
            if entry.links().filter(|&to| there.contains(&to_graph(to)) && to_graph(to) != at).count()
                < wanted
            {
                lonely.push(at);
            }
        }
    });
    for hub in lonely {
        delay();
        let _structure = lock::StructureLock::acquire(index.rel);
        let mut centre = Vec::new();
        read_centres(index, &[hub], &mut centre);
        if let Some((_, centre)) = centre.pop() {
            link(index, hub, &centre);
        }
    }
}

/// Entry hubs that are gone leave the list; if few are left, others take their places, spread over the chain.
fn entry_hubs(index: &Index, all: &[HubRef], there: &HashSet<HubRef>) {
    change_meta(index.rel, |meta| {
        let before = meta.entry_hubs.len();
        meta.entry_hubs.retain(|&hub| there.contains(&to_graph(hub)));
        let mut changed = meta.entry_hubs.len() != before;
        let wanted = ENTRY_HUBS.min(all.len());
        for place in 0..wanted {
            let hub = to_page(all[place * all.len() / wanted]);
            if meta.entry_hubs.len() < wanted && !meta.entry_hubs.contains(&hub) {
                meta.entry_hubs.push(hub);
                changed = true;
            }
        }
        changed
    });
}
