//! A walk over several indexes gives what the walks over each give, the best page first.

mod support;

use leann_graph::in_memory::InMemoryHubs;
use leann_graph::{HubMetric, HubRef, HubWalk, NodePageRef, Walks};
use proptest::prelude::*;
use support::{clustered, hub, linked};

const D: usize = 6;

type Page = (usize, HubRef, NodePageRef, f32);

fn walk(target: &[f32], beam: usize) -> HubWalk {
    HubWalk::new(target.to_vec(), HubMetric::Search, beam)
}

/// An index over `n` hubs.
fn index(n: usize, seed: u64) -> InMemoryHubs {
    linked(&clustered(n, D, 7, seed), D, 5, 3)
}

/// Everything that one walk gives, as pages of index `number`.
fn alone(number: usize, target: &[f32], beam: usize, hubs: &mut InMemoryHubs) -> Vec<Page> {
    let mut walk = walk(target, beam);
    std::iter::from_fn(|| walk.next(hubs)).map(|(at, page, score)| (number, at, page, score)).collect()
}

#[test]
fn no_index_and_empty_indexes() {
    assert_eq!(Walks::new(Vec::new()).next::<InMemoryHubs>(&mut []), None);
    let mut readers = [InMemoryHubs::new(3), InMemoryHubs::new(3)];
    let mut walks = Walks::new(vec![walk(&[1.0], 4), walk(&[1.0], 4)]);
    assert_eq!(walks.next(&mut readers), None);
    assert_eq!(walks.next(&mut readers), None);
    assert!(!walks.out_of_memory());
}

#[test]
fn one_index_is_walked_as_by_its_own_walk() {
    let target = clustered(1, D, 1, 5);
    let (mut hubs, mut readers) = (index(150, 2), [index(150, 2)]);
    let mut expected = walk(&target, 4);
    let mut walks = Walks::new(vec![walk(&target, 4)]);
    for step in 0..170 {
        let next = expected.next(&mut hubs).map(|(at, page, score)| (0, at, page, score));
        assert_eq!(walks.next(&mut readers), next);
        // No further than that one reads, neither before its end nor after.
        assert_eq!(readers[0].hubs_read, hubs.hubs_read);
        if step % 20 == 7
            && let Some((_, at, ..)) = next
        {
            // The page was split since.
            for hubs in [&mut hubs, &mut readers[0]] {
                let slot = hubs.index(at).unwrap();
                hubs.slots[slot].as_mut().unwrap().node_page.generation += 1;
            }
            expected.read_again(at);
            walks.read_again(0, at);
        }
    }
    assert_eq!(walks.next(&mut readers), None);
}

#[test]
fn equal_scores_go_by_the_number_of_the_index() {
    let mut readers = [InMemoryHubs::new(2), InMemoryHubs::new(2)];
    for reader in &mut readers {
        reader.push(hub(0, 0, &[1.0], Vec::new()));
        reader.push(hub(1, 0, &[0.5], Vec::new()));
    }
    let mut walks = Walks::new(vec![walk(&[1.0], 2), walk(&[1.0], 2)]);
    let order: Vec<(usize, u32)> =
        std::iter::from_fn(|| walks.next(&mut readers)).map(|next| (next.0, next.2.block)).collect();
    assert_eq!(order, [(0, 100), (1, 100), (0, 101), (1, 101)]);
}

#[test]
fn an_exhausted_index_is_not_read_again_until_all_are() {
    let mut readers = [index(3, 1), index(60, 2)];
    let target = clustered(1, D, 1, 5);
    let mut walks = Walks::new(vec![walk(&target, 4), walk(&target, 4)]);
    while walks.next(&mut readers).is_some() {}
    let read = readers[0].hubs_read;
    assert!(read <= 2 * 3 + 3, "{read} reads of three hubs");
    // A hub that is new by now is found by asking again.
    readers[0].push(hub(7, 0, &target, Vec::new()));
    assert_eq!(walks.next(&mut readers).map(|next| (next.0, next.2.block)), Some((0, 107)));
    assert_eq!(walks.next(&mut readers), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    /// Every page of every index once; a page is the best of those that the walks have reached.
    #[test]
    fn several_indexes_are_merged(
        sizes in proptest::collection::vec(0usize..60, 1..5),
        beam in 1usize..8,
        seed in 0u64..1000,
    ) {
        let target = clustered(1, D, 1, seed);
        let indexes = || sizes.iter().zip(seed..).map(|(&size, seed)| index(size, seed));
        let mut readers: Vec<InMemoryHubs> = indexes().collect();
        let mut walks = Walks::new(sizes.iter().map(|_| walk(&target, beam)).collect());
        let merged: Vec<Page> = std::iter::from_fn(|| walks.next(&mut readers)).collect();
        let mut sources: Vec<std::collections::VecDeque<Page>> = indexes()
            .enumerate()
            .map(|(number, mut hubs)| alone(number, &target, beam, &mut hubs).into())
            .collect();
        for page in &merged {
            let heads = sources.iter().filter_map(|source| source.front());
            let best = heads.map(|page| page.3).fold(f32::MIN, f32::max);
            prop_assert_eq!(page.3, best);
            prop_assert_eq!(sources[page.0].pop_front(), Some(*page));
        }
        prop_assert!(sources.iter().all(|source| source.is_empty()));
    }
}
