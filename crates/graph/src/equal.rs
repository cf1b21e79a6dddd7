//! Rows with the same vector: whole pages of them are set apart before anything is clustered.
//!
//! To k-means and auctions equal rows are the worst case: no cluster divides them, and they outbid each other
//! for ever. They need neither, because any of them may lie on any page of theirs.

use rayon::prelude::*;

use crate::kmeans::ROWS_PER_BLOCK;
use crate::vectors::Vectors;
use crate::{Stop, Unfinished, fallible};

/// Rows divided into pages of equal rows and the others.
pub struct SetApart {
    /// Pages of equal rows, each full to the fill that was asked for.
    pub pages: Vec<Vec<u32>>,
    /// All other rows, ascending.
    pub rest: Vec<u32>,
}

/// Sets whole pages of `fill` equal rows apart, in the order of the rows. Takes time in proportion to the
/// number of rows.
pub fn set_apart(vectors: &dyn Vectors, fill: usize, stop: Stop<'_>) -> Result<SetApart, Unfinished> {
    let mut keys = keys(vectors, stop)?;
    keys.par_sort_unstable();
    let mut apart = SetApart { pages: Vec::new(), rest: fallible::with_capacity(keys.len())? };
    let mut equal = Equal { first: vec![0.0; vectors.dim()], other: vec![0.0; vectors.dim()] };
    for run in keys.chunk_by(|a, b| a.0 == b.0) {
        let mut of_run = fallible::with_capacity(if run.len() < fill { 0 } else { run.len() })?;
        for block in run.chunks(ROWS_PER_BLOCK) {
            if stop() {
                return Err(Unfinished::Stopped);
            }
            for &(_, row) in block {
                // Different vectors with the same key are possible, and rare.
                if run.len() >= fill && equal.rows(vectors, run[0].1, row) {
                    of_run.push(row);
                } else {
                    apart.rest.push(row);
                }
            }
        }
        let mut pages = of_run.chunks_exact(fill);
        for page in pages.by_ref() {
            fallible::push(&mut apart.pages, fallible::collect(page.iter().copied())?)?;
        }
        apart.rest.extend_from_slice(pages.remainder());
    }
    apart.rest.sort_unstable();
    Ok(apart)
}

/// Returns the key of each row's vector and its number.
fn keys(vectors: &dyn Vectors, stop: Stop<'_>) -> Result<Vec<(u64, u32)>, Unfinished> {
    let mut keys: Vec<(u64, u32)> = fallible::collect((0..vectors.len() as u32).map(|row| (0, row)))?;
    keys.par_chunks_mut(ROWS_PER_BLOCK).try_for_each_init(
        || vec![0.0; vectors.dim()],
        |row, block| {
            if stop() {
                return Err(Unfinished::Stopped);
            }
            for (key, number) in block {
                vectors.read(*number as usize, row);
                *key = leann_vector::hash(row);
            }
            Ok(())
        },
    )?;
    Ok(keys)
}

/// Two rows that are compared.
struct Equal {
    first: Vec<f32>,
    other: Vec<f32>,
}

impl Equal {
    /// Returns whether two rows are equal to the bit.
    fn rows(&mut self, vectors: &dyn Vectors, first: u32, other: u32) -> bool {
        vectors.read(first as usize, &mut self.first);
        vectors.read(other as usize, &mut self.other);
        self.first.iter().map(|value| value.to_bits()).eq(self.other.iter().map(|value| value.to_bits()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::F32Vectors;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_is_on_one_page_of_its_equals_or_in_the_rest(
            values in prop::collection::vec(0u8..6, 0..400),
            fill in 1usize..20,
        ) {
            let rows: Vec<f32> = values.iter().flat_map(|value| [f32::from(*value), 1.0]).collect();
            let apart = set_apart(&F32Vectors::new(&rows, 2), fill, &|| false).unwrap();
            prop_assert!(apart.rest.is_sorted());
            let mut seen = apart.rest.clone();
            for page in &apart.pages {
                prop_assert_eq!(page.len(), fill);
                prop_assert!(page.iter().all(|row| values[*row as usize] == values[page[0] as usize]));
                seen.extend(page);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..values.len() as u32).collect::<Vec<_>>());
            for value in 0..6 {
                let left = apart.rest.iter().filter(|row| values[**row as usize] == value).count();
                prop_assert!(left < fill);
            }
        }
    }
}
