//! The sums in portable code.

use super::block::{Accumulators, LANES, LutBlock};

/// Returns the three sums over the blocks.
pub(super) fn accumulate(blocks: &[LutBlock], padded: &[u8]) -> Accumulators {
    // A sum per lane: additions need not wait for each other.
    let (mut query, mut squared, mut mean) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    for block in blocks {
        for (lane, [first, second]) in block.values(padded).into_iter().enumerate() {
            query[lane] += block.query[0][lane] * first + block.query[1][lane] * second;
            squared[lane] +=
                block.squared[0][lane] * first * first + block.squared[1][lane] * second * second;
            mean[lane] += block.mean[0][lane] * first + block.mean[1][lane] * second;
        }
    }
    Accumulators { query: query.iter().sum(), squared: squared.iter().sum(), mean: mean.iter().sum() }
}

/// Returns [`Accumulators::query`] alone.
pub(super) fn accumulate_query(blocks: &[LutBlock], padded: &[u8]) -> f32 {
    let mut query = [0f32; LANES];
    for block in blocks {
        for (lane, [first, second]) in block.values(padded).into_iter().enumerate() {
            query[lane] += block.query[0][lane] * first + block.query[1][lane] * second;
        }
    }
    query.iter().sum()
}
