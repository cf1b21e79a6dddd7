//! The pointers that pages hold: to a row of the table, to the entry of a hub, and to no page at all.

use crate::bytes::{get_u16, get_u32, put};
use crate::error::{PageError, unstorable};

/// The block number that means "no page": the end of a chain, or an empty chain.
pub const NO_PAGE: u32 = u32::MAX;

/// Length in bytes of a [`HubRef`] on a page.
pub(crate) const REF_BYTES: usize = 6;

/// The place of a row in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeapPointer {
    /// Block number in the table.
    pub block: u32,
    /// Line number within the block, from 1; every page refuses 0.
    pub offset: u16,
}

impl HeapPointer {
    /// Refuses a pointer that no page can hold.
    pub(crate) fn check(self) -> Result<(), PageError> {
        if self.offset == 0 { unstorable("heap pointer offset", self.offset) } else { Ok(()) }
    }
}

/// The place of the entry of a hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubRef {
    /// Block number of the hub page.
    pub page: u32,
    /// Slot within the page, from 0.
    pub slot: u16,
}

impl HubRef {
    /// Reads a reference as pages hold it.
    pub(crate) fn from_bytes(bytes: &[u8; REF_BYTES]) -> HubRef {
        HubRef { page: get_u32(bytes, 0), slot: get_u16(bytes, 4) }
    }

    /// Returns the reference as pages hold it.
    pub(crate) fn to_bytes(self) -> [u8; REF_BYTES] {
        let mut bytes = [0; REF_BYTES];
        put(&mut bytes, 0, self.page.to_le_bytes());
        put(&mut bytes, 4, self.slot.to_le_bytes());
        bytes
    }
}
