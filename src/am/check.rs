//! Verifies the invariants of an index (am/README.md) without raising errors for what it finds: `leann.check`.
//!
//! It holds the structure lock, so on a primary no nodes move meanwhile. On a standby replay asks for no such lock, and anywhere
//! nodes may be removed and rows inserted while the pages are read one after another. So what looks wrong is looked at again,
//! in an order in which a change in between cannot deceive: only what is wrong then is reported.

use crate::pg::{Access, PageGuard, Rel, Strategy, interrupts, lock, memory};
use leann_page::{
    HeapPointer, HubPage, HubRef, Meta, NO_PAGE, NodePage, PageError, PageKind, ParamsPage, kind,
};
use leann_sketch::Sketcher;
use std::collections::{HashMap, HashSet};

/// How often a pair of pages is read anew because one changes all the time. Then they are left alone: what changes under its
/// writers' hands is not damaged.
const ATTEMPTS: usize = 20;

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
    /// Node page → (hub, generation).
    nodes: HashMap<u32, (HubRef, u32)>,
    pointers: HashMap<HeapPointer, u32>,
    /// Heap pointers that were met on two blocks.
    doubled: Vec<(HeapPointer, u32, u32)>,
    /// The table's length when last looked at.
    table_blocks: u32,
}

impl Seen {
    fn fault(&mut self, block: u32, what: impl Into<String>) {
        self.faults.push(Fault { block, what: what.into() });
    }
}

/// Checks a whole index.
pub fn check(rel: Rel, table: Rel) -> Vec<Fault> {
    memory::demand();
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
        if let Err(fault) = look_at(page, &meta, table, &mut seen) {
            seen.fault(block, fault.to_string());
        }
    }
    check_params(rel, &meta, blocks, &mut seen);
    check_chain(rel, &meta, &mut seen);
    check_hubs(rel, &mut seen);
    check_doubled(rel, &mut seen);
    seen.faults.sort_by_key(|fault| fault.block);
    seen.faults
}

fn look_at(page: PageGuard, meta: &Meta, table: Rel, seen: &mut Seen) -> Result<(), PageError> {
    let block = page.block();
    let kind = kind(page.body())?;
    // One more of each at most, but for a hub page's entries.
    let what = "the pages of an index";
    memory::expect_room(seen.kinds.try_reserve(1), what);
    memory::expect_room(seen.nodes.try_reserve(1), what);
    seen.kinds.insert(block, kind);
    match kind {
        PageKind::Hub => look_at_hubs(block, &HubPage::parse(page.body())?, meta, seen),
        PageKind::Node => look_at_nodes(block, &NodePage::parse(page.body())?, meta, table, seen),
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
    memory::expect_room(seen.hubs.try_reserve(page.entries().count()), "the hubs of an index");
    for (slot, entry) in page.entries() {
        let links = entry.links().collect();
        seen.hubs.insert(HubRef { page: block, slot }, (entry.node_block(), entry.node_generation(), links));
    }
}

fn look_at_nodes(block: u32, page: &NodePage<'_>, meta: &Meta, table: Rel, seen: &mut Seen) {
    if page.sketch_bytes() != meta.sketch_bytes as usize {
        seen.fault(block, "sketches of another size than the meta page says");
    }
    seen.nodes.insert(block, (page.hub(), page.generation()));
    memory::expect_room(seen.pointers.try_reserve(page.count()), "the heap pointers of an index");
    for pointer in page.heap_pointers() {
        if pointer.block >= seen.table_blocks {
            // The table grows before the index learns of it, so a length read now counts.
            seen.table_blocks = table.blocks();
        }
        if pointer.block >= seen.table_blocks {
            seen.fault(
                block,
                format!("heap pointer ({},{}) beyond the end of the table", pointer.block, pointer.offset),
            );
        }
        if let Some(other) = seen.pointers.insert(pointer, block) {
            seen.doubled.push((pointer, other, block));
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

/// A hub page's next one, read now; None if the block is no hub page.
fn next_in_chain(rel: Rel, block: u32) -> Option<u32> {
    if block >= rel.blocks() {
        return None;
    }
    let page = PageGuard::read(rel, block, Access::Share);
    HubPage::parse(page.body()).ok().map(|hubs| hubs.next())
}

/// Every hub page is in the chain once, and nothing else is. The chain is read after the pages: whoever was a hub page then is
/// in it now, since the record that made the page put it there.
fn check_chain(rel: Rel, meta: &Meta, seen: &mut Seen) {
    let mut in_chain = HashSet::new();
    let mut next = meta.hub_first;
    while next != NO_PAGE {
        interrupts::check();
        if !in_chain.insert(next) {
            seen.fault(next, "the chain of hub pages runs in a circle");
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
        // A crash between extension and record leaves zero pages, never an initialised hub page outside the chain.
        seen.fault(block, "a hub page outside the chain");
    }
}

/// Hubs and node pages name each other, with the same generation; links lead to hub pages.
fn check_hubs(rel: Rel, seen: &mut Seen) {
    let mut faults = Vec::new();
    for (&hub, (node, generation, links)) in &seen.hubs {
        if seen.nodes.get(node) != Some(&(hub, *generation)) {
            faults.extend(wrong_entry(rel, hub));
        }
        // Once a hub page, always a hub page: one that was none when the block was read may be one now.
        let wrong = |link: &&HubRef| {
            seen.kinds.get(&link.page) != Some(&PageKind::Hub) && next_in_chain(rel, link.page).is_none()
        };
        faults.extend(links.iter().filter(wrong).map(|link| Fault {
            block: hub.page,
            what: format!(
                "a link of hub slot {} leads to block {}, which is no hub page",
                hub.slot, link.page
            ),
        }));
    }
    for (&node, (hub, _)) in &seen.nodes {
        if seen.hubs.get(hub).is_none_or(|(named, ..)| *named != node) {
            faults.extend(no_hub(rel, node));
        }
    }
    seen.faults.extend(faults);
}

/// Reads the block and slot of a hub now: the node page that it names, and the generation.
fn read_entry(rel: Rel, hub: HubRef) -> Option<(u32, u32)> {
    if hub.page >= rel.blocks() {
        return None;
    }
    let page = PageGuard::read(rel, hub.page, Access::Share);
    let hubs = HubPage::parse(page.body()).ok()?;
    hubs.entry(hub.slot).map(|entry| (entry.node_block(), entry.node_generation()))
}

/// Reads a node page now: the hub that it names, and the generation.
fn read_node(rel: Rel, block: u32) -> Option<(HubRef, u32)> {
    if block == 0 || block >= rel.blocks() {
        return None;
    }
    let page = PageGuard::read(rel, block, Access::Share);
    NodePage::parse(page.body()).ok().map(|nodes| (nodes.hub(), nodes.generation()))
}

/// What `middle` says between two readings of `outer` that say the same. A change of a node page's hub, generation or kind is in one
/// record with the change of its hub entry, and no generation comes back; so if the one has not changed in between, the other
/// agreed with it all the while.
fn between<A: PartialEq, B>(outer: impl Fn() -> A, middle: impl Fn(&A) -> B) -> Option<(A, B)> {
    let mut before = outer();
    for _ in 0..ATTEMPTS {
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

/// The fault of a hub entry that does not agree with its node page, if it still does not.
fn wrong_entry(rel: Rel, hub: HubRef) -> Option<Fault> {
    let read = between(|| read_entry(rel, hub), |entry| entry.and_then(|(node, _)| read_node(rel, node)));
    let (Some((node, generation)), found) = read? else { return None };
    let slot = hub.slot;
    let what = match found {
        None => format!("hub slot {slot} names block {node}, which is no node page"),
        Some((back, _)) if back != hub => {
            format!("hub slot {slot} names node page {node}, which names another hub")
        }
        Some((_, own)) if own != generation => {
            format!("hub slot {slot} has generation {generation} for node page {node}, which has {own}")
        }
        Some(_) => return None,
    };
    Some(Fault { block: hub.page, what })
}

/// The fault of a node page that no hub names, if still none does.
fn no_hub(rel: Rel, block: u32) -> Option<Fault> {
    let read = between(|| read_node(rel, block), |page| page.and_then(|(hub, _)| read_entry(rel, hub)));
    let (Some(_), entry) = read? else { return None };
    let orphan = entry.is_none_or(|(named, _)| named != block);
    orphan.then(|| Fault { block, what: "a node page without a hub".to_string() })
}

/// Heap pointers met on two blocks that are still on both. A node that moves leaves its page under another generation.
fn check_doubled(rel: Rel, seen: &mut Seen) {
    let holds = |block: u32, pointer: HeapPointer| {
        let page = PageGuard::read(rel, block, Access::Share);
        let nodes = NodePage::parse(page.body()).ok()?;
        nodes.heap_pointers().any(|other| other == pointer).then(|| nodes.generation())
    };
    for (pointer, first, second) in std::mem::take(&mut seen.doubled) {
        let doubled = first == second
            || between(|| holds(first, pointer), |_| holds(second, pointer))
                .is_some_and(|(first, second)| first.is_some() && second.is_some());
        if doubled {
            let what = format!("heap pointer ({},{}) also on block {first}", pointer.block, pointer.offset);
            seen.fault(second, what);
        }
    }
}
