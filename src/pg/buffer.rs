//! Pages in shared buffers. A guard keeps its page pinned and locked, and lends the page's body as a byte
//! slice.

use super::relation::Rel;
use crate::error::Error;
use crate::session::{self, State};
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;

/// Bytes of a page before its body: the server's page header.
pub const HEADER_BYTES: usize = 24;
/// Bytes of a page's body.
pub const BODY_BYTES: usize = pg_sys::BLCKSZ as usize - HEADER_BYTES;

/// How a page's buffer is locked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Share,
    Exclusive,
}

/// The buffers that a pass over a whole index may use, so that it does not evict all other pages.
pub struct Strategy {
    raw: pg_sys::BufferAccessStrategy,
    own: bool,
}

impl Strategy {
    /// Any buffer. For reads of single pages.
    pub const NONE: Strategy = Strategy { raw: std::ptr::null_mut(), own: false };

    /// Returns a strategy that reads many pages through a small ring of buffers.
    pub fn bulk_read() -> Strategy {
        // SAFETY: allocates in the current context; freed on drop, or with the context after an error.
        let raw = unsafe { pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD) };
        Strategy { raw, own: true }
    }

    /// Wraps a strategy that the caller owns.
    ///
    /// # Safety
    /// `raw` is null or lives as long as the result.
    pub unsafe fn borrowed(raw: pg_sys::BufferAccessStrategy) -> Strategy {
        Strategy { raw, own: false }
    }
}

impl Drop for Strategy {
    fn drop(&mut self) {
        if self.own && !std::thread::panicking() {
            // SAFETY: `bulk_read` made it, and it is freed once.
            unsafe { pg_sys::FreeAccessStrategy(self.raw) };
        }
    }
}

/// The pages that this backend holds locked: at most four. The server's buffer locks detect neither owner nor
/// deadlock, so a backend that locks a page twice waits for itself forever, and no signal ends the wait.
#[derive(Default)]
struct LockedPages(Vec<(pg_sys::Oid, u32)>);

impl State for LockedPages {}

/// Raises an error if this backend already holds the page, which happens only if a page names the
/// wrong block.
fn must_not_be_held(rel: Rel, block: u32) {
    if session::with(|LockedPages(held)| held.contains(&(rel.oid(), block))) {
        let name = rel.name();
        Error::new(
            PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
            format!(
                "index \"{name}\" is damaged at block {block}: another page's reference leads back to it"
            ),
        )
        .hint(format!("The table is not affected. Rebuild the index: REINDEX INDEX {name};"))
        .raise()
    }
}

/// A page that is pinned and locked until the guard is dropped.
pub struct PageGuard {
    buffer: pg_sys::Buffer,
    rel: pg_sys::Oid,
    block: u32,
    access: Access,
}

impl PageGuard {
    /// Returns a guard for a page whose buffer was just locked.
    fn locked(rel: Rel, buffer: pg_sys::Buffer, block: u32, access: Access) -> PageGuard {
        session::with(|LockedPages(held)| held.push((rel.oid(), block)));
        PageGuard { buffer, rel: rel.oid(), block, access }
    }

    /// Reads and locks a block of the main fork. `block` must be below the relation's length; for one beyond
    /// it the server raises an error that reports corruption. Callers check block numbers that come from
    /// pages first. Raises an error for a page that this backend already holds.
    pub fn read(rel: Rel, block: u32, access: Access) -> PageGuard {
        PageGuard::read_by(&Strategy::NONE, rel, block, access)
    }

    /// Reads and locks a block as [`PageGuard::read`] does, into one of the buffers that the strategy allows.
    pub fn read_by(strategy: &Strategy, rel: Rel, block: u32, access: Access) -> PageGuard {
        assert!(block != pg_sys::InvalidBlockNumber, "the invalid block number would extend the relation");
        must_not_be_held(rel, block);
        let buffer = pin(rel, block, strategy);
        let mode = match access {
            Access::Share => pg_sys::BUFFER_LOCK_SHARE,
            Access::Exclusive => pg_sys::BUFFER_LOCK_EXCLUSIVE,
        };
        // SAFETY: the buffer is pinned by the read above.
        unsafe { pg_sys::LockBuffer(buffer, mode as i32) };
        PageGuard::locked(rel, buffer, block, access)
    }

    /// Reads a block and locks it exclusively unless another backend holds it. For pages that the free space
    /// map names: the map may name a page in use, and waiting for that could deadlock.
    pub fn try_exclusive(rel: Rel, block: u32) -> Option<PageGuard> {
        assert!(block != pg_sys::InvalidBlockNumber);
        let buffer = pin(rel, block, &Strategy::NONE);
        // SAFETY: the buffer is pinned by the read above.
        if unsafe { pg_sys::ConditionalLockBuffer(buffer) } {
            return Some(PageGuard::locked(rel, buffer, block, Access::Exclusive));
        }
        // SAFETY: as above; the pin is released once.
        unsafe { pg_sys::ReleaseBuffer(buffer) };
        None
    }

    /// Adds a zeroed block at the end of a fork, locked exclusively.
    pub fn extend(rel: Rel, fork: pg_sys::ForkNumber::Type) -> PageGuard {
        // SAFETY: the relation is open and locked for writing by the caller's statement; the extension lock
        // keeps two backends from adding the same block.
        let buffer = unsafe {
            pg_sys::LockRelationForExtension(rel.raw(), pg_sys::ExclusiveLock as i32);
            let buffer = pg_sys::ReadBufferExtended(
                rel.raw(),
                fork,
                pg_sys::InvalidBlockNumber, // P_NEW
                pg_sys::ReadBufferMode::RBM_NORMAL,
                std::ptr::null_mut(),
            );
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
            pg_sys::UnlockRelationForExtension(rel.raw(), pg_sys::ExclusiveLock as i32);
            buffer
        };
        // SAFETY: the buffer is pinned.
        let block = unsafe { pg_sys::BufferGetBlockNumber(buffer) };
        PageGuard::locked(rel, buffer, block, Access::Exclusive)
    }

    pub fn block(&self) -> u32 {
        self.block
    }

    pub(super) fn buffer(&self) -> pg_sys::Buffer {
        debug_assert!(self.access == Access::Exclusive, "a page is changed under the exclusive lock only");
        self.buffer
    }

    /// Returns the page's body.
    pub fn body(&self) -> &[u8] {
        // SAFETY: the buffer is pinned and locked, so its BLCKSZ bytes stay in place, and no backend writes
        // to them while the returned borrow of the guard lives.
        unsafe {
            let page = pg_sys::BufferGetPage(self.buffer) as *const u8;
            std::slice::from_raw_parts(page.add(HEADER_BYTES), BODY_BYTES)
        }
    }

    /// Raises "snapshot too old" if the snapshot is too old and the page has changed since it was taken: the
    /// snapshot might see a row that the page no longer holds. (The setting `old_snapshot_threshold` was
    /// removed in Postgres 17.)
    pub fn must_serve(&self, rel: Rel, snapshot: pg_sys::Snapshot) {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        // SAFETY: the buffer is pinned and locked; the snapshot is null or live. The setting is checked first
        // because every page of every scan passes through here.
        unsafe {
            if pg_sys::old_snapshot_threshold >= 0 {
                pg_sys::TestForOldSnapshot(snapshot, rel.raw(), pg_sys::BufferGetPage(self.buffer));
            }
        }
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        let _ = (rel, snapshot);
    }

    /// Writes a whole body without WAL and marks the buffer dirty. For builds, which log all their pages at
    /// the end.
    pub fn write_unlogged(&mut self, body: &[u8]) {
        assert!(self.access == Access::Exclusive && body.len() == BODY_BYTES);
        // SAFETY: the buffer is pinned and exclusively locked by this guard.
        unsafe {
            let page = pg_sys::BufferGetPage(self.buffer);
            init_page(page);
            std::ptr::copy_nonoverlapping(body.as_ptr(), (page as *mut u8).add(HEADER_BYTES), BODY_BYTES);
            pg_sys::MarkBufferDirty(self.buffer);
        }
    }

    /// WAL-logs the whole page. For pages of an init fork that were written with `write_unlogged`: an init
    /// fork is always logged.
    pub fn log_whole(&self) {
        assert!(self.access == Access::Exclusive);
        // SAFETY: the buffer is pinned and exclusively locked. The counter is the server's START_CRIT_SECTION
        // and END_CRIT_SECTION: between them an error becomes a PANIC, so nothing unwinds.
        unsafe {
            pg_sys::CritSectionCount += 1;
            pg_sys::log_newpage_buffer(self.buffer, false);
            pg_sys::CritSectionCount -= 1;
        }
    }
}

/// Reads a block of the main fork into a buffer, which stays pinned.
fn pin(rel: Rel, block: u32, strategy: &Strategy) -> pg_sys::Buffer {
    // SAFETY: the relation is open, and the strategy null or live; RBM_NORMAL is a plain read.
    unsafe {
        pg_sys::ReadBufferExtended(
            rel.raw(),
            pg_sys::ForkNumber::MAIN_FORKNUM,
            block,
            pg_sys::ReadBufferMode::RBM_NORMAL,
            strategy.raw,
        )
    }
}

impl Drop for PageGuard {
    fn drop(&mut self) {
        session::with(|LockedPages(held)| {
            if let Some(at) = held.iter().rposition(|page| *page == (self.rel, self.block)) {
                held.swap_remove(at);
            }
        });
        if !std::thread::panicking() {
            // SAFETY: this guard pinned and locked it, and it is released once. (While unwinding, see the
            // module text of `pg`.)
            unsafe { pg_sys::UnlockReleaseBuffer(self.buffer) };
        }
    }
}

/// Initializes an empty page whose body fills it, without a hole: generic WAL compares only the bytes below
/// `pd_lower` and above `pd_upper`.
///
/// # Safety
/// `page` points to BLCKSZ writable bytes.
pub(super) unsafe fn init_page(page: pg_sys::Page) {
    // SAFETY: the caller promises it.
    unsafe {
        pg_sys::PageInit(page, pg_sys::BLCKSZ as usize, 0);
        let header = page as *mut pg_sys::PageHeaderData;
        (*header).pd_lower = pg_sys::BLCKSZ as u16;
        (*header).pd_upper = pg_sys::BLCKSZ as u16;
        (*header).pd_special = pg_sys::BLCKSZ as u16;
    }
}
