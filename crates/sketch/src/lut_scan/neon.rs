//! The sums with NEON: the method of the AVX2 code with two registers of four lanes for one of eight.

use std::arch::aarch64::*;

use super::block::{Accumulators, Factors, LANES, LutBlock};
use crate::lut::LUT;

/// A value for each of the eight lanes.
type Lanes = [float32x4_t; 2];

/// Returns the first values of a block's look-ups, and the second values.
///
/// # Safety
///
/// [`SHUFFLE_BYTES`](super::block::SHUFFLE_BYTES) bytes of `padded` exist from the block's `first_byte` on.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn values(block: &LutBlock, padded: &[u8]) -> [Lanes; 2] {
    let mut indexes = [0u32; LANES];
    // SAFETY: the caller guarantees the bytes from `first_byte` on. The other loads and the store are of
    // halves of arrays of eight lanes, or of four bytes for each lane.
    unsafe {
        let bytes = vld1q_u8(padded.as_ptr().add(block.first_byte));
        for half in [0, LANES / 2] {
            let words = vqtbl1q_u8(bytes, vld1q_u8(block.shuffle.as_ptr().add(4 * half)));
            let shifts = vreinterpretq_s32_u32(vld1q_u32(block.shifts.as_ptr().add(half)));
            // NEON shifts to the right by shifting to the left by a negative number.
            let shifted = vshlq_u32(vreinterpretq_u32_u8(words), vnegq_s32(shifts));
            let states = vandq_u32(shifted, vld1q_u32(block.masks.as_ptr().add(half)));
            let tables = vld1q_u32(block.starts.as_ptr().add(half));
            vst1q_u32(indexes.as_mut_ptr().add(half), vaddq_u32(states, tables));
        }
    }
    // SAFETY: `LutBlock::new` has checked that every index of a look-up is inside the tables.
    let entries = indexes.map(|index| unsafe { *LUT.get_unchecked(index as usize) as i32 });
    let four = |half: usize| {
        // SAFETY: `half` is 0 or 4, and four of the eight entries follow.
        let entries = unsafe { vld1q_s32(entries.as_ptr().add(half)) };
        let first = vshrq_n_s32::<16>(vshlq_n_s32::<16>(entries));
        (vcvtq_f32_s32(first), vcvtq_f32_s32(vshrq_n_s32::<16>(entries)))
    };
    let (low, high) = (four(0), four(LANES / 2));
    [[low.0, high.0], [low.1, high.1]]
}

/// Returns the three sums over the blocks.
///
/// # Safety
///
/// [`SHUFFLE_BYTES`](super::block::SHUFFLE_BYTES) bytes of `padded` exist from the `first_byte` of each block
/// on.
#[target_feature(enable = "neon")]
pub(super) unsafe fn accumulate(blocks: &[LutBlock], padded: &[u8]) -> Accumulators {
    let [mut query, mut squared, mut mean] = [[vdupq_n_f32(0.0); 2]; 3];
    for block in blocks {
        // SAFETY: the caller guarantees the bytes.
        let values = unsafe { values(block, padded) };
        let square = |lanes: Lanes| lanes.map(|four| vmulq_f32(four, four));
        add(&mut query, values, &block.query);
        add(&mut mean, values, &block.mean);
        add(&mut squared, [square(values[0]), square(values[1])], &block.squared);
    }
    Accumulators { query: total(query), squared: total(squared), mean: total(mean) }
}

/// Returns [`Accumulators::query`] alone.
///
/// # Safety
///
/// As for [`accumulate`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn accumulate_query(blocks: &[LutBlock], padded: &[u8]) -> f32 {
    let mut query = [vdupq_n_f32(0.0); 2];
    for block in blocks {
        // SAFETY: the caller guarantees the bytes.
        add(&mut query, unsafe { values(block, padded) }, &block.query);
    }
    total(query)
}

/// Adds the products of values and factors to the sum of each lane.
#[target_feature(enable = "neon")]
#[inline]
fn add(sum: &mut Lanes, values: [Lanes; 2], factors: &Factors) {
    for (values, factors) in values.into_iter().zip(factors) {
        // SAFETY: an array holds eight factors.
        let (low, high) =
            unsafe { (vld1q_f32(factors.as_ptr()), vld1q_f32(factors.as_ptr().add(LANES / 2))) };
        sum[0] = vfmaq_f32(sum[0], values[0], low);
        sum[1] = vfmaq_f32(sum[1], values[1], high);
    }
}

/// Returns the sum of all lanes.
#[target_feature(enable = "neon")]
#[inline]
fn total(lanes: Lanes) -> f32 {
    vaddvq_f32(vaddq_f32(lanes[0], lanes[1]))
}
