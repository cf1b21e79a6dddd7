//! Verifies the invariants of an index (am/README.md) without raising errors for what it finds: `leann.check`.
//!
//! It holds the structure lock, so no page is split or freed meanwhile; single-page changes of others are atomic and
//! leave every invariant true.

use crate::pg::{Access, PageGuard, Rel, interrupts, lock};
use leann_page::{
    HeapPointer, HubPage, HubRef, Meta, NO_PAGE, NodePage, PageError, PageKind, ParamsPage, kind,
};
use leann_sketch::Sketcher;
use std::collections::{HashMap, HashSet};

/// Something wrong on a block.
pub struct Fault {
    pub block: u32,
    pub what: String,
}

/// What one pass over all blocks found; judged afterwards.
#[derive(Default)]
struct Seen {
    faults: Vec<Fault>,
    kinds: HashMap<u32, PageKind>,
    /// Hub entry → (node page, generation, links).
    hubs: HashMap<HubRef, (u32, u32, Vec<HubRef>)>,
    /// Next hub page of each hub page.
    chain: HashMap<u32, u32>,
    /// Node page → (hub, generation).
    nodes: HashMap<u32, (HubRef, u32)>,
    pointers: HashMap<HeapPointer, u32>,
}

impl Seen {
    fn fault(&mut self, block: u32, what: impl Into<String>) {
        self.faults.push(Fault { block, what: what.into() });
    }
}

/// Checks a whole index.
pub fn check(rel: Rel, table: Rel) -> Vec<Fault> {
    let _structure = lock::StructureLock::acquire(rel);
    let mut seen = Seen::default();
    let blocks = rel.blocks();
    if blocks == 0 {
        seen.fault(0, "the index has no meta page");
        return seen.faults;
    }
    let meta = Meta::decode(PageGuard::read(rel, 0, Access::Share).body());
    let meta = match meta {
        Ok(meta) => meta,
        Err(fault) => {
            seen.fault(0, fault.to_string());
            return seen.faults;
        }
    };
    let table_blocks = table.blocks();
    for block in 1..blocks {
        interrupts::check();
        if let Err(fault) = look_at(rel, block, &meta, table_blocks, &mut seen) {
            seen.fault(block, fault.to_string());
        }
    }
    check_params(rel, &meta, blocks, &mut seen);
    check_chain(&meta, &mut seen);
    check_hubs(&mut seen);
    seen.faults.sort_by_key(|fault| fault.block);
    seen.faults
}

fn look_at(rel: Rel, block: u32, meta: &Meta, table_blocks: u32, seen: &mut Seen) -> Result<(), PageError> {
    let page = PageGuard::read(rel, block, Access::Share);
    let kind = kind(page.body())?;
    seen.kinds.insert(block, kind);
    match kind {
        PageKind::Hub => look_at_hubs(block, &HubPage::parse(page.body())?, meta, seen),
        PageKind::Node => look_at_nodes(block, &NodePage::parse(page.body())?, meta, table_blocks, seen),
        PageKind::Params => {
            ParamsPage::parse(page.body())?;
        }
        PageKind::Free | PageKind::Zero => {}
        PageKind::Meta => seen.fault(block, "a meta page outside block 0"),
    }
    Ok(())
}

fn look_at_hubs(block: u32, page: &HubPage<'_>, meta: &Meta, seen: &mut Seen) {
    if page.centre_len() != meta.centre_len as usize || page.max_links() != meta.max_links as usize {
        seen.fault(block, "hub entries of another size than the meta page says");
    }
    seen.chain.insert(block, page.next());
    for (slot, entry) in page.entries() {
        let links = entry.links().collect();
        seen.hubs.insert(HubRef { page: block, slot }, (entry.node_block(), entry.node_generation(), links));
    }
}

fn look_at_nodes(block: u32, page: &NodePage<'_>, meta: &Meta, table_blocks: u32, seen: &mut Seen) {
    if page.sketch_bytes() != meta.sketch_bytes as usize {
        seen.fault(block, "sketches of another size than the meta page says");
    }
    seen.nodes.insert(block, (page.hub(), page.generation()));
    for pointer in page.heap_pointers() {
        if pointer.block >= table_blocks {
            seen.fault(
                block,
                format!("heap pointer ({},{}) beyond the end of the table", pointer.block, pointer.offset),
            );
        }
        if let Some(other) = seen.pointers.insert(pointer, block) {
            let what = format!("heap pointer ({},{}) also on block {other}", pointer.block, pointer.offset);
            seen.fault(block, what);
        }
    }
}

/// The sketch parameters load and fit the meta page.
fn check_params(rel: Rel, meta: &Meta, blocks: u32, seen: &mut Seen) {
    if meta.params_first == NO_PAGE {
        return;
    }
    let mut bytes = Vec::new();
    let mut next = meta.params_first;
    while next != NO_PAGE && bytes.len() < meta.params_len as usize {
        if next >= blocks || seen.kinds.get(&next) != Some(&PageKind::Params) {
            return seen.fault(next, "the chain of params pages leads to a page of another kind");
        }
        let page = PageGuard::read(rel, next, Access::Share);
        match ParamsPage::parse(page.body()) {
            Ok(params) if !params.chunk().is_empty() => {
                bytes.extend_from_slice(params.chunk());
                next = params.next();
            }
            _ => break,
        }
    }
    if bytes.len() != meta.params_len as usize || crc32fast::hash(&bytes) != meta.params_checksum {
        return seen.fault(meta.params_first, "sketch parameters fail their checksum");
    }
    match Sketcher::from_bytes(&bytes) {
        Ok(sketcher)
            if sketcher.dim() == meta.dim as usize
                && sketcher.sketch_bytes() == meta.sketch_bytes as usize
                && sketcher.directions() == meta.directions as usize => {}
        Ok(_) => seen.fault(0, "the meta page does not agree with the sketch parameters"),
        Err(fault) => seen.fault(meta.params_first, fault.to_string()),
    }
}

/// Every hub page is in the chain once, and nothing else is.
fn check_chain(meta: &Meta, seen: &mut Seen) {
    let mut in_chain = HashSet::new();
    let mut next = meta.hub_first;
    while next != NO_PAGE {
        if !in_chain.insert(next) {
            seen.fault(next, "the chain of hub pages runs in a circle");
            break;
        }
        match seen.chain.get(&next) {
            Some(&after) => next = after,
            None => {
                seen.fault(next, "the chain of hub pages leads to a page of another kind");
                break;
            }
        }
    }
    let mut outside: Vec<u32> =
        seen.chain.keys().copied().filter(|block| !in_chain.contains(block)).collect();
    outside.sort_unstable();
    for block in outside {
        // A crash between extension and record leaves zero pages, never an initialised hub page outside the chain.
        seen.fault(block, "a hub page outside the chain");
    }
}

/// Hubs and node pages name each other, with the same generation; links lead to hub pages.
fn check_hubs(seen: &mut Seen) {
    let mut faults = Vec::new();
    let mut spoken_for: HashMap<u32, HubRef> = HashMap::new();
    for (&hub, (node, generation, links)) in &seen.hubs {
        match seen.nodes.get(node) {
            None => faults
                .push((hub.page, format!("hub slot {} names block {node}, which is no node page", hub.slot))),
            Some((back, _)) if *back != hub => {
                faults.push((
                    hub.page,
                    format!("hub slot {} names node page {node}, which names another hub", hub.slot),
                ));
            }
            Some((_, own)) if own != generation => {
                faults.push((
                    hub.page,
                    format!(
                        "hub slot {} has generation {generation} for node page {node}, which has {own}",
                        hub.slot
                    ),
                ));
            }
            Some(_) => {}
        }
        if spoken_for.insert(*node, hub).is_some() {
            faults.push((hub.page, format!("two hubs name node page {node}")));
        }
        for link in links {
            if !seen.chain.contains_key(&link.page) {
                faults.push((
                    hub.page,
                    format!(
                        "a link of hub slot {} leads to block {}, which is no hub page",
                        hub.slot, link.page
                    ),
                ));
            }
        }
    }
    for node in seen.nodes.keys() {
        if !spoken_for.contains_key(node) {
            faults.push((*node, "a node page without a hub".to_string()));
        }
    }
    for (block, what) in faults {
        seen.fault(block, what);
    }
}
