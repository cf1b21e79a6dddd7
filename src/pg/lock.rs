//! The structure lock of an index (see am/README.md) and what else goes through the lock manager or the free space map.

use super::relation::Rel;
use pgrx::pg_sys;

/// Held by whatever changes more than one page: splits, moves, the freeing of pages. Taken before any buffer lock.
pub struct StructureLock(Rel);

impl StructureLock {
    pub fn acquire(rel: Rel) -> StructureLock {
        // SAFETY: the relation is open; a heavyweight lock, so waiting is interruptible. (Up to Postgres 16 the deadlock
        // detector passes page locks over. There is nothing to detect: a holder takes no other lock that anybody waits for
        // while holding it but buffer locks, and those have no part in a cycle, see am/README.md.)
        unsafe { pg_sys::LockPage(rel.raw(), 0, pg_sys::ExclusiveLock as i32) };
        StructureLock(rel)
    }
}

impl Drop for StructureLock {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: taken in `acquire`, released once. After an error the lock manager releases it.
            unsafe { pg_sys::UnlockPage(self.0.raw(), 0, pg_sys::ExclusiveLock as i32) };
        }
    }
}

/// Takes a block from the free space map; it may name a wrong one.
pub fn take_free_block(rel: Rel) -> Option<u32> {
    // SAFETY: the relation is open.
    let block = unsafe { pg_sys::GetFreeIndexPage(rel.raw()) };
    (block != pg_sys::InvalidBlockNumber).then_some(block)
}

/// Tells the free space map that a block may be used again.
pub fn record_free_block(rel: Rel, block: u32) {
    // SAFETY: the relation is open.
    unsafe { pg_sys::RecordFreeIndexPage(rel.raw(), block) };
}

/// Makes blocks told to the map since the last call findable.
pub fn vacuum_free_space_map(rel: Rel) {
    // SAFETY: the relation is open.
    unsafe { pg_sys::IndexFreeSpaceMapVacuum(rel.raw()) };
}

/// Whether another session holds a lock on the table under which indexes are built and tables vacuumed.
pub fn is_being_maintained(table: Rel) -> bool {
    // SAFETY: the relation is open; the tag is filled in as the server's SET_LOCKTAG_RELATION does. The list is the server's,
    // in the current context.
    unsafe {
        let id = (*table.raw()).rd_lockInfo.lockRelId;
        let tag = pg_sys::LOCKTAG {
            locktag_field1: id.dbId.to_u32(),
            locktag_field2: id.relId.to_u32(),
            locktag_field3: 0,
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        let mut count = 0;
        pg_sys::GetLockConflicts(&tag, pg_sys::ShareUpdateExclusiveLock as i32, &mut count);
        count > 0
    }
}
