//! The kinds of pages that an index consists of.

use std::fmt;

/// The kind of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// All bytes are zero: a crash came between the extension of the relation and the first write.
    Zero,
    /// Block 0: [`crate::Meta`].
    Meta,
    /// A piece of the sketch parameters: [`crate::ParamsPage`].
    Params,
    /// Hub entries: [`crate::HubPage`].
    Hub,
    /// Nodes: [`crate::NodePage`].
    Node,
    /// No longer in use, ready to be used again: [`crate::FreePage`].
    Free,
}

impl PageKind {
    /// Returns the byte of the kind in the header. A zero page has no header, so 0 is never written.
    pub(crate) fn code(self) -> u8 {
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
