//! The structure lock of an index (see am/README.md) and what else goes through the lock manager or the free space map.

use super::relation::Rel;
use pgrx::pg_sys;

/// Held by a split or the freeing of pages. Taken before any buffer lock.
pub struct StructureLock(Rel);

impl StructureLock {
    pub fn acquire(rel: Rel) -> StructureLock {
        // SAFETY: the relation is open; a heavyweight lock, so waiting is interruptible and deadlocks are detected.
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

/// The transaction id that a page freed now is stamped with.
pub fn next_transaction_id() -> u64 {
    // SAFETY: reads shared memory under its own lock.
    unsafe { pg_sys::ReadNextFullTransactionId() }.value
}

/// Whether no snapshot can be older than the stamp: none of this table's database, or, without a table, none at all.
pub fn no_snapshot_before(table: Option<Rel>, stamp: u64) -> bool {
    let table = table.map_or(std::ptr::null_mut(), Rel::raw);
    // SAFETY: the relation is open, or null, which stands for a shared one.
    unsafe { pg_sys::GlobalVisCheckRemovableFullXid(table, pg_sys::FullTransactionId { value: stamp }) }
}
