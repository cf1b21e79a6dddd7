//! The errors of reading and changing pages.

use crate::PageKind;

/// Why a page cannot be read, or a change cannot be made.
///
/// A `parse`, `kind` or `decode` returns [`PageError::Short`], [`PageError::WrongKind`],
/// [`PageError::BadMagic`], [`PageError::Version`] or [`PageError::Damaged`]: all of them say something
/// about the bytes that were read. [`PageError::Unstorable`], [`PageError::Full`] and
/// [`PageError::NoEntry`] come only from changes: the page is sound, and the arguments do not suit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The body has fewer bytes than the fixed part of this kind of page.
    #[error("page body of {len} bytes, at least {needed} needed")]
    Short {
        /// Bytes in the body.
        len: usize,
        /// Bytes that this kind of page needs at least.
        needed: usize,
    },
    /// The header is sound, but names another kind of page.
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
        /// The two bytes in the place of the magic number, as a little-endian number.
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
    /// The page holds a value that no sound page holds.
    #[error("impossible {what}: {value}")]
    Damaged {
        /// The name of the value.
        what: &'static str,
        /// The value; the bits of a floating-point number.
        value: u64,
    },
    /// The caller asked for a value to be stored that no page can hold.
    #[error("cannot store {what}: {value}")]
    Unstorable {
        /// The name of the value.
        what: &'static str,
        /// The value; the bits of a floating-point number.
        value: u64,
    },
    /// The page has no room for another node.
    #[error("the page is full")]
    Full,
    /// The slot is beyond the capacity of the page, or not in use.
    #[error("no entry in slot {slot}")]
    NoEntry {
        /// The slot that was named.
        slot: u16,
    },
}

/// A value outside its limits, found by a check that reading and writing share. The caller of the check
/// knows whether the value came from a page or from an argument.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutOfLimits {
    what: &'static str,
    value: u64,
}

impl OutOfLimits {
    /// Names a value; one that is no u64 counts as `u64::MAX`.
    pub(crate) fn new(what: &'static str, value: impl TryInto<u64>) -> OutOfLimits {
        OutOfLimits { what, value: value.try_into().unwrap_or(u64::MAX) }
    }

    /// Returns the value as an error unless its limits hold.
    pub(crate) fn unless(
        holds: bool,
        what: &'static str,
        value: impl TryInto<u64>,
    ) -> Result<(), OutOfLimits> {
        if holds { Ok(()) } else { Err(OutOfLimits::new(what, value)) }
    }

    /// Returns the error for a value that was read from a page.
    pub(crate) fn damaged(self) -> PageError {
        PageError::Damaged { what: self.what, value: self.value }
    }

    /// Returns the error for a value that is an argument.
    pub(crate) fn unstorable(self) -> PageError {
        PageError::Unstorable { what: self.what, value: self.value }
    }
}

/// Returns [`PageError::Damaged`].
pub(crate) fn damaged<T>(what: &'static str, value: impl TryInto<u64>) -> Result<T, PageError> {
    Err(OutOfLimits::new(what, value).damaged())
}

/// Returns [`PageError::Unstorable`].
pub(crate) fn unstorable<T>(what: &'static str, value: impl TryInto<u64>) -> Result<T, PageError> {
    Err(OutOfLimits::new(what, value).unstorable())
}
