//! Little-endian numbers at offsets of a fixed-size array.
//!
//! Offsets are constants of the layout and the array's length is part of its type, so an index out of
//! range here is a mistake in this crate that its first test finds, never a matter of what a page holds.

pub(crate) fn get_u16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes(get(bytes, at))
}

pub(crate) fn get_u32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

pub(crate) fn get_u64<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

pub(crate) fn get<const N: usize, const M: usize>(bytes: &[u8; N], at: usize) -> [u8; M] {
    let mut out = [0; M];
    out.copy_from_slice(&bytes[at..at + M]);
    out
}

pub(crate) fn put<const N: usize, const M: usize>(bytes: &mut [u8; N], at: usize, value: [u8; M]) {
    bytes[at..at + M].copy_from_slice(&value);
}
