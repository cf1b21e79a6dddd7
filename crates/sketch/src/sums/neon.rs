//! The sums with NEON: as with AVX2, four look-ups to a register.

use std::arch::aarch64::*;

use super::{Factors, Group, LANES, Sums};
use crate::lookup::ENTRIES;

/// A value for each of the eight lanes.
type Lanes = [float32x4_t; 2];

/// The first values of a group's look-ups, and the second ones.
///
/// # Safety
///
/// [`super::REACH`] bytes of `padded` exist from the group's base on.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn values(group: &Group, padded: &[u8]) -> [Lanes; 2] {
    let mut places = [0u32; LANES];
    // SAFETY: the bytes from the base on exist, and the other loads and the store are of eight lanes, or four bytes for each.
    unsafe {
        let bytes = vld1q_u8(padded.as_ptr().add(group.base));
        for half in [0, LANES / 2] {
            let words = vqtbl1q_u8(bytes, vld1q_u8(group.shuffle.as_ptr().add(4 * half)));
            let shifts = vreinterpretq_s32_u32(vld1q_u32(group.shifts.as_ptr().add(half)));
            // There is a shift to the left by a negative number only.
            let shifted = vshlq_u32(vreinterpretq_u32_u8(words), vnegq_s32(shifts));
            let indexes = vandq_u32(shifted, vld1q_u32(group.masks.as_ptr().add(half)));
            let tables = vld1q_u32(group.tables.as_ptr().add(half));
            vst1q_u32(places.as_mut_ptr().add(half), vaddq_u32(indexes, tables));
        }
    }
    // SAFETY: every place that a look-up leads to is inside the tables, which `Group::new` has seen.
    let entries = places.map(|place| unsafe { *ENTRIES.get_unchecked(place as usize) as i32 });
    let four = |half: usize| {
        // SAFETY: there are four entries at 0 and at 4.
        let entries = unsafe { vld1q_s32(entries.as_ptr().add(half)) };
        let first = vshrq_n_s32::<16>(vshlq_n_s32::<16>(entries));
        (vcvtq_f32_s32(first), vcvtq_f32_s32(vshrq_n_s32::<16>(entries)))
    };
    let (low, high) = (four(0), four(LANES / 2));
    [[low.0, high.0], [low.1, high.1]]
}

/// # Safety
///
/// [`super::REACH`] bytes of `padded` exist from the base of each group on.
#[target_feature(enable = "neon")]
pub(super) unsafe fn sums(groups: &[Group], padded: &[u8]) -> Sums {
    let [mut query, mut squared, mut mean] = [[vdupq_n_f32(0.0); 2]; 3];
    for group in groups {
        // SAFETY: as required.
        let values = unsafe { values(group, padded) };
        let square = |lanes: Lanes| lanes.map(|four| vmulq_f32(four, four));
        add(&mut query, values, &group.query);
        add(&mut mean, values, &group.mean);
        add(&mut squared, [square(values[0]), square(values[1])], &group.squared);
    }
    Sums { query: total(query), squared: total(squared), mean: total(mean) }
}

/// The first of the sums alone.
///
/// # Safety
///
/// As for [`sums`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn query_sum(groups: &[Group], padded: &[u8]) -> f32 {
    let mut query = [vdupq_n_f32(0.0); 2];
    for group in groups {
        // SAFETY: as required.
        add(&mut query, unsafe { values(group, padded) }, &group.query);
    }
    total(query)
}

/// Adds the products of values and factors.
#[target_feature(enable = "neon")]
#[inline]
fn add(sum: &mut Lanes, values: [Lanes; 2], factors: &Factors) {
    for (values, factors) in values.into_iter().zip(factors) {
        // SAFETY: there are eight factors.
        let (low, high) =
            unsafe { (vld1q_f32(factors.as_ptr()), vld1q_f32(factors.as_ptr().add(LANES / 2))) };
        sum[0] = vfmaq_f32(sum[0], values[0], low);
        sum[1] = vfmaq_f32(sum[1], values[1], high);
    }
}

/// The sum of all lanes.
#[target_feature(enable = "neon")]
#[inline]
fn total(lanes: Lanes) -> f32 {
    vaddvq_f32(vaddq_f32(lanes[0], lanes[1]))
}
