//! Renews entry hubs and links after pages were freed with their hubs. Both are hints, but with too few of
//! them a walk has to read all hubs, or ends before it has met the near ones.

use super::hubs;
use super::index::Index;
use super::pages::change_meta;
use super::split::link;
use crate::pg::interrupts::vacuum_delay;
use crate::pg::lock;
use leann_graph::HubRef;
use leann_graph::tuning::ENTRY_HUBS;
use std::collections::HashSet;

/// Links to hubs that a hub must have left; one with fewer gets new links.
const MIN_LINKS: usize = 8;

/// Replaces entry hubs that are gone and links hubs anew that have lost most of their links.
pub fn renew(index: &Index) {
    let mut all = Vec::new();
    index.for_each_hub_page(|block, page| {
        all.extend(page.entries().map(|(slot, _)| HubRef { page: block, slot }));
    });
    let there: HashSet<HubRef> = all.iter().copied().collect();
    renew_entry_hubs(index, &all, &there);
    let wanted = MIN_LINKS.min(index.meta.max_links.into()).min(all.len().saturating_sub(1));
    let mut unlinked = Vec::new();
    index.for_each_hub_page(|block, page| {
        for (slot, entry) in page.entries() {
            let at = HubRef { page: block, slot };
            if entry.links().filter(|to| there.contains(to) && *to != at).count() < wanted {
                unlinked.push(at);
            }
        }
    });
    for hub in unlinked {
        vacuum_delay();
        let _structure = lock::StructureLock::acquire(index.rel);
        if let Some(found) = hubs::hub(index, hub) {
            link(index, hub, &found.center);
        }
    }
}

/// Removes entry hubs that are gone. If few are left, adds others that are spread over the chain.
fn renew_entry_hubs(index: &Index, all: &[HubRef], there: &HashSet<HubRef>) {
    change_meta(index.rel, |meta| {
        let before = meta.entry_hubs.len();
        meta.entry_hubs.retain(|&hub| there.contains(&hub));
        let mut changed = meta.entry_hubs.len() != before;
        let wanted = ENTRY_HUBS.min(all.len());
        for place in 0..wanted {
            let hub = all[place * all.len() / wanted];
            if meta.entry_hubs.len() < wanted && !meta.entry_hubs.contains(&hub) {
                meta.entry_hubs.push(hub);
                changed = true;
            }
        }
        changed
    });
}
