//! The rows that a sketcher is trained on: a random sample of the different ones.
//!
//! Copies of a row would count as often as they occur, and a sample at even distances may meet only one kind
//! of row where kinds alternate. So every row gets a random key that depends on its vector alone, and the
//! rows with the least keys are taken: each different vector once, all with the same chance, in one pass with
//! bounded memory (Cohen, "Size-estimation framework with applications to transitive closure and
//! reachability", 1997: bottom-k sketches).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use leann_graph::{F16Vectors, Vectors};
use leann_vector::Rng;

use crate::error::LayoutError;

/// Rows between two polls of `stop`.
const ROWS_PER_POLL: usize = 1024;

/// Returns the positions of up to `count` rows with different vectors, in ascending order.
pub(crate) fn distinct_sample(
    rows: &F16Vectors<'_>,
    count: usize,
    seed: u64,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<usize>, LayoutError> {
    let mut row = vec![0.0; rows.dim()];
    let mut sample = DistinctSample::new(count, seed);
    for position in 0..rows.len() {
        if position % ROWS_PER_POLL == 0 && stop() {
            return Err(LayoutError::Stopped);
        }
        rows.read(position, &mut row);
        sample.offer(leann_vector::hash(&row), || position);
    }
    let mut positions = sample.into_items();
    positions.sort_unstable();
    Ok(positions)
}

/// A random sample of the different items of a sequence, each with the same chance.
pub struct DistinctSample<T> {
    count: usize,
    seed: u64,
    /// The items with the least keys so far, by key.
    chosen: BTreeMap<u64, T>,
}

impl<T> DistinctSample<T> {
    /// Returns an empty sample of up to `count` items.
    pub fn new(count: usize, seed: u64) -> DistinctSample<T> {
        DistinctSample { count, seed, chosen: BTreeMap::new() }
    }

    /// Offers an item with this hash; `item` makes it if it is taken. Items with equal hashes count as the
    /// same one.
    pub fn offer(&mut self, hash: u64, item: impl FnOnce() -> T) {
        let key = Rng::new(hash ^ self.seed).next();
        let full = self.chosen.len() >= self.count;
        if full && self.chosen.last_key_value().is_none_or(|(largest, _)| key >= *largest) {
            return;
        }
        if let Entry::Vacant(place) = self.chosen.entry(key) {
            place.insert(item());
            if full {
                self.chosen.pop_last();
            }
        }
    }

    /// Returns the items, in random order.
    pub fn into_items(self) -> Vec<T> {
        self.chosen.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    /// Rows of two values, of which the first is the number of the row modulo `different`.
    fn rows(count: usize, different: usize) -> Vec<f16> {
        (0..count).flat_map(|row| [f16::from_f32((row % different) as f32), f16::ONE]).collect()
    }

    fn sample(values: &[f16], count: usize, seed: u64) -> Vec<usize> {
        distinct_sample(&F16Vectors::new(values, 2), count, seed, &|| false).unwrap()
    }

    #[test]
    fn copies_count_once() {
        let values = rows(1000, 7);
        assert_eq!(sample(&values, 100, 1), [0, 1, 2, 3, 4, 5, 6]);
        let some = sample(&values, 3, 1);
        assert_eq!(some.len(), 3);
        assert!(some.iter().all(|position| *position < 7), "the first of each: {some:?}");
        assert!(sample(&[], 3, 1).is_empty() && sample(&values, 0, 1).is_empty());
    }

    #[test]
    fn every_different_row_has_the_same_chance() {
        let values = rows(2000, 200);
        let mut times = vec![0; 200];
        for seed in 0..400 {
            sample(&values, 20, seed).into_iter().for_each(|position| times[position % 200] += 1);
        }
        // Forty each, give or take six.
        assert!(times.iter().all(|times| (12..=70).contains(times)), "{times:?}");
    }

    #[test]
    fn kinds_that_alternate_are_met_alike() {
        let values = rows(2000, 2000);
        let odd = sample(&values, 500, 3).into_iter().filter(|position| position % 2 == 1).count();
        assert!((200..300).contains(&odd), "{odd}");
    }

    #[test]
    fn stops_on_request() {
        let values = rows(10, 10);
        let stopped = distinct_sample(&F16Vectors::new(&values, 2), 3, 1, &|| true);
        assert_eq!(stopped, Err(LayoutError::Stopped));
    }
}
