//! The inner loop of scoring: for each direction find its state in the bits of a sketch, look its value up, and add it to three sums.
//!
//! Portable code, and the same with AVX2 where the processor has it (found out when a query is made), which takes a quarter of the time. The
//! windows of eight directions lie within sixteen bytes, so one load and one shuffle bring all of them into their lanes; only the values are
//! gathered. AVX-512 was no faster.

use crate::trellis::{PADDING, STATE_MASK, Window, tables};

/// Directions are padded to a multiple of this with ones that add nothing.
pub(crate) const LANES: usize = 8;

/// What a direction's value adds to each sum, and where the value is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub(crate) window: Window,
    /// Where the direction's table starts.
    pub(crate) table: usize,
    /// Factor of the value in the inner product with the query.
    pub(crate) query: f32,
    /// Factor of the value's square in the squared length.
    pub(crate) squared: f32,
    /// Factor of the value in the inner product with the mean.
    pub(crate) mean: f32,
}

/// The sums that a sketch is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) query: f32,
    pub(crate) squared: f32,
    pub(crate) mean: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

/// How the windows of [`LANES`] directions get into their lanes.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
struct Group {
    /// The first byte of the first window.
    base: usize,
    /// For each byte of each lane, the byte after `base` that it takes: a window's four bytes, the first one highest.
    shuffle: [u8; 4 * LANES],
}

/// Bytes that a shuffle chooses from.
const REACH: usize = 16;

impl Group {
    /// # Panics
    ///
    /// If the windows at these offsets do not rise, or do not lie within [`REACH`] bytes.
    fn new(offsets: &[i32]) -> Group {
        let base = offsets[0] as usize;
        let mut shuffle = [0; 4 * LANES];
        for (lane, offset) in shuffle.chunks_exact_mut(4).zip(offsets) {
            let first = *offset as usize - base;
            assert!(first + 4 <= REACH, "windows of a group are near each other");
            for (place, byte) in lane.iter_mut().enumerate() {
                *byte = (first + 3 - place) as u8;
            }
        }
        Group { base, shuffle }
    }
}

/// Terms in the form that vector registers are loaded from. All vectors have the same length, a multiple of [`LANES`].
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    offsets: Vec<i32>,
    shifts: Vec<i32>,
    starts: Vec<i32>,
    groups: Vec<Group>,
    query: Vec<f32>,
    squared: Vec<f32>,
    mean: Vec<f32>,
    /// Length of a sketch with its padding; every offset is at most this minus [`PADDING`].
    padded_bytes: usize,
    kernel: Kernel,
}

impl Terms {
    /// # Panics
    ///
    /// If a term lies outside the sketch or the tables: the vector code relies on it.
    pub(crate) fn new(terms: impl Iterator<Item = Term>, sketch_bytes: usize) -> Terms {
        let mut out = Terms {
            offsets: Vec::new(),
            shifts: Vec::new(),
            starts: Vec::new(),
            groups: Vec::new(),
            query: Vec::new(),
            squared: Vec::new(),
            mean: Vec::new(),
            padded_bytes: sketch_bytes + PADDING,
            kernel: fastest(),
        };
        for term in terms {
            assert!(usize::from(term.window.offset) <= sketch_bytes, "a window lies within the sketch");
            assert!(term.table + (STATE_MASK as usize) < tables().len(), "a table lies within the tables");
            out.offsets.push(i32::from(term.window.offset));
            out.shifts.push(i32::from(term.window.shift));
            out.starts.push(term.table as i32);
            out.query.push(term.query);
            out.squared.push(term.squared);
            out.mean.push(term.mean);
        }
        let length = out.offsets.len().next_multiple_of(LANES);
        // What the padding reads does not matter, but it has to lie near.
        let last = out.offsets.last().copied().unwrap_or(0);
        out.offsets.resize(length, last);
        for integers in [&mut out.shifts, &mut out.starts] {
            integers.resize(length, 0);
        }
        out.groups = out.offsets.chunks_exact(LANES).map(Group::new).collect();
        for factors in [&mut out.query, &mut out.squared, &mut out.mean] {
            factors.resize(length, 0.0);
        }
        out
    }

    pub(crate) fn padded_bytes(&self) -> usize {
        self.padded_bytes
    }

    /// The sums over all directions, for a sketch, which is followed by [`PADDING`] bytes of any value.
    ///
    /// # Panics
    ///
    /// If `padded` is not [`Terms::padded_bytes`] long.
    pub(crate) fn sums(&self, padded: &[u8]) -> Sums {
        self.require_padding(padded);
        match self.kernel {
            Kernel::Portable => self.sums_portable(padded),
            // SAFETY: `fastest` chose the kernel because this processor has its instructions.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { self.sums_avx2(padded) },
        }
    }

    /// The first of the sums alone, over the first `count` directions, a multiple of [`LANES`].
    ///
    /// # Panics
    ///
    /// If `padded` is not [`Terms::padded_bytes`] long, or there are no such directions.
    pub(crate) fn query_sum(&self, padded: &[u8], count: usize) -> f32 {
        self.require_padding(padded);
        assert!(count.is_multiple_of(LANES) && count <= self.offsets.len(), "whole groups of directions");
        match self.kernel {
            Kernel::Portable => self.query_sum_portable(padded, count),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { self.query_sum_avx2(padded, count) },
        }
    }

    fn require_padding(&self, padded: &[u8]) {
        const { assert!(PADDING >= REACH) };
        assert_eq!(padded.len(), self.padded_bytes, "a sketch and its padding");
    }

    fn values_portable(&self, padded: &[u8], i: usize) -> [f32; LANES] {
        let tables = tables();
        std::array::from_fn(|lane| {
            let at = i + lane;
            let window = Window { offset: self.offsets[at] as u16, shift: self.shifts[at] as u8 };
            tables[self.starts[at] as usize + window.state(padded)]
        })
    }

    fn sums_portable(&self, padded: &[u8]) -> Sums {
        // A sum per lane: additions need not wait for each other.
        let (mut query, mut squared, mut mean) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
        for i in (0..self.offsets.len()).step_by(LANES) {
            let values = self.values_portable(padded, i);
            for lane in 0..LANES {
                query[lane] += self.query[i + lane] * values[lane];
                squared[lane] += self.squared[i + lane] * values[lane] * values[lane];
                mean[lane] += self.mean[i + lane] * values[lane];
            }
        }
        Sums { query: query.iter().sum(), squared: squared.iter().sum(), mean: mean.iter().sum() }
    }

    fn query_sum_portable(&self, padded: &[u8], count: usize) -> f32 {
        let mut query = [0f32; LANES];
        for i in (0..count).step_by(LANES) {
            let values = self.values_portable(padded, i);
            for lane in 0..LANES {
                query[lane] += self.query[i + lane] * values[lane];
            }
        }
        query.iter().sum()
    }

    /// The values of directions `i` to `i + 7`.
    ///
    /// # Safety
    ///
    /// `i` is a multiple of [`LANES`] below the number of directions, and `padded` is [`Terms::padded_bytes`] long.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    #[inline]
    unsafe fn values_avx2(&self, padded: &[u8], tables: &[f32], i: usize) -> std::arch::x86_64::__m256 {
        use std::arch::x86_64::*;
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

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn sums_avx2(&self, padded: &[u8]) -> Sums {
        use std::arch::x86_64::*;
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

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn query_sum_avx2(&self, padded: &[u8], count: usize) -> f32 {
        use std::arch::x86_64::*;
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
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn total(lanes: std::arch::x86_64::__m256) -> f32 {
    use std::arch::x86_64::*;
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

fn fastest() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Kernel::Avx2;
        }
    }
    Kernel::Portable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trellis::{self, MAX_WIDTH};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_kernel_gives_the_portable_sums(
            widths in prop::collection::vec(1u8..=MAX_WIDTH, 0..300),
            bytes in prop::collection::vec(any::<u8>(), 300),
            seed in any::<u64>(),
        ) {
            let sketch_bytes = trellis::bits(&widths).div_ceil(8);
            let mut random = crate::random::Random::new(seed);
            let mut factor = || (random.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
            let term = |(window, width): (Window, &u8)| Term {
                window,
                table: trellis::table_start(*width),
                query: factor(),
                squared: factor(),
                mean: factor(),
            };
            let mut terms = Terms::new(trellis::windows(&widths).into_iter().zip(&widths).map(term), sketch_bytes);
            let padded = &bytes[..terms.padded_bytes()];
            let expected = terms.sums_portable(padded);
            let half = terms.offsets.len() / LANES / 2 * LANES;
            let expected_half = terms.query_sum_portable(padded, half);
            let mut kernels = vec![Kernel::Portable];
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    kernels.push(Kernel::Avx2);
                }
            }
            for kernel in kernels {
                terms.kernel = kernel;
                let got = terms.sums(padded);
                let got_half = terms.query_sum(padded, half);
                prop_assert!((got_half - expected_half).abs() < 1e-3, "{kernel:?}: {got_half} for {expected_half}");
                for (got, expected) in
                    [(got.query, expected.query), (got.squared, expected.squared), (got.mean, expected.mean)]
                {
                    prop_assert!((got - expected).abs() < 1e-3, "{kernel:?}: {got} for {expected}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "within the sketch")]
    fn a_window_outside_the_sketch_is_refused() {
        let window = Window { offset: 9, shift: 0 };
        Terms::new([Term { window, table: 0, query: 0.0, squared: 0.0, mean: 0.0 }].into_iter(), 8);
    }
}
