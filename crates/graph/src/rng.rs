//! A small seeded generator, so that a layout is the same for the same seed on every platform and version.

use crate::{Unfinished, room};

/// SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (which is at least 1).
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// `count` different numbers below `bound`, in random order; all of them when `count >= bound`.
    pub fn distinct(&mut self, bound: usize, count: usize) -> Result<Vec<usize>, Unfinished> {
        let count = count.min(bound);
        if count * 4 > bound {
            let mut all: Vec<usize> = room::listed(0..bound)?;
            for i in 0..count {
                let j = i + self.below(bound - i);
                all.swap(i, j);
            }
            all.truncate(count);
            return Ok(all);
        }
        let mut seen = crate::hash::FastSet::default();
        seen.try_reserve(count).map_err(|_| Unfinished::NoMemory)?;
        let mut chosen = room::with_room(count)?;
        while chosen.len() < count {
            let candidate = self.below(bound);
            if seen.insert(candidate) {
                chosen.push(candidate);
            }
        }
        Ok(chosen)
    }
}
