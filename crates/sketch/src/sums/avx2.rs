//! The sums with AVX2, which take a quarter of the portable code's time. AVX-512 was no faster.
//!
//! The windows of eight directions lie within sixteen bytes, so one load and one shuffle bring all of them into their lanes; only the values
//! are gathered.

use std::arch::x86_64::*;

use super::{LANES, Sums, Terms};
use crate::trellis::{STATE_MASK, tables};

impl Terms {
    /// The values of directions `i` to `i + 7`.
    ///
    /// # Safety
    ///
    /// `i` is a multiple of [`LANES`] below the number of directions, and `padded` is [`Terms::padded_bytes`] long.
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn values_avx2(&self, padded: &[u8], tables: &[f32], i: usize) -> __m256 {
        // SAFETY: all vectors of `self` have the same length, a multiple of 8, so that eight values at `i` exist, and a group for each
        // eight. `new` has seen that every offset is at most `padded_bytes` - PADDING, and `padded` is `padded_bytes` long: PADDING,
        // which is 16, bytes exist from the base on. It has also seen that every start + 1023 is inside the tables; lanes that pad the
        // vectors have start 0.
        unsafe {
            let group = self.groups.get_unchecked(i / LANES);
            let shifts = _mm256_loadu_si256(self.shifts.as_ptr().add(i).cast());
            let starts = _mm256_loadu_si256(self.starts.as_ptr().add(i).cast());
            let bytes = _mm_loadu_si128(padded.as_ptr().add(group.base).cast());
            let shuffle = _mm256_loadu_si256(group.shuffle.as_ptr().cast());
            let words = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), shuffle);
            let words =
                _mm256_and_si256(_mm256_srlv_epi32(words, shifts), _mm256_set1_epi32(STATE_MASK as i32));
            _mm256_i32gather_ps::<4>(tables.as_ptr(), _mm256_add_epi32(words, starts))
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn sums_avx2(&self, padded: &[u8]) -> Sums {
        let tables = tables();
        let (mut query, mut squared, mut mean) =
            (_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps());
        for i in (0..self.offsets.len()).step_by(LANES) {
            // SAFETY: `i` is a multiple of 8 below the length of all vectors, and `sums` has seen how long `padded` is.
            unsafe {
                let values = self.values_avx2(padded, tables, i);
                query = _mm256_fmadd_ps(values, _mm256_loadu_ps(self.query.as_ptr().add(i)), query);
                mean = _mm256_fmadd_ps(values, _mm256_loadu_ps(self.mean.as_ptr().add(i)), mean);
                let squares = _mm256_mul_ps(values, values);
                squared = _mm256_fmadd_ps(squares, _mm256_loadu_ps(self.squared.as_ptr().add(i)), squared);
            }
        }
        Sums { query: total(query), squared: total(squared), mean: total(mean) }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn query_sum_avx2(&self, padded: &[u8], count: usize) -> f32 {
        let tables = tables();
        let mut query = _mm256_setzero_ps();
        for i in (0..count).step_by(LANES) {
            // SAFETY: `i` is a multiple of 8 below the length of all vectors, as `query_sum` has seen, and so has it how long `padded` is.
            unsafe {
                let values = self.values_avx2(padded, tables, i);
                query = _mm256_fmadd_ps(values, _mm256_loadu_ps(self.query.as_ptr().add(i)), query);
            }
        }
        total(query)
    }
}

/// The sum of all lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn total(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}
