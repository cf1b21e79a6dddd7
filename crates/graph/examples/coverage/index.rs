//! An index in memory: node pages of sketches under hubs, built in bulk or grown row by row.

use std::convert::Infallible;

use leann_graph::memory::MemoryHubs;
use leann_graph::{
    F16Rows, Hub, HubMetric, HubReader, HubRef, HubWalk, NodePageRef, PageSize, balanced_pages, entry_hubs,
    link_hubs, select_links, split,
};
use leann_sketch::{SketchError, Sketcher, TrainOptions};
use rayon::prelude::*;

use crate::data::Data;

/// Bytes of a page that hold nodes or hubs.
const PAGE_BYTES: usize = 8192 - 64;
const HEAP_POINTER_BYTES: usize = 3;
const HUB_REF_BYTES: usize = 6;
const HUB_FIXED_BYTES: usize = 20;
const TRAIN_ROWS: usize = 20_000;

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub fill: f32,
    pub directions: usize,
    pub max_links: usize,
    pub entries: usize,
    pub place_beam: usize,
    pub min_share: f32,
    /// Pages tried before a split, and how much worse (in squared distance) they may be.
    pub spill: (usize, f32),
}

impl Shape {
    pub fn capacity(&self, sketch_bytes: usize) -> usize {
        PAGE_BYTES / (sketch_bytes + HEAP_POINTER_BYTES)
    }
    fn hub_bytes(&self) -> usize {
        self.directions + HUB_REF_BYTES * self.max_links + HUB_FIXED_BYTES
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
    pub hubs: MemoryHubs,
    pub splits: usize,
    pub spills: usize,
}

pub fn train(data: &Data, rows: usize, sketch_bytes: usize) -> Result<Sketcher, SketchError> {
    let count = rows.min(TRAIN_ROWS);
    let sample: Vec<f32> = (0..count).flat_map(|i| data.row((i * rows / count) as u32)).copied().collect();
    Sketcher::train(&sample, data.dim, &TrainOptions { sketch_bytes, rows, seed: 1 }, &|| false)
}

impl<'a> Index<'a> {
    /// Of the first `rows` rows.
    pub fn build(data: &'a Data, rows: usize, sketcher: Sketcher, shape: Shape) -> Index<'a> {
        let capacity = shape.capacity(sketcher.sketch_bytes());
        let size = PageSize { fill: (capacity as f32 * shape.fill) as usize, capacity };
        let vectors = F16Rows::new(&data.halves[..rows * data.dim], data.dim);
        let page_of = balanced_pages(&vectors, size, 1, &|| false, &|_, _| ()).unwrap_or_default();
        Index::of_pages(data, &page_of, sketcher, shape)
    }

    pub fn of_pages(data: &'a Data, page_of: &[u32], sketcher: Sketcher, shape: Shape) -> Index<'a> {
        let shape = Shape { directions: shape.directions.min(sketcher.directions()), ..shape };
        let mut members = vec![Vec::new(); page_of.iter().max().map_or(0, |page| *page as usize + 1)];
        for (row, &page) in page_of.iter().enumerate() {
            members[page as usize].push(row as u32);
        }
        let hubs = MemoryHubs::new((PAGE_BYTES / shape.hub_bytes()) as u16);
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
        let d = self.shape.directions;
        let centres: Vec<(Vec<f32>, f32)> =
            self.pages.par_iter().map(|page| self.centre(&self.decode(&page.sketches))).collect();
        let flat: Vec<f32> = centres.iter().flat_map(|(centre, _)| centre).copied().collect();
        let links = link_hubs(&flat, d, self.shape.max_links, &|| false).unwrap_or_default();
        for (page, ((centre, spread), links)) in centres.into_iter().zip(links).enumerate() {
            let links = links.into_iter().map(|link| self.hubs.place(link as usize)).collect();
            let node_page = NodePageRef { block: page as u32, generation: 1 };
            self.hubs.push(Hub { at: HubRef { page: 0, slot: 0 }, node_page, centre, spread, links });
        }
        let entries = entry_hubs(&flat, d, self.shape.entries).unwrap_or_default();
        self.hubs.entries = entries.into_iter().map(|hub| self.hubs.place(hub as usize)).collect();
    }

    fn decode(&self, sketches: &[u8]) -> Vec<f32> {
        let (bytes, d) = (self.sketcher.sketch_bytes(), self.sketcher.directions());
        let mut decoded = vec![0.0; sketches.len() / bytes * d];
        for (sketch, out) in sketches.chunks_exact(bytes).zip(decoded.chunks_exact_mut(d)) {
            self.sketcher.decode(sketch, out);
        }
        decoded
    }

    /// The mean in the leading directions as int8 keeps it, and the spread around it.
    fn centre(&self, decoded: &[f32]) -> (Vec<f32>, f32) {
        let d = self.sketcher.directions();
        let mut centre = vec![0.0; self.shape.directions];
        for vector in decoded.chunks_exact(d) {
            centre.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        let count = (decoded.len() / d).max(1) as f32;
        centre.iter_mut().for_each(|sum| *sum /= count);
        let scale = centre.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs())) / 127.0;
        centre.iter_mut().for_each(|x| *x = (*x / scale).round() * scale);
        let squares: f32 = decoded
            .chunks_exact(d)
            .flat_map(|vector| vector.iter().zip(&centre).map(|(x, c)| (x - c) * (x - c)))
            .sum();
        (centre, (squares / count).sqrt())
    }

    /// Adds one row as an insert does: to the nearest hub's page, which is split when it is full.
    pub fn insert(&mut self, key: u32) {
        let mut projected = vec![0.0; self.sketcher.directions()];
        self.sketcher.project(self.data.row(key), &mut projected);
        let sketch = self.encode(&[key]);
        let capacity = self.shape.capacity(self.sketcher.sketch_bytes());
        let mut walk = HubWalk::new(
            projected[..self.shape.directions].to_vec(),
            HubMetric::Place,
            self.shape.place_beam,
        );
        let mut nearest = None;
        let mut best_score = 0.0;
        for tried in 0..=self.shape.spill.0 {
            let Ok(Some((_, page, score))) = walk.next(&mut self.hubs) else { break };
            let block = page.block as usize;
            if tried == 0 {
                nearest = Some(block);
                best_score = score;
            } else if 2.0 * (best_score - score) > self.shape.spill.1 {
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
        let (bytes, d) = (self.sketcher.sketch_bytes(), self.sketcher.directions());
        let page = std::mem::take(&mut self.pages[block]);
        let decoded = self.decode(&page.sketches);
        let moves = split(&decoded, d, self.shape.min_share);
        let new_block = self.pages.len();
        let half = |side: bool| {
            let chosen: Vec<usize> = (0..moves.len()).filter(|i| moves[*i] == side).collect();
            let keys = chosen.iter().map(|i| page.keys[*i]).collect();
            let sketches =
                chosen.iter().flat_map(|i| &page.sketches[i * bytes..][..bytes]).copied().collect();
            let decoded: Vec<f32> = chosen.iter().flat_map(|i| &decoded[i * d..][..d]).copied().collect();
            (
                NodePage { keys, sketches, generation: page.generation + 1, hub: page.hub },
                self.centre(&decoded),
            )
        };
        let ((old, old_centre), (mut new, new_centre)) = (half(false), half(true));
        new.hub = self.hubs.slots.len();
        self.pages[block] = old;
        self.pages.push(new);
        self.splits += 1;
        self.link_halves(block, new_block, old_centre, new_centre, page.generation + 1);
    }

    fn link_halves(
        &mut self,
        old: usize,
        new: usize,
        old_centre: (Vec<f32>, f32),
        new_centre: (Vec<f32>, f32),
        generation: u32,
    ) {
        let max_links = self.shape.max_links;
        let old_at = self.hubs.place(self.pages[old].hub);
        let new_at = self.hubs.place(self.pages[new].hub);
        let Some(entry) = self.hubs.slots[self.pages[old].hub].as_mut() else { return };
        let former = std::mem::take(&mut entry.links);
        let with_first = |first: HubRef| -> Vec<HubRef> {
            std::iter::once(first)
                .chain(former.iter().copied().filter(|at| *at != first))
                .take(max_links)
                .collect()
        };
        entry.centre = old_centre.0;
        entry.spread = old_centre.1;
        entry.node_page.generation = generation;
        entry.links = with_first(new_at);
        let node_page = NodePageRef { block: new as u32, generation };
        let centre = new_centre.0.clone();
        self.hubs.push(Hub {
            at: new_at,
            node_page,
            centre,
            spread: new_centre.1,
            links: with_first(old_at),
        });
        if new_at.slot == 0 && self.hubs.entries.len() < 64 {
            self.hubs.entries.push(new_at);
        }
        let near = self.near(&new_centre.0, 2 * max_links, new_at);
        let chosen = select_links(&new_centre.0, &near, max_links);
        for &at in &chosen {
            self.add_link(at, new_at, &new_centre.0);
        }
        self.set_links(new_at, chosen);
    }

    fn near(&mut self, centre: &[f32], count: usize, not: HubRef) -> Vec<(HubRef, Vec<f32>)> {
        let mut walk = HubWalk::new(centre.to_vec(), HubMetric::Place, self.shape.place_beam.max(count));
        let mut near = Vec::new();
        while near.len() < count {
            match walk.next(&mut self.hubs) {
                Ok(Some((at, _, _))) => near.push(at),
                Ok(None) => break,
                Err(never) => match never {},
            }
        }
        near.retain(|at| *at != not);
        self.centres(&near)
    }

    fn centres(&mut self, at: &[HubRef]) -> Vec<(HubRef, Vec<f32>)> {
        let mut centres = Vec::with_capacity(at.len());
        let read: Result<(), Infallible> =
            self.hubs.read(at, &mut |hub| centres.push((hub.at, hub.centre.clone())));
        match read {
            Ok(()) => centres,
            Err(never) => match never {},
        }
    }

    fn add_link(&mut self, at: HubRef, new: HubRef, centre: &[f32]) {
        let Some(hub) = self.hubs.index(at).and_then(|slot| self.hubs.slots[slot].clone()) else { return };
        if hub.links.contains(&new) {
            return;
        }
        let mut links = hub.links;
        if links.len() < self.shape.max_links {
            links.push(new);
        } else {
            let mut candidates = self.centres(&links);
            candidates.push((new, centre.to_vec()));
            links = select_links(&hub.centre, &candidates, self.shape.max_links);
        }
        self.set_links(at, links);
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

    /// The node page of each row.
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

    /// All pages of the index, in bytes per row.
    pub fn bytes_per_row(&self) -> f64 {
        let pages = |bytes: usize| bytes.div_ceil(PAGE_BYTES);
        let hub_pages = self.pages.len().div_ceil(self.hubs.per_page.into());
        let all = 1 + pages(self.sketcher.to_bytes().len()) + hub_pages + self.pages.len();
        (all * 8192) as f64 / self.rows() as f64
    }
}
