//! Generic WAL records: they change copies of up to four pages, then apply and log the changes in one step.

use super::buffer::{BODY_BYTES, HEADER_BYTES, PageGuard, init_page};
use super::relation::Rel;
use pgrx::pg_sys;

/// One atomic change. If it is dropped without `finish`, nothing happens.
pub struct WalRecord {
    state: *mut pg_sys::GenericXLogState,
}

impl WalRecord {
    pub fn start(rel: Rel) -> WalRecord {
        // SAFETY: the relation is open.
        WalRecord { state: unsafe { pg_sys::GenericXLogStart(rel.raw()) } }
    }

    /// Returns the copy of a page's body that becomes the page at `finish`. A record takes at most four
    /// pages.
    pub fn page<'a>(&'a self, guard: &'a mut PageGuard) -> &'a mut [u8] {
        // SAFETY: the guard is exclusively locked. The server returns a private copy of the page that lives
        // until the record is finished or dropped, and both need the borrow of `self` to have ended. The
        // guard is borrowed mutably for as long, so the same copy is not lent twice.
        unsafe {
            let page = pg_sys::GenericXLogRegisterBuffer(self.state, guard.buffer(), 0);
            std::slice::from_raw_parts_mut((page as *mut u8).add(HEADER_BYTES), BODY_BYTES)
        }
    }

    /// Returns the copy of a page that is written from scratch: it starts as zeroes and is logged whole.
    pub fn fresh_page<'a>(&'a self, guard: &'a mut PageGuard) -> &'a mut [u8] {
        // SAFETY: as in `page`; the copy is BLCKSZ bytes.
        unsafe {
            let page = pg_sys::GenericXLogRegisterBuffer(
                self.state,
                guard.buffer(),
                pg_sys::GENERIC_XLOG_FULL_IMAGE as i32,
            );
            init_page(page);
            std::slice::from_raw_parts_mut((page as *mut u8).add(HEADER_BYTES), BODY_BYTES)
        }
    }

    /// Applies all changes and logs them as one record.
    pub fn finish(mut self) {
        let state = std::mem::replace(&mut self.state, std::ptr::null_mut());
        // SAFETY: the state is live and is finished once.
        unsafe { pg_sys::GenericXLogFinish(state) };
    }
}

impl Drop for WalRecord {
    fn drop(&mut self) {
        if !self.state.is_null() && !std::thread::panicking() {
            // SAFETY: the state is live and not finished. (While unwinding, its memory is freed with its
            // context.)
            unsafe { pg_sys::GenericXLogAbort(self.state) };
        }
    }
}

/// Logs a range of blocks of the main fork, which a build has written, as full images.
pub fn log_range(rel: Rel, blocks: std::ops::Range<u32>) {
    if rel.needs_wal() && !blocks.is_empty() {
        // SAFETY: the relation is open, its blocks are written, and no buffer lock is held.
        unsafe {
            pg_sys::log_newpage_range(
                rel.raw(),
                pg_sys::ForkNumber::MAIN_FORKNUM,
                blocks.start,
                blocks.end,
                false,
            )
        };
    }
}
