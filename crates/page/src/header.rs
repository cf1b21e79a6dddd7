//! The header of 16 bytes with which every page starts: magic number, kind, format version, generation,
//! and eight bytes whose meaning depends on the kind.

use crate::bytes::{get_u16, get_u32, put};
use crate::error::{PageError, damaged};
use crate::page_kind::PageKind;

/// The version of the format that this crate writes, and the only one that it reads.
pub const FORMAT_VERSION: u8 = 1;

/// The first two bytes of a page.
pub(crate) const MAGIC: [u8; 2] = *b"LN";

/// Length in bytes of the header, which all kinds share.
pub(crate) const HEADER_BYTES: usize = 16;

/// Offset in bytes at which the fields of the kind start.
pub(crate) const KIND_FIELDS: usize = 8;

/// Offsets of the fields, in bytes from the start of the body; `README.md` describes the fields.
mod offset {
    pub(super) const KIND: usize = 2;
    pub(super) const VERSION: usize = 3;
    pub(super) const GENERATION: usize = 4;
}

/// Returns the kind of a page, having checked the shared header alone.
///
/// # Errors
/// [`PageError::Short`], [`PageError::BadMagic`], [`PageError::Version`], or [`PageError::Damaged`] for an
/// unknown kind.
pub fn kind(body: &[u8]) -> Result<PageKind, PageError> {
    let header: &[u8; HEADER_BYTES] = fixed(body)?;
    if header[..2] != MAGIC {
        if body.iter().all(|&byte| byte == 0) {
            return Ok(PageKind::Zero);
        }
        return Err(PageError::BadMagic { found: get_u16(header, 0) });
    }
    if header[offset::VERSION] != FORMAT_VERSION {
        return Err(PageError::Version { found: header[offset::VERSION], supported: FORMAT_VERSION });
    }
    match header[offset::KIND] {
        1 => Ok(PageKind::Meta),
        2 => Ok(PageKind::Params),
        3 => Ok(PageKind::Hub),
        4 => Ok(PageKind::Node),
        5 => Ok(PageKind::Free),
        other => damaged("page kind", other),
    }
}

/// Returns the first `N` bytes, or [`PageError::Short`].
pub(crate) fn fixed<const N: usize>(body: &[u8]) -> Result<&[u8; N], PageError> {
    body.first_chunk().ok_or(PageError::Short { len: body.len(), needed: N })
}

/// Checks the shared header for the expected kind, and returns the fixed part of that kind, `N` bytes.
pub(crate) fn expect<const N: usize>(body: &[u8], expected: PageKind) -> Result<&[u8; N], PageError> {
    let found = kind(body)?;
    if found != expected {
        return Err(PageError::WrongKind { expected, found });
    }
    fixed(body)
}

/// Returns the generation in a header.
pub(crate) fn generation_of<const N: usize>(header: &[u8; N]) -> u32 {
    get_u32(header, offset::GENERATION)
}

/// Writes the generation into a header.
pub(crate) fn put_generation<const N: usize>(header: &mut [u8; N], generation: u32) {
    put(header, offset::GENERATION, generation.to_le_bytes());
}

/// Zeroes the body, writes the shared header, and returns the fixed part of the kind, `N` bytes. If the
/// body is shorter than that, returns [`PageError::Short`] and writes nothing.
pub(crate) fn start<const N: usize>(
    body: &mut [u8],
    kind: PageKind,
    generation: u32,
) -> Result<&mut [u8; N], PageError> {
    fixed::<N>(body)?;
    body.fill(0);
    let len = body.len();
    let header = body.first_chunk_mut::<N>().ok_or(PageError::Short { len, needed: N })?;
    put(header, 0, MAGIC);
    header[offset::KIND] = kind.code();
    header[offset::VERSION] = FORMAT_VERSION;
    put_generation(header, generation);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(kind: PageKind) -> Vec<u8> {
        let mut body = vec![0xAA; 1024];
        start::<HEADER_BYTES>(&mut body, kind, 7).unwrap();
        body
    }

    #[test]
    fn every_kind_is_told() {
        for expected in [PageKind::Meta, PageKind::Params, PageKind::Hub, PageKind::Node, PageKind::Free] {
            assert_eq!(kind(&page(expected)), Ok(expected));
            assert_eq!(generation_of::<1024>(&page(expected).try_into().unwrap()), 7);
        }
    }

    #[test]
    fn zero_page_is_a_kind() {
        assert_eq!(kind(&[0; 1024]), Ok(PageKind::Zero));
        let mut body = [0; 1024];
        body[1023] = 1;
        assert_eq!(kind(&body), Err(PageError::BadMagic { found: 0 }));
    }

    #[test]
    fn wrong_headers_are_told_apart() {
        let mut body = page(PageKind::Node);
        body[offset::VERSION] = FORMAT_VERSION + 1;
        assert_eq!(kind(&body), Err(PageError::Version { found: 2, supported: 1 }));
        body[offset::VERSION] = 0;
        assert_eq!(kind(&body), Err(PageError::Version { found: 0, supported: 1 }));

        for code in [0, 6, 255] {
            let mut body = page(PageKind::Node);
            body[offset::KIND] = code;
            assert_eq!(kind(&body), damaged("page kind", code));
        }

        let mut body = page(PageKind::Node);
        body[0] = b'X';
        assert_eq!(kind(&body), Err(PageError::BadMagic { found: 0x4E58 }));
        assert_eq!(kind(&body[..15]), Err(PageError::Short { len: 15, needed: 16 }));
        assert_eq!(kind(&[]), Err(PageError::Short { len: 0, needed: 16 }));
    }

    #[test]
    fn too_short_a_body_is_left_alone() {
        let mut body = [9; 12];
        assert!(start::<HEADER_BYTES>(&mut body, PageKind::Free, 1).is_err());
        assert_eq!(body, [9; 12]);
    }
}
