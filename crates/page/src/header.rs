//! The 16 bytes that every page starts with: magic number, kind, format version, generation, and eight
//! bytes that belong to the kind.

use std::fmt;

use crate::bytes::{get_u16, get_u32, put};
use crate::error::{PageError, impossible};

/// The format that this crate writes, and the only one it reads.
pub const FORMAT_VERSION: u8 = 1;

/// The first two bytes of a page.
pub(crate) const MAGIC: [u8; 2] = *b"LN";

/// Bytes of the header that all kinds share, the eight of the kind included.
pub(crate) const HEADER_BYTES: usize = 16;

/// Where the eight bytes that belong to the kind start.
pub(crate) const OWN: usize = 8;

const KIND: usize = 2;
const VERSION: usize = 3;
const GENERATION: usize = 4;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// All zero bytes: the relation was extended, and a crash came before the page was written.
    Zero,
    /// Block 0: [`crate::Meta`].
    Meta,
    /// A piece of the sketch parameters: [`crate::ParamsPage`].
    Params,
    /// Hub entries: [`crate::HubPage`].
    Hub,
    /// Nodes: [`crate::NodePage`].
    Node,
    /// Given up, to be used again: [`crate::FreePage`].
    Free,
}

impl PageKind {
    /// The kind's byte on a page; a zero page has none, and 0 is never written.
    fn code(self) -> u8 {
        match self {
            PageKind::Zero => 0,
            PageKind::Meta => 1,
            PageKind::Params => 2,
            PageKind::Hub => 3,
            PageKind::Node => 4,
            PageKind::Free => 5,
        }
    }
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PageKind::Zero => "zero",
            PageKind::Meta => "meta",
            PageKind::Params => "params",
            PageKind::Hub => "hub",
            PageKind::Node => "node",
            PageKind::Free => "free",
        })
    }
}

/// What kind of page this is. Only the shared header is checked.
///
/// # Errors
/// [`PageError::Short`], [`PageError::BadMagic`], [`PageError::Version`], or [`PageError::Impossible`]
/// for an unknown kind.
pub fn kind(body: &[u8]) -> Result<PageKind, PageError> {
    let header: &[u8; HEADER_BYTES] = fixed(body)?;
    if header[..2] != MAGIC {
        if body.iter().all(|&byte| byte == 0) {
            return Ok(PageKind::Zero);
        }
        return Err(PageError::BadMagic { found: get_u16(header, 0) });
    }
    if header[VERSION] != FORMAT_VERSION {
        return Err(PageError::Version { found: header[VERSION], supported: FORMAT_VERSION });
    }
    match header[KIND] {
        1 => Ok(PageKind::Meta),
        2 => Ok(PageKind::Params),
        3 => Ok(PageKind::Hub),
        4 => Ok(PageKind::Node),
        5 => Ok(PageKind::Free),
        other => impossible("page kind", other),
    }
}

/// The page's generation, whatever its kind; 0 for a zero page.
///
/// # Errors
/// As [`kind`].
pub fn generation(body: &[u8]) -> Result<u32, PageError> {
    kind(body)?;
    Ok(generation_of(fixed::<HEADER_BYTES>(body)?))
}

/// The first `N` bytes, or the error that says they are not there.
pub(crate) fn fixed<const N: usize>(body: &[u8]) -> Result<&[u8; N], PageError> {
    body.first_chunk().ok_or(PageError::Short { len: body.len(), needed: N })
}

/// Checks the shared header for the kind that is wanted, and gives the kind's whole fixed part.
pub(crate) fn expect<const N: usize>(body: &[u8], expected: PageKind) -> Result<&[u8; N], PageError> {
    let found = kind(body)?;
    if found != expected {
        return Err(PageError::WrongKind { expected, found });
    }
    fixed(body)
}

pub(crate) fn generation_of<const N: usize>(header: &[u8; N]) -> u32 {
    get_u32(header, GENERATION)
}

pub(crate) fn put_generation<const N: usize>(header: &mut [u8; N], generation: u32) {
    put(header, GENERATION, generation.to_le_bytes());
}

/// Zeroes the body and writes the shared header. Nothing is written when the body is too short for the
/// kind's fixed part of `N` bytes, which is handed back.
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
    header[KIND] = kind.code();
    header[VERSION] = FORMAT_VERSION;
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
            assert_eq!(generation(&page(expected)), Ok(7));
        }
    }

    #[test]
    fn zero_page_is_a_kind() {
        assert_eq!(kind(&[0; 1024]), Ok(PageKind::Zero));
        assert_eq!(generation(&[0; 1024]), Ok(0));
        let mut body = [0; 1024];
        body[1023] = 1;
        assert_eq!(kind(&body), Err(PageError::BadMagic { found: 0 }));
    }

    #[test]
    fn wrong_headers_are_told_apart() {
        let mut body = page(PageKind::Node);
        body[VERSION] = FORMAT_VERSION + 1;
        assert_eq!(kind(&body), Err(PageError::Version { found: 2, supported: 1 }));
        body[VERSION] = 0;
        assert_eq!(kind(&body), Err(PageError::Version { found: 0, supported: 1 }));

        for code in [0, 6, 255] {
            let mut body = page(PageKind::Node);
            body[KIND] = code;
            assert_eq!(kind(&body), impossible("page kind", code));
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
