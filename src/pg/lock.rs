//! The structure lock of an index (see am/README.md), and other calls of the lock manager and the free space
//! map.

use super::relation::Rel;
use pgrx::pg_sys;

/// Held by whatever changes more than one page: splits, moves, the freeing of pages. It is taken before any
/// buffer lock.
pub struct StructureLock(Rel);

impl StructureLock {
    pub fn acquire(rel: Rel) -> StructureLock {
        // SAFETY: the relation is open; the lock is a heavyweight lock, so waiting for it is interruptible.
        // (Up to Postgres 16 the deadlock detector ignores page locks. There is nothing to detect: a holder
        // waits for buffer locks only, and those cannot be part of a cycle, see am/README.md.)
        unsafe { pg_sys::LockPage(rel.raw(), 0, pg_sys::ExclusiveLock as i32) };
        StructureLock(rel)
    }
}

impl Drop for StructureLock {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: `acquire` took it, and it is released once. After an error the lock manager releases
            // it.
            unsafe { pg_sys::UnlockPage(self.0.raw(), 0, pg_sys::ExclusiveLock as i32) };
        }
    }
}

/// Takes a block from the free space map, which may name a block in use.
pub fn take_free_block(rel: Rel) -> Option<u32> {
    // SAFETY: the relation is open.
    let block = unsafe { pg_sys::GetFreeIndexPage(rel.raw()) };
    (block != pg_sys::InvalidBlockNumber).then_some(block)
}

/// Records in the free space map that a block may be used again.
pub fn record_free_block(rel: Rel, block: u32) {
    // SAFETY: the relation is open.
    unsafe { pg_sys::RecordFreeIndexPage(rel.raw(), block) };
}

/// Makes blocks that were recorded since the last call findable.
pub fn vacuum_free_space_map(rel: Rel) {
    // SAFETY: the relation is open.
    unsafe { pg_sys::IndexFreeSpaceMapVacuum(rel.raw()) };
}

/// Returns whether another session holds a lock on the table under which indexes are built and tables
/// vacuumed.
pub fn is_being_maintained(table: Rel) -> bool {
    // SAFETY: the relation is open; the tag is filled in as the server's SET_LOCKTAG_RELATION does it. The
    // returned list is in the current context.
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
