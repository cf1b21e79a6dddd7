//! Free pages: no longer in use, kept with the generation from which the next use of the block counts on.

use crate::error::PageError;
use crate::header::{HEADER_BYTES, expect, generation_of, start};
use crate::page_kind::PageKind;

/// A view of a free page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreePage {
    generation: u32,
}

impl FreePage {
    /// Overwrites the body with a free page. `generation` is that of the former page: the next use of the
    /// block counts on from it.
    ///
    /// # Errors
    /// [`PageError::Short`] if the body has no room for the header; the body is then unchanged.
    pub fn init(body: &mut [u8], generation: u32) -> Result<(), PageError> {
        let _: &mut [u8; HEADER_BYTES] = start(body, PageKind::Free, generation)?;
        Ok(())
    }

    /// Reads the header of a body and ignores the rest.
    ///
    /// # Errors
    /// The errors of [`crate::kind`], and [`PageError::WrongKind`].
    pub fn parse(body: &[u8]) -> Result<FreePage, PageError> {
        let header: &[u8; HEADER_BYTES] = expect(body, PageKind::Free)?;
        Ok(FreePage { generation: generation_of(header) })
    }

    /// Returns the generation of the page that was here before.
    pub fn generation(&self) -> u32 {
        self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_comes_back() {
        let mut body = vec![0xCC; 1024];
        FreePage::init(&mut body, 41).unwrap();
        assert_eq!(FreePage::parse(&body).unwrap().generation(), 41);
        assert!(body[crate::header::KIND_FIELDS..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn other_kinds_are_told() {
        let wrong = PageError::WrongKind { expected: PageKind::Free, found: PageKind::Zero };
        assert_eq!(FreePage::parse(&[0; 1024]), Err(wrong));
        assert_eq!(FreePage::init(&mut [0; 10], 0), Err(PageError::Short { len: 10, needed: 16 }));
    }
}
