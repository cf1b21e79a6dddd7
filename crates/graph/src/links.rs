//! Links between hubs: near and diverse neighbours, and the hubs that walks start from.
//!
//! Neighbour selection is the heuristic of HNSW (Malkov & Yashunin, "Efficient and robust approximate nearest
//! neighbor search using Hierarchical Navigable Small World graphs", 2018, algorithm 4, with pruned connections
//! kept), over L2 distances between centres.

use rayon::prelude::*;

use crate::Unfinished;
use crate::kmeans::{self, ROWS_PER_BLOCK};
use crate::room;
use crate::rows::{F32Rows, Rows};
use crate::walk::HubRef;

/// Near hubs looked at per link that is kept.
const CANDIDATES_PER_LINK: usize = 4;

/// Links of every hub to at most `max_links` others, nearest first. `centres` is k x d, row-major. Links are mutual
/// where there is room: a hub that was chosen by another gets a link back, and then chooses the best of all again.
/// Time is k^2 d / threads.
pub fn link_hubs(
    centres: &[f32],
    d: usize,
    max_links: usize,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Vec<u32>>, Unfinished> {
    let k = centres.len().checked_div(d).unwrap_or(0);
    if k < 2 || max_links == 0 {
        return room::filled(Vec::new(), k);
    }
    let wanted = (CANDIDATES_PER_LINK * max_links).min(k - 1);
    let near = nearest(centres, d, wanted, stop)?;
    let chosen = near.par_iter().enumerate().map(|(hub, near)| {
        if stop() { Err(Unfinished::Stopped) } else { Ok(choose(centres, d, hub as u32, near, max_links)) }
    });
    let chosen = all_of(room::collected(chosen, k)?)?;
    drop(near);
    let mut reverse = room::filled(Vec::new(), k)?;
    for (hub, links) in chosen.iter().enumerate() {
        for &link in links {
            room::push(&mut reverse[link as usize], hub as u32)?;
        }
    }
    let links = chosen.into_par_iter().zip(reverse).enumerate().map(|(hub, (links, reverse))| {
        if stop() {
            Err(Unfinished::Stopped)
        } else {
            Ok(mutual(centres, d, hub as u32, links, &reverse, max_links))
        }
    });
    all_of(room::collected(links, k)?)
}

/// The results, if there is no error among them.
fn all_of<T>(results: Vec<Result<T, Unfinished>>) -> Result<Vec<T>, Unfinished> {
    let mut all = room::with_room(results.len())?;
    for result in results {
        all.push(result?);
    }
    Ok(all)
}

/// `count` hubs that lie far apart and together represent all: the hub nearest to each of `count` cluster centres.
/// `centres` is k x d, row-major; gives fewer if there are fewer hubs. Deterministic.
pub fn entry_hubs(centres: &[f32], d: usize, count: usize) -> Result<Vec<u32>, Unfinished> {
    let rows = F32Rows::new(centres, d);
    let k = if d == 0 { 0 } else { rows.len() };
    if k <= count {
        return room::listed(0..k as u32);
    }
    let all: Vec<u32> = room::listed(0..k as u32)?;
    let clusters = kmeans::kmeans(&rows, &all, count, 8, 1, &|| false)?;
    let mut entries: Vec<u32> = Vec::with_capacity(count);
    for cluster in clusters.chunks_exact(d) {
        let nearest = all
            .iter()
            .filter(|hub| !entries.contains(hub))
            .map(|&hub| (distance(cluster, row(centres, d, hub)), hub))
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        entries.extend(nearest.map(|(_, hub)| hub));
    }
    Ok(entries)
}

/// Links for one hub with centre `target`, out of `candidates` (any order, may repeat; not the hub itself), nearest
/// first. Centres of different lengths are compared over the shorter one.
pub fn select_links(target: &[f32], candidates: &[(HubRef, Vec<f32>)], max_links: usize) -> Vec<HubRef> {
    let mut near: Vec<(f32, usize)> = Vec::with_capacity(candidates.len());
    let mut seen = crate::hash::FastSet::default();
    for (index, (at, centre)) in candidates.iter().enumerate() {
        if seen.insert(*at) {
            near.push((distance(target, centre), index));
        }
    }
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then(candidates[a.1].0.cmp(&candidates[b.1].0)));
    let picked = diverse(&near, max_links, |a, b| distance(&candidates[a].1, &candidates[b].1));
    picked.into_iter().map(|index| candidates[index].0).collect()
}

/// HNSW's algorithm 4 over candidates sorted by distance: one is kept if it is nearer to the target than to every one
/// kept before; what was passed over fills the places that are left. The result is sorted by distance.
fn diverse(near: &[(f32, usize)], max_links: usize, between: impl Fn(usize, usize) -> f32) -> Vec<usize> {
    let mut kept: Vec<(f32, usize)> = Vec::with_capacity(max_links);
    let mut passed_over = Vec::new();
    for &(to_target, candidate) in near {
        if kept.len() == max_links {
            break;
        }
        if kept.iter().all(|&(_, other)| to_target < between(candidate, other)) {
            kept.push((to_target, candidate));
        } else {
            passed_over.push((to_target, candidate));
        }
    }
    let room = max_links - kept.len();
    kept.extend(passed_over.into_iter().take(room));
    kept.sort_by(|a, b| a.0.total_cmp(&b.0));
    kept.into_iter().map(|(_, candidate)| candidate).collect()
}

fn choose(centres: &[f32], d: usize, hub: u32, near: &[u32], max_links: usize) -> Vec<u32> {
    let target = row(centres, d, hub);
    let mut near: Vec<(f32, usize)> =
        near.iter().map(|&other| (distance(target, row(centres, d, other)), other as usize)).collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let between = |a: usize, b: usize| distance(row(centres, d, a as u32), row(centres, d, b as u32));
    diverse(&near, max_links, between).into_iter().map(|hub| hub as u32).collect()
}

fn mutual(
    centres: &[f32],
    d: usize,
    hub: u32,
    mut links: Vec<u32>,
    reverse: &[u32],
    max_links: usize,
) -> Vec<u32> {
    let before = links.len();
    for &other in reverse {
        if !links[..before].contains(&other) {
            links.push(other);
        }
    }
    choose(centres, d, hub, &links, max_links)
}

/// The `wanted` nearest other hubs of every hub, unordered.
fn nearest(
    centres: &[f32],
    d: usize,
    wanted: usize,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Vec<u32>>, Unfinished> {
    let k = centres.len() / d;
    let norms = centres.chunks_exact(d).map(|c| 0.5 * c.iter().map(|x| x * x).sum::<f32>());
    let half_norms: Vec<f32> = room::listed(norms)?;
    let blocks = centres.par_chunks(ROWS_PER_BLOCK * d).enumerate();
    let count = blocks.len();
    let near = blocks.map_init(<(Vec<f32>, Vec<u32>)>::default, |(scores, order), (block, targets)| {
        if stop() {
            return Err(Unfinished::Stopped);
        }
        kmeans::inner_products(targets, centres, d, scores)?;
        order.try_reserve(k).map_err(|_| Unfinished::NoMemory)?;
        let first = block * ROWS_PER_BLOCK;
        let lists = scores.chunks_exact_mut(k).enumerate().map(|(i, scores)| {
            for (score, half_norm) in scores.iter_mut().zip(&half_norms) {
                *score -= half_norm;
            }
            scores[first + i] = f32::NEG_INFINITY;
            order.clear();
            order.extend(0..k as u32);
            let by_score =
                |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
            order.select_nth_unstable_by(wanted - 1, by_score);
            // A list of its own length: k lists with room for k hubs would be gigabytes in a large index.
            order[..wanted].to_vec()
        });
        room::listed(lists)
    });
    room::joined(all_of(room::collected(near, count)?)?)
}

fn row(centres: &[f32], d: usize, index: u32) -> &[f32] {
    &centres[index as usize * d..(index as usize + 1) * d]
}

/// Squared L2 over the shorter of the two.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_near_hubs_take_no_more_than_they_hold() {
        let centres: Vec<f32> = (0..2000).map(|i| (i as f32).sin()).collect();
        let near = nearest(&centres, 2, 12, &|| false).unwrap();
        assert_eq!(near.len(), 1000);
        assert!(near.iter().all(|list| list.len() == 12 && list.capacity() < 30));
    }
}
