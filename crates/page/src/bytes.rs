//! Reads and writes little-endian numbers at offsets of a fixed-size array.
//!
//! Offsets are constants of the layout, and the length of the array is part of its type. An index out of
//! range is therefore a mistake in this crate that its first test finds; no page can cause it.

/// Reads a u16 at an offset in bytes.
pub(crate) fn get_u16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes(get(bytes, at))
}

/// Reads a u32 at an offset in bytes.
pub(crate) fn get_u32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

/// Reads a u64 at an offset in bytes.
pub(crate) fn get_u64<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

/// Copies `M` bytes out of the array.
pub(crate) fn get<const N: usize, const M: usize>(bytes: &[u8; N], at: usize) -> [u8; M] {
    let mut out = [0; M];
    out.copy_from_slice(&bytes[at..at + M]);
    out
}

/// Copies `M` bytes into the array.
pub(crate) fn put<const N: usize, const M: usize>(bytes: &mut [u8; N], at: usize, value: [u8; M]) {
    bytes[at..at + M].copy_from_slice(&value);
}
