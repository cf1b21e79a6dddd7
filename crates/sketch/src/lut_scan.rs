//! The inner loop of scoring: looks up the value of each component by its bits of the sketch, and adds it to
//! three sums.
//!
//! There are three kernels: portable code, AVX2 and NEON. The choice is made when a query is made, by what
//! the processor has.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod block;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::ops::Range;

use crate::lut::LutKey;
use crate::trellis::PADDING;

pub(crate) use block::{Accumulators, ComponentTerm};
use block::{LANES, LutBlock, SHUFFLE_BYTES};

/// The instructions that the sums are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Kernel {
    /// Returns the fastest kernel that this processor has the instructions for.
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
}

/// The terms of all components, in blocks of look-ups.
#[derive(Clone, Debug)]
pub(crate) struct LutScan {
    blocks: Vec<LutBlock>,
    /// Length of a sketch with its padding. The `first_byte` of every block is at most this minus
    /// [`PADDING`].
    padded_bytes: usize,
    kernel: Kernel,
}

impl LutScan {
    /// Packs the terms of all components, in the order of their windows.
    ///
    /// # Panics
    ///
    /// If a window lies outside the sketch, or for the reasons of [`LutBlock::new`]. The kernels rely on
    /// these conditions.
    pub(crate) fn new(terms: &[ComponentTerm], sketch_bytes: usize) -> LutScan {
        let mut keys = Vec::with_capacity(terms.len());
        let mut rest = terms;
        while let [first, after @ ..] = rest {
            let pair = |second: &ComponentTerm| {
                LutKey::pair((first.window, first.bits), (second.window, second.bits))
            };
            let (key, count) = match after.first().and_then(pair) {
                Some(pair) => (pair, 2),
                None => (LutKey::single(first.window, first.bits), 1),
            };
            assert!(key.offset <= sketch_bytes, "a window lies within the sketch");
            keys.push((key, &rest[..count]));
            rest = &rest[count..];
        }
        let mut end = 0;
        let blocks = keys.chunks(LANES).map(|members| {
            end += members.iter().map(|(_, terms)| terms.len()).sum::<usize>();
            LutBlock::new(members, end)
        });
        LutScan { blocks: blocks.collect(), padded_bytes: sketch_bytes + PADDING, kernel: Kernel::fastest() }
    }

    /// Returns the length in bytes of a sketch with its padding.
    pub(crate) fn padded_bytes(&self) -> usize {
        self.padded_bytes
    }

    /// Returns for each block the range of its components.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.blocks.iter().map(|block| block.end));
        starts.zip(&self.blocks).map(|(start, block)| start..block.end)
    }

    /// Returns the sums over all components of a sketch that is followed by [`PADDING`] bytes of any value.
    ///
    /// # Panics
    ///
    /// If the length of `padded` is not [`LutScan::padded_bytes`].
    pub(crate) fn accumulate(&self, padded: &[u8]) -> Accumulators {
        self.require_padding(padded);
        match self.kernel {
            Kernel::Portable => portable::accumulate(&self.blocks, padded),
            // SAFETY: `Kernel::fastest` chose this kernel because the processor has its instructions. `new`
            // and `require_padding` have checked that `SHUFFLE_BYTES` bytes follow the `first_byte` of each
            // block.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::accumulate(&self.blocks, padded) },
            // SAFETY: as for AVX2.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => unsafe { neon::accumulate(&self.blocks, padded) },
        }
    }

    /// Returns [`Accumulators::query`] alone, over the components of the first `count` blocks.
    ///
    /// # Panics
    ///
    /// If the length of `padded` is not [`LutScan::padded_bytes`], or there are fewer than `count` blocks.
    pub(crate) fn accumulate_query(&self, padded: &[u8], count: usize) -> f32 {
        self.require_padding(padded);
        let blocks = &self.blocks[..count];
        match self.kernel {
            Kernel::Portable => portable::accumulate_query(blocks, padded),
            // SAFETY: as in `accumulate`.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::accumulate_query(blocks, padded) },
            // SAFETY: as in `accumulate`.
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => unsafe { neon::accumulate_query(blocks, padded) },
        }
    }

    /// Panics unless `padded` is a sketch with its padding.
    fn require_padding(&self, padded: &[u8]) {
        const { assert!(PADDING >= SHUFFLE_BYTES) };
        assert_eq!(padded.len(), self.padded_bytes, "a sketch and its padding");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trellis::{self, BitWindow, MAX_BITS, codebook_start, codebooks};
    use proptest::prelude::*;

    /// Returns the sums by decoding one component after the other.
    fn sums_one_by_one(terms: &[ComponentTerm], padded: &[u8]) -> Accumulators {
        let mut sums = Accumulators::default();
        for term in terms {
            let value = codebooks()[codebook_start(term.bits) + term.window.state(padded)];
            sums.query += term.query * value;
            sums.squared += term.squared * value * value;
            sums.mean += term.mean * value;
        }
        sums
    }

    proptest! {
        #[test]
        fn every_kernel_gives_the_sums_over_the_components(
            component_bits in prop::collection::vec(1u8..=MAX_BITS, 0..300),
            bytes in prop::collection::vec(any::<u8>(), 300),
            seed in any::<u64>(),
        ) {
            let sketch_bytes = trellis::code_bits(&component_bits).div_ceil(8);
            let mut rng = leann_vector::Rng::new(seed);
            let mut factor = || (rng.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
            let term = |(window, bits): (BitWindow, &u8)| ComponentTerm {
                window,
                bits: *bits,
                query: factor(),
                squared: factor(),
                mean: factor(),
            };
            let windows = trellis::bit_windows(&component_bits).into_iter();
            let components: Vec<ComponentTerm> = windows.zip(&component_bits).map(term).collect();
            let mut scan = LutScan::new(&components, sketch_bytes);
            let padded = &bytes[..scan.padded_bytes()];
            let expected = sums_one_by_one(&components, padded);
            let half = scan.blocks.len() / 2;
            let covered = scan.blocks().nth(half).map_or(0, |components| components.start);
            let expected_half = sums_one_by_one(&components[..covered], padded).query;
            for kernel in [Kernel::Portable, Kernel::fastest()] {
                scan.kernel = kernel;
                let got = scan.accumulate(padded);
                let got_half = scan.accumulate_query(padded, half);
                prop_assert!(
                    (got_half - expected_half).abs() < 1e-3,
                    "{kernel:?}: {got_half} for {expected_half}"
                );
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
        let window = BitWindow { offset: 9, shift: 0 };
        LutScan::new(&[ComponentTerm { window, bits: 1, query: 0.0, squared: 0.0, mean: 0.0 }], 8);
    }
}
