//! The two pointers that pages hold.

use crate::bytes::{get_u16, get_u32, put};
use crate::error::{PageError, impossible};

/// Bytes of a [`HubRef`] on a page.
pub(crate) const REF_BYTES: usize = 6;

/// Where a row lies in its table: block number, and line number within the block, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeapPointer {
    /// Block number in the table.
    pub block: u32,
    /// Line number within the block; 0 is impossible, and refused by every page.
    pub offset: u16,
}

impl HeapPointer {
    pub(crate) fn check(self) -> Result<(), PageError> {
        if self.offset == 0 { impossible("heap pointer offset", self.offset) } else { Ok(()) }
    }
}

/// Where a hub's entry lies: block number of its hub page, and slot within that page, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubRef {
    /// Block number of the hub page.
    pub page: u32,
    /// Slot within the page.
    pub slot: u16,
}

impl HubRef {
    pub(crate) fn from_bytes(bytes: &[u8; REF_BYTES]) -> HubRef {
        HubRef { page: get_u32(bytes, 0), slot: get_u16(bytes, 4) }
    }

    pub(crate) fn to_bytes(self) -> [u8; REF_BYTES] {
        let mut bytes = [0; REF_BYTES];
        put(&mut bytes, 0, self.page.to_le_bytes());
        put(&mut bytes, 4, self.slot.to_le_bytes());
        bytes
    }
}
