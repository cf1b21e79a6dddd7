//! Serves interrupts, and runs work on other threads while the backend stays able to serve them.
//!
//! Other backends wait for this one: DROP DATABASE, for instance, waits until every backend has answered a
//! barrier. So the backend's own thread serves interrupts while others work, but only those that cannot end
//! the session. The end of a session runs exit handlers, among them those of the C++ libraries, and threads
//! must not be at work then: before an interrupt that may end the session is served, the threads are stopped
//! and *joined*. An interrupt that raises an ERROR reaches this code as a panic, which continues once the
//! threads are joined.

use super::allocator;
use crate::error::{Error, raise_internal};
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Serves pending interrupts: raises an ERROR for a cancel, ends the session for a terminate. Also raises an
/// ERROR if memory has run out.
pub fn check() {
    allocator::check();
    pgrx::check_for_interrupts!();
}

/// Applies the cost-based delay of VACUUM, which also serves interrupts. No page may be locked.
pub fn vacuum_delay() {
    // SAFETY: a plain call.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::vacuum_delay_point();
        #[cfg(feature = "pg18")]
        pg_sys::vacuum_delay_point(false);
    }
}

/// Returns whether `check` would serve an interrupt now.
fn is_pending() -> bool {
    // SAFETY: plain reads of this process's own variables; signal handlers set the first one, hence volatile.
    unsafe {
        (&raw const pg_sys::InterruptPending).read_volatile() != 0
            && pg_sys::InterruptHoldoffCount == 0
            && pg_sys::QueryCancelHoldoffCount == 0
            && pg_sys::CritSectionCount == 0
    }
}

/// Returns whether a pending interrupt asks for the end of the statement or of the session.
fn end_is_pending() -> bool {
    // SAFETY: flags that signal handlers of this process set; they are read as volatile, and only zero or not
    // matters.
    unsafe {
        let set = |flag: *const pg_sys::sig_atomic_t| flag.read_volatile() != 0;
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        if set(&raw const pg_sys::TransactionTimeoutPending) {
            return true;
        }
        set(&raw const pg_sys::QueryCancelPending)
            || set(&raw const pg_sys::ProcDiePending)
            || set(&raw const pg_sys::ClientConnectionLost)
            || set(&raw const pg_sys::IdleInTransactionSessionTimeoutPending)
            || set(&raw const pg_sys::IdleSessionTimeoutPending)
    }
}

unsafe extern "C-unwind" {
    /// Declared in the server's libpq/libpq.h: checks whether the client is still there. Does not block.
    fn pq_check_connection() -> bool;
}

/// Watches for interrupts, on the backend's own thread, while other threads work.
pub struct Watch {
    /// When to check for the client next, once a check was due (`client_connection_check_interval`).
    client_check: Cell<Option<Instant>>,
    /// Whether to stop also for interrupts that are not known to be harmless.
    careful: bool,
    out_of_memory: Cell<bool>,
}

impl Watch {
    /// Returns a watch. On a standby, conflicts with recovery may end a session and cannot be told from other
    /// interrupts. There, a `careful` watch stops the work for any interrupt; another watch stops it only for
    /// those that certainly ask for it.
    pub fn new(careful: bool) -> Watch {
        Watch { client_check: Cell::new(None), careful, out_of_memory: Cell::new(false) }
    }

    /// Serves interrupts that are harmless; call it every few milliseconds. Returns true if the work must be
    /// given up: then join the threads and call `Watch::end`. May raise an ERROR: stop and join the threads
    /// before it continues.
    pub fn must_stop(&self) -> bool {
        if allocator::is_exhausted() {
            self.out_of_memory.set(true);
            return true;
        }
        if self.client_is_gone() {
            return true;
        }
        if !is_pending() {
            return false;
        }
        // With signals blocked, no handler can set another flag between reading the flags and serving them.
        with_signals_blocked(|| {
            self.put_off_client_check();
            // SAFETY: reads this process's state.
            if end_is_pending() || (self.careful && unsafe { pg_sys::RecoveryInProgress() }) {
                return true;
            }
            // SAFETY: as above.
            if !unsafe { pg_sys::RecoveryInProgress() } {
                pgrx::check_for_interrupts!();
            }
            false
        })
    }

    /// Serves the interrupt for which the work was given up. That usually raises an ERROR or ends the
    /// session.
    pub fn end(self) {
        if self.out_of_memory.get() {
            allocator::raise_exhausted();
        }
        drop(self);
        check();
    }

    /// Takes over the check for the client. The server's own check would end the session at once, so it is
    /// put off until the work is done; meanwhile the watch checks, at the interval of the setting.
    fn put_off_client_check(&self) {
        // SAFETY: this process's own variables; signals are blocked, so no handler writes to the flag
        // meanwhile.
        unsafe {
            if pg_sys::CheckClientConnectionPending != 0 && pg_sys::client_connection_check_interval > 0 {
                pg_sys::CheckClientConnectionPending = 0;
                self.client_check.set(Some(Instant::now()));
            }
        }
    }

    fn client_is_gone(&self) -> bool {
        let Some(due) = self.client_check.get() else { return false };
        if Instant::now() < due {
            return false;
        }
        // SAFETY: reads a setting; the check is only ever due in a backend that has a client, and an error
        // that it raises is caught at the boundary.
        unsafe {
            let interval = Duration::from_millis(pg_sys::client_connection_check_interval.max(100) as u64);
            self.client_check.set(Some(Instant::now() + interval));
            !pg_sys::ffi::pg_guard_ffi_boundary(|| pq_check_connection())
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.client_check.get().is_some() {
            // SAFETY: flags of this process, set as the server's timeout handler sets them.
            unsafe {
                (&raw mut pg_sys::CheckClientConnectionPending).write_volatile(1);
                (&raw mut pg_sys::InterruptPending).write_volatile(1);
            }
        }
    }
}

/// Runs `f` with all signals blocked in this thread, so that threads that `f` starts never run the server's
/// handlers.
pub fn with_signals_blocked<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(libc::sigset_t);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: restores the mask saved below.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
        }
    }
    // SAFETY: both sets are initialized before they are read; the mask is restored even if `f` unwinds.
    let _restore = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        Restore(old)
    };
    f()
}

/// Time between two checks for interrupts by the waiting thread.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Runs `work` on a private pool of `threads` threads while this thread waits and watches for interrupts. For
/// an interrupt that ends the statement, `work` is told to stop through the flag that it receives, all
/// threads are joined, and only then the interrupt is served. `work` must not call the server.
pub fn run_on_threads<R: Send>(threads: usize, work: impl FnOnce(&AtomicBool) -> R + Send) -> R {
    allocator::demand();
    let stop = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    let watch = Watch::new(false);
    let result = std::thread::scope(|scope| {
        let (stop, done) = (&stop, &done);
        let this = std::thread::current();
        let run = move || {
            let result = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build_scoped(|thread| thread.run(), |pool| pool.install(|| work(stop)));
            done.store(true, Ordering::Release);
            this.unpark();
            result.map_err(|error| error.to_string())
        };
        let worker = match with_signals_blocked(|| std::thread::Builder::new().spawn_scoped(scope, run)) {
            Ok(worker) => worker,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut raised = None;
        while !done.load(Ordering::Acquire) && !worker.is_finished() {
            std::thread::park_timeout(POLL_INTERVAL);
            if stop.load(Ordering::Relaxed) {
                continue;
            }
            match catch_unwind(AssertUnwindSafe(|| watch.must_stop())) {
                Ok(must_stop) => stop.store(must_stop, Ordering::Relaxed),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    raised = Some(error);
                }
            }
        }
        let result = worker.join();
        match raised {
            Some(error) => resume_unwind(error),
            None => result,
        }
    });
    watch.end();
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(reason)) => raise_no_threads(&reason),
        Err(_) => raise_internal("a worker thread failed"),
    }
}

/// Raises the ERROR for a system that refuses to start threads.
fn raise_no_threads(reason: &str) -> ! {
    Error::new(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
        format!("could not start worker threads: {reason}"),
    )
    .hint("Lower leann.threads, or allow the server's user more processes and memory.")
    .raise()
}
