//! Real embeddings: rows, queries and the true nearest rows.

use std::path::Path;

use half::f16;
use leann_vector::{Rng, dot, normalize};
use rayon::prelude::*;

/// True nearest rows known per query.
const TOP: usize = 50;
/// Queries taken, evenly spread, of those that there are.
const QUERIES: usize = 300;

pub struct Data {
    pub dim: usize,
    pub halves: Vec<f16>,
    pub rows: Vec<f32>,
    pub queries: Vec<f32>,
    /// Per query the true nearest rows with their similarities, best first.
    pub truth: Vec<Vec<(u32, f32)>>,
}

impl Data {
    /// Reads `embeddings.f16.npy` and `query_embeddings.f16.npy` of a folder. With `shuffle`, rows come in
    /// random order.
    pub fn open(folder: &Path, shuffle: bool) -> Result<Data, String> {
        let (mut halves, dim) = read_npy(&folder.join("embeddings.f16.npy"))?;
        let (queries, _) = read_npy(&folder.join("query_embeddings.f16.npy"))?;
        if shuffle {
            halves = shuffled(&halves, dim);
        }
        Ok(Data::new(halves, dim, &queries))
    }

    /// Reads the first `n` rows. Beyond those of the folder come mixtures of a row with one that is near it.
    pub fn scaled(folder: &Path, n: usize) -> Result<Data, String> {
        let (mut halves, dim) = read_npy(&folder.join("embeddings.f16.npy"))?;
        let (queries, _) = read_npy(&folder.join("query_embeddings.f16.npy"))?;
        let real: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
        let count = real.len() / dim;
        halves.truncate(n * dim);
        let more: Vec<Vec<f16>> = (count..n).into_par_iter().map(|row| mixture(&real, dim, row)).collect();
        halves.extend(more.into_iter().flatten());
        Ok(Data::new(halves, dim, &queries))
    }

    fn new(halves: Vec<f16>, dim: usize, queries: &[f16]) -> Data {
        let rows: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
        let all = queries.len() / dim;
        let taken = all.min(QUERIES);
        let queries: Vec<f32> =
            (0..taken).flat_map(|i| &queries[i * all / taken * dim..][..dim]).map(|x| x.to_f32()).collect();
        let truth = queries.par_chunks_exact(dim).map(|query| nearest(&rows, dim, query)).collect();
        Data { dim, halves, rows, queries, truth }
    }

    pub fn len(&self) -> usize {
        self.rows.len() / self.dim
    }

    pub fn row(&self, key: u32) -> &[f32] {
        &self.rows[key as usize * self.dim..][..self.dim]
    }

    pub fn queries(&self) -> impl Iterator<Item = (&[f32], &[(u32, f32)])> {
        self.queries.chunks_exact(self.dim).zip(self.truth.iter().map(Vec::as_slice))
    }
}

fn nearest(rows: &[f32], dim: usize, query: &[f32]) -> Vec<(u32, f32)> {
    let similarities = rows.chunks_exact(dim).map(|row| dot(row, query));
    let mut order: Vec<(u32, f32)> = similarities.enumerate().map(|(row, s)| (row as u32, s)).collect();
    let best_first = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if order.len() > TOP {
        order.select_nth_unstable_by(TOP, best_first);
        order.truncate(TOP);
    }
    order.sort_by(best_first);
    order
}

/// Random rows of which the nearest is mixed with a row.
const MIXED_FROM: usize = 64;

/// Returns a vector between a row and the nearest of some others: what a text on the subjects of both might
/// have.
fn mixture(rows: &[f32], dim: usize, seed: usize) -> Vec<f16> {
    let mut rng = Rng::new(seed as u64);
    let row = |at: usize| &rows[at * dim..][..dim];
    let count = rows.len() / dim;
    let first = row(rng.below(count));
    let others = (0..MIXED_FROM).map(|_| row(rng.below(count))).filter(|other| *other != first);
    let other = others.max_by(|a, b| dot(a, first).total_cmp(&dot(b, first))).unwrap_or(first);
    let share = 0.2 + 0.3 * rng.below(1000) as f32 / 1000.0;
    let mut mixed: Vec<f32> = first.iter().zip(other).map(|(a, b)| (1.0 - share) * a + share * b).collect();
    // Rows of unit length that are near each other do not cancel out.
    let _ = normalize(&mut mixed);
    mixed.into_iter().map(f16::from_f32).collect()
}

fn shuffled(rows: &[f16], dim: usize) -> Vec<f16> {
    let n = rows.len() / dim;
    Rng::new(1).permutation(n).into_iter().flat_map(|row| rows[row * dim..][..dim].iter().copied()).collect()
}

/// Reads a two-dimensional f16 .npy file. Returns its values and its number of columns.
fn read_npy(path: &Path) -> Result<(Vec<f16>, usize), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let parse = || -> Option<(Vec<f16>, usize)> {
        let header_length = u16::from_le_bytes([*bytes.get(8)?, *bytes.get(9)?]) as usize;
        let header = std::str::from_utf8(bytes.get(10..10 + header_length)?).ok()?;
        let shape =
            header.contains("'<f2'").then(|| header.split("'shape': (").nth(1)?.split(')').next())??;
        let dim: usize = shape.split(',').nth(1)?.trim().parse().ok()?;
        let values = bytes[10 + header_length..].chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]));
        Some((values.collect(), dim))
    };
    parse().ok_or_else(|| format!("{}: not a two-dimensional f16 .npy file", path.display()))
}
