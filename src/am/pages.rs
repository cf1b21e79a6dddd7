//! Checked access to the pages of an index. All that the access method reads from a page or writes to one
//! passes through here. Block numbers are compared with the index's length, and the kind and sizes of a page
//! with the meta page; damage becomes an error that names the block.
//!
//! A guard holds its page pinned and locked. README.md says which locks are taken together, and in which
//! order.

use super::errors;
use crate::pg::{Access, PageGuard, Rel, Strategy, WalRecord, allocator, interrupts, lock};
use leann_graph::{HubRef, NodePageRef};
use leann_layout::Node;
use leann_page::{
    FreePage, HubEntry, HubPage, HubPageMut, Meta, NO_PAGE, NodePage, NodePageMut, PageError, PageKind,
    ParamsPage, kind,
};
use pgrx::pg_sys;

/// Maximum blocks of the free space map that are tried before the index is extended. The map may name pages
/// that are in use.
const MAX_FREE_BLOCKS_TRIED: usize = 8;

/// A fault of an index and the block where it shows.
pub struct Damage {
    pub block: u32,
    pub what: String,
}

impl Damage {
    pub fn new(block: u32, what: impl Into<String>) -> Damage {
        Damage { block, what: what.into() }
    }

    /// Raises the fault as an error.
    pub fn raise(self, rel: Rel) -> ! {
        errors::raise_corrupted(&rel.name(), self.block, &self.what)
    }
}

/// Reports a page that cannot be read. A meta page of another format is not damaged: another release wrote
/// the index.
pub fn corrupted(rel: Rel, block: u32, fault: PageError) -> ! {
    match fault {
        PageError::Version { found, supported } if block == 0 => {
            errors::raise_other_format(&rel.name(), found, supported)
        }
        fault => Damage::new(block, fault.to_string()).raise(rel),
    }
}

/// Reads the meta page.
pub fn read_meta(rel: Rel) -> Meta {
    if rel.blocks() == 0 {
        corrupted(rel, 0, PageError::Short { len: 0, needed: 1 });
    }
    let page = PageGuard::read(rel, 0, Access::Share);
    Meta::decode(page.body()).unwrap_or_else(|fault| corrupted(rel, 0, fault))
}

/// Changes the meta page in one WAL record, if `change` returns that it changed something.
pub fn change_meta(rel: Rel, change: impl FnOnce(&mut Meta) -> bool) {
    let mut page = PageGuard::read(rel, 0, Access::Exclusive);
    let mut meta = Meta::decode(page.body()).unwrap_or_else(|fault| corrupted(rel, 0, fault));
    if change(&mut meta) {
        let record = WalRecord::start(rel);
        meta.encode(record.page(&mut page)).unwrap_or_else(|fault| corrupted(rel, 0, fault));
        record.finish();
    }
}

/// Lends the body of a block to `look`, which must not raise errors. Returns None for a block beyond the end
/// of the index.
pub fn inspect<R>(rel: Rel, block: u32, look: impl FnOnce(&[u8]) -> R) -> Option<R> {
    (block < rel.blocks()).then(|| look(PageGuard::read(rel, block, Access::Share).body()))
}

/// Reads the bytes of the sketch parameters from their chain of pages.
pub fn read_params(rel: Rel, meta: &Meta) -> Result<Vec<u8>, Damage> {
    let blocks = rel.blocks();
    let mut bytes = Vec::new();
    let mut next = meta.params_first;
    let mut pages = 0;
    while next != NO_PAGE && bytes.len() < meta.params_len as usize {
        pages += 1;
        if pages > blocks {
            return Err(Damage::new(next, "the chain of params pages has a cycle"));
        }
        if next == 0 || next >= blocks {
            return Err(Damage::new(next, "the chain of params pages leads beyond the end of the index"));
        }
        let page = PageGuard::read(rel, next, Access::Share);
        let params = match kind(page.body()) {
            Ok(PageKind::Params) => ParamsPage::parse(page.body()),
            Ok(_) => {
                return Err(Damage::new(next, "the chain of params pages leads to a page of another kind"));
            }
            Err(fault) => Err(fault),
        };
        let params = params.map_err(|fault| Damage::new(next, fault.to_string()))?;
        if params.chunk().is_empty() {
            break;
        }
        allocator::reserve(&mut bytes, params.chunk().len(), "the parameters of a sketch");
        bytes.extend_from_slice(params.chunk());
        next = params.next();
    }
    if bytes.len() != meta.params_len as usize || crc32fast::hash(&bytes) != meta.params_checksum {
        return Err(Damage::new(meta.params_first, "the sketch parameters do not match their checksum"));
    }
    Ok(bytes)
}

/// A node page, pinned and locked.
pub struct NodeGuard<'i> {
    rel: Rel,
    meta: &'i Meta,
    page: PageGuard,
}

impl NodeGuard<'_> {
    pub fn block(&self) -> u32 {
        self.page.block()
    }

    /// Returns the page's block and its generation now: the name by which its hub knows it.
    pub fn reference(&self) -> NodePageRef {
        NodePageRef { block: self.block(), generation: self.nodes().generation() }
    }

    /// Returns the page's nodes. Raises an error unless the page is sound, with sketches of this index's
    /// size.
    pub fn nodes(&self) -> NodePage<'_> {
        let nodes = NodePage::parse(self.page.body())
            .unwrap_or_else(|fault| corrupted(self.rel, self.block(), fault));
        if nodes.sketch_bytes() != self.meta.sketch_bytes as usize {
            Damage::new(self.block(), "sketches of another size than the index's").raise(self.rel);
        }
        nodes
    }

    /// Returns copies of the page's nodes.
    pub fn copied_nodes(&self) -> Vec<Node> {
        let nodes = self.nodes();
        let sketches = nodes.sketches().chunks_exact(nodes.sketch_bytes());
        nodes
            .heap_pointers()
            .zip(sketches)
            .map(|(pointer, sketch)| Node { pointer, sketch: sketch.to_vec() })
            .collect()
    }

    /// Appends a node in a WAL record of its own. Returns false if the page is full.
    pub fn append(&mut self, node: &Node) -> bool {
        if !self.nodes().has_room_for(node.pointer) {
            return false;
        }
        let record = WalRecord::start(self.rel);
        self.edit(&record, |nodes| nodes.push(node.pointer, &node.sketch));
        record.finish();
        true
    }

    /// Returns a copy of the page's body.
    pub fn copy(&self) -> Vec<u8> {
        self.page.body().to_vec()
    }

    /// Changes the page's nodes as a part of a WAL record.
    pub fn edit<R>(
        &mut self,
        record: &WalRecord,
        change: impl FnOnce(&mut NodePageMut<'_>) -> Result<R, PageError>,
    ) -> R {
        let (rel, block) = (self.rel, self.block());
        NodePageMut::parse(record.page(&mut self.page))
            .and_then(|mut nodes| change(&mut nodes))
            .unwrap_or_else(|fault| corrupted(rel, block, fault))
    }

    /// Overwrites the page's body as a part of a WAL record.
    pub fn rewrite(&mut self, record: &WalRecord, fill: impl FnOnce(&mut [u8]) -> Result<(), PageError>) {
        let (rel, block) = (self.rel, self.block());
        fill(record.page(&mut self.page)).unwrap_or_else(|fault| corrupted(rel, block, fault));
    }

    /// Marks the page as free, as a part of a WAL record. The page keeps its generation.
    pub fn free(&mut self, record: &WalRecord) {
        let (rel, block, generation) = (self.rel, self.block(), self.nodes().generation());
        FreePage::init(record.fresh_page(&mut self.page), generation)
            .unwrap_or_else(|fault| corrupted(rel, block, fault));
    }
}

/// A hub page, pinned and locked.
pub struct HubGuard<'i> {
    rel: Rel,
    meta: &'i Meta,
    page: PageGuard,
}

impl HubGuard<'_> {
    pub fn block(&self) -> u32 {
        self.page.block()
    }

    /// Returns the page's entries. Raises an error unless the page is sound, with entries of this index's
    /// size.
    pub fn hubs(&self) -> HubPage<'_> {
        let hubs =
            HubPage::parse(self.page.body()).unwrap_or_else(|fault| corrupted(self.rel, self.block(), fault));
        if hubs.center_len() != self.meta.center_len as usize
            || hubs.max_links() != self.meta.max_links as usize
        {
            Damage::new(self.block(), "hub entries of another size than the index's").raise(self.rel);
        }
        hubs
    }

    /// Returns the hub of a node page that names this slot. Raises an error if the slot does not hold its
    /// hub.
    pub fn hub_of(&self, node_block: u32, slot: u16) -> HubEntry<'_> {
        let what = match self.hubs().entry(slot) {
            Some(entry) if entry.node_block() == node_block => return entry,
            Some(_) => "the hub entry of a node page names another page",
            None => "the hub entry of a node page is free",
        };
        Damage::new(self.block(), what).raise(self.rel)
    }

    /// Changes the page's entries as a part of a WAL record.
    pub fn edit<R>(
        &mut self,
        record: &WalRecord,
        change: impl FnOnce(&mut HubPageMut<'_>) -> Result<R, PageError>,
    ) -> R {
        let (rel, block) = (self.rel, self.block());
        HubPageMut::parse(record.page(&mut self.page))
            .and_then(|mut hubs| change(&mut hubs))
            .unwrap_or_else(|fault| corrupted(rel, block, fault))
    }
}

/// A page for new nodes or hubs, pinned and exclusively locked, but not written yet.
pub struct NewPage {
    rel: Rel,
    page: PageGuard,
    /// The generation that a node page on this block gets.
    pub generation: u32,
    /// Whether the page was a free one, not an extension of the index.
    pub reused: bool,
}

impl NewPage {
    pub fn block(&self) -> u32 {
        self.page.block()
    }

    /// Writes the page's first body as a part of a WAL record.
    pub fn write(&mut self, record: &WalRecord, fill: impl FnOnce(&mut [u8]) -> Result<(), PageError>) {
        let (rel, block) = (self.rel, self.block());
        fill(record.fresh_page(&mut self.page)).unwrap_or_else(|fault| corrupted(rel, block, fault));
    }

    /// Returns the page as a hub page, which the caller has written.
    pub fn into_hub_page(self, meta: &Meta) -> HubGuard<'_> {
        HubGuard { rel: self.rel, meta, page: self.page }
    }
}

/// A page of any kind, for passes over a whole index.
pub enum AnyPage<'i> {
    Node(NodeGuard<'i>),
    Hub(HubGuard<'i>),
    /// A meta page, params page, free page or zero page.
    Other(PageKind),
}

/// Reads a page of any kind. The block must be below the index's length.
pub fn any_page<'i>(
    rel: Rel,
    meta: &'i Meta,
    block: u32,
    access: Access,
    strategy: &Strategy,
) -> AnyPage<'i> {
    by_kind(rel, meta, PageGuard::read_by(strategy, rel, block, access))
}

fn by_kind(rel: Rel, meta: &Meta, page: PageGuard) -> AnyPage<'_> {
    match kind(page.body()) {
        Ok(PageKind::Node) => AnyPage::Node(NodeGuard { rel, meta, page }),
        Ok(PageKind::Hub) => AnyPage::Hub(HubGuard { rel, meta, page }),
        Ok(other) => AnyPage::Other(other),
        Err(fault) => corrupted(rel, page.block(), fault),
    }
}

/// The pages of an index, and its meta page as of opening.
pub struct Pages {
    pub rel: Rel,
    pub meta: Meta,
    /// The snapshot that every page must serve, if a scan reads the index; null otherwise.
    pub snapshot: pg_sys::Snapshot,
}

impl Pages {
    /// Reads the meta page.
    pub fn open(rel: Rel, snapshot: pg_sys::Snapshot) -> Pages {
        Pages { rel, meta: read_meta(rel), snapshot }
    }

    /// Returns the number of blocks that a scan may have to read. Free pages count only after they are used
    /// again.
    pub fn blocks_in_use(&self) -> u32 {
        self.rel.blocks().saturating_sub(self.meta.free_pages).max(1)
    }

    /// Returns the bytes of one node's sketch.
    pub fn sketch_bytes(&self) -> usize {
        self.meta.sketch_bytes as usize
    }

    /// Returns whether a block that a page names can be one of the pages behind the meta page.
    fn has_block(&self, block: u32) -> bool {
        block != 0 && block < self.rel.blocks()
    }

    /// Reads and locks a page that must serve the scan's snapshot, if there is one.
    fn page(&self, block: u32, access: Access) -> AnyPage<'_> {
        let page = PageGuard::read(self.rel, block, access);
        page.must_serve(self.rel, self.snapshot);
        by_kind(self.rel, &self.meta, page)
    }

    /// Reads and locks a node page that a hub names. Returns None if the block holds another page by now.
    pub fn node_page(&self, named: NodePageRef, access: Access) -> Option<NodeGuard<'_>> {
        if !self.has_block(named.block) {
            let what = "a hub names a block beyond the end of the index";
            Damage::new(named.block, what).raise(self.rel);
        }
        self.node_page_on(named.block, access).filter(|guard| guard.reference() == named)
    }

    /// Reads and locks the node page on a block, of any generation. Returns None if the block holds another
    /// kind of page.
    pub fn node_page_on(&self, block: u32, access: Access) -> Option<NodeGuard<'_>> {
        match self.page(block, access) {
            AnyPage::Node(guard) => Some(guard),
            AnyPage::Hub(_) | AnyPage::Other(_) => None,
        }
    }

    /// Locks a hub page that a node page or the chain names, to change it.
    pub fn hub_page_to_change(&self, block: u32) -> HubGuard<'_> {
        let rel = self.rel;
        if !self.has_block(block) {
            Damage::new(block, "a node page names a hub page beyond the end of the index").raise(rel);
        }
        HubGuard { rel, meta: &self.meta, page: PageGuard::read(rel, block, Access::Exclusive) }
    }

    /// Reads and locks a page that a link names. Returns None if it is not a hub page, because links are
    /// hints.
    pub fn linked_hub_page(&self, block: u32) -> Option<HubGuard<'_>> {
        match self.has_block(block).then(|| self.page(block, Access::Share))? {
            AnyPage::Hub(guard) => Some(guard),
            AnyPage::Node(_) | AnyPage::Other(_) => None,
        }
    }

    /// Visits the chain of hub pages, each under its share lock.
    pub fn for_each_hub_page(&self, mut visit: impl FnMut(u32, &HubPage<'_>)) {
        let rel = self.rel;
        let mut next = self.meta.hub_first;
        let mut steps = 0;
        while next != NO_PAGE {
            interrupts::check();
            let blocks = rel.blocks();
            if next == 0 || next >= blocks {
                Damage::new(next, "the chain of hub pages leads beyond the end of the index").raise(rel);
            }
            steps += 1;
            if steps > blocks {
                Damage::new(next, "the chain of hub pages has a cycle").raise(rel);
            }
            let page = PageGuard::read(rel, next, Access::Share);
            page.must_serve(rel, self.snapshot);
            let guard = HubGuard { rel, meta: &self.meta, page };
            let hubs = guard.hubs();
            visit(next, &hubs);
            next = hubs.next();
        }
    }

    /// Visits every hub entry of the chain. Repeats the pass until no page was freed during one.
    ///
    /// A caller that knew all (block, generation) pairs of the last pass beforehand has missed no node
    /// (README.md, "Nothing is missed"). Entries may be visited several times.
    pub fn for_each_hub(&self, mut visit: impl FnMut(HubRef, &HubEntry<'_>)) {
        loop {
            let mut before = None;
            self.for_each_hub_page(|block, hubs| {
                before.get_or_insert(hubs.generation());
                for (slot, entry) in hubs.entries() {
                    visit(HubRef { page: block, slot }, &entry);
                }
            });
            if before.is_none_or(|before| before == self.pages_freed()) {
                return;
            }
            interrupts::check();
        }
    }

    /// Returns how many pages have been freed, which the generation of the chain's first page counts.
    fn pages_freed(&self) -> u32 {
        let (rel, head) = (self.rel, self.meta.hub_first);
        let page = PageGuard::read(rel, head, Access::Share);
        HubPage::parse(page.body()).unwrap_or_else(|fault| corrupted(rel, head, fault)).generation()
    }

    /// Returns all node pages as their hubs name them. A page may occur twice, with two generations.
    pub fn all_node_pages(&self) -> Vec<NodePageRef> {
        let mut pages = Vec::new();
        self.for_each_hub(|_, entry| {
            allocator::reserve(&mut pages, 1, "the pages of an index");
            pages.push(NodePageRef { block: entry.node_block(), generation: entry.node_generation() })
        });
        pages
    }

    /// Takes a free page for new nodes, or extends the index if there is none.
    pub fn new_page(&self) -> NewPage {
        let rel = self.rel;
        for _ in 0..MAX_FREE_BLOCKS_TRIED {
            let Some(free) = lock::take_free_block(rel) else { break };
            // The map is only a hint. The page itself must say that it is free.
            if free < rel.blocks()
                && let Some(page) = PageGuard::try_exclusive(rel, free)
                && let Some(generation) = reusable(page.body())
            {
                return NewPage { rel, page, generation, reused: true };
            }
        }
        self.extend()
    }

    /// Adds a page at the end of the index.
    pub fn extend(&self) -> NewPage {
        let page = PageGuard::extend(self.rel, pg_sys::ForkNumber::MAIN_FORKNUM);
        NewPage { rel: self.rel, page, generation: 1, reused: false }
    }
}

/// Returns the generation that a free page gets when it is used again; None if the page is in use. A page may
/// be used as soon as it is free: a reader that still expects its former nodes sees by the generation that
/// they are gone.
fn reusable(body: &[u8]) -> Option<u32> {
    match kind(body) {
        Ok(PageKind::Zero) => Some(1),
        Ok(PageKind::Free) => FreePage::parse(body).ok().map(|free| free.generation().wrapping_add(1)),
        _ => None,
    }
}
