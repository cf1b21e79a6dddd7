//! Look-ups: from the bits of a sketch to the values of one direction, or of two neighbours at once.
//!
//! Neighbours of one width share all but `width` of their bits: a table over the `STATE_BITS + width` bits of both brings both values by
//! one look-up, and look-ups are what scoring spends its time on. Wider directions are few, and their tables would not stay in the nearest
//! cache: they are looked up alone.

use crate::trellis::{MAX_WIDTH, STATE_MASK, STATES, Window, stored, table_start};

/// Neighbours of at most this width are looked up together. Measured: all tables together are 80 kB, and 3 is faster than 2.
const MOST_PAIRED: u8 = 3;
/// Where the tables of single directions end and those of pairs begin.
const PAIRS: usize = table_start(MAX_WIDTH + 1);
const LENGTH: usize = pair_table(MOST_PAIRED + 1);

/// For each width the entries of single directions, then those of pairs. An entry holds two values as 16-bit integers in units of
/// `1 / trellis::UNIT`, the first direction's in the lower half; alone, a direction is the first, and the second value is 0.
pub(crate) static ENTRIES: [u32; LENGTH] = entries();

/// The values of an entry, in units of `1 / trellis::UNIT`.
pub(crate) fn values(entry: u32) -> [i16; 2] {
    [entry as u16 as i16, (entry >> 16) as u16 as i16]
}

/// Where the table of pairs of a width starts (that of single directions is at `table_start`): tables double from width to width.
const fn pair_table(width: u8) -> usize {
    PAIRS + STATES * ((1 << width) - 2)
}

const fn entries() -> [u32; LENGTH] {
    let mut entries = [0; LENGTH];
    let mut width = 1;
    while width <= MAX_WIDTH {
        let mut state = 0;
        while state < STATES {
            entries[table_start(width) + state] = stored(width, state) as u16 as u32;
            state += 1;
        }
        let mut both = 0;
        while width <= MOST_PAIRED && both < STATES << width {
            let (first, second) = (stored(width, both >> width), stored(width, both & STATE_MASK as usize));
            entries[pair_table(width) + both] = first as u16 as u32 | (second as u16 as u32) << 16;
            both += 1;
        }
        width += 1;
    }
    entries
}

/// One look-up: `ENTRIES[table + (((big-endian u32 at byte offset) >> shift) & mask)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) offset: usize,
    pub(crate) shift: u32,
    pub(crate) mask: u32,
    pub(crate) table: usize,
}

impl Lookup {
    /// Brings nothing that counts: it fills a group up.
    pub(crate) fn idle(offset: usize) -> Lookup {
        Lookup { offset, shift: 0, mask: 0, table: 0 }
    }

    /// A direction alone.
    pub(crate) fn single(window: Window, width: u8) -> Lookup {
        Lookup {
            offset: usize::from(window.offset),
            shift: u32::from(window.shift),
            mask: STATE_MASK,
            table: table_start(width),
        }
    }

    /// Two directions of these widths, if there is a table for them.
    pub(crate) fn pair(first: (Window, u8), second: (Window, u8)) -> Option<Lookup> {
        let (window, width) = first;
        if width != second.1 || width > MOST_PAIRED || window.start() + usize::from(width) != second.0.start()
        {
            return None;
        }
        Some(Lookup {
            offset: usize::from(window.offset),
            shift: u32::from(window.shift - width),
            mask: ((STATE_MASK + 1) << width) - 1,
            table: pair_table(width),
        })
    }

    /// Whether every value of the bits has an entry.
    pub(crate) fn is_inside(&self) -> bool {
        self.shift < 32 && self.table + (self.mask as usize) < LENGTH
    }

    /// The place of the entry, from a sketch and its padding.
    pub(crate) fn place(&self, padded: &[u8]) -> usize {
        let bytes = padded[self.offset..].first_chunk().expect("four bytes follow the start of a look-up");
        self.table + (u32::from_be_bytes(*bytes) >> self.shift & self.mask) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trellis::{PADDING, windows};
    use proptest::prelude::*;

    #[test]
    fn tables_follow_each_other() {
        assert_eq!(pair_table(1), PAIRS);
        assert_eq!(pair_table(2), PAIRS + (STATES << 1));
        assert_eq!(pair_table(3), PAIRS + (STATES << 1) + (STATES << 2));
    }

    proptest! {
        #[test]
        fn a_pair_brings_what_its_directions_bring_alone(
            bytes in prop::collection::vec(any::<u8>(), 16 + PADDING),
            width in 1..=MAX_WIDTH,
            skipped in 0usize..12,
        ) {
            let windows = windows(&vec![width; skipped + 2]);
            let (first, second) = ((windows[skipped], width), (windows[skipped + 1], width));
            let alone = |(window, width)| values(ENTRIES[Lookup::single(window, width).place(&bytes)]);
            prop_assert_eq!(alone(first)[0], stored(width, first.0.state(&bytes)));
            prop_assert_eq!(alone(first)[1], 0);
            match Lookup::pair(first, second) {
                None => prop_assert!(width > MOST_PAIRED),
                Some(pair) => {
                    prop_assert!(width <= MOST_PAIRED && pair.is_inside());
                    prop_assert_eq!(values(ENTRIES[pair.place(&bytes)]), [alone(first)[0], alone(second)[0]]);
                }
            }
            prop_assert_eq!(Lookup::pair(second, first), None);
        }
    }
}
