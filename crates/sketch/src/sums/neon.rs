//! The sums with NEON: as with AVX2, four directions to a register, but each value is loaded by itself, as there is no gather.

use std::arch::aarch64::*;

use super::{LANES, Sums, Terms};
use crate::trellis::{STATE_MASK, tables};

/// Eight values.
type Values = [float32x4_t; 2];

impl Terms {
    /// The values of directions `i` to `i + 7`.
    ///
    /// # Safety
    ///
    /// `i` is a multiple of [`LANES`] below the number of directions, and `padded` is [`Terms::padded_bytes`] long.
    #[target_feature(enable = "neon")]
    #[inline]
    unsafe fn values_neon(&self, padded: &[u8], tables: &[f32], i: usize) -> Values {
        // SAFETY: all vectors of `self` have the same length, a multiple of 8, so that eight values at `i` exist, and a group for each
        // eight. `new` has seen that every offset is at most `padded_bytes` - PADDING, and `padded` is `padded_bytes` long: PADDING,
        // which is 16, bytes exist from the base on. It has also seen that every start + 1023 is inside the tables; lanes that pad the
        // vectors have start 0.
        unsafe {
            let group = self.groups.get_unchecked(i / LANES);
            let bytes = vld1q_u8(padded.as_ptr().add(group.base));
            let four = |half: usize| {
                let words = vqtbl1q_u8(bytes, vld1q_u8(group.shuffle.as_ptr().add(16 * half)));
                let shifts = vld1q_s32(self.shifts.as_ptr().add(i + 4 * half));
                let starts = vld1q_s32(self.starts.as_ptr().add(i + 4 * half));
                // There is a shift to the left by a negative number only.
                let states = vshlq_u32(vreinterpretq_u32_u8(words), vnegq_s32(shifts));
                let states = vandq_u32(states, vdupq_n_u32(STATE_MASK));
                let mut places = [0; 4];
                vst1q_u32(places.as_mut_ptr(), vaddq_u32(states, vreinterpretq_u32_s32(starts)));
                vld1q_f32(places.map(|place| *tables.get_unchecked(place as usize)).as_ptr())
            };
            [four(0), four(1)]
        }
    }

    #[target_feature(enable = "neon")]
    pub(super) fn sums_neon(&self, padded: &[u8]) -> Sums {
        let tables = tables();
        let [mut query, mut squared, mut mean] = [[vdupq_n_f32(0.0); 2]; 3];
        for i in (0..self.offsets.len()).step_by(LANES) {
            // SAFETY: `i` is a multiple of 8 below the length of all vectors, and `sums` has seen how long `padded` is.
            unsafe {
                let values = self.values_neon(padded, tables, i);
                let squares = [vmulq_f32(values[0], values[0]), vmulq_f32(values[1], values[1])];
                add(&mut query, values, &self.query, i);
                add(&mut mean, values, &self.mean, i);
                add(&mut squared, squares, &self.squared, i);
            }
        }
        Sums { query: total(query), squared: total(squared), mean: total(mean) }
    }

    #[target_feature(enable = "neon")]
    pub(super) fn query_sum_neon(&self, padded: &[u8], count: usize) -> f32 {
        let tables = tables();
        let mut query = [vdupq_n_f32(0.0); 2];
        for i in (0..count).step_by(LANES) {
            // SAFETY: `i` is a multiple of 8 below the length of all vectors, as `query_sum` has seen, and so has it how long `padded` is.
            unsafe {
                let values = self.values_neon(padded, tables, i);
                add(&mut query, values, &self.query, i);
            }
        }
        total(query)
    }
}

/// Adds the products of eight values with the factors at `i`.
///
/// # Safety
///
/// There are eight factors at `i`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn add(sum: &mut Values, values: Values, factors: &[f32], i: usize) {
    // SAFETY: as required.
    unsafe {
        sum[0] = vfmaq_f32(sum[0], values[0], vld1q_f32(factors.as_ptr().add(i)));
        sum[1] = vfmaq_f32(sum[1], values[1], vld1q_f32(factors.as_ptr().add(i + 4)));
    }
}

/// The sum of all lanes.
#[target_feature(enable = "neon")]
#[inline]
fn total(lanes: Values) -> f32 {
    vaddvq_f32(vaddq_f32(lanes[0], lanes[1]))
}
