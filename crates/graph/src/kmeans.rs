//! Plain spherical k-means, and the matrix products that clustering and linking share.
//!
//! Everything goes over blocks of rows, so that nothing of size n x d is ever held in f32.

use leann_vector::{Rng, normalize};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use rayon::prelude::*;
use rustc_hash::FxHashSet;

use crate::fallible;
use crate::vectors::Vectors;
use crate::{Stop, Unfinished};

/// Rows converted and multiplied at once. With 1,000 centers of 384 values one block is 0.2 GFLOP: a few
/// milliseconds, so that a stop is noticed soon.
pub const ROWS_PER_BLOCK: usize = 256;

/// Writes to `out[i * k + j]` the inner product of row i of `a` (rows x d) and row j of `b` (k x d).
pub fn inner_products(a: &[f32], b: &[f32], d: usize, out: &mut Vec<f32>) -> Result<(), Unfinished> {
    let (rows, k) = (a.len() / d, b.len() / d);
    out.clear();
    out.try_reserve(rows * k).map_err(|_| Unfinished::NoMemory)?;
    out.resize(rows * k, 0.0);
    let mut products = ArrayViewMut2::from_shape((rows, k), out).expect("rows * k values");
    general_mat_mul(1.0, &matrix(a, rows, d), &matrix(b, k, d).t(), 0.0, &mut products);
    Ok(())
}

fn matrix(values: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), &values[..rows * columns]).expect("rows * columns values")
}

/// The rows `ids` of all vectors, and when to give up working on them.
#[derive(Clone, Copy)]
pub struct Subset<'a> {
    pub vectors: &'a dyn Vectors,
    pub ids: &'a [u32],
    pub stop: Stop<'a>,
}

/// What one thread reuses from block to block.
#[derive(Default)]
struct Scratch {
    /// `ROWS_PER_BLOCK` rows.
    rows: Vec<f32>,
    /// Their scores against all centers.
    scores: Vec<f32>,
}

impl Subset<'_> {
    /// Calls `each` with every block of ids and the scores of its rows against all centers (row-major), in
    /// parallel. Returns the results in order.
    pub fn map_blocks<T: Send>(
        &self,
        centers: &[f32],
        each: impl Fn(&[u32], &[f32]) -> Result<T, Unfinished> + Sync,
    ) -> Result<Vec<T>, Unfinished> {
        let map = |scratch: &mut Scratch, ids: &[u32]| {
            self.score_block(ids, centers, scratch)?;
            each(ids, &scratch.scores)
        };
        self.ids.par_chunks(ROWS_PER_BLOCK).map_init(Scratch::default, map).collect()
    }

    /// Scores one block of rows against all centers.
    fn score_block(&self, ids: &[u32], centers: &[f32], scratch: &mut Scratch) -> Result<(), Unfinished> {
        if (self.stop)() {
            return Err(Unfinished::Stopped);
        }
        let d = self.vectors.dim();
        if scratch.rows.is_empty() {
            scratch.rows = fallible::filled(0.0, ROWS_PER_BLOCK * d)?;
        }
        for (row, &id) in scratch.rows.chunks_exact_mut(d).zip(ids) {
            self.vectors.read(id as usize, row);
        }
        inner_products(&scratch.rows[..ids.len() * d], centers, d, &mut scratch.scores)
    }

    /// Returns the nearest of the centers for every row.
    pub fn assign(&self, centers: &[f32]) -> Result<Vec<u32>, Unfinished> {
        let k = centers.len() / self.vectors.dim();
        let nearest = |_: &[u32], scores: &[f32]| fallible::collect(scores.chunks_exact(k).map(best));
        fallible::concat(self.map_blocks(centers, nearest)?)
    }

    /// Returns the unit-length centers of k clusters, of which `cluster_of[i]` is that of row `ids[i]`. An
    /// empty cluster starts again at a random row.
    pub fn centers_of(&self, cluster_of: &[u32], k: usize, rng: &mut Rng) -> Result<Vec<f32>, Unfinished> {
        let d = self.vectors.dim();
        let members = members_of(cluster_of, k)?;
        let spares: Vec<u32> = fallible::collect((0..k).map(|_| self.ids[rng.below(self.ids.len())]))?;
        let mut centers = fallible::filled(0.0, k * d)?;
        centers.par_chunks_mut(d).zip(&members).zip(spares).try_for_each_init(
            || vec![0.0; d],
            |row, ((center, members), spare)| {
                self.add_up(members, row, center)?;
                if !normalize(center) {
                    self.vectors.read(spare as usize, center);
                    // A row without a direction makes a center without one, to which no row is nearer than to
                    // others.
                    let _ = normalize(center);
                }
                Ok(())
            },
        )?;
        Ok(centers)
    }

    /// Adds the rows at these positions of `ids` to `sum`, reading each into `row`.
    fn add_up(&self, members: &[u32], row: &mut [f32], sum: &mut [f32]) -> Result<(), Unfinished> {
        for block in members.chunks(ROWS_PER_BLOCK) {
            if (self.stop)() {
                return Err(Unfinished::Stopped);
            }
            for &member in block {
                self.vectors.read(self.ids[member as usize] as usize, row);
                sum.iter_mut().zip(row.iter()).for_each(|(sum, x)| *sum += x);
            }
        }
        Ok(())
    }

    /// Runs spherical k-means (Lloyd) from random rows. Returns k unit-length centers, row-major.
    ///
    /// There must be rows, and `k` must not exceed their number.
    pub fn kmeans(&self, k: usize, rounds: usize, seed: u64) -> Result<Vec<f32>, Unfinished> {
        let d = self.vectors.dim();
        let mut rng = Rng::new(seed);
        let mut centers = fallible::filled(0.0, k * d)?;
        for (center, start) in centers.chunks_exact_mut(d).zip(distinct(&mut rng, self.ids.len(), k)?) {
            self.vectors.read(self.ids[start] as usize, center);
            let _ = normalize(center);
        }
        for _ in 0..rounds {
            let cluster_of = self.assign(&centers)?;
            centers = self.centers_of(&cluster_of, k, &mut rng)?;
        }
        Ok(centers)
    }
}

/// Returns the index of the highest score, the first of equals.
fn best(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = index;
        }
    }
    best as u32
}

/// Returns the positions in `cluster_of` of each of k clusters, ascending.
pub fn members_of(cluster_of: &[u32], k: usize) -> Result<Vec<Vec<u32>>, Unfinished> {
    let mut sizes = fallible::filled(0usize, k)?;
    cluster_of.iter().for_each(|&cluster| sizes[cluster as usize] += 1);
    let mut members = fallible::with_capacity(k)?;
    for size in sizes {
        members.push(fallible::with_capacity(size)?);
    }
    for (index, &cluster) in cluster_of.iter().enumerate() {
        members[cluster as usize].push(index as u32);
    }
    Ok(members)
}

/// Draws `count` different numbers below `bound`, in random order; all of them if `count >= bound`.
pub fn distinct(rng: &mut Rng, bound: usize, count: usize) -> Result<Vec<usize>, Unfinished> {
    let count = count.min(bound);
    if count * 4 > bound {
        let mut all: Vec<usize> = fallible::collect(0..bound)?;
        for i in 0..count {
            let j = i + rng.below(bound - i);
            all.swap(i, j);
        }
        all.truncate(count);
        return Ok(all);
    }
    let mut seen = FxHashSet::default();
    seen.try_reserve(count).map_err(|_| Unfinished::NoMemory)?;
    let mut chosen = fallible::with_capacity(count)?;
    while chosen.len() < count {
        let candidate = rng.below(bound);
        if seen.insert(candidate) {
            chosen.push(candidate);
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use leann_vector::dot;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_those_of_all_pairs(
            (rows, k, d) in (0usize..20, 0usize..20, 1usize..40),
            values in prop::collection::vec(-1f32..1.0, 40 * 40),
        ) {
            let (a, b) = (&values[..rows * d], &values[20 * 40..][..k * d]);
            let mut out = vec![7.0; 3];
            inner_products(a, b, d, &mut out).unwrap();
            prop_assert_eq!(out.len(), rows * k);
            for (i, x) in a.chunks_exact(d).enumerate() {
                for (j, y) in b.chunks_exact(d).enumerate() {
                    prop_assert!((out[i * k + j] - dot(x, y)).abs() < 1e-4);
                }
            }
        }
    }
}
