//! An index in memory: node pages of sketches under hubs, built in bulk or grown row by row.

use leann_graph::in_memory::InMemoryHubs;
use leann_graph::tuning::MAX_TRAINING_ROWS;
use leann_graph::{
    Center, F16Vectors, Hub, HubMetric, HubReader, HubRef, HubWalk, NodePageRef, PageSize, balanced_pages,
    bisect, entry_hubs, link_halves, link_hubs, links_with, select_links,
};
use leann_page::MAX_ENTRY_HUBS;
use leann_sketch::{SketchError, Sketcher, TrainOptions};
use leann_vector::dot;
use rayon::prelude::*;

use crate::data::Data;

/// Bytes of a page that hold nodes or hubs, more or less.
const PAGE_BYTES: usize = 8192 - 64;
/// Bytes of most heap pointers.
const HEAP_POINTER_BYTES: usize = 3;
/// Bytes of a link.
const HUB_REF_BYTES: usize = 6;
/// Bytes of a hub other than its center and links.
const HUB_FIXED_BYTES: usize = 20;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub fill: f32,
    pub components: usize,
    pub max_links: usize,
    pub entries: usize,
    pub place_beam: usize,
    pub min_share: f32,
    /// Next nearest pages tried before a split, and their squared distance to the row, relative to the
    /// nearest page's, up to which they are.
    pub spill: (usize, f32),
}

impl Shape {
    pub fn capacity(&self, sketch_bytes: usize) -> usize {
        PAGE_BYTES / (sketch_bytes + HEAP_POINTER_BYTES)
    }
    fn hub_bytes(&self) -> usize {
        self.components + HUB_REF_BYTES * self.max_links + HUB_FIXED_BYTES
    }
}

#[derive(Default)]
pub struct NodePage {
    pub keys: Vec<u32>,
    pub sketches: Vec<u8>,
    pub generation: u32,
    /// Position of the hub in the chain.
    pub hub: usize,
}

pub struct Index<'a> {
    pub data: &'a Data,
    pub shape: Shape,
    pub sketcher: Sketcher,
    pub pages: Vec<NodePage>,
    pub hubs: InMemoryHubs,
    pub splits: usize,
    pub spills: usize,
}

pub fn train(data: &Data, rows: usize, sketch_bytes: usize) -> Result<Sketcher, SketchError> {
    let count = rows.min(MAX_TRAINING_ROWS);
    let sample: Vec<f32> = (0..count).flat_map(|i| data.row((i * rows / count) as u32)).copied().collect();
    Sketcher::train(&sample, data.dim, &TrainOptions { sketch_bytes, rows, seed: 1 }, &|| false)
}

impl<'a> Index<'a> {
    /// Builds an index of the first `rows` rows.
    pub fn build(data: &'a Data, rows: usize, sketcher: Sketcher, shape: Shape) -> Index<'a> {
        let capacity = shape.capacity(sketcher.sketch_bytes());
        let size = PageSize { fill: (capacity as f32 * shape.fill) as usize, capacity };
        let vectors = F16Vectors::new(&data.halves[..rows * data.dim], data.dim);
        let page_of = balanced_pages(&vectors, size, 1, &|| false, &|_, _| ()).unwrap_or_default();
        Index::from_pages(data, &page_of, sketcher, shape)
    }

    /// Builds an index over pages that are given.
    pub fn from_pages(data: &'a Data, page_of: &[u32], sketcher: Sketcher, shape: Shape) -> Index<'a> {
        let shape = Shape { components: shape.components.min(sketcher.components()), ..shape };
        let mut members = vec![Vec::new(); page_of.iter().max().map_or(0, |page| *page as usize + 1)];
        for (row, &page) in page_of.iter().enumerate() {
            members[page as usize].push(row as u32);
        }
        let hubs = InMemoryHubs::new((PAGE_BYTES / shape.hub_bytes()) as u16);
        let mut index = Index { data, shape, sketcher, pages: Vec::new(), hubs, splits: 0, spills: 0 };
        index.pages = members
            .into_par_iter()
            .enumerate()
            .map(|(hub, keys)| NodePage { sketches: index.encode(&keys), keys, generation: 1, hub })
            .collect();
        index.make_hubs();
        index
    }

    fn encode(&self, keys: &[u32]) -> Vec<u8> {
        let bytes = self.sketcher.sketch_bytes();
        let mut sketches = vec![0; keys.len() * bytes];
        for (key, sketch) in keys.iter().zip(sketches.chunks_exact_mut(bytes)) {
            self.sketcher.encode(self.data.row(*key), sketch);
        }
        sketches
    }

    fn make_hubs(&mut self) {
        let d = self.shape.components;
        let centers: Vec<Center> =
            self.pages.par_iter().map(|page| self.center(&self.decode(&page.sketches))).collect();
        let flat: Vec<f32> = centers.iter().flat_map(|center| &center.values).copied().collect();
        let links = link_hubs(&flat, d, self.shape.max_links, &|| false).unwrap_or_default();
        for (page, (center, links)) in centers.into_iter().zip(links).enumerate() {
            let links = links.into_iter().map(|link| self.hubs.place(link as usize)).collect();
            let node_page = NodePageRef { block: page as u32, generation: 1 };
            let Center { values, spread } = center;
            self.hubs.push(Hub { at: HubRef::default(), node_page, center: values, spread, links });
        }
        let entries = entry_hubs(&flat, d, self.shape.entries).unwrap_or_default();
        self.hubs.entries = entries.into_iter().map(|hub| self.hubs.place(hub as usize)).collect();
    }

    fn decode(&self, sketches: &[u8]) -> Vec<f32> {
        let (bytes, d) = (self.sketcher.sketch_bytes(), self.sketcher.components());
        let mut decoded = vec![0.0; sketches.len() / bytes * d];
        for (sketch, out) in sketches.chunks_exact(bytes).zip(decoded.chunks_exact_mut(d)) {
            self.sketcher.decode(sketch, out);
        }
        decoded
    }

    /// Returns the center of a page as its hub keeps it: in int8.
    fn center(&self, decoded: &[f32]) -> Center {
        let d = self.sketcher.components();
        let mut center = Center::from_vectors(decoded.chunks_exact(d), self.shape.components);
        let most = center.values.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
        let scale = most / 127.0;
        center.values.iter_mut().for_each(|x| *x = (*x / scale).round() * scale);
        center
    }

    /// Adds one row as an insert does: to the nearest hub's page, which is split when it is full.
    pub fn insert(&mut self, key: u32) {
        let mut projected = vec![0.0; self.sketcher.components()];
        self.sketcher.project(self.data.row(key), &mut projected);
        let sketch = self.encode(&[key]);
        let capacity = self.shape.capacity(self.sketcher.sketch_bytes());
        let target = &projected[..self.shape.components];
        // The score is <t, c> - |c|^2 / 2.
        let squared = |score: f32| dot(target, target) - 2.0 * score;
        let mut walk = HubWalk::new(target.to_vec(), HubMetric::Place, self.shape.place_beam);
        let (mut nearest, mut limit) = (None, f32::INFINITY);
        for tried in 0..=self.shape.spill.0 {
            let Some((_, page, score)) = walk.next(&mut self.hubs) else { break };
            let block = page.block as usize;
            if tried == 0 {
                nearest = Some(block);
                limit = squared(score) * self.shape.spill.1;
            } else if squared(score) > limit {
                break;
            }
            if self.pages[block].keys.len() < capacity {
                self.spills += usize::from(tried > 0);
                self.pages[block].keys.push(key);
                self.pages[block].sketches.extend_from_slice(&sketch);
                return;
            }
        }
        let Some(block) = nearest else { return };
        self.pages[block].keys.push(key);
        self.pages[block].sketches.extend_from_slice(&sketch);
        self.split(block);
    }

    fn split(&mut self, block: usize) {
        let (bytes, d) = (self.sketcher.sketch_bytes(), self.sketcher.components());
        let page = std::mem::take(&mut self.pages[block]);
        let decoded = self.decode(&page.sketches);
        let moves = bisect(&decoded, d, self.shape.min_share);
        let new_block = self.pages.len();
        let half = |side: bool| {
            let chosen: Vec<usize> = (0..moves.len()).filter(|i| moves[*i] == side).collect();
            let keys = chosen.iter().map(|i| page.keys[*i]).collect();
            let sketches =
                chosen.iter().flat_map(|i| &page.sketches[i * bytes..][..bytes]).copied().collect();
            let decoded: Vec<f32> = chosen.iter().flat_map(|i| &decoded[i * d..][..d]).copied().collect();
            (
                NodePage { keys, sketches, generation: page.generation + 1, hub: page.hub },
                self.center(&decoded),
            )
        };
        let ((old, old_center), (mut new, new_center)) = (half(false), half(true));
        new.hub = self.hubs.slots.len();
        self.pages[block] = old;
        self.pages.push(new);
        self.splits += 1;
        self.link_halves(block, new_block, old_center, new_center, page.generation + 1);
    }

    fn link_halves(
        &mut self,
        old: usize,
        new: usize,
        old_center: Center,
        new_center: Center,
        generation: u32,
    ) {
        let max_links = self.shape.max_links;
        let old_at = self.hubs.place(self.pages[old].hub);
        let new_at = self.hubs.place(self.pages[new].hub);
        let Some(entry) = self.hubs.slots[self.pages[old].hub].as_mut() else { return };
        let [old_links, new_links] = link_halves(&entry.links, old_at, new_at, max_links);
        entry.center = old_center.values;
        entry.spread = old_center.spread;
        entry.node_page.generation = generation;
        entry.links = old_links;
        let node_page = NodePageRef { block: new as u32, generation };
        let Center { values, spread } = new_center;
        self.hubs.push(Hub { at: new_at, node_page, center: values.clone(), spread, links: new_links });
        if new_at.slot == 0 && self.hubs.entries.len() < MAX_ENTRY_HUBS {
            self.hubs.entries.push(new_at);
        }
        let near = self.near(&values, 2 * max_links, new_at);
        let chosen = select_links(&values, &near, max_links);
        for &at in &chosen {
            self.add_link(at, new_at, &values);
        }
        self.set_links(new_at, chosen);
    }

    fn near(&mut self, center: &[f32], count: usize, not: HubRef) -> Vec<(HubRef, Vec<f32>)> {
        let mut walk = HubWalk::new(center.to_vec(), HubMetric::Place, self.shape.place_beam.max(count));
        let mut near = Vec::new();
        while near.len() < count {
            match walk.next(&mut self.hubs) {
                Some((at, _, _)) => near.push(at),
                None => break,
            }
        }
        near.retain(|at| *at != not);
        self.centers(&near)
    }

    fn centers(&mut self, at: &[HubRef]) -> Vec<(HubRef, Vec<f32>)> {
        let mut centers = Vec::with_capacity(at.len());
        self.hubs.read(at, &mut |hub| centers.push((hub.at, hub.center.clone())));
        centers
    }

    fn add_link(&mut self, at: HubRef, new: HubRef, center: &[f32]) {
        let Some(hub) = self.hubs.index(at).and_then(|slot| self.hubs.slots[slot].clone()) else { return };
        let max_links = self.shape.max_links;
        let links = links_with(&hub.center, &hub.links, (new, center), max_links, |at| self.centers(at));
        if let Some(links) = links {
            self.set_links(at, links);
        }
    }

    fn set_links(&mut self, at: HubRef, links: Vec<HubRef>) {
        if let Some(hub) = self.hubs.index(at).and_then(|slot| self.hubs.slots[slot].as_mut()) {
            hub.links = links;
        }
    }

    pub fn rows(&self) -> usize {
        self.pages.iter().map(|page| page.keys.len()).sum()
    }

    pub fn fill(&self) -> f64 {
        self.rows() as f64 / (self.pages.len() * self.shape.capacity(self.sketcher.sketch_bytes())) as f64
    }

    /// Returns the node page of each row.
    pub fn page_of(&self) -> Vec<u32> {
        let mut page_of = vec![u32::MAX; self.data.len()];
        for (block, page) in self.pages.iter().enumerate() {
            for &key in &page.keys {
                page_of[key as usize] = block as u32;
            }
        }
        page_of
    }

    pub fn hub_bytes_per_row(&self) -> f64 {
        (self.pages.len() * self.shape.hub_bytes()) as f64 / self.rows() as f64
    }

    /// Returns the size of all pages of the index, in bytes per row.
    pub fn bytes_per_row(&self) -> f64 {
        let pages = |bytes: usize| bytes.div_ceil(PAGE_BYTES);
        let hub_pages = self.pages.len().div_ceil(self.hubs.per_page.into());
        let all = 1 + pages(self.sketcher.to_bytes().len()) + hub_pages + self.pages.len();
        (all * 8192) as f64 / self.rows() as f64
    }
}
