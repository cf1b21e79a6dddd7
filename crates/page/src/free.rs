//! Free pages: given up, with the generation that the next use goes on counting from.

use crate::error::PageError;
use crate::header::{HEADER_BYTES, PageKind, expect, generation_of, start};

/// A free page, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreePage {
    generation: u32,
}

impl FreePage {
    /// Makes a free page of these bytes, whatever they were. `generation` is that of the former page (see
    /// [`crate::generation`]): whoever uses the block next goes on counting from it.
    ///
    /// # Errors
    /// [`PageError::Short`]; the body is then as it was.
    pub fn init(body: &mut [u8], generation: u32) -> Result<(), PageError> {
        let _: &mut [u8; HEADER_BYTES] = start(body, PageKind::Free, generation)?;
        Ok(())
    }

    /// Reads a body; what follows the header is not looked at.
    ///
    /// # Errors
    /// Those of [`crate::kind`], and [`PageError::WrongKind`].
    pub fn parse(body: &[u8]) -> Result<FreePage, PageError> {
        let header: &[u8; HEADER_BYTES] = expect(body, PageKind::Free)?;
        Ok(FreePage { generation: generation_of(header) })
    }

    /// The generation of the page that was here.
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
        assert!(body[crate::header::OWN..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn other_kinds_are_told() {
        let wrong = PageError::WrongKind { expected: PageKind::Free, found: PageKind::Zero };
        assert_eq!(FreePage::parse(&[0; 1024]), Err(wrong));
        assert_eq!(FreePage::init(&mut [0; 10], 0), Err(PageError::Short { len: 10, needed: 16 }));
    }
}
