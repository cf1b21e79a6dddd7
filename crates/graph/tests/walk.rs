//! The walk gives every hub exactly once, whatever the links say, and the best ones first.

mod support;

use std::collections::HashSet;

use leann_graph::in_memory::InMemoryHubs;
use leann_graph::{F32Vectors, Hub, HubMetric, HubRef, HubWalk, NodePageRef, PageSize, balanced_pages};
use leann_vector::dot;
use proptest::prelude::*;
use support::{clustered, hub, linked};

fn all(walk: &mut HubWalk, hubs: &mut InMemoryHubs) -> Vec<NodePageRef> {
    std::iter::from_fn(|| walk.next(hubs)).map(|(_, node_page, _)| node_page).collect()
}

#[test]
fn nothing_to_walk() {
    let mut walk = HubWalk::new(vec![1.0], HubMetric::Search, 4);
    let mut hubs = InMemoryHubs::new(3);
    assert_eq!(walk.next(&mut hubs), None);
    assert_eq!(hubs.hubs_read, 0);
}

#[test]
fn without_links_the_chain_is_ranked() {
    let mut hubs = InMemoryHubs::new(2);
    for (index, x) in [0.1f32, 0.9, 0.5].into_iter().enumerate() {
        hubs.push(hub(index as u32, 0, &[x], Vec::new()));
    }
    let mut walk = HubWalk::new(vec![1.0], HubMetric::Search, 4);
    let blocks: Vec<u32> = all(&mut walk, &mut hubs).iter().map(|page| page.block).collect();
    assert_eq!(blocks, [101, 102, 100]);
}

#[test]
fn place_prefers_the_nearest_center_and_not_the_longest() {
    let mut hubs = InMemoryHubs::new(2);
    hubs.push(hub(0, 0, &[2.0, 0.0], Vec::new()));
    hubs.push(hub(1, 0, &[0.5, 0.0], Vec::new()));
    let first =
        |metric, hubs: &mut InMemoryHubs| HubWalk::new(vec![0.6, 0.1], metric, 1).next(hubs).unwrap().1.block;
    assert_eq!(first(HubMetric::Place, &mut hubs), 101);
    assert_eq!(first(HubMetric::Search, &mut hubs), 100);
}

#[test]
fn a_nan_center_comes_last() {
    let mut hubs = InMemoryHubs::new(4);
    for (index, x) in [f32::NAN, -3.0, 1.0].into_iter().enumerate() {
        hubs.push(hub(index as u32, 0, &[x], Vec::new()));
    }
    let mut walk = HubWalk::new(vec![1.0], HubMetric::Search, 1);
    let blocks: Vec<u32> = all(&mut walk, &mut hubs).iter().map(|page| page.block).collect();
    assert_eq!(blocks, [102, 101, 100]);
}

#[test]
fn reads_few_hubs_before_the_first_answer() {
    let d = 16;
    let centers = clustered(2000, d, 60, 3);
    let mut hubs = linked(&centers, d, 12, 8);
    let mut found = 0;
    for target in clustered(100, d, 60, 3).chunks_exact(d) {
        let mut walk = HubWalk::new(target.to_vec(), HubMetric::Search, 16);
        let (_, node_page, score) = walk.next(&mut hubs).unwrap();
        let best = centers.chunks_exact(d).map(|c| dot(c, target)).fold(f32::MIN, f32::max);
        found += usize::from(score >= best - 1e-5);
        assert!(node_page.block >= 100);
        let read = std::mem::take(&mut hubs.hubs_read);
        assert!(read < 1000, "{read} hubs read of 2000");
    }
    assert!(found >= 97, "the best hub came first in {found} of 100 walks");
}

#[test]
fn a_split_page_comes_again_once_its_hub_is_read_again() {
    let d = 4;
    let centers = clustered(50, d, 5, 9);
    let mut hubs = linked(&centers, d, 6, 3);
    let mut walk = HubWalk::new(centers[..d].to_vec(), HubMetric::Search, 4);
    let mut given: HashSet<NodePageRef> = HashSet::new();
    for _ in 0..10 {
        given.insert(walk.next(&mut hubs).unwrap().1);
    }
    // A visited page and one not yet visited are split: next generation in place, and one hub more each.
    let split = given.iter().next().copied().unwrap();
    let unvisited = (100..150).find(|block| given.iter().all(|page| page.block != *block)).unwrap();
    for block in [split.block, unvisited] {
        let slot = hubs.slots[(block - 100) as usize].as_mut().unwrap();
        slot.node_page.generation = 1;
        let center = slot.center.clone();
        hubs.push(hub(1000 + block, 1, &center, Vec::new()));
    }
    walk.read_again(hubs.place((split.block - 100) as usize));
    // Its new generation is the next answer, or one of the next: it was among the nearest.
    let soon: Vec<NodePageRef> = (0..10).map(|_| walk.next(&mut hubs).unwrap().1).collect();
    assert!(soon.contains(&NodePageRef { block: split.block, generation: 1 }));
    let rest: Vec<NodePageRef> = soon.into_iter().chain(all(&mut walk, &mut hubs)).collect();
    let wanted = [split.block, unvisited].into_iter().flat_map(|block| [block, 1100 + block]);
    for block in wanted {
        assert!(rest.contains(&NodePageRef { block, generation: 1 }), "block {block} is missing");
    }
    assert!(rest.iter().all(|page| given.insert(*page)), "a page came twice");
}

#[test]
fn the_end_is_sure_only_after_a_look_at_the_chain() {
    let mut hubs = InMemoryHubs::new(2);
    hubs.push(hub(0, 0, &[1.0], Vec::new()));
    let mut walk = HubWalk::new(vec![1.0], HubMetric::Search, 1);
    assert_eq!(walk.next(&mut hubs).map(|hub| hub.1.block), Some(100));
    // Born after the chain was read, by a split that the walk was not told of.
    hubs.push(hub(1, 0, &[1.0], Vec::new()));
    assert_eq!(walk.next(&mut hubs).map(|hub| hub.1.block), Some(101));
    assert_eq!(walk.next(&mut hubs), None);
    assert_eq!(walk.next(&mut hubs), None);
    hubs.push(hub(2, 0, &[1.0], Vec::new()));
    assert_eq!(walk.next(&mut hubs).map(|hub| hub.1.block), Some(102));
}

/// Coverage of the true nearest rows by pages read, in the walk's order and with all hubs ranked.
#[test]
fn covers_as_much_as_ranking_every_hub() {
    let (rows, queries, d) = support::real("fiqa-pool").map_or_else(
        || (clustered(8000, 24, 300, 1), clustered(200, 24, 300, 1), 24),
        |(rows, queries, d)| {
            let floats = |values: &[half::f16]| values.iter().map(|x| x.to_f32()).collect::<Vec<f32>>();
            (floats(&rows), floats(&queries[..200 * d]), d)
        },
    );
    let size = PageSize { fill: 97, capacity: 100 };
    let page_of = balanced_pages(&F32Vectors::new(&rows, d), size, 1, &|| false, &|_, _| ()).unwrap();
    let pages = page_of.iter().max().map_or(0, |page| *page as usize + 1);
    let mut centers = vec![0.0; pages * d];
    for (row, page) in rows.chunks_exact(d).zip(&page_of) {
        centers[*page as usize * d..][..d].iter_mut().zip(row).for_each(|(sum, x)| *sum += x / 97.0);
    }
    let mut hubs = linked(&centers, d, 12, 8);
    let read = [pages / 10, pages / 5, pages * 2 / 5];
    let (mut walked, mut ranked) = ([0; 3], [0; 3]);
    for query in queries.chunks_exact(d) {
        let mut near: Vec<usize> = (0..page_of.len()).collect();
        let similarity: Vec<f32> = rows.chunks_exact(d).map(|row| dot(row, query)).collect();
        near.select_nth_unstable_by(10, |a, b| similarity[*b].total_cmp(&similarity[*a]));
        let mut by_score: Vec<u32> = (0..pages as u32).collect();
        let score = |page: &u32| dot(&centers[*page as usize * d..][..d], query);
        by_score.sort_by(|a, b| score(b).total_cmp(&score(a)));
        let mut walk = HubWalk::new(query.to_vec(), HubMetric::Search, 16);
        let by_walk: Vec<u32> = all(&mut walk, &mut hubs).iter().map(|page| page.block - 100).collect();
        for (i, read) in read.iter().enumerate() {
            let covered = |order: &[u32]| {
                near[..10].iter().filter(|row| order[..*read].contains(&page_of[**row])).count()
            };
            walked[i] += covered(&by_walk);
            ranked[i] += covered(&by_score);
        }
    }
    let all = queries.len() / d * 10;
    println!("of {all}: walked {walked:?} ranked {ranked:?} on {read:?} of {pages} pages");
    for (walked, ranked) in walked.iter().zip(ranked) {
        assert!(walked * 200 + all >= ranked * 200, "half a point worse: {walked} and {ranked} of {all}");
    }
}

fn reference() -> impl Strategy<Value = HubRef> {
    (0u32..12, 0u16..8).prop_map(|(page, slot)| HubRef { page, slot })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// Random links: to free slots, impossible places, itself, twice the same.
    #[test]
    fn every_hub_exactly_once(
        slots in proptest::collection::vec(
            proptest::option::weighted(0.8, (-1.0f32..1.0, proptest::collection::vec(reference(), 0..8))),
            0..60,
        ),
        entries in proptest::collection::vec(reference(), 0..5),
        beam in 0usize..20,
        place in any::<bool>(),
    ) {
        let mut hubs = InMemoryHubs::new(7);
        for (index, slot) in slots.iter().enumerate() {
            let at = hubs.place(index);
            hubs.slots.push(slot.as_ref().map(|(x, links)| {
                Hub { at, ..hub(index as u32, 3, &[*x], links.clone()) }
            }));
        }
        hubs.entries = entries;
        let metric = if place { HubMetric::Place } else { HubMetric::Search };
        let mut walk = HubWalk::new(vec![0.7], metric, beam);
        let given = all(&mut walk, &mut hubs);
        let unique: HashSet<NodePageRef> = given.iter().copied().collect();
        prop_assert_eq!(given.len(), unique.len());
        let expected: HashSet<NodePageRef> = hubs.slots.iter().flatten().map(|hub| hub.node_page).collect();
        prop_assert_eq!(unique, expected);
    }

    /// The index changes while it is walked: hubs vanish, slots are used for other pages, pages are split.
    /// What stays is given once; what is new is given once, at the end at the latest.
    #[test]
    fn every_hub_once_while_the_index_changes(
        changes in proptest::collection::vec((0usize..40, 0u8..3, 0usize..40), 1..20),
        seed in 0u64..50,
    ) {
        let d = 4;
        let centers = clustered(40, d, 6, seed);
        let mut hubs = linked(&centers, d, 4, 2);
        let stable: HashSet<NodePageRef> = {
            let touched: HashSet<usize> = changes.iter().map(|change| change.0).collect();
            let left = (0..40).filter(|index| !touched.contains(index));
            left.map(|index| hubs.slots[index].as_ref().unwrap().node_page).collect()
        };
        let mut walk = HubWalk::new(centers[..d].to_vec(), HubMetric::Search, 3);
        let mut given = Vec::new();
        for (number, (index, kind, steps)) in changes.into_iter().enumerate() {
            let generation = number as u32 + 1;
            match kind {
                0 => hubs.slots[index] = None,
                1 => {
                    let at = hubs.place(index);
                    hubs.slots[index] = Some(Hub { at, ..hub(500 + generation, 0, &centers[..d], vec![at]) });
                }
                _ => {
                    if let Some(hub) = &mut hubs.slots[index] {
                        hub.node_page.generation = generation;
                    }
                }
            }
            for _ in 0..steps % 8 {
                given.extend(walk.next(&mut hubs).map(|(_, node_page, _)| node_page));
            }
            if steps % 3 == 0 {
                walk.read_again(hubs.place(index));
            }
        }
        given.extend(all(&mut walk, &mut hubs));
        let unique: HashSet<NodePageRef> = given.iter().copied().collect();
        prop_assert_eq!(given.len(), unique.len());
        prop_assert!(stable.is_subset(&unique));
        prop_assert!(hubs.slots.iter().flatten().all(|hub| unique.contains(&hub.node_page)));
    }
}
