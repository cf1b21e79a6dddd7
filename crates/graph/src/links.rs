//! Links between hubs: near and diverse neighbors, and the hubs that walks start from.
//!
//! Neighbors are selected by the heuristic of HNSW (Malkov and Yashunin, "Efficient and robust approximate
//! nearest neighbor search using Hierarchical Navigable Small World graphs", TPAMI 2018, algorithm 4, with
//! pruned connections kept), over L2 distances between centers. `max_links` is the M of that paper.

use leann_page::HubRef;
use leann_vector::{dot, squared_distance};
use rayon::prelude::*;
use rustc_hash::FxHashSet;

use crate::fallible;
use crate::kmeans::{self, ROWS_PER_BLOCK, Subset};
use crate::vectors::{F32Vectors, Vectors};
use crate::{Stop, Unfinished};

/// Near hubs considered per link that is kept.
const CANDIDATES_PER_LINK: usize = 4;
/// Rounds of the k-means that spreads the entry hubs.
const ENTRY_ROUNDS: usize = 8;
/// Seed of that k-means: entry hubs are a function of the centers.
const ENTRY_SEED: u64 = 1;

/// Returns the links of every hub to at most `max_links` others, nearest first. `centers` is k x d,
/// row-major.
///
/// Links are mutual where there is room: a hub that another one chose gets a link back, and then chooses the
/// best of all again. Takes time k^2 d / threads.
pub fn link_hubs(
    centers: &[f32],
    d: usize,
    max_links: usize,
    stop: Stop<'_>,
) -> Result<Vec<Vec<u32>>, Unfinished> {
    let k = centers.len().checked_div(d).unwrap_or(0);
    if k < 2 || max_links == 0 {
        return fallible::filled(Vec::new(), k);
    }
    let centers = F32Vectors::new(centers, d);
    let wanted = (CANDIDATES_PER_LINK * max_links).min(k - 1);
    let near = nearest(centers, wanted, stop)?;
    let choose_of = |hub: usize, near: &[u32]| {
        if stop() { Err(Unfinished::Stopped) } else { Ok(choose(centers, hub as u32, near, max_links)) }
    };
    let chosen = near.par_iter().enumerate().map(|(hub, near)| choose_of(hub, near));
    let chosen = all_of(fallible::par_collect(chosen, k)?)?;
    drop(near);
    let reverse = reversed(&chosen)?;
    let links = chosen.into_par_iter().zip(reverse).enumerate();
    let links = links.map(|(hub, (links, reverse))| choose_of(hub, &union(links, &reverse)));
    all_of(fallible::par_collect(links, k)?)
}

/// Returns the results, or the first error among them.
fn all_of<T>(results: Vec<Result<T, Unfinished>>) -> Result<Vec<T>, Unfinished> {
    let mut all = fallible::with_capacity(results.len())?;
    for result in results {
        all.push(result?);
    }
    Ok(all)
}

/// Returns, for every hub, the hubs that have a link to it.
fn reversed(links: &[Vec<u32>]) -> Result<Vec<Vec<u32>>, Unfinished> {
    let mut reverse = fallible::filled(Vec::new(), links.len())?;
    for (hub, links) in links.iter().enumerate() {
        for &link in links {
            fallible::push(&mut reverse[link as usize], hub as u32)?;
        }
    }
    Ok(reverse)
}

/// Appends to `links` what of `others` is not in it.
fn union(mut links: Vec<u32>, others: &[u32]) -> Vec<u32> {
    let before = links.len();
    for &other in others {
        if !links[..before].contains(&other) {
            links.push(other);
        }
    }
    links
}

/// Returns `count` hubs that lie far apart and together represent all: the hub nearest to each of `count`
/// cluster centers. `centers` is k x d, row-major. Of hubs with equal centers only the first counts, so that
/// pages of copies do not take all places. Returns all hubs if no more than `count` are different.
/// Deterministic.
pub fn entry_hubs(centers: &[f32], d: usize, count: usize) -> Result<Vec<u32>, Unfinished> {
    let centers = F32Vectors::new(centers, d);
    let all = different(centers)?;
    if all.len() <= count {
        return Ok(all);
    }
    let hubs = Subset { vectors: &centers, ids: &all, stop: &|| false };
    let clusters = hubs.kmeans(count, ENTRY_ROUNDS, ENTRY_SEED)?;
    let mut entries: Vec<u32> = Vec::with_capacity(count);
    for cluster in clusters.chunks_exact(d) {
        let nearest = all
            .iter()
            .filter(|hub| !entries.contains(hub))
            .map(|&hub| (squared_distance(cluster, centers.row(hub)), hub))
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        entries.extend(nearest.map(|(_, hub)| hub));
    }
    Ok(entries)
}

/// Returns the first hub of each center.
fn different(centers: F32Vectors<'_>) -> Result<Vec<u32>, Unfinished> {
    let mut seen = FxHashSet::default();
    seen.try_reserve(centers.len()).map_err(|_| Unfinished::NoMemory)?;
    let mut hubs = fallible::with_capacity(centers.len())?;
    // Different centers with the same key are possible, and rare: one of them is then no entry.
    hubs.extend((0..centers.len() as u32).filter(|&hub| seen.insert(leann_vector::hash(centers.row(hub)))));
    Ok(hubs)
}

/// Returns the links of one hub with center `target`, nearest first, selected among `candidates` (in any
/// order, with repetitions, without the hub itself). Centers of different lengths are compared over the
/// shorter one.
pub fn select_links(target: &[f32], candidates: &[(HubRef, Vec<f32>)], max_links: usize) -> Vec<HubRef> {
    let mut near: Vec<(f32, usize)> = Vec::with_capacity(candidates.len());
    let mut seen = FxHashSet::default();
    for (index, (at, center)) in candidates.iter().enumerate() {
        if seen.insert(*at) {
            near.push((squared_distance(target, center), index));
        }
    }
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then(candidates[a.1].0.cmp(&candidates[b.1].0)));
    let picked = diverse(&near, max_links, |a, b| squared_distance(&candidates[a].1, &candidates[b].1));
    picked.into_iter().map(|index| candidates[index].0).collect()
}

/// Returns the links of both hubs after a page was split: of the hub at `old`, which had the links `former`,
/// and of the hub at `new`. Each is linked to the other first, and then to what the page's hub was linked to,
/// as far as there is room for `max_links`.
pub fn link_halves(former: &[HubRef], old: HubRef, new: HubRef, max_links: usize) -> [Vec<HubRef>; 2] {
    let with_first = |first: HubRef| {
        let others = former.iter().copied().filter(|&at| at != first);
        std::iter::once(first).chain(others).take(max_links).collect()
    };
    [with_first(new), with_first(old)]
}

/// Returns the links of a hub with center `center` and links `links` after the hub `new` asked for a link;
/// None if they stay as they are.
///
/// A full hub keeps the best of all. `read_centers` is called only then: it returns the centers of those hubs
/// among its argument that still exist. Links that lead to no hub any more are the first to give way.
pub fn links_with(
    center: &[f32],
    links: &[HubRef],
    new: (HubRef, &[f32]),
    max_links: usize,
    read_centers: impl FnOnce(&[HubRef]) -> Vec<(HubRef, Vec<f32>)>,
) -> Option<Vec<HubRef>> {
    if links.contains(&new.0) {
        return None;
    }
    if links.len() < max_links {
        return Some([links, &[new.0]].concat());
    }
    let mut candidates = vec![(new.0, new.1.to_vec())];
    candidates.extend(read_centers(links));
    let mut chosen = select_links(center, &candidates, max_links);
    if !chosen.contains(&new.0) {
        return None;
    }
    // What could not be compared fills the room that is left.
    let others: Vec<HubRef> = links.iter().copied().filter(|link| !chosen.contains(link)).collect();
    chosen.extend(others);
    chosen.truncate(max_links);
    Some(chosen)
}

/// Selects among candidates that are sorted by distance to the target, as HNSW's algorithm 4 does: one is
/// kept if it is nearer to the target than to every one kept before, and those passed over fill the places
/// that are left. The result is sorted by distance.
///
/// Candidates in the target's own place are compared with no others and get half of the places at most: with
/// more, hubs of equal pages would be linked to each other only, and the rest of the graph out of reach.
fn diverse(near: &[(f32, usize)], max_links: usize, between: impl Fn(usize, usize) -> f32) -> Vec<usize> {
    let mut kept: Vec<(f32, usize)> = Vec::with_capacity(max_links);
    let mut passed_over = Vec::new();
    let same = near.iter().take_while(|(to_target, _)| *to_target == 0.0).count();
    let (same, others) = near.split_at(same);
    for &(to_target, candidate) in others {
        if kept.len() == max_links - same.len().min(max_links / 2) {
            break;
        }
        if kept.iter().all(|&(_, other)| to_target < between(candidate, other)) {
            kept.push((to_target, candidate));
        } else {
            passed_over.push((to_target, candidate));
        }
    }
    kept.extend(same.iter().take(max_links / 2));
    let room = max_links - kept.len();
    kept.extend(passed_over.into_iter().take(room));
    kept.sort_by(|a, b| a.0.total_cmp(&b.0));
    kept.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Returns the links of `hub`, selected among the hubs `near`.
fn choose(centers: F32Vectors<'_>, hub: u32, near: &[u32], max_links: usize) -> Vec<u32> {
    let target = centers.row(hub);
    let distance = |&other: &u32| (squared_distance(target, centers.row(other)), other as usize);
    let mut near: Vec<(f32, usize)> = near.iter().map(distance).collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let between = |a: usize, b: usize| squared_distance(centers.row(a as u32), centers.row(b as u32));
    diverse(&near, max_links, between).into_iter().map(|hub| hub as u32).collect()
}

/// What one thread reuses from block to block.
#[derive(Default)]
struct Scratch {
    /// Inner products of a block's centers with all centers.
    scores: Vec<f32>,
    /// All hubs, in an order that is made anew for each of the block.
    order: Vec<u32>,
}

/// Returns the `wanted` nearest other hubs of every hub, unordered.
fn nearest(centers: F32Vectors<'_>, wanted: usize, stop: Stop<'_>) -> Result<Vec<Vec<u32>>, Unfinished> {
    let d = centers.dim();
    let half_norms = centers.values().chunks_exact(d).map(|center| 0.5 * dot(center, center));
    let half_norms: Vec<f32> = fallible::collect(half_norms)?;
    let blocks = centers.values().par_chunks(ROWS_PER_BLOCK * d).enumerate();
    let count = blocks.len();
    let near = blocks.map_init(Scratch::default, |Scratch { scores, order }, (block, targets)| {
        if stop() {
            return Err(Unfinished::Stopped);
        }
        kmeans::inner_products(targets, centers.values(), d, scores)?;
        order.try_reserve(half_norms.len()).map_err(|_| Unfinished::NoMemory)?;
        let first = block * ROWS_PER_BLOCK;
        let lists = scores.chunks_exact_mut(half_norms.len()).enumerate();
        fallible::collect(lists.map(|(i, scores)| best_others(first + i, scores, &half_norms, wanted, order)))
    });
    fallible::concat(all_of(fallible::par_collect(near, count)?)?)
}

/// Returns the `wanted` hubs nearest to `hub`, whose inner products with all are `scores`. By L2 the nearest
/// hub has the greatest `<a, b> - |b|^2 / 2`.
fn best_others(
    hub: usize,
    scores: &mut [f32],
    half_norms: &[f32],
    wanted: usize,
    order: &mut Vec<u32>,
) -> Vec<u32> {
    for (score, half_norm) in scores.iter_mut().zip(half_norms) {
        *score -= half_norm;
    }
    scores[hub] = f32::NEG_INFINITY;
    order.clear();
    order.extend(0..scores.len() as u32);
    let by_score = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    order.select_nth_unstable_by(wanted - 1, by_score);
    // A list of its own length: k lists with room for k hubs would be gigabytes in a large index.
    order[..wanted].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(slot: u16) -> HubRef {
        HubRef { page: 1, slot }
    }

    #[test]
    fn halves_are_linked_to_each_other_and_to_what_the_page_was() {
        let former = [at(5), at(1), at(6), at(7)];
        let expected = [vec![at(1), at(5), at(6), at(7)], vec![at(0), at(5), at(1), at(6)]];
        assert_eq!(link_halves(&former, at(0), at(1), 4), expected);
        assert_eq!(link_halves(&[], at(0), at(1), 4), [vec![at(1)], vec![at(0)]]);
        assert_eq!(link_halves(&former, at(0), at(2), 0), [vec![], vec![]]);
    }

    /// Centers on a line, of the hubs 1 to 3 that exist.
    fn on_a_line(at: &[HubRef]) -> Vec<(HubRef, Vec<f32>)> {
        let existing = at.iter().filter(|at| (1..=3).contains(&at.slot));
        existing.map(|&at| (at, vec![f32::from(at.slot)])).collect()
    }

    #[test]
    fn a_hub_with_room_takes_a_link_unread() {
        let unread = |_: &[HubRef]| -> Vec<(HubRef, Vec<f32>)> { panic!("nothing has to be read") };
        let links = links_with(&[0.0], &[at(1)], (at(2), &[2.0]), 2, unread);
        assert_eq!(links, Some(vec![at(1), at(2)]));
        assert_eq!(links_with(&[0.0], &[at(1), at(2)], (at(2), &[2.0]), 9, unread), None);
    }

    #[test]
    fn a_full_hub_keeps_the_best_links() {
        let full = [at(1), at(2), at(3)];
        // Nearer than all: the farthest link gives way.
        let links = links_with(&[0.0], &full, (at(4), &[-0.5]), 3, on_a_line);
        assert_eq!(links, Some(vec![at(4), at(1), at(2)]));
        // Farther than all, in a direction where there is one already.
        assert_eq!(links_with(&[0.0], &full, (at(4), &[4.0]), 3, on_a_line), None);
        // Far, but alone on its side.
        let links = links_with(&[0.0], &full, (at(4), &[-9.0]), 3, on_a_line);
        assert_eq!(links, Some(vec![at(1), at(2), at(4)]));
    }

    #[test]
    fn links_that_lead_nowhere_give_way_first() {
        let full = [at(8), at(1), at(9)];
        let links = links_with(&[0.0], &full, (at(2), &[2.0]), 3, on_a_line);
        assert_eq!(links, Some(vec![at(1), at(2), at(8)]));
    }

    #[test]
    fn lists_of_near_hubs_take_no_more_than_they_hold() {
        let centers: Vec<f32> = (0..2000).map(|i| (i as f32).sin()).collect();
        let near = nearest(F32Vectors::new(&centers, 2), 12, &|| false).unwrap();
        assert_eq!(near.len(), 1000);
        assert!(near.iter().all(|list| list.len() == 12 && list.capacity() < 30));
    }
}
