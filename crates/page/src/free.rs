//! Free pages: given up, and stamped with when.

use crate::bytes::{get_u64, put};
use crate::error::PageError;
use crate::header::{HEADER_BYTES, OWN, PageKind, expect, generation_of, start};

/// A free page, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreePage {
    generation: u32,
    freed_at: u64,
}

impl FreePage {
    /// Makes a free page of these bytes, whatever they were. `generation` is that of the former page (see
    /// [`crate::generation`]): whoever uses the block next goes on counting from it.
    ///
    /// # Errors
    /// [`PageError::Short`]; the body is then as it was.
    pub fn init(body: &mut [u8], generation: u32, freed_at: u64) -> Result<(), PageError> {
        let header: &mut [u8; HEADER_BYTES] = start(body, PageKind::Free, generation)?;
        put(header, OWN, freed_at.to_le_bytes());
        Ok(())
    }

    /// Reads a body; what follows the header is not looked at.
    ///
    /// # Errors
    /// Those of [`crate::kind`], and [`PageError::WrongKind`].
    pub fn parse(body: &[u8]) -> Result<FreePage, PageError> {
        let header: &[u8; HEADER_BYTES] = expect(body, PageKind::Free)?;
        Ok(FreePage { generation: generation_of(header), freed_at: get_u64(header, OWN) })
    }

    /// The generation of the page that was here.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The stamp that was given when the page was freed.
    pub fn freed_at(&self) -> u64 {
        self.freed_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_and_stamp_come_back() {
        let mut body = vec![0xCC; 1024];
        FreePage::init(&mut body, 41, u64::MAX - 1).unwrap();
        let page = FreePage::parse(&body).unwrap();
        assert_eq!((page.generation(), page.freed_at()), (41, u64::MAX - 1));
        assert!(body[HEADER_BYTES..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn other_kinds_are_told() {
        let wrong = PageError::WrongKind { expected: PageKind::Free, found: PageKind::Zero };
        assert_eq!(FreePage::parse(&[0; 1024]), Err(wrong));
        assert_eq!(FreePage::init(&mut [0; 10], 0, 0), Err(PageError::Short { len: 10, needed: 16 }));
    }
}
