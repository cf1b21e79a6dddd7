//! `leann.check`: verifies the invariants of an index (am/README.md) and returns the faults instead of
//! raising them.
//!
//! A check holds the structure lock, so on a primary no nodes move meanwhile. On a standby, replay does not
//! take this lock, and on any server nodes may be removed and rows inserted while the pages are read one
//! after another. So a check reads again what looks wrong, in an order in which a change in between cannot
//! deceive it, and reports only what is still wrong then.

use super::index::load_sketcher;
use super::pages::{Damage, inspect};
use crate::pg::{Access, PageGuard, Rel, Strategy, allocator, interrupts, lock};
use leann_page::{
    HeapPointer, HubPage, HubRef, Meta, NO_PAGE, NodePage, PageError, PageKind, ParamsPage, kind,
};
use std::collections::{HashMap, HashSet};

/// Maximum times that a pair of pages is read because one of them keeps changing. After that the pair counts
/// as sound: pages that writers change successfully are not damaged.
const MAX_RETRIES: usize = 20;

/// What one pass over all blocks found, to be judged afterwards.
#[derive(Default)]
struct Seen {
    faults: Vec<Damage>,
    kinds: HashMap<u32, PageKind>,
    hubs: HashMap<HubRef, SeenHub>,
    /// The hub and the generation of each node page.
    nodes: HashMap<u32, (HubRef, u32)>,
    pointers: HashMap<HeapPointer, u32>,
    /// Heap pointers that occurred on two blocks.
    doubled: Vec<(HeapPointer, u32, u32)>,
    /// The table's length in blocks when it was last read.
    table_blocks: u32,
}

/// What a hub entry said.
struct SeenHub {
    node_page: u32,
    generation: u32,
    links: Vec<HubRef>,
}

impl Seen {
    fn fault(&mut self, block: u32, what: impl Into<String>) {
        self.faults.push(Damage::new(block, what));
    }
}

/// Checks a whole index and returns its faults in the order of their blocks.
pub fn check(rel: Rel, table: Rel) -> Vec<Damage> {
    allocator::demand();
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
    let strategy = Strategy::bulk_read();
    for block in 1..blocks {
        interrupts::check();
        let page = PageGuard::read_by(&strategy, rel, block, Access::Share);
        if let Err(fault) = record_page(page, &meta, table, &mut seen) {
            seen.fault(block, fault.to_string());
        }
    }
    seen.faults.extend(load_sketcher(rel, &meta).err());
    check_chain(rel, &meta, &mut seen);
    check_hubs(rel, &mut seen);
    check_doubled(rel, &mut seen);
    seen.faults.sort_by_key(|fault| fault.block);
    seen.faults
}

/// Records what a page says. Returns an error if it cannot be parsed.
fn record_page(page: PageGuard, meta: &Meta, table: Rel, seen: &mut Seen) -> Result<(), PageError> {
    let block = page.block();
    let kind = kind(page.body())?;
    // A page adds at most one entry to each map, except for the entries of a hub page.
    let what = "the pages of an index";
    allocator::expect_room(seen.kinds.try_reserve(1), what);
    allocator::expect_room(seen.nodes.try_reserve(1), what);
    seen.kinds.insert(block, kind);
    match kind {
        PageKind::Hub => record_hubs(block, &HubPage::parse(page.body())?, meta, seen),
        PageKind::Node => record_nodes(block, &NodePage::parse(page.body())?, meta, table, seen),
        PageKind::Params => {
            ParamsPage::parse(page.body())?;
        }
        PageKind::Free | PageKind::Zero => {}
        PageKind::Meta => seen.fault(block, "a meta page outside block 0"),
    }
    Ok(())
}

/// Records the entries of a hub page.
fn record_hubs(block: u32, page: &HubPage<'_>, meta: &Meta, seen: &mut Seen) {
    if page.center_len() != meta.center_len as usize || page.max_links() != meta.max_links as usize {
        seen.fault(block, "hub entries of another size than the meta page says");
    }
    allocator::expect_room(seen.hubs.try_reserve(page.entries().count()), "the hubs of an index");
    for (slot, entry) in page.entries() {
        let hub = SeenHub {
            node_page: entry.node_block(),
            generation: entry.node_generation(),
            links: entry.links().collect(),
        };
        seen.hubs.insert(HubRef { page: block, slot }, hub);
    }
}

/// Records the nodes of a node page.
fn record_nodes(block: u32, page: &NodePage<'_>, meta: &Meta, table: Rel, seen: &mut Seen) {
    if page.sketch_bytes() != meta.sketch_bytes as usize {
        seen.fault(block, "sketches of another size than the meta page says");
    }
    seen.nodes.insert(block, (page.hub(), page.generation()));
    allocator::expect_room(seen.pointers.try_reserve(page.count()), "the heap pointers of an index");
    for pointer in page.heap_pointers() {
        if pointer.block >= seen.table_blocks {
            // The table grows before the index holds the new row, so a length that is read now decides.
            seen.table_blocks = table.blocks();
        }
        if pointer.block >= seen.table_blocks {
            seen.fault(
                block,
                format!(
                    "heap pointer ({},{}) points beyond the end of the table",
                    pointer.block, pointer.offset
                ),
            );
        }
        if let Some(other) = seen.pointers.insert(pointer, block) {
            seen.doubled.push((pointer, other, block));
        }
    }
}

/// Reads which page follows a hub page in the chain; None if the block is not a hub page now.
fn next_in_chain(rel: Rel, block: u32) -> Option<u32> {
    inspect(rel, block, |body| HubPage::parse(body).ok().map(|hubs| hubs.next()))?
}

/// Checks that the chain holds every hub page once, and nothing else. The chain is read after the pages: a
/// page that was a hub page then is in the chain now, because the record that made it put it there.
fn check_chain(rel: Rel, meta: &Meta, seen: &mut Seen) {
    let mut in_chain = HashSet::new();
    let mut next = meta.hub_first;
    while next != NO_PAGE {
        interrupts::check();
        if !in_chain.insert(next) {
            seen.fault(next, "the chain of hub pages has a cycle");
            break;
        }
        match next_in_chain(rel, next) {
            Some(after) => next = after,
            None => {
                seen.fault(next, "the chain of hub pages leads to a page of another kind");
                break;
            }
        }
    }
    let hub_pages = seen.kinds.iter().filter(|(_, kind)| **kind == PageKind::Hub);
    let outside: Vec<u32> =
        hub_pages.map(|(&block, _)| block).filter(|block| !in_chain.contains(block)).collect();
    for block in outside {
        // A crash between extension and record leaves zero pages, never an initialized hub page outside the
        // chain.
        seen.fault(block, "a hub page outside the chain");
    }
}

/// Checks that hubs and node pages name each other with the same generation, and that links lead to hub
/// pages.
fn check_hubs(rel: Rel, seen: &mut Seen) {
    let mut faults = Vec::new();
    for (&hub, entry) in &seen.hubs {
        if seen.nodes.get(&entry.node_page) != Some(&(hub, entry.generation)) {
            faults.extend(entry_fault(rel, hub));
        }
        faults.extend(entry.links.iter().filter_map(|&link| link_fault(rel, seen, hub, link)));
    }
    for (&node, (hub, _)) in &seen.nodes {
        if seen.hubs.get(hub).is_none_or(|entry| entry.node_page != node) {
            faults.extend(orphan_fault(rel, node));
        }
    }
    seen.faults.extend(faults);
}

/// Returns the fault of a link that leads to a page of another kind. A hub page stays one forever, but a page
/// that was another kind when its block was read may be a hub page now.
fn link_fault(rel: Rel, seen: &Seen, hub: HubRef, link: HubRef) -> Option<Damage> {
    if seen.kinds.get(&link.page) == Some(&PageKind::Hub) || next_in_chain(rel, link.page).is_some() {
        return None;
    }
    let what =
        format!("a link of hub slot {} leads to block {}, which is not a hub page", hub.slot, link.page);
    Some(Damage { block: hub.page, what })
}

/// Reads a hub entry: the node page that it names now, and the generation.
fn read_entry(rel: Rel, hub: HubRef) -> Option<(u32, u32)> {
    inspect(rel, hub.page, |body| {
        let hubs = HubPage::parse(body).ok()?;
        hubs.entry(hub.slot).map(|entry| (entry.node_block(), entry.node_generation()))
    })?
}

/// Reads a node page: the hub that it names now, and the generation.
fn read_node(rel: Rel, block: u32) -> Option<(HubRef, u32)> {
    inspect(rel, block, |body| NodePage::parse(body).ok().map(|nodes| (nodes.hub(), nodes.generation())))?
}

/// Returns what `middle` reads between two readings of `outer` that agree; None if `outer` keeps changing.
///
/// One record changes a node page's hub, generation or kind together with its hub entry, and no generation
/// comes back. So if one of the two has not changed in between, the other agreed with it all the while.
fn read_stable<A: PartialEq, B>(outer: impl Fn() -> A, middle: impl Fn(&A) -> B) -> Option<(A, B)> {
    let mut before = outer();
    for _ in 0..MAX_RETRIES {
        interrupts::check();
        let between = middle(&before);
        let after = outer();
        if after == before {
            return Some((before, between));
        }
        before = after;
    }
    None
}

/// Returns the fault of a hub entry that disagreed with its node page, if it still disagrees.
fn entry_fault(rel: Rel, hub: HubRef) -> Option<Damage> {
    let read = read_stable(|| read_entry(rel, hub), |entry| entry.and_then(|(node, _)| read_node(rel, node)));
    let (Some((node, generation)), found) = read? else { return None };
    let slot = hub.slot;
    let what = match found {
        None => format!("hub slot {slot} names block {node}, which is not a node page"),
        Some((back, _)) if back != hub => {
            format!("hub slot {slot} names node page {node}, which names another hub")
        }
        Some((_, own)) if own != generation => {
            format!("hub slot {slot} has generation {generation} for node page {node}, which has {own}")
        }
        Some(_) => return None,
    };
    Some(Damage { block: hub.page, what })
}

/// Returns the fault of a node page that no hub named, if no hub names it now.
fn orphan_fault(rel: Rel, block: u32) -> Option<Damage> {
    let read = read_stable(|| read_node(rel, block), |page| page.and_then(|(hub, _)| read_entry(rel, hub)));
    let (Some(_), entry) = read? else { return None };
    let orphan = entry.is_none_or(|(named, _)| named != block);
    orphan.then(|| Damage { block, what: "a node page without a hub".to_string() })
}

/// Reports heap pointers that are still on both blocks where they occurred. A node that moves leaves its
/// former page with another generation.
fn check_doubled(rel: Rel, seen: &mut Seen) {
    let holds = |block: u32, pointer: HeapPointer| {
        inspect(rel, block, |body| {
            let nodes = NodePage::parse(body).ok()?;
            nodes.heap_pointers().any(|other| other == pointer).then(|| nodes.generation())
        })?
    };
    for (pointer, first, second) in std::mem::take(&mut seen.doubled) {
        let doubled = first == second
            || read_stable(|| holds(first, pointer), |_| holds(second, pointer))
                .is_some_and(|(first, second)| first.is_some() && second.is_some());
        if doubled {
            let what =
                format!("heap pointer ({},{}) is also on block {first}", pointer.block, pointer.offset);
            seen.fault(second, what);
        }
    }
}
