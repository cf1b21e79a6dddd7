//! The form in which a node page stores its heap pointers: each in as few bytes as the page's pointers need.
//!
//! A slot is the number `block << offset_bits | offset` in `bytes` bytes. Rows of text are long, so a block
//! has few of them and an offset needs few bits: three bytes hold the pointers of a table of a few
//! gigabytes. Six bytes hold any pointer. Each page has its own form.

use std::ops::RangeInclusive;

use crate::error::{PageError, damaged};
use crate::refs::HeapPointer;

/// The range of slot lengths in bytes. Two bytes would suffice only for tables of a few thousand rows, whose
/// index is small in any case.
const SLOT_BYTES: RangeInclusive<u8> = 3..=6;
/// The most bits that an offset may have: those of a u16.
const MAX_OFFSET_BITS: u8 = 16;

/// The form of the heap pointers of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointerForm {
    bytes: u8,
    offset_bits: u8,
}

impl PointerForm {
    /// The form that holds any pointer.
    pub const WIDEST: PointerForm = PointerForm { bytes: *SLOT_BYTES.end(), offset_bits: MAX_OFFSET_BITS };

    /// Returns the narrowest form that holds every pointer up to this block and this offset. Block and
    /// offset share the spare bits of the slot, so that the next pointers are likely to fit too.
    pub fn holding(block: u32, offset: u16) -> PointerForm {
        let (block_bits, offset_bits) = needed(block, offset);
        let bytes = (block_bits + offset_bits).div_ceil(8).max(*SLOT_BYTES.start());
        let spare = 8 * bytes - block_bits - offset_bits;
        PointerForm { bytes, offset_bits: (offset_bits + spare / 2).min(MAX_OFFSET_BITS) }
    }

    /// Returns the narrowest form that holds all of these pointers. Without any, it is the narrowest of all
    /// forms.
    pub fn holding_all(pointers: impl IntoIterator<Item = HeapPointer>) -> PointerForm {
        let (block, offset) = pointers
            .into_iter()
            .fold((0, 0), |(block, offset), pointer| (pointer.block.max(block), pointer.offset.max(offset)));
        PointerForm::holding(block, offset)
    }

    /// Returns the length of a slot in bytes.
    pub fn bytes(self) -> usize {
        usize::from(self.bytes)
    }

    /// Returns how many bits of a slot, the lowest ones, are those of the offset.
    pub(crate) fn offset_bits(self) -> u8 {
        self.offset_bits
    }

    /// Reads a form from the two bytes of a header.
    pub(crate) fn from_header(bytes: u8, offset_bits: u8) -> Result<PointerForm, PageError> {
        if !SLOT_BYTES.contains(&bytes) {
            return damaged("bytes of a heap pointer", bytes);
        }
        if !(1..=MAX_OFFSET_BITS).contains(&offset_bits) {
            return damaged("offset bits of a heap pointer", offset_bits);
        }
        Ok(PointerForm { bytes, offset_bits })
    }

    /// Returns whether a slot has room for the pointer.
    pub(crate) fn holds(self, pointer: HeapPointer) -> bool {
        let (block_bits, offset_bits) = needed(pointer.block, pointer.offset);
        offset_bits <= self.offset_bits && block_bits + self.offset_bits <= 8 * self.bytes
    }

    /// Reads block and offset from slot `i` of an array, whatever follows the array. On a damaged page
    /// either may be impossible.
    #[inline]
    pub(crate) fn numbers(self, array: &[u8], i: usize) -> (u64, u16) {
        let slot = &array[i * self.bytes()..];
        // One load of eight bytes is faster than a copy of a variable length. At the end of a body there may
        // be fewer.
        let eight = slot.first_chunk().copied().unwrap_or_else(|| {
            let mut eight = [0; 8];
            eight[..self.bytes()].copy_from_slice(&slot[..self.bytes()]);
            eight
        });
        let number = u64::from_le_bytes(eight) & (u64::MAX >> (64 - 8 * u32::from(self.bytes)));
        // The mask leaves at most 16 bits: nothing is cut.
        (number >> self.offset_bits, (number & ((1 << self.offset_bits) - 1)) as u16)
    }

    /// Reads a slot of a page that was checked, so that the block fits its 32 bits.
    #[inline]
    pub(crate) fn read(self, array: &[u8], i: usize) -> HeapPointer {
        let (block, offset) = self.numbers(array, i);
        HeapPointer { block: block as u32, offset }
    }

    /// Writes a pointer that this form holds into its slot.
    pub(crate) fn write(self, pointer: HeapPointer, slot: &mut [u8]) {
        let number = u64::from(pointer.block) << self.offset_bits | u64::from(pointer.offset);
        slot.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    }
}

/// Returns how many bits a block number and an offset need. An offset is never 0, so it needs at least one.
fn needed(block: u32, offset: u16) -> (u8, u8) {
    ((u32::BITS - block.leading_zeros()) as u8, (u16::BITS - offset.leading_zeros()).max(1) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_form_is_as_narrow_as_its_pointers_allow() {
        let form = |block, offset| {
            let PointerForm { bytes, offset_bits } = PointerForm::holding(block, offset);
            (bytes, offset_bits)
        };
        assert_eq!(form(0, 0), (3, 12));
        assert_eq!(form(4_000, 12), (3, 8), "a table of 32 MB");
        assert_eq!(form((1 << 19) - 1, 31), (3, 5), "4 GB of rows of text");
        assert_eq!(form(1 << 19, 31), (4, 8));
        assert_eq!(form((1 << 23) - 1, 291), (4, 9), "64 GB of the narrowest rows");
        assert_eq!(form(u32::MAX - 1, 291), (6, 12));
        assert_eq!(form(u32::MAX, u16::MAX), (6, 16));
        assert_eq!(PointerForm::holding(u32::MAX, u16::MAX), PointerForm::WIDEST);
        assert_eq!(PointerForm::holding_all([]), PointerForm::holding(0, 0));
    }

    #[test]
    fn impossible_forms_are_refused() {
        for (bytes, offset_bits) in [(0, 5), (2, 5), (7, 5), (255, 5), (3, 0), (3, 17), (6, 255)] {
            PointerForm::from_header(bytes, offset_bits).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn what_a_form_holds_is_read_as_it_was_written(
            blocks in (any::<u32>(), 0..32u32),
            offset in (1..=u16::MAX, 0..16u32),
            other in (any::<u32>(), 1..=u16::MAX),
        ) {
            let largest = HeapPointer { block: blocks.0 >> blocks.1, offset: (offset.0 >> offset.1).max(1) };
            let form = PointerForm::holding(largest.block, largest.offset);
            prop_assert_eq!(PointerForm::from_header(form.bytes, form.offset_bits), Ok(form));
            prop_assert!(form.holds(largest));
            let other = HeapPointer { block: other.0, offset: other.1 };
            let (block, offset) = (other.block.min(largest.block), other.offset.min(largest.offset));
            let lesser = HeapPointer { block, offset };
            prop_assert!(form.holds(lesser));
            for pointer in [largest, lesser, other].into_iter().filter(|pointer| form.holds(*pointer)) {
                for (slots, i) in [(1, 0), (2, 1), (5, 2)] {
                    let mut array = vec![0xFF; slots * form.bytes()];
                    form.write(pointer, &mut array[i * form.bytes()..][..form.bytes()]);
                    prop_assert_eq!(form.read(&array, i), pointer);
                }
            }
        }
    }
}
