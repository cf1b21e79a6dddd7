//! Look-up tables: from bits of a sketch to the value of one component, or of two adjacent ones at once.
//!
//! The states of two adjacent components with `bits` bits each overlap in all but `bits` of their bits. A
//! table over the `STATE_BITS + bits` bits of both yields both values in one look-up, and scoring spends its
//! time on look-ups. Components with more bits are few, and their tables of pairs would not stay in the
//! first-level cache, so they are looked up alone.

use crate::trellis::{BitWindow, MAX_BITS, STATE_MASK, STATES, codebook_start, codeword};

/// The most bits per component for which there is a table of pairs. With 3 all tables take 80 kB and scoring
/// is faster than with 2 (measured).
const MAX_PAIRED_BITS: u8 = 3;

/// Index at which the tables of single components end and those of pairs begin.
const PAIR_TABLES_START: usize = codebook_start(MAX_BITS + 1);

/// Entries of all tables.
const LUT_LEN: usize = pair_table_start(MAX_PAIRED_BITS + 1);

/// The entries of single components by number of bits, then those of pairs. An entry holds two values as
/// 16-bit integers in units of `1 / trellis::UNIT`, that of the first component in the lower half. The second
/// value of a single component is 0.
pub(crate) static LUT: [u32; LUT_LEN] = build();

/// Returns the two values of an entry, in units of `1 / trellis::UNIT`.
pub(crate) fn unpack(entry: u32) -> [i16; 2] {
    [entry as u16 as i16, (entry >> 16) as u16 as i16]
}

/// Returns the index at which the table of pairs starts for a number of bits. Each table is twice as long as
/// the one before it. (The table of single components starts at [`codebook_start`].)
const fn pair_table_start(bits: u8) -> usize {
    PAIR_TABLES_START + STATES * ((1 << bits) - 2)
}

/// Returns all tables. Runs at compile time, which has no `for` loops.
const fn build() -> [u32; LUT_LEN] {
    let mut entries = [0; LUT_LEN];
    let mut bits = 1;
    while bits <= MAX_BITS {
        let mut state = 0;
        while state < STATES {
            entries[codebook_start(bits) + state] = codeword(bits, state) as u16 as u32;
            state += 1;
        }
        let mut states = 0;
        while bits <= MAX_PAIRED_BITS && states < STATES << bits {
            let first = codeword(bits, states >> bits);
            let second = codeword(bits, states & STATE_MASK as usize);
            entries[pair_table_start(bits) + states] = first as u16 as u32 | (second as u16 as u32) << 16;
            states += 1;
        }
        bits += 1;
    }
    entries
}

/// One look-up: `LUT[start + ((word >> shift) & mask)]`, where the word is the big-endian u32 at byte
/// `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LutKey {
    /// First byte of the word in the sketch.
    pub(crate) offset: usize,
    /// Bits of the word below those that count.
    pub(crate) shift: u32,
    /// The bits that count, after the shift.
    pub(crate) mask: u32,
    /// Index at which the table starts.
    pub(crate) start: usize,
}

impl LutKey {
    /// Returns a look-up that fills up a block; its values are multiplied by 0.
    pub(crate) fn padding(offset: usize) -> LutKey {
        LutKey { offset, shift: 0, mask: 0, start: 0 }
    }

    /// Returns the look-up of a single component.
    pub(crate) fn single(window: BitWindow, bits: u8) -> LutKey {
        LutKey {
            offset: usize::from(window.offset),
            shift: u32::from(window.shift),
            mask: STATE_MASK,
            start: codebook_start(bits),
        }
    }

    /// Returns the look-up of two components, each with its number of bits; `None` if they are not adjacent
    /// or there is no table for them.
    pub(crate) fn pair(first: (BitWindow, u8), second: (BitWindow, u8)) -> Option<LutKey> {
        let (window, bits) = first;
        if bits != second.1
            || bits > MAX_PAIRED_BITS
            || window.start() + usize::from(bits) != second.0.start()
        {
            return None;
        }
        Some(LutKey {
            offset: usize::from(window.offset),
            shift: u32::from(window.shift - bits),
            mask: ((STATE_MASK + 1) << bits) - 1,
            start: pair_table_start(bits),
        })
    }

    /// Returns whether every value of the bits has an entry.
    pub(crate) fn is_in_bounds(&self) -> bool {
        self.shift < 32 && self.start + (self.mask as usize) < LUT_LEN
    }

    /// Returns the index of the entry for a sketch with its padding.
    pub(crate) fn index(&self, padded: &[u8]) -> usize {
        let bytes = padded[self.offset..].first_chunk().expect("four bytes follow the start of a look-up");
        self.start + (u32::from_be_bytes(*bytes) >> self.shift & self.mask) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trellis::{PADDING, bit_windows};
    use proptest::prelude::*;

    #[test]
    fn tables_follow_each_other() {
        assert_eq!(pair_table_start(1), PAIR_TABLES_START);
        assert_eq!(pair_table_start(2), PAIR_TABLES_START + (STATES << 1));
        assert_eq!(pair_table_start(3), PAIR_TABLES_START + (STATES << 1) + (STATES << 2));
    }

    proptest! {
        #[test]
        fn a_pair_has_the_values_of_its_components(
            bytes in prop::collection::vec(any::<u8>(), 16 + PADDING),
            bits in 1..=MAX_BITS,
            skipped in 0usize..12,
        ) {
            let windows = bit_windows(&vec![bits; skipped + 2]);
            let (first, second) = ((windows[skipped], bits), (windows[skipped + 1], bits));
            let single = |(window, bits)| unpack(LUT[LutKey::single(window, bits).index(&bytes)]);
            prop_assert_eq!(single(first)[0], codeword(bits, first.0.state(&bytes)));
            prop_assert_eq!(single(first)[1], 0);
            match LutKey::pair(first, second) {
                None => prop_assert!(bits > MAX_PAIRED_BITS),
                Some(pair) => {
                    prop_assert!(bits <= MAX_PAIRED_BITS && pair.is_in_bounds());
                    prop_assert_eq!(unpack(LUT[pair.index(&bytes)]), [single(first)[0], single(second)[0]]);
                }
            }
            prop_assert_eq!(LutKey::pair(second, first), None);
        }
    }
}
