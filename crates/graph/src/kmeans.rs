//! Plain spherical k-means and the matrix products that all layouts share, over blocks of rows so that nothing of
//! size n x d is ever held in f32.

use rayon::prelude::*;

use crate::Unfinished;
use crate::rng::Rng;
use crate::room;
use crate::rows::Rows;

/// Rows converted and multiplied at once. With 1,000 centres of 384 values one block is 0.2 GFLOP: a few
/// milliseconds, so that a stop is noticed soon.
pub const ROWS_PER_BLOCK: usize = 256;

/// `out[i * k + j]` becomes the inner product of row i of `a` (rows x d) and row j of `b` (k x d).
pub fn inner_products(a: &[f32], b: &[f32], d: usize, out: &mut Vec<f32>) -> Result<(), Unfinished> {
    let (rows, k) = (a.len() / d, b.len() / d);
    out.clear();
    out.try_reserve(rows * k).map_err(|_| Unfinished::NoMemory)?;
    out.resize(rows * k, 0.0);
    let (d_stride, k_stride) = (d as isize, k as isize);
    // SAFETY: a is rows x d, b is read as its d x k transpose, out is rows x k: all in bounds and not overlapping.
    unsafe {
        matrixmultiply::sgemm(
            rows,
            d,
            k,
            1.0,
            a.as_ptr(),
            d_stride,
            1,
            b.as_ptr(),
            1,
            d_stride,
            0.0,
            out.as_mut_ptr(),
            k_stride,
            1,
        );
    }
    Ok(())
}

/// Calls `each` with every block of `ids` and the scores of its rows against all centres, in parallel; results in order.
pub fn map_blocks<T: Send>(
    rows: &dyn Rows,
    ids: &[u32],
    centres: &[f32],
    stop: &(dyn Fn() -> bool + Sync),
    each: impl Fn(&[u32], &[f32]) -> Result<T, Unfinished> + Sync,
) -> Result<Vec<T>, Unfinished> {
    let d = rows.dim();
    ids.par_chunks(ROWS_PER_BLOCK)
        .map_init(
            || (Vec::new(), Vec::new()),
            |(block, scores), ids| {
                if stop() {
                    return Err(Unfinished::Stopped);
                }
                if block.is_empty() {
                    *block = room::filled(0.0, ROWS_PER_BLOCK * d)?;
                }
                for (out, &id) in block.chunks_exact_mut(d).zip(ids) {
                    rows.read(id as usize, out);
                }
                inner_products(&block[..ids.len() * d], centres, d, scores)?;
                each(ids, scores)
            },
        )
        .collect()
}

/// The nearest of k centres for every row of `ids`.
pub fn assign(
    rows: &dyn Rows,
    ids: &[u32],
    centres: &[f32],
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<u32>, Unfinished> {
    let k = centres.len() / rows.dim();
    let blocks =
        map_blocks(rows, ids, centres, stop, |_, scores| room::listed(scores.chunks_exact(k).map(best)))?;
    room::joined(blocks)
}

fn best(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = index;
        }
    }
    best as u32
}

/// Unit-length centres of the k clusters that `cluster_of[i]` gives for row `ids[i]`. An empty cluster starts again at a
/// random row.
pub fn centres_of(
    rows: &dyn Rows,
    ids: &[u32],
    cluster_of: &[u32],
    k: usize,
    rng: &mut Rng,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f32>, Unfinished> {
    let d = rows.dim();
    let members = members_of(cluster_of, k)?;
    let spare: Vec<u32> = room::listed((0..k).map(|_| ids[rng.below(ids.len())]))?;
    let mut centres = room::filled(0.0, k * d)?;
    centres.par_chunks_mut(d).zip(&members).zip(spare).try_for_each_init(
        || vec![0.0; d],
        |row, ((centre, members), spare)| {
            for block in members.chunks(ROWS_PER_BLOCK) {
                if stop() {
                    return Err(Unfinished::Stopped);
                }
                for &member in block {
                    rows.read(ids[member as usize] as usize, row);
                    centre.iter_mut().zip(row.iter()).for_each(|(sum, x)| *sum += x);
                }
            }
            if !normalise(centre) {
                rows.read(spare as usize, centre);
                normalise(centre);
            }
            Ok(())
        },
    )?;
    Ok(centres)
}

/// False if there is no direction to keep.
fn normalise(vector: &mut [f32]) -> bool {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    let usable = length.is_finite() && length > f32::MIN_POSITIVE;
    if usable {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    usable
}

/// Positions by cluster, ascending.
pub fn members_of(cluster_of: &[u32], k: usize) -> Result<Vec<Vec<u32>>, Unfinished> {
    let mut sizes = room::filled(0usize, k)?;
    cluster_of.iter().for_each(|&cluster| sizes[cluster as usize] += 1);
    let mut members = room::with_room(k)?;
    for size in sizes {
        members.push(room::with_room(size)?);
    }
    for (index, &cluster) in cluster_of.iter().enumerate() {
        members[cluster as usize].push(index as u32);
    }
    Ok(members)
}

/// Spherical k-means (Lloyd) from random rows: k unit-length centres, row-major. `ids` must not be empty and `k` not
/// more than its length.
pub fn kmeans(
    rows: &dyn Rows,
    ids: &[u32],
    k: usize,
    rounds: usize,
    seed: u64,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<f32>, Unfinished> {
    let d = rows.dim();
    let mut rng = Rng::new(seed);
    let mut centres = room::filled(0.0, k * d)?;
    for (centre, start) in centres.chunks_exact_mut(d).zip(rng.distinct(ids.len(), k)?) {
        rows.read(ids[start] as usize, centre);
        normalise(centre);
    }
    for _ in 0..rounds {
        let cluster_of = assign(rows, ids, &centres, stop)?;
        centres = centres_of(rows, ids, &cluster_of, k, &mut rng, stop)?;
    }
    Ok(centres)
}

#[cfg(test)]
mod tests {
    use super::*;
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
                    let expected: f32 = x.iter().zip(y).map(|(x, y)| x * y).sum();
                    prop_assert!((out[i * k + j] - expected).abs() < 1e-4);
                }
            }
        }
    }
}
