//! What can be wrong with a page, or with a change asked of it.

use crate::PageKind;

/// Why a page cannot be read, or a change cannot be made.
///
/// From a `parse`, `kind` or `decode`, every variant means that the page is damaged, of another kind, or
/// of another format version. [`PageError::Full`] and [`PageError::NoEntry`] come only from changes;
/// [`PageError::Impossible`] comes from changes too, when an argument could not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The body has fewer bytes than the fixed part of this kind of page.
    #[error("page body of {len} bytes, at least {needed} needed")]
    Short {
        /// Bytes in the body.
        len: usize,
        /// Bytes that this kind of page needs at the least.
        needed: usize,
    },
    /// A sound header, but of another kind of page.
    #[error("expected a {expected} page, found a {found} page")]
    WrongKind {
        /// The kind that was asked for.
        expected: PageKind,
        /// The kind that the header names, or [`PageKind::Zero`].
        found: PageKind,
    },
    /// The page neither starts with the magic number nor is all zero.
    #[error("bad magic number {found:#06x}")]
    BadMagic {
        /// What stands in the magic number's place.
        found: u16,
    },
    /// The page was written in a format that this crate does not know.
    #[error("format version {found}, this release reads version {supported}")]
    Version {
        /// The page's format version.
        found: u8,
        /// [`crate::FORMAT_VERSION`].
        supported: u8,
    },
    /// A value that no sound page holds, or that cannot be stored.
    #[error("impossible {what}: {value}")]
    Impossible {
        /// Which value.
        what: &'static str,
        /// The value; for a floating-point one its bits.
        value: u64,
    },
    /// No room for another node.
    #[error("the page is full")]
    Full,
    /// The slot is beyond the page's capacity, or not in use.
    #[error("no entry in slot {slot}")]
    NoEntry {
        /// The slot that was named.
        slot: u16,
    },
}

/// Short for the one error that is built in many places.
pub(crate) fn impossible<T>(what: &'static str, value: impl TryInto<u64>) -> Result<T, PageError> {
    Err(PageError::Impossible { what, value: value.try_into().unwrap_or(u64::MAX) })
}
