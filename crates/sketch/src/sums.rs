//! The inner loop of scoring: for each direction find its state in the bits of a sketch, look its value up, and add it to three sums.
//!
//! Portable code, and the same with AVX2 and with NEON where the processor has them (found out when a query is made).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;

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
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// How the windows of [`LANES`] directions get into their lanes.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
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
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => unsafe { self.sums_neon(padded) },
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
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => unsafe { self.query_sum_neon(padded, count) },
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
}

fn fastest() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return Kernel::Avx2;
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return Kernel::Neon;
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
            for kernel in [Kernel::Portable, fastest()] {
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
