//! Params pages: the sketch parameters, cut into a chain of byte chunks.
//!
//! What the bytes mean is the sketch's own affair; their whole length and checksum are in the meta page.

use crate::bytes::{get_u32, put};
use crate::error::{PageError, impossible};
use crate::header::{OWN, PageKind, expect, generation_of, start};

const NEXT: usize = OWN;
const LEN: usize = OWN + 4;
/// Bytes before the chunk.
const FIXED: usize = OWN + 8;

/// A params page, read.
#[derive(Clone, Copy, Debug)]
pub struct ParamsPage<'a> {
    generation: u32,
    next: u32,
    chunk: &'a [u8],
}

impl<'a> ParamsPage<'a> {
    /// The longest chunk that a body of `body_len` bytes holds.
    pub fn chunk_capacity(body_len: usize) -> usize {
        body_len.saturating_sub(FIXED)
    }

    /// Makes a params page of these bytes, whatever they were: generation 0, block number of the next page
    /// ([`crate::NO_PAGE`] at the end of the chain), one chunk.
    ///
    /// # Errors
    /// [`PageError::Short`], or [`PageError::Impossible`] for a chunk beyond the capacity; the body is then
    /// as it was.
    pub fn init(body: &mut [u8], next: u32, chunk: &[u8]) -> Result<(), PageError> {
        let Ok(len) = u32::try_from(chunk.len()) else { return impossible("chunk length", chunk.len()) };
        if chunk.len() > ParamsPage::chunk_capacity(body.len()) {
            return impossible("chunk length", chunk.len());
        }
        let header: &mut [u8; FIXED] = start(body, PageKind::Params, 0)?;
        put(header, NEXT, next.to_le_bytes());
        put(header, LEN, len.to_le_bytes());
        body[FIXED..FIXED + chunk.len()].copy_from_slice(chunk);
        Ok(())
    }

    /// Reads a body.
    ///
    /// # Errors
    /// Any but [`PageError::Full`] and [`PageError::NoEntry`].
    pub fn parse(body: &'a [u8]) -> Result<ParamsPage<'a>, PageError> {
        let header: &[u8; FIXED] = expect(body, PageKind::Params)?;
        let len = get_u32(header, LEN);
        let chunk = usize::try_from(len).ok().and_then(|len| body[FIXED..].get(..len));
        let Some(chunk) = chunk else { return impossible("chunk length", len) };
        Ok(ParamsPage { generation: generation_of(header), next: get_u32(header, NEXT), chunk })
    }

    /// The page's generation.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Block number of the next params page, [`crate::NO_PAGE`] at the end of the chain.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// This page's piece of the parameters.
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
            assert_eq!(page.generation(), 0);
            read.extend_from_slice(page.chunk());
            at = page.next();
        }
        assert_eq!(read, params);
    }

    #[test]
    fn a_chunk_too_long_is_refused() {
        let mut body = vec![3; 1024];
        let chunk = vec![1; 1009];
        assert_eq!(ParamsPage::init(&mut body, NO_PAGE, &chunk), impossible("chunk length", 1009));
        assert_eq!(body, vec![3; 1024]);
        assert!(ParamsPage::init(&mut body, NO_PAGE, &chunk[1..]).is_ok());
        assert_eq!(ParamsPage::init(&mut [0; 8], NO_PAGE, &[]), Err(PageError::Short { len: 8, needed: 16 }));
    }

    #[test]
    fn a_length_beyond_the_body_is_impossible() {
        let mut body = vec![0; 1024];
        ParamsPage::init(&mut body, 4, b"abc").unwrap();
        for len in [1009, u32::MAX] {
            body[LEN..LEN + 4].copy_from_slice(&len.to_le_bytes());
            assert_eq!(ParamsPage::parse(&body).map(|_| ()), impossible("chunk length", len));
        }
    }
}
