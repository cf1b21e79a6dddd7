//! Blocks of eight look-ups, in the form that every kernel reads, and the sums that a kernel computes.

use crate::lut::{self, LUT, LutKey};
use crate::trellis::{BitWindow, UNIT};

/// Look-ups in a block: lanes of a 256-bit register. Look-ups that add nothing fill up the last block.
pub(crate) const LANES: usize = 8;

/// Bytes that a shuffle chooses from: those of a 128-bit register.
pub(crate) const SHUFFLE_BYTES: usize = 16;

/// Where a component's value is, and what it adds to each sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ComponentTerm {
    /// The bits of the sketch by which the value is looked up.
    pub(crate) window: BitWindow,
    /// Bits of the component, which choose the codebook.
    pub(crate) bits: u8,
    /// Factor of the value in the inner product with the query.
    pub(crate) query: f32,
    /// Factor of the value's square in the squared length.
    pub(crate) squared: f32,
    /// Factor of the value in the inner product with the mean.
    pub(crate) mean: f32,
}

/// The sums from which a sketch's estimate and its error follow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Accumulators {
    /// Inner product with the query.
    pub(crate) query: f32,
    /// Squared length.
    pub(crate) squared: f32,
    /// Inner product with the mean.
    pub(crate) mean: f32,
}

/// One factor per lane for the first values of its look-ups, and one for the second values.
pub(crate) type Factors = [[f32; LANES]; 2];

/// Look-ups and the factors of their values, in the form that vector registers are loaded from.
#[derive(Clone, Debug)]
#[repr(C, align(32))]
pub(crate) struct LutBlock {
    /// For each byte of each lane, the position after `first_byte` of the byte that it takes. The four bytes
    /// of a lane are in reverse order, because the bits of a sketch are big-endian.
    pub(crate) shuffle: [u8; 4 * LANES],
    /// Per lane, [`LutKey::shift`].
    pub(crate) shifts: [u32; LANES],
    /// Per lane, [`LutKey::mask`].
    pub(crate) masks: [u32; LANES],
    /// Per lane, [`LutKey::start`].
    pub(crate) starts: [u32; LANES],
    /// Factors in the inner product with the query.
    pub(crate) query: Factors,
    /// Factors of the squares in the squared length.
    pub(crate) squared: Factors,
    /// Factors in the inner product with the mean.
    pub(crate) mean: Factors,
    /// The first byte of the first look-up.
    pub(crate) first_byte: usize,
    /// One past the last component of this block.
    pub(crate) end: usize,
}

impl LutBlock {
    /// Packs 1 to [`LANES`] look-ups, each with the one or two terms that it serves. `end` is one past the
    /// last component among them.
    ///
    /// # Panics
    ///
    /// If a look-up leaves the tables, if the offsets of the look-ups fall, or if their bytes do not lie
    /// within [`SHUFFLE_BYTES`]. The kernels rely on these conditions.
    pub(crate) fn new(members: &[(LutKey, &[ComponentTerm])], end: usize) -> LutBlock {
        let first_byte = members[0].0.offset;
        let last = members[members.len() - 1].0.offset;
        let mut block = LutBlock {
            shuffle: [0; 4 * LANES],
            shifts: [0; LANES],
            masks: [0; LANES],
            starts: [0; LANES],
            query: [[0.0; LANES]; 2],
            squared: [[0.0; LANES]; 2],
            mean: [[0.0; LANES]; 2],
            first_byte,
            end,
        };
        for lane in 0..LANES {
            let idle = (LutKey::padding(last), [].as_slice());
            let (key, terms) = members.get(lane).copied().unwrap_or(idle);
            let first = key.offset.checked_sub(first_byte).expect("look-ups of a block rise");
            assert!(first + 4 <= SHUFFLE_BYTES, "look-ups of a block are near each other");
            assert!(key.is_in_bounds(), "a look-up lies within the tables");
            for byte in 0..4 {
                block.shuffle[4 * lane + byte] = (first + 3 - byte) as u8;
            }
            (block.shifts[lane], block.masks[lane]) = (key.shift, key.mask);
            block.starts[lane] = key.start as u32;
            for (which, term) in terms.iter().enumerate() {
                block.query[which][lane] = term.query / UNIT;
                block.squared[which][lane] = term.squared / (UNIT * UNIT);
                block.mean[which][lane] = term.mean / UNIT;
            }
        }
        block
    }

    /// Returns the two values of each look-up, in units of `1 / UNIT`.
    pub(crate) fn values(&self, padded: &[u8]) -> [[f32; 2]; LANES] {
        std::array::from_fn(|lane| {
            let offset = self.first_byte + usize::from(self.shuffle[4 * lane + 3]);
            let (shift, mask, start) = (self.shifts[lane], self.masks[lane], self.starts[lane] as usize);
            lut::unpack(LUT[LutKey { offset, shift, mask, start }.index(padded)]).map(f32::from)
        })
    }
}
