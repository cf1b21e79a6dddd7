//! Params pages: the parameters of the sketches, cut into a chain of chunks of bytes.
//!
//! This crate does not interpret the bytes. The meta page holds their total length and checksum.

use crate::bytes::{get_u32, put};
use crate::error::{PageError, damaged, unstorable};
use crate::header::{KIND_FIELDS, expect, start};
use crate::page_kind::PageKind;

/// Offsets of the fields, in bytes from the start of the body; `README.md` describes the fields.
mod offset {
    use super::KIND_FIELDS;

    pub(super) const NEXT: usize = KIND_FIELDS;
    pub(super) const LEN: usize = KIND_FIELDS + 4;
}

/// Length in bytes of what precedes the chunk.
const FIXED_BYTES: usize = KIND_FIELDS + 8;

/// A view of a params page.
#[derive(Clone, Copy, Debug)]
pub struct ParamsPage<'a> {
    next: u32,
    chunk: &'a [u8],
}

impl<'a> ParamsPage<'a> {
    /// Returns the length in bytes of the longest chunk that a body of `body_len` bytes holds.
    pub fn chunk_capacity(body_len: usize) -> usize {
        body_len.saturating_sub(FIXED_BYTES)
    }

    /// Overwrites the body with a params page of generation 0 that holds one chunk. `next` is the block
    /// number of the next page, [`crate::NO_PAGE`] at the end of the chain.
    ///
    /// # Errors
    /// [`PageError::Short`] if the body has no room for the header, or [`PageError::Unstorable`] if the chunk
    /// is longer than [`ParamsPage::chunk_capacity`]; the body is then unchanged.
    pub fn init(body: &mut [u8], next: u32, chunk: &[u8]) -> Result<(), PageError> {
        let Ok(len) = u32::try_from(chunk.len()) else { return unstorable("chunk length", chunk.len()) };
        if chunk.len() > ParamsPage::chunk_capacity(body.len()) {
            return unstorable("chunk length", chunk.len());
        }
        let header: &mut [u8; FIXED_BYTES] = start(body, PageKind::Params, 0)?;
        put(header, offset::NEXT, next.to_le_bytes());
        put(header, offset::LEN, len.to_le_bytes());
        body[FIXED_BYTES..FIXED_BYTES + chunk.len()].copy_from_slice(chunk);
        Ok(())
    }

    /// Checks a body and returns a view of it.
    ///
    /// # Errors
    /// Those that [`PageError`] names for reading.
    pub fn parse(body: &'a [u8]) -> Result<ParamsPage<'a>, PageError> {
        let header: &[u8; FIXED_BYTES] = expect(body, PageKind::Params)?;
        let len = get_u32(header, offset::LEN);
        let chunk = usize::try_from(len).ok().and_then(|len| body[FIXED_BYTES..].get(..len));
        let Some(chunk) = chunk else { return damaged("chunk length", len) };
        Ok(ParamsPage { next: get_u32(header, offset::NEXT), chunk })
    }

    /// Returns the block number of the next params page, [`crate::NO_PAGE`] at the end of the chain.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Returns the bytes of the parameters that this page holds.
    pub fn chunk(&self) -> &'a [u8] {
        self.chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NO_PAGE;

    #[test]
    fn a_chain_gives_back_what_was_cut() {
        let params: Vec<u8> = (0..5000u32).map(|i| (i * 31) as u8).collect();
        let room = ParamsPage::chunk_capacity(1024);
        assert_eq!(room, 1008);
        let chunks: Vec<&[u8]> = params.chunks(room).collect();
        let pages: Vec<Vec<u8>> = (0..chunks.len())
            .map(|i| {
                let mut body = vec![0xEE; 1024];
                let next = if i + 1 < chunks.len() { i as u32 + 1 } else { NO_PAGE };
                ParamsPage::init(&mut body, next, chunks[i]).unwrap();
                body
            })
            .collect();

        let (mut read, mut at) = (Vec::new(), 0);
        while at != NO_PAGE {
            let page = ParamsPage::parse(&pages[at as usize]).unwrap();
            read.extend_from_slice(page.chunk());
            at = page.next();
        }
        assert_eq!(read, params);
    }

    #[test]
    fn a_chunk_too_long_is_refused() {
        let mut body = vec![3; 1024];
        let chunk = vec![1; 1009];
        assert_eq!(ParamsPage::init(&mut body, NO_PAGE, &chunk), unstorable("chunk length", 1009));
        assert_eq!(body, vec![3; 1024]);
        assert!(ParamsPage::init(&mut body, NO_PAGE, &chunk[1..]).is_ok());
        assert_eq!(ParamsPage::init(&mut [0; 8], NO_PAGE, &[]), Err(PageError::Short { len: 8, needed: 16 }));
    }

    #[test]
    fn a_length_beyond_the_body_is_damaged() {
        let mut body = vec![0; 1024];
        ParamsPage::init(&mut body, 4, b"abc").unwrap();
        for len in [1009, u32::MAX] {
            body[offset::LEN..offset::LEN + 4].copy_from_slice(&len.to_le_bytes());
            assert_eq!(ParamsPage::parse(&body).map(|_| ()), damaged("chunk length", len));
        }
    }
}
