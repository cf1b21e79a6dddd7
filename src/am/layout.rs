//! From rows and their pages to the blocks of an index: what a build writes, and the centres of hubs.

use super::options::Options;
use crate::pg::buffer::BODY_BYTES;
use crate::pg::{PageGuard, Rel};
use leann_graph::{F16Rows, PageSize, Rows};
use leann_page::{
    HeapPointer, HubPage, HubPageMut, HubRef, Meta, NO_PAGE, NewHub, NodePage, NodePageMut, PageError,
    ParamsPage, PointerForm, SketchForm,
};
use leann_sketch::Sketcher;

/// Links that a hub entry has room for.
pub const MAX_LINKS: usize = 24;
/// Directions of a hub's centre that are kept when the sketch is trained: its directions are sorted by variance, and
/// the leading ones decide which page is near.
pub const CENTRE_DIRECTIONS: usize = 160;
/// Directions of a hub's centre that are kept when the sketch is untrained: of a random rotation any of them say as much, so
/// the first ones do, and three hubs or more fit on a page whatever the model's dimensions.
pub const UNTRAINED_CENTRE_DIRECTIONS: usize = 2_048;
/// Hubs at which a walk of a freshly built index starts.
pub const ENTRY_HUBS: usize = 16;

/// The centre of a page's nodes, as its hub keeps it.
pub struct Centre {
    /// Mean of the decoded sketches in the leading directions.
    pub values: Vec<f32>,
    /// Root mean square distance of the nodes to it.
    pub spread: f32,
}

impl Centre {
    /// The centre of these projected vectors, cut to `len` directions. Of no vectors: the origin.
    pub fn of<'a>(vectors: impl Iterator<Item = &'a [f32]> + Clone, len: usize) -> Centre {
        let mut values = vec![0.0f32; len];
        let mut count = 0usize;
        for vector in vectors.clone() {
            values.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
            count += 1;
        }
        let scale = 1.0 / count.max(1) as f32;
        values.iter_mut().for_each(|value| *value *= scale);
        let squares: f32 = vectors
            .map(|vector| vector.iter().zip(&values).map(|(a, b)| (a - b) * (a - b)).sum::<f32>())
            .sum();
        Centre { spread: (squares * scale).sqrt(), values }
    }
}

/// How many directions hub centres keep.
pub fn centre_len(sketcher: &Sketcher) -> usize {
    let most = if sketcher.is_trained() { CENTRE_DIRECTIONS } else { UNTRAINED_CENTRE_DIRECTIONS };
    sketcher.directions().min(most)
}

// A value of type `embedding` is what is indexed, so its limit is the one that counts; nothing below may have a lower one.
const _: () = assert!(
    leann_value::MAX_DIM <= leann_sketch::MAX_DIM
        && leann_value::MAX_DIM <= leann_page::MAX_DIM as usize
        && 3 * (16 + UNTRAINED_CENTRE_DIRECTIONS + 6 * MAX_LINKS) + 20 <= BODY_BYTES
);

fn sketch_form(sketcher: &Sketcher) -> SketchForm {
    match sketcher {
        _ if sketcher.is_exact() => SketchForm::Float16,
        _ if sketcher.is_trained() => SketchForm::Trained,
        _ => SketchForm::Untrained,
    }
}

/// One node page before it has a block.
pub struct NewPage {
    /// Positions of its rows in the list of rows.
    pub rows: Vec<u32>,
    /// Their sketches, one after the other. None yet where they are the embeddings: these are at hand anyway.
    pub sketches: Vec<u8>,
    pub centre: Centre,
    /// Positions of the linked pages in the list of pages.
    pub links: Vec<u32>,
}

/// No row's embedding.
static NO_ROWS: F16Rows<'static> = F16Rows::new(&[], 1);

/// Everything that a fresh index consists of.
pub struct Contents<'a> {
    pub model: &'a str,
    pub fingerprint: [u8; 32],
    pub sketcher: &'a Sketcher,
    pub seed: u64,
    pub index_id: u64,
    pub rows_trained: usize,
    /// Rows whose text the model cut.
    pub truncated_rows: usize,
    /// Embeddings and heap pointers of all rows.
    pub embeddings: &'a F16Rows<'a>,
    pub pointers: &'a [HeapPointer],
    pub pages: Vec<NewPage>,
    /// Positions of the entry hubs in `pages`.
    pub entries: Vec<u32>,
}

/// Where each part begins: meta page, params pages, hub pages, node pages, in this order.
struct Places {
    params_pages: u32,
    hubs_per_page: usize,
    hub_pages: u32,
}

impl Places {
    fn first_hub_page(&self) -> u32 {
        1 + self.params_pages
    }
    fn node_page(&self, position: usize) -> u32 {
        self.first_hub_page() + self.hub_pages + position as u32
    }
    fn hub(&self, position: usize) -> HubRef {
        HubRef {
            page: self.first_hub_page() + (position / self.hubs_per_page) as u32,
            slot: (position % self.hubs_per_page) as u16,
        }
    }
}

impl Contents<'_> {
    /// Writes the index into an empty fork, without WAL. Returns the number of blocks.
    pub fn write(&self, rel: Rel, fork: pgrx::pg_sys::ForkNumber::Type) -> Result<u32, PageError> {
        let params = if self.sketcher.is_trained() { self.sketcher.to_bytes() } else { Vec::new() };
        let centre_len = centre_len(self.sketcher);
        let hubs_per_page = HubPage::capacity_for(BODY_BYTES, centre_len, MAX_LINKS);
        let places = Places {
            params_pages: params.len().div_ceil(ParamsPage::chunk_capacity(BODY_BYTES)) as u32,
            hubs_per_page,
            hub_pages: self.pages.len().div_ceil(hubs_per_page.max(1)) as u32,
        };
        let mut writer = Writer { rel, fork, next: 0 };
        writer.write(|body| self.meta(&places, &params).encode(body))?;
        self.write_params(&mut writer, &params)?;
        for page in 0..places.hub_pages {
            crate::pg::interrupts::check();
            writer.write(|body| self.hub_page(body, &places, page))?;
        }
        for (position, page) in self.pages.iter().enumerate() {
            crate::pg::interrupts::check();
            writer.write(|body| self.node_page(body, page, places.hub(position)))?;
        }
        Ok(writer.next)
    }

    fn node_page(&self, body: &mut [u8], page: &NewPage, hub: HubRef) -> Result<(), PageError> {
        let bytes = self.sketcher.sketch_bytes();
        let mut nodes = NodePageMut::init(body, 1, bytes, hub)?;
        let (mut embedding, mut sketch) = (vec![0.0; self.sketcher.dim()], vec![0; bytes]);
        for (at, &row) in page.rows.iter().enumerate() {
            if self.sketcher.is_exact() {
                self.embeddings.read(row as usize, &mut embedding);
                self.sketcher.encode(&embedding, &mut sketch);
            } else {
                sketch.copy_from_slice(&page.sketches[at * bytes..][..bytes]);
            }
            nodes.push(self.pointers[row as usize], &sketch)?;
        }
        Ok(())
    }

    fn meta(&self, places: &Places, params: &[u8]) -> Meta {
        let rows: usize = self.pages.iter().map(|page| page.rows.len()).sum();
        Meta {
            index_id: self.index_id,
            model: self.model.to_string(),
            fingerprint: self.fingerprint,
            dim: self.sketcher.dim() as u32,
            sketch_bytes: self.sketcher.sketch_bytes() as u16,
            directions: self.sketcher.directions() as u16,
            centre_len: centre_len(self.sketcher) as u16,
            max_links: MAX_LINKS as u16,
            sketch_form: sketch_form(self.sketcher),
            seed: self.seed,
            rows_trained: self.rows_trained as u32,
            truncated_rows: self.truncated_rows as u64,
            params_first: if params.is_empty() { NO_PAGE } else { 1 },
            params_len: params.len() as u32,
            params_checksum: crc32fast::hash(params),
            hub_first: places.first_hub_page(),
            entry_hubs: self.entries.iter().map(|&position| places.hub(position as usize)).collect(),
            rows_at_build: rows as u64,
            nodes: rows as u64,
            node_pages: self.pages.len() as u32,
            hub_pages: places.hub_pages,
            free_pages: 0,
        }
    }

    fn write_params(&self, writer: &mut Writer, params: &[u8]) -> Result<(), PageError> {
        let mut chunks = params.chunks(ParamsPage::chunk_capacity(BODY_BYTES)).peekable();
        while let Some(chunk) = chunks.next() {
            let next = if chunks.peek().is_some() { writer.next + 1 } else { NO_PAGE };
            writer.write(|body| ParamsPage::init(body, next, chunk))?;
        }
        Ok(())
    }

    fn hub_page(&self, body: &mut [u8], places: &Places, page: u32) -> Result<(), PageError> {
        let mut hubs = HubPageMut::init(body, 0, centre_len(self.sketcher), MAX_LINKS)?;
        if page + 1 < places.hub_pages {
            hubs.set_next(places.first_hub_page() + page + 1);
        }
        let first = page as usize * places.hubs_per_page;
        for (slot, position) in (first..self.pages.len()).take(places.hubs_per_page).enumerate() {
            let node_page = &self.pages[position];
            let links: Vec<HubRef> = node_page.links.iter().map(|&to| places.hub(to as usize)).collect();
            let hub = NewHub {
                node_block: places.node_page(position),
                node_generation: 1,
                spread: node_page.centre.spread,
                centre: &node_page.centre.values,
                links: &links,
            };
            hubs.put(slot as u16, &hub)?;
        }
        Ok(())
    }
}

/// Appends blocks to a fork.
struct Writer {
    rel: Rel,
    fork: pgrx::pg_sys::ForkNumber::Type,
    next: u32,
}

impl Writer {
    fn write(&mut self, fill: impl FnOnce(&mut [u8]) -> Result<(), PageError>) -> Result<(), PageError> {
        let mut body = vec![0; BODY_BYTES];
        fill(&mut body)?;
        let mut page = PageGuard::extend(self.rel, self.fork);
        assert_eq!(page.block(), self.next, "a build writes into an empty fork");
        page.write_unlogged(&body);
        if self.fork == pgrx::pg_sys::ForkNumber::INIT_FORKNUM {
            page.log_whole();
        }
        self.next += 1;
        Ok(())
    }
}

/// The contents of an index over no rows: one hub, one empty node page, an untrained sketch.
pub fn empty<'a>(
    model: &'a str,
    fingerprint: [u8; 32],
    sketcher: &'a Sketcher,
    seed: u64,
    index_id: u64,
) -> Contents<'a> {
    let page = NewPage {
        rows: Vec::new(),
        sketches: Vec::new(),
        centre: Centre::of(std::iter::empty(), centre_len(sketcher)),
        links: Vec::new(),
    };
    Contents {
        model,
        fingerprint,
        sketcher,
        seed,
        index_id,
        rows_trained: 0,
        truncated_rows: 0,
        embeddings: &NO_ROWS,
        pointers: &[],
        pages: vec![page],
        entries: vec![0],
    }
}

/// How full a bulk build makes the pages of these rows: the fill factor on average, no page beyond its capacity.
pub fn bulk_size(sketch_bytes: usize, pointers: &[HeapPointer], options: &Options) -> PageSize {
    // A page whose own pointers need fewer bytes has room for more, never for less.
    let form = PointerForm::holding_all(pointers.iter().copied());
    let capacity = NodePage::capacity_for(BODY_BYTES, sketch_bytes, form);
    // Rounded, not cut: a page may have room for few.
    let fill = (capacity * options.fill_percent as usize + 50) / 100;
    PageSize { fill: fill.max(1), capacity }
}

/// Nodes that fit on any page, however long their pointers are.
pub fn sure_capacity(sketch_bytes: usize) -> usize {
    NodePage::capacity_for(BODY_BYTES, sketch_bytes, PointerForm::WIDEST)
}
