//! How long the inner loops of an index take: `cargo bench -p leann-graph --bench graph`.
//!
//! Sizes are those of an index over 50,000 rows with a trained sketch: 365 pages of 140 nodes, 160 components
//! per center. The vectors are random and clustered.

#[path = "../tests/support/mod.rs"]
mod support;

use divan::{Bencher, black_box};
use leann_graph::in_memory::InMemoryHubs;
use leann_graph::tuning::{
    CENTER_COMPONENTS, DEFAULT_EF_SEARCH, DEFAULT_EXPECTED_ROWS, DEFAULT_RECOMPUTE_BATCH, DEFAULT_RERANK_Z,
    ENTRY_HUBS, MAX_LINKS, MIN_SPLIT_SHARE, SEARCH_BEAM,
};
use leann_graph::{
    HubMetric, HubRef, HubWalk, Rerank, RerankOptions, Step, bisect, default_patience, select_links,
};
use leann_vector::Rng;
use support::{clustered, linked, uniform};

/// Hubs of the index.
const PAGES: usize = 365;
/// Nodes on a page.
const NODES: usize = 140;
/// Components of a sketch that has 384.
const COMPONENTS: usize = 384;

fn main() {
    divan::main();
}

fn hubs() -> InMemoryHubs {
    linked(&clustered(PAGES, CENTER_COMPONENTS, 40, 1), CENTER_COMPONENTS, MAX_LINKS, ENTRY_HUBS)
}

/// Returns the first pages of a walk.
#[divan::bench(args = [1, 10, 100])]
fn walk(bencher: Bencher, pages: usize) {
    let (mut hubs, target) = (hubs(), clustered(1, CENTER_COMPONENTS, 1, 2));
    bencher.bench_local(|| {
        let mut walk = HubWalk::new(target.clone(), HubMetric::Search, SEARCH_BEAM);
        (0..pages).filter_map(|_| walk.next(&mut hubs)).count()
    });
}

/// Selects the links of a new hub among twice as many near ones.
#[divan::bench]
fn links(bencher: Bencher) {
    let centers = clustered(2 * MAX_LINKS, CENTER_COMPONENTS, 5, 3);
    let centers = centers.chunks_exact(CENTER_COMPONENTS).zip(0..);
    let near: Vec<(HubRef, Vec<f32>)> =
        centers.map(|(center, slot)| (HubRef { page: 1, slot }, center.to_vec())).collect();
    let target = clustered(1, CENTER_COMPONENTS, 1, 4);
    bencher.bench(|| select_links(black_box(&target), &near, MAX_LINKS));
}

/// Divides a full page.
#[divan::bench]
fn halves(bencher: Bencher) {
    let vectors = clustered(NODES + 1, COMPONENTS, 3, 5);
    bencher.bench(|| bisect(black_box(&vectors), COMPONENTS, MIN_SPLIT_SHARE));
}

/// Nodes of one page: key, estimate and standard error.
type Nodes = Vec<(u32, f32, f32)>;

/// Pages in the order of a walk: the first hold the nearest rows, more or less.
fn nodes(pages: usize) -> Vec<Nodes> {
    let mut rng = Rng::new(6);
    let mut page = |number: usize| -> Nodes {
        let level = 0.6 / (1.0 + number as f32 * 0.2);
        let keys = (number * NODES..(number + 1) * NODES).map(|key| key as u32);
        keys.map(|key| (key, level + 0.4 * uniform(&mut rng) - 0.2, 0.03)).collect()
    };
    (0..pages).map(&mut page).collect()
}

fn rerank() -> Rerank<u32> {
    Rerank::new(RerankOptions {
        z: DEFAULT_RERANK_Z as f32,
        expected_rows: DEFAULT_EXPECTED_ROWS,
        ef: DEFAULT_EF_SEARCH,
        patience: default_patience(PAGES as u32, 1.0) as usize,
        ..RerankOptions::default()
    })
}

/// Adds one page to a rerank that has a hundred.
#[divan::bench]
fn rerank_page(bencher: Bencher) {
    let pages = nodes(101);
    let filled = || {
        let mut rerank = rerank();
        pages[..100].iter().for_each(|page| {
            rerank.add_page(page.iter().copied());
        });
        rerank
    };
    bencher.with_inputs(filled).bench_refs(|rerank| rerank.add_page(pages[100].iter().copied()));
}

/// Returns ten rows of a hundred pages.
#[divan::bench]
fn rerank_ten(bencher: Bencher) {
    let pages = nodes(100);
    bencher.bench(|| {
        let mut rerank = rerank();
        let mut unread = pages.iter();
        let mut returned = 0;
        while returned < DEFAULT_EXPECTED_ROWS {
            match rerank.next_step() {
                Step::Emit(..) => returned += 1,
                Step::Check | Step::Follow(..) => unreachable!("nothing is filtered or capped"),
                Step::Recompute => {
                    for key in rerank.take_batch(DEFAULT_RECOMPUTE_BATCH) {
                        let estimate = rerank.estimate_of(key).unwrap_or(0.0);
                        rerank.set_exact(key, estimate + if key % 2 == 0 { 0.01 } else { -0.01 });
                    }
                }
                Step::Walk => match unread.next() {
                    Some(page) => _ = rerank.add_page(page.iter().copied()),
                    None => rerank.walk_exhausted(),
                },
                Step::Done => break,
            }
        }
        returned
    });
}
