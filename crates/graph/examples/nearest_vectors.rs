//! An index of a thousand vectors in memory, and the ten nearest to a query: `cargo run -p leann-graph
//! --example nearest_vectors`.
//!
//! Rows are clustered into pages, and the hubs of the pages linked. A search walks the hubs, scores the rows
//! of the pages that it visits by an estimate, and computes exact similarities of the few best. Here the
//! estimate is a rounded similarity; in the extension it comes from a sketch, and the exact one from running
//! the model on the row's text.

use leann_graph::in_memory::InMemoryHubs;
use leann_graph::{
    Center, F32Vectors, Hub, HubMetric, HubRef, HubWalk, NodePageRef, PageSize, Rerank, RerankOptions, Step,
    Unfinished, balanced_pages, entry_hubs, link_hubs, members_of,
};
use leann_vector::{Rng, dot, normalize};

const DIM: usize = 32;
const ROWS: usize = 1000;
/// Directions around which the rows lie.
const TOPICS: usize = 60;
/// Difference of two neighboring estimates. The standard error of rounding is less than a third of it.
const PRECISION: f32 = 0.02;

fn main() -> Result<(), Unfinished> {
    let mut rng = Rng::new(1);
    let topics: Vec<Vec<f32>> = (0..TOPICS).map(|_| random_near(&[0.0; DIM], &mut rng)).collect();
    let rows: Vec<f32> = (0..ROWS).flat_map(|row| random_near(&topics[row % TOPICS], &mut rng)).collect();
    let row = |key: u32| &rows[key as usize * DIM..][..DIM];

    // Build: pages of up to 25 rows, and one linked hub per page.
    let size = PageSize { fill: 24, capacity: 25 };
    let page_of = balanced_pages(&F32Vectors::new(&rows, DIM), size, 1, &|| false, &|_, _| ())?;
    let pages = members_of(&page_of, ROWS.div_ceil(size.fill))?;
    let mut hubs = linked_hubs(&pages, &row)?;

    // Search: do what the rerank asks for until ten rows were returned.
    let query = random_near(&topics[7], &mut rng);
    let mut walk = HubWalk::new(query.clone(), HubMetric::Search, 8);
    let mut rerank = Rerank::new(RerankOptions {
        z: 1.4,
        expected_rows: 10,
        ef: 32,
        patience: 5,
        ..RerankOptions::default()
    });
    let (mut found, mut visited, mut recomputed) = (0, 0, 0);
    while found < 10 {
        match rerank.next_step() {
            Step::Walk => match walk.next(&mut hubs) {
                Some((_, page, _)) => {
                    visited += 1;
                    let keys = pages[page.block as usize].iter();
                    rerank.add_page(keys.map(|&key| (key, estimate(&query, row(key)), PRECISION / 3.0)));
                }
                None => rerank.walk_exhausted(),
            },
            Step::Check | Step::Follow(..) => unreachable!("nothing is filtered or capped"),
            Step::Recompute => {
                for key in rerank.take_batch(4) {
                    recomputed += 1;
                    rerank.set_exact(key, dot(&query, row(key)));
                }
            }
            Step::Emit(key, similarity) => {
                found += 1;
                println!("row {key:3}  similarity {:.3}", similarity);
            }
            Step::Done => break,
        }
    }
    println!("{visited} of {} pages visited, {recomputed} of {ROWS} similarities computed", pages.len());
    Ok(())
}

/// One hub per page, with its center and links to near hubs.
fn linked_hubs<'a>(pages: &[Vec<u32>], row: &impl Fn(u32) -> &'a [f32]) -> Result<InMemoryHubs, Unfinished> {
    let center_of = |keys: &Vec<u32>| Center::from_vectors(keys.iter().map(|&key| row(key)), DIM);
    let centers: Vec<Center> = pages.iter().map(center_of).collect();
    let flat: Vec<f32> = centers.iter().flat_map(|center| center.values.clone()).collect();
    let mut hubs = InMemoryHubs::new(20);
    for (block, (center, links)) in centers.into_iter().zip(link_hubs(&flat, DIM, 6, &|| false)?).enumerate()
    {
        let node_page = NodePageRef { block: block as u32, generation: 1 };
        let links = links.into_iter().map(|hub| hubs.place(hub as usize)).collect();
        let (center, spread) = (center.values, center.spread);
        hubs.push(Hub { at: HubRef::default(), node_page, center, spread, links });
    }
    hubs.entries = entry_hubs(&flat, DIM, 4)?.into_iter().map(|hub| hubs.place(hub as usize)).collect();
    Ok(hubs)
}

/// What is known of a similarity before it is computed.
fn estimate(query: &[f32], row: &[f32]) -> f32 {
    (dot(query, row) / PRECISION).round() * PRECISION
}

/// A random vector of unit length in about the direction of `center`, if that has one.
fn random_near(center: &[f32], rng: &mut Rng) -> Vec<f32> {
    let mut vector: Vec<f32> = center.iter().map(|x| x + 0.002 * (rng.below(201) as f32 - 100.0)).collect();
    assert!(normalize(&mut vector));
    vector
}
