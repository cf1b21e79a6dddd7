//! Links are near, diverse, within range and reach every hub; splits are two real halves.

mod support;

use std::collections::HashSet;

use leann_graph::{HubRef, Unfinished, bisect, entry_hubs, link_hubs, select_links};
use leann_vector::dot;
use proptest::prelude::*;
use support::clustered;

fn linked(centers: &[f32], d: usize, max_links: usize) -> Vec<Vec<u32>> {
    link_hubs(centers, d, max_links, &|| false).unwrap()
}

fn reached(links: &[Vec<u32>], entries: &[u32]) -> usize {
    let mut seen = vec![false; links.len()];
    let mut open: Vec<u32> = entries.to_vec();
    let mut count = 0;
    while let Some(hub) = open.pop() {
        if !std::mem::replace(&mut seen[hub as usize], true) {
            count += 1;
            open.extend(&links[hub as usize]);
        }
    }
    count
}

#[test]
fn links_reach_nearly_every_hub() {
    let d = 16;
    let centers = clustered(1500, d, 70, 1);
    let links = linked(&centers, d, 10);
    assert!(links.iter().all(|links| !links.is_empty() && links.len() <= 10));
    let count = reached(&links, &entry_hubs(&centers, d, 8).unwrap());
    assert!(count >= 1480, "{count} of 1500 hubs reached");
}

#[test]
fn no_hubs_and_one_hub() {
    assert!(linked(&[], 4, 8).is_empty());
    assert_eq!(linked(&[1.0, 2.0], 2, 8), [Vec::<u32>::new()]);
    assert_eq!(linked(&[1.0, 0.0, 0.0, 1.0], 2, 8), [vec![1], vec![0]]);
    assert_eq!(linked(&[1.0, 0.0, 0.0, 1.0], 2, 0), [Vec::<u32>::new(), Vec::new()]);
    assert!(entry_hubs(&[], 4, 3).unwrap().is_empty());
    assert_eq!(entry_hubs(&[1.0, 0.0, 0.0, 1.0], 2, 3).unwrap(), [0, 1]);
    assert_eq!(link_hubs(&clustered(600, 4, 3, 1), 4, 8, &|| true), Err(Unfinished::Stopped));
}

#[test]
fn entries_spread_over_the_clusters() {
    let d = 8;
    let centers = clustered(400, d, 8, 11);
    let entries = entry_hubs(&centers, d, 8).unwrap();
    let clusters: std::collections::HashSet<u32> = entries.iter().map(|hub| hub % 8).collect();
    assert!(clusters.len() >= 6, "{} of 8 clusters have an entry", clusters.len());
}

#[test]
fn selection_prefers_diverse_hubs() {
    let at = |slot| HubRef { page: 1, slot };
    // Two near ones side by side, and one further away on the other side.
    let candidates = vec![
        (at(0), vec![1.0, 0.0]),
        (at(1), vec![1.1, 0.1]),
        (at(2), vec![-2.0, 0.0]),
        (at(0), vec![1.0, 0.0]),
    ];
    assert_eq!(select_links(&[0.0, 0.0], &candidates, 2), [at(0), at(2)]);
    assert_eq!(select_links(&[0.0, 0.0], &candidates, 9), [at(0), at(1), at(2)]);
    assert!(select_links(&[0.0, 0.0], &candidates, 0).is_empty());
    assert!(select_links(&[0.0, 0.0], &[], 4).is_empty());
}

#[test]
fn a_split_separates_two_clusters() {
    let d = 12;
    let vectors = clustered(141, d, 2, 4);
    let sides = bisect(&vectors, d, 0.25);
    let first = sides[0];
    let wrong = sides.iter().enumerate().filter(|(row, side)| (row % 2 == 0) != (**side == first)).count();
    assert!(wrong <= 2, "{wrong} rows on the wrong side");
}

#[test]
fn a_lopsided_split_keeps_its_share() {
    // A cloud of 100 near the origin, and three far out together.
    let d = 4;
    let mut vectors: Vec<f32> = clustered(100, d, 100, 4).iter().map(|x| x * 0.1).collect();
    vectors.extend([[0.0, 3.0, 0.0, 0.0]; 3].concat());
    let sides = bisect(&vectors, d, 0.25);
    let moved = sides.iter().filter(|side| **side).count();
    assert!((25..=78).contains(&moved), "{moved}");
    // With no share asked for, the outliers go alone.
    let sides = bisect(&vectors, d, 0.0);
    let moved = sides.iter().filter(|side| **side).count();
    assert_eq!(moved.min(103 - moved), 3);
}

#[test]
fn identical_vectors_are_halved() {
    for n in [2usize, 3, 141] {
        let vectors: Vec<f32> = std::iter::repeat_n([0.6f32, 0.8], n).flatten().collect();
        let moved = bisect(&vectors, 2, 0.25).into_iter().filter(|side| *side).count();
        assert!(moved.abs_diff(n - moved) <= 1, "{moved} of {n}");
    }
    assert_eq!(bisect(&[1.0, 2.0], 2, 0.25), [false]);
    assert!(bisect(&[], 2, 0.25).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_split_has_two_sides(
        n in 2usize..200,
        clusters in 1usize..5,
        share in -1.0f32..2.0,
        seed in any::<u32>(),
    ) {
        let vectors = clustered(n, 5, clusters, seed.into());
        let sides = bisect(&vectors, 5, share);
        prop_assert_eq!(&sides, &bisect(&vectors, 5, share));
        let moved = sides.iter().filter(|side| **side).count();
        let least = ((share.clamp(0.0, 0.5) * n as f32) as usize).max(1);
        prop_assert!(moved >= least && n - moved >= least, "{} of {}", moved, n);
    }

    #[test]
    fn links_are_in_range_and_nearest_first(n in 0usize..80, max_links in 0usize..12, seed in any::<u32>()) {
        let d = 5;
        let centers = clustered(n, d, 4, seed.into());
        let links = linked(&centers, d, max_links);
        prop_assert_eq!(links.len(), n);
        for (hub, links) in links.iter().enumerate() {
            prop_assert!(links.len() <= max_links);
            let mut unique = links.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), links.len());
            prop_assert!(links.iter().all(|link| *link as usize != hub && (*link as usize) < n));
            let similarity = |link: &u32| dot(&centers[hub * d..][..d], &centers[*link as usize * d..][..d]);
            prop_assert!(links.is_sorted_by(|a, b| similarity(a) >= similarity(b) - 1e-4));
        }
    }
}

#[test]
fn hubs_of_equal_pages_do_not_hide_the_others() {
    // A text fills 98 pages of 100, in one place between the others.
    let d = 16;
    for (copies, others) in [(2900, 60), (500, 10), (60, 60), (3000, 3)] {
        let different = clustered(others, d, others.div_ceil(4), 9);
        let mut centers = different.clone();
        let copy = &clustered(1, d, 1, 5)[..];
        (0..copies).for_each(|_| centers.extend_from_slice(copy));
        let links = link_hubs(&centers, d, 24, &|| false).unwrap();
        let mut reached: HashSet<u32> = entry_hubs(&centers, d, 16).unwrap().into_iter().collect();
        let mut waiting: Vec<u32> = reached.iter().copied().collect();
        while let Some(hub) = waiting.pop() {
            waiting.extend(links[hub as usize].iter().filter(|link| reached.insert(**link)));
        }
        let missed: Vec<u32> = (0..others as u32).filter(|hub| !reached.contains(hub)).collect();
        assert!(missed.is_empty(), "{missed:?} of {others} among {copies}");
        assert!((others as u32..(others + copies) as u32).any(|hub| reached.contains(&hub)), "the copies");
    }
}
