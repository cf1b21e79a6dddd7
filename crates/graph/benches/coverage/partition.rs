//! Clustering by graph partitioning: pages that keep as many near pairs of rows together as they can.
//!
//! Every row has edges to its nearest rows. From a given layout, rows move to the page that holds more of
//! their neighbors, and change places with a row of it where that page is full (Kernighan and Lin 1970, in
//! rounds over all rows as label propagation does it). Early rounds also accept changes that lose a little,
//! so that the layout does not stay in the first optimum (threshold accepting, Dueck and Scheuer 1990).

use leann_vector::{Rng, dot, normalize};
use rayon::prelude::*;

use crate::data::Data;

/// Rows whose nearest are searched together: they stay in cache while all others pass.
const BLOCK: usize = 32;
const ROUNDS: usize = 20;
/// What a change may lose at first, in edges; nothing in the last quarter of the rounds.
const LOSS_AT_FIRST: f32 = 3.0;
/// What a change gains at least when it may lose nothing. Not 0, or rounding would make changes forever.
const LEAST_GAIN: f32 = 1e-3;

/// The nearest rows of each row, as edges in both directions with their weights.
pub struct Neighbors(Vec<Vec<(u32, f32)>>);

impl Neighbors {
    /// Finds the `count` nearest rows of every row, by comparing all with all.
    pub fn new(data: &Data, count: usize) -> Neighbors {
        let rows: Vec<u32> = (0..data.len() as u32).collect();
        let lists = rows.par_chunks(BLOCK).flat_map_iter(|block| nearest(data, block, count));
        let lists: Vec<Vec<u32>> = lists.collect();
        let mut edges = vec![Vec::new(); data.len()];
        for (row, list) in lists.iter().enumerate() {
            for &near in list {
                add_edge(&mut edges[row], near);
                add_edge(&mut edges[near as usize], row as u32);
            }
        }
        Neighbors(edges)
    }

    fn of_row(&self, row: u32) -> &[(u32, f32)] {
        &self.0[row as usize]
    }

    /// Returns the share of edges within a page.
    pub fn kept(&self, page_of: &[u32]) -> f32 {
        let (mut kept, mut all) = (0.0, 0.0);
        for (row, page) in page_of.iter().enumerate() {
            for &(near, weight) in self.of_row(row as u32) {
                all += weight;
                kept += if page_of[near as usize] == *page { weight } else { 0.0 };
            }
        }
        kept / all
    }
}

/// Adds an edge. One that is there already, as each row is near the other, counts twice.
fn add_edge(edges: &mut Vec<(u32, f32)>, to: u32) {
    match edges.iter_mut().find(|edge| edge.0 == to) {
        Some(edge) => edge.1 += 1.0,
        None => edges.push((to, 1.0)),
    }
}

fn nearest(data: &Data, block: &[u32], count: usize) -> Vec<Vec<u32>> {
    let mut lists: Vec<Vec<(f32, u32)>> = vec![Vec::with_capacity(count + 1); block.len()];
    for other in 0..data.len() as u32 {
        for (list, &row) in lists.iter_mut().zip(block) {
            let similarity = dot(data.row(row), data.row(other));
            if other == row || (list.len() == count && similarity <= list[count - 1].0) {
                continue;
            }
            let at = list.partition_point(|near| near.0 >= similarity);
            list.insert(at, (similarity, other));
            list.truncate(count);
        }
    }
    lists.into_iter().map(|list| list.into_iter().map(|near| near.1).collect()).collect()
}

fn members(page_of: &[u32]) -> Vec<Vec<u32>> {
    let pages = page_of.iter().max().map_or(0, |page| *page as usize + 1);
    let mut members = vec![Vec::new(); pages];
    for (row, &page) in page_of.iter().enumerate() {
        members[page as usize].push(row as u32);
    }
    members
}

/// Moves rows so that pages of at most `capacity` rows keep more edges than in `page_of`. `pull` is what a
/// row's cosine to the center of its page counts in addition, in edges: 0 looks at edges only.
pub fn refined(data: &Data, near: &Neighbors, page_of: &[u32], capacity: usize, pull: f32) -> Vec<u32> {
    let mut refining = Refining {
        near,
        page_of: page_of.to_vec(),
        members: members(page_of),
        capacity,
        pull,
        cosines: Vec::new(),
        rng: Rng::new(1),
    };
    for round in 0..ROUNDS {
        if pull > 0.0 {
            refining.cosines = cosines(data, &refining.members);
        }
        let done = round as f32 / (ROUNDS as f32 * 0.75);
        let loss = LOSS_AT_FIRST * (1.0 - done).max(0.0);
        if refining.round(loss) == 0 {
            break;
        }
    }
    refining.page_of
}

/// Returns the cosine of every row with the center of every page.
fn cosines(data: &Data, members: &[Vec<u32>]) -> Vec<f32> {
    let centers: Vec<Vec<f32>> = members.par_iter().map(|members| center(data, members)).collect();
    let rows = 0..data.len() as u32;
    let of_row = |row| centers.iter().map(move |center| dot(data.row(row), center));
    rows.into_par_iter().flat_map_iter(of_row).collect()
}

fn center(data: &Data, members: &[u32]) -> Vec<f32> {
    let mut sum = vec![0.0; data.dim];
    for &row in members {
        sum.iter_mut().zip(data.row(row)).for_each(|(sum, x)| *sum += x);
    }
    // The sum of rows that cancel out has no direction and stays as it is.
    let _ = normalize(&mut sum);
    sum
}

struct Refining<'a> {
    near: &'a Neighbors,
    page_of: Vec<u32>,
    members: Vec<Vec<u32>>,
    capacity: usize,
    pull: f32,
    /// Cosine per row with every page, if cosines count.
    cosines: Vec<f32>,
    rng: Rng,
}

impl Refining<'_> {
    /// Tries to improve every row once, in random order. Returns how many changes there were.
    fn round(&mut self, loss: f32) -> usize {
        let order = self.rng.permutation(self.page_of.len());
        order.into_iter().filter(|&row| self.improve(row as u32, loss)).count()
    }

    /// Moves a row, or exchanges it with another, if that loses no more than a random part of `loss`.
    fn improve(&mut self, row: u32, loss: f32) -> bool {
        let own = self.page_of[row as usize];
        let Some((page, gain)) = self.best_page(row) else { return false };
        let least = LEAST_GAIN - loss * self.rng.below(1000) as f32 / 1000.0;
        if self.members[page as usize].len() < self.capacity && self.members[own as usize].len() > 1 {
            if gain >= least {
                self.put(row, page);
            }
            return gain >= least;
        }
        let Some((other, gain_of_other)) = self.best_exchange(row, page) else { return false };
        if gain + gain_of_other < least {
            return false;
        }
        self.put(row, page);
        self.put(other, own);
        true
    }

    /// Returns the page of a neighbor where the row is worth most, and how much more than where it is.
    fn best_page(&self, row: u32) -> Option<(u32, f32)> {
        let own = self.page_of[row as usize];
        let others = self.near.of_row(row).iter().map(|edge| self.page_of[edge.0 as usize]);
        let mut pages: Vec<u32> = others.filter(|page| *page != own).collect();
        pages.sort_unstable();
        pages.dedup();
        let worth = pages.into_iter().map(|page| (page, self.worth(row, page)));
        let best = worth.max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some((best.0, best.1 - self.worth(row, own)))
    }

    /// Returns the row of a page that gains most, or loses least, when `row` comes in its place.
    fn best_exchange(&self, row: u32, page: u32) -> Option<(u32, f32)> {
        let own = self.page_of[row as usize];
        let gain = |other: u32| {
            let edge = self.near.of_row(row).iter().find(|edge| edge.0 == other).map_or(0.0, |edge| edge.1);
            self.worth(other, own) - self.worth(other, page) - 2.0 * edge
        };
        let gains = self.members[page as usize].iter().map(|other| (*other, gain(*other)));
        gains.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Returns the edges of the row into the page, and what its center pulls.
    fn worth(&self, row: u32, page: u32) -> f32 {
        let within = self.near.of_row(row).iter().filter(|edge| self.page_of[edge.0 as usize] == page);
        let edges: f32 = within.map(|edge| edge.1).sum();
        if self.pull == 0.0 {
            return edges;
        }
        edges + self.pull * self.cosines[row as usize * self.members.len() + page as usize]
    }

    fn put(&mut self, row: u32, page: u32) {
        let from = std::mem::replace(&mut self.page_of[row as usize], page);
        self.members[from as usize].retain(|member| *member != row);
        self.members[page as usize].push(row);
    }
}
