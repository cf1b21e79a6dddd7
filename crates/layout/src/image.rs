//! Writes the bodies of all pages of a fresh index, in the order of their blocks.

use leann_graph::{Center, F16Vectors, Vectors as _};
use leann_page::{
    HeapPointer, HubPage, HubPageMut, HubRef, Meta, NO_PAGE, NewHub, NodePageMut, PageError, ParamsPage,
    SketchForm,
};
use leann_sketch::Sketcher;

use crate::build::{PageFit, Planned, PlannedPage};
use crate::sizes::center_len;
use leann_graph::tuning::MAX_LINKS;

/// Returns the plan of an index over no rows: one hub and one empty node page.
pub fn planned_empty(sketcher: &Sketcher) -> Planned {
    let page = PlannedPage {
        rows: Vec::new(),
        sketches: Vec::new(),
        fit: PageFit::default(),
        center: Center::from_vectors(std::iter::empty(), center_len(sketcher)),
        links: Vec::new(),
    };
    Planned { pages: vec![page], entries: vec![0] }
}

/// The contents of a fresh index.
pub struct Image<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// Hash of the model's weights, tokenizer and settings.
    pub fingerprint: [u8; 32],
    /// The sketcher, whose parameters the index holds.
    pub sketcher: &'a Sketcher,
    /// Seed of the untrained rotation.
    pub seed: u64,
    /// A number that no other build has drawn.
    pub index_id: u64,
    /// Rows that the sketcher was trained on; 0 for an untrained one.
    pub rows_trained: usize,
    /// Rows whose text the model truncated.
    pub truncated_rows: usize,
    /// Embeddings of all rows, read only if the index stores them.
    pub embeddings: &'a F16Vectors<'a>,
    /// Heap pointers of all rows.
    pub pointers: &'a [HeapPointer],
    /// The pages.
    pub planned: &'a Planned,
    /// Bytes of a page's body.
    pub body_bytes: usize,
}

/// The block at which each part begins. The order is meta page, params pages, hub pages, node pages.
struct Blocks {
    params_pages: u32,
    hubs_per_page: usize,
    hub_pages: u32,
}

impl Blocks {
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

impl Image<'_> {
    /// Passes the body of every page to `put`, block after block from 0.
    ///
    /// # Errors
    /// Returns a [`PageError`] if something does not fit on a page, such as the model's name.
    pub fn write(&self, put: &mut dyn FnMut(&[u8])) -> Result<(), PageError> {
        let params = if self.sketcher.is_trained() { self.sketcher.to_bytes() } else { Vec::new() };
        let chunk_bytes = ParamsPage::chunk_capacity(self.body_bytes);
        let hubs_per_page = HubPage::capacity_for(self.body_bytes, center_len(self.sketcher), MAX_LINKS);
        let blocks = Blocks {
            params_pages: params.len().div_ceil(chunk_bytes) as u32,
            hubs_per_page,
            hub_pages: self.planned.pages.len().div_ceil(hubs_per_page.max(1)) as u32,
        };
        let mut body = vec![0; self.body_bytes];
        let mut page = |fill: &mut dyn FnMut(&mut [u8]) -> Result<(), PageError>| {
            body.fill(0);
            fill(&mut body)?;
            put(&body);
            Ok(())
        };
        page(&mut |body| self.meta(&blocks, &params).encode(body))?;
        let mut chunks = (1..).zip(params.chunks(chunk_bytes)).peekable();
        while let Some((block, chunk)) = chunks.next() {
            let next = if chunks.peek().is_some() { block + 1 } else { NO_PAGE };
            page(&mut |body| ParamsPage::init(body, next, chunk))?;
        }
        for number in 0..blocks.hub_pages {
            page(&mut |body| self.hub_page(body, &blocks, number))?;
        }
        for (position, planned) in self.planned.pages.iter().enumerate() {
            page(&mut |body| self.node_page(body, planned, blocks.hub(position)))?;
        }
        Ok(())
    }

    fn meta(&self, blocks: &Blocks, params: &[u8]) -> Meta {
        let rows: usize = self.planned.pages.iter().map(|page| page.rows.len()).sum();
        let untrained: usize = self.planned.pages.iter().map(|page| page.fit.untrained).sum();
        let fit: f64 = self.planned.pages.iter().map(|page| f64::from(page.fit.sum)).sum();
        let entries = &self.planned.entries;
        Meta {
            index_id: self.index_id,
            model: self.model.to_string(),
            fingerprint: self.fingerprint,
            dim: self.sketcher.dim() as u32,
            sketch_bytes: self.sketcher.sketch_bytes() as u16,
            components: self.sketcher.components() as u16,
            center_len: center_len(self.sketcher) as u16,
            max_links: MAX_LINKS as u16,
            sketch_form: sketch_form(self.sketcher),
            seed: self.seed,
            rows_trained: self.rows_trained as u32,
            truncated_rows: self.truncated_rows as u64,
            params_first: if params.is_empty() { NO_PAGE } else { 1 },
            params_len: params.len() as u32,
            params_checksum: crc32fast::hash(params),
            hub_first: blocks.first_hub_page(),
            entry_hubs: entries.iter().map(|&position| blocks.hub(position as usize)).collect(),
            rows_at_build: rows as u64,
            nodes: rows as u64,
            untrained_nodes: untrained as u64,
            untrained_at_build: untrained as u64,
            fit_at_build: (1e4 * fit / rows.max(1) as f64).round() as u32,
            node_pages: self.planned.pages.len() as u32,
            hub_pages: blocks.hub_pages,
            free_pages: 0,
        }
    }

    fn hub_page(&self, body: &mut [u8], blocks: &Blocks, number: u32) -> Result<(), PageError> {
        let mut hubs = HubPageMut::init(body, 0, center_len(self.sketcher), MAX_LINKS)?;
        if number + 1 < blocks.hub_pages {
            hubs.set_next(blocks.first_hub_page() + number + 1);
        }
        let first = number as usize * blocks.hubs_per_page;
        let pages = self.planned.pages.iter().enumerate().skip(first).take(blocks.hubs_per_page);
        for (slot, (position, page)) in (0..).zip(pages) {
            let links: Vec<HubRef> = page.links.iter().map(|&to| blocks.hub(to as usize)).collect();
            let hub = NewHub {
                node_block: blocks.node_page(position),
                node_generation: 1,
                spread: page.center.spread,
                center: &page.center.values,
                links: &links,
            };
            hubs.put(slot, &hub)?;
        }
        Ok(())
    }

    fn node_page(&self, body: &mut [u8], page: &PlannedPage, hub: HubRef) -> Result<(), PageError> {
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
}

fn sketch_form(sketcher: &Sketcher) -> SketchForm {
    match sketcher {
        _ if sketcher.is_exact() => SketchForm::Float16,
        _ if sketcher.is_trained_in_place() => SketchForm::TrainedInPlace,
        _ if sketcher.is_trained() => SketchForm::Trained,
        _ => SketchForm::Untrained,
    }
}
