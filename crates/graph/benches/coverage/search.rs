//! Searches over an index in memory, and what they cost.

use std::time::{Duration, Instant};

use leann_graph::in_memory::InMemoryHubs;
use leann_graph::{Hub, HubMetric, HubWalk, Rerank, RerankOptions, Step};
use leann_vector::dot;

use crate::data::Data;
use crate::index::Index;

/// Which pages hold the true nearest rows, in the order that the walk visits pages.
pub struct Coverage {
    /// How many of all true rows lie on the page visited at this position.
    found: Vec<usize>,
    all: usize,
    pub hubs_read_for_first: f64,
}

impl Coverage {
    pub fn at(&self, pages: usize) -> f64 {
        self.found.iter().take(pages).sum::<usize>() as f64 / self.all.max(1) as f64
    }
}

/// Nearest rows of a query whose pages are looked for.
const COVERED: usize = 10;

fn count(
    data: &Data,
    page_of: &[u32],
    pages: usize,
    mut order: impl FnMut(&[f32]) -> (Vec<u32>, usize),
) -> Coverage {
    let mut found = vec![0; pages];
    let (mut all, mut read) = (0, 0);
    for (query, truth) in data.queries() {
        let (order, first) = order(query);
        let mut position = vec![0; pages];
        order.iter().enumerate().for_each(|(i, page)| position[*page as usize] = i);
        for &(row, _) in truth.iter().take(COVERED) {
            all += 1;
            if page_of[row as usize] != u32::MAX {
                found[position[page_of[row as usize] as usize]] += 1;
            }
        }
        read += first;
    }
    Coverage { found, all, hubs_read_for_first: read as f64 / data.truth.len() as f64 }
}

/// Ranks pages by inner product with the full mean of their embeddings.
pub fn exhaustive(index: &Index) -> Coverage {
    let data = index.data;
    let means: Vec<Vec<f32>> = index
        .pages
        .iter()
        .map(|page| {
            let mut mean = vec![0.0; data.dim];
            for &key in &page.keys {
                mean.iter_mut().zip(data.row(key)).for_each(|(sum, x)| *sum += x / page.keys.len() as f32);
            }
            mean
        })
        .collect();
    count(data, &index.page_of(), means.len(), |query| {
        let mut ranked: Vec<(f32, u32)> =
            means.iter().enumerate().map(|(page, mean)| (dot(query, mean), page as u32)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        (ranked.into_iter().map(|(_, page)| page).collect(), 0)
    })
}

/// Ranks pages by the scores of all hubs.
pub fn ranked_hubs(index: &Index) -> Coverage {
    count(index.data, &index.page_of(), index.pages.len(), |query| {
        let target = index.sketcher.query(query).projected().to_vec();
        let score = |hub: &Hub| (HubMetric::Search.score(&target, hub), hub.node_page.block);
        let mut ranked: Vec<(f32, u32)> = index.hubs.slots.iter().flatten().map(score).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        (ranked.into_iter().map(|(_, page)| page).collect(), 0)
    })
}

/// Ranks pages in the order of the walk.
pub fn walked(index: &Index, beam: usize) -> Coverage {
    let mut hubs = index.hubs.clone();
    count(index.data, &index.page_of(), index.pages.len(), |query| {
        let target = index.sketcher.query(query).projected()[..index.shape.components].to_vec();
        let mut walk = HubWalk::new(target, HubMetric::Search, beam);
        let mut order = Vec::new();
        let mut first = 0;
        hubs.hubs_read = 0;
        while let Some((_, page, _)) = walk.next(&mut hubs) {
            if order.is_empty() {
                first = hubs.hubs_read;
            }
            order.push(page.block);
        }
        (order, first)
    })
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub ef: usize,
    pub patience: usize,
    pub z: f32,
    pub beam: usize,
    pub batch: usize,
    /// Rows asked for.
    pub top: usize,
}

/// Means over the queries.
#[derive(Default, Debug)]
pub struct Figures {
    pub recall: f64,
    pub recomputes: f64,
    pub p95: u64,
    pub pages: f64,
    pub hubs: f64,
    pub late: f64,
    /// Milliseconds in the walk over the hubs.
    pub walk_ms: f64,
}

/// Searches for the top rows of every query; what a scan would recompute is looked up.
pub fn search(index: &Index, settings: Settings) -> Figures {
    let mut hubs = index.hubs.clone();
    let mut figures = Figures::default();
    let mut costs = Vec::new();
    let queries = index.data.truth.len() as f64;
    for (query, truth) in index.data.queries() {
        let last =
            truth.get(settings.top.min(truth.len()).saturating_sub(1)).map_or(f32::NEG_INFINITY, |row| row.1);
        let run = search_one(index, &mut hubs, query, settings);
        let right = run.similarities.iter().filter(|similarity| **similarity >= last - 1e-6).count();
        costs.push(run.recomputed);
        figures.recall += right as f64 / settings.top as f64 / queries;
        figures.recomputes += run.recomputed as f64 / queries;
        figures.pages += run.pages as f64 / queries;
        figures.hubs += run.hubs_read as f64 / queries;
        figures.late += run.late as f64 / queries;
        figures.walk_ms += run.walked.as_secs_f64() * 1e3 / queries;
    }
    costs.sort_unstable();
    figures.p95 = costs.get(costs.len() * 95 / 100).copied().unwrap_or(0);
    figures
}

/// One search: the similarities of the rows that came out, and what they cost.
#[derive(Default)]
struct Run {
    similarities: Vec<f32>,
    recomputed: u64,
    pages: u64,
    late: u64,
    hubs_read: usize,
    walked: Duration,
}

fn search_one(index: &Index, hubs: &mut InMemoryHubs, query: &[f32], settings: Settings) -> Run {
    let sketch_query = index.sketcher.query(query);
    let target = sketch_query.projected()[..index.shape.components].to_vec();
    let mut walk = HubWalk::new(target, HubMetric::Search, settings.beam);
    let Settings { ef, patience, z, .. } = settings;
    let mut rerank = Rerank::new(RerankOptions {
        z,
        expected_rows: settings.top,
        ef,
        patience,
        ..RerankOptions::default()
    });
    let mut estimates = Vec::new();
    let mut run = Run::default();
    hubs.hubs_read = 0;
    while run.similarities.len() < settings.top {
        match rerank.next_step() {
            Step::Emit(_, similarity) => run.similarities.push(similarity),
            Step::Check | Step::Follow(..) => unreachable!("nothing is filtered or capped"),
            Step::Recompute => {
                for key in rerank.take_batch(settings.batch) {
                    run.recomputed += 1;
                    rerank.set_exact(key, dot(query, index.data.row(key)));
                }
            }
            Step::Walk => {
                let begin = Instant::now();
                let next = walk.next(hubs);
                run.walked += begin.elapsed();
                match next {
                    Some((_, page, _)) => {
                        run.pages += 1;
                        let page = &index.pages[page.block as usize];
                        estimates.clear();
                        sketch_query.score_above(rerank.floor(), &page.sketches, &mut estimates);
                        let scored = page.keys.iter().zip(&estimates);
                        rerank.add_page(scored.map(|(key, e)| (*key, e.similarity, e.error)));
                    }
                    None => rerank.walk_exhausted(),
                }
            }
            Step::Done => break,
        }
    }
    (run.late, run.hubs_read) = (rerank.late(), hubs.hubs_read);
    run
}
